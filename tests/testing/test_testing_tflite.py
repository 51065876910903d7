"""The builder of small TFLite files: what goes in is what the reader and the interpreter find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from edgeq import models
from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.runtimes import litert
from edgeq.testing import models as tiny
from edgeq.testing.tflite import Graph, Node, Tensor, tflite_bytes, write_tflite
from edgeq.types import ModelGraph, TensorSpec


def add_of(values: np.ndarray, shape: tuple[int, ...]) -> Graph:
    """x + constant."""
    tensors = (
        Tensor(name="x", shape=shape),
        Tensor(name="k", shape=values.shape, dtype=str(values.dtype), data=values),
        Tensor(name="y", shape=shape),
    )
    nodes = (Node(type="ADD", inputs=("x", "k"), outputs=("y",), options_table="AddOptions"),)
    return Graph(tensors=tensors, nodes=nodes, inputs=("x",), outputs=("y",))


def named(graph: ModelGraph) -> dict[str, TensorSpec]:
    return {tensor.name: tensor for tensor in graph.tensors}


def read(folder: Path, *graphs: Graph, **words: bool) -> ModelGraph:
    return models.read(write_tflite(folder / "model.tflite", *graphs, **words))


def test_names_shapes_types_and_order_survive(tmp_path: Path) -> None:
    graph = read(tmp_path, tiny.conv_graph())
    wanted = tiny.conv_graph()
    assert [tensor.name for tensor in graph.tensors] == [tensor.name for tensor in wanted.tensors]
    assert [tensor.shape for tensor in graph.tensors] == [tensor.shape for tensor in wanted.tensors]
    assert [tensor.dtype for tensor in graph.tensors] == [tensor.dtype for tensor in wanted.tensors]
    assert [tensor.is_constant for tensor in graph.tensors] == [tensor.data is not None for tensor in wanted.tensors]
    assert [operator.type for operator in graph.operators] == [node.type for node in wanted.nodes]
    names = [tensor.name for tensor in graph.tensors]
    assert [tuple(names[n] for n in one.inputs) for one in graph.operators] == [node.inputs for node in wanted.nodes]


@settings(max_examples=30, deadline=None)
@given(
    values=st_numpy.arrays(
        np.float32, st_numpy.array_shapes(max_dims=3, max_side=4), elements=st.floats(-1e6, 1e6, width=32)
    )
)
def test_constants_are_added_as_they_were_given(tmp_path_factory: pytest.TempPathFactory, values: np.ndarray) -> None:
    folder = tmp_path_factory.mktemp("add")
    session = litert.open(write_tflite(folder / "add.tflite", add_of(values, values.shape)))
    (found,) = session.run([np.ones(values.shape, np.float32)])
    np.testing.assert_array_equal(found, values + np.float32(1))


def test_constants_in_any_memory_layout_are_stored_by_value(tmp_path: Path) -> None:
    plain = np.arange(12, dtype=np.float32).reshape(3, 4)
    for values in (np.asfortranarray(plain), plain[::-1][::-1], np.repeat(plain, 2, axis=1)[:, ::2]):
        assert tflite_bytes(add_of(values, (3, 4))) == tflite_bytes(add_of(plain, (3, 4)))


def test_constants_start_on_sixteen_bytes() -> None:
    content = tflite_bytes(tiny.conv_graph())
    for name, values in tiny.conv_weights().items():
        if name.endswith("bias"):
            assert content.index(values.tobytes()) % 16 == 0, name


def test_an_open_axis_is_one_in_the_shape_and_minus_one_in_the_signature(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "open.tflite", add_of(np.ones(3, np.float32), (-1, 3)))
    tensor = flatbuffer.load(path).subgraphs[0].tensors[0]
    assert list(tensor.shape) == [1, 3]
    assert list(tensor.shapeSignature) == [-1, 3]
    assert litert.open(path).run([np.zeros((5, 3), np.float32)])[0].shape == (5, 3)


def test_a_closed_shape_has_no_signature_and_takes_no_other_batch(tmp_path: Path) -> None:
    path = write_tflite(tmp_path / "closed.tflite", add_of(np.ones(3, np.float32), (1, 3)))
    signature = flatbuffer.load(path).subgraphs[0].tensors[0].shapeSignature
    assert signature is None or len(signature) == 0
    assert litert.open(path).inputs[0].shape == (1, 3)


@pytest.mark.parametrize(
    ("scales", "zero_points", "axis"),
    [((0.5,), (0,), 0), ((0.25,), (-128,), 0), ((0.5, 0.25), (0, 0), 0), ((0.5, 0.25, 0.125), (0, 1, 2), 1)],
)
def test_quantization_survives(
    tmp_path: Path, scales: tuple[float, ...], zero_points: tuple[int, ...], axis: int
) -> None:
    x = Tensor(name="x", shape=(2, 3), dtype="int8", scales=scales, zero_points=zero_points, axis=axis)
    y = Tensor(name="y", shape=(2, 3))
    node = Node(type="DEQUANTIZE", inputs=("x",), outputs=("y",), version=2)
    found = named(read(tmp_path, Graph(tensors=(x, y), nodes=(node,), inputs=("x",), outputs=("y",))))["x"].quantization
    assert found is not None
    assert (found.scales, found.zero_points) == (scales, zero_points)
    assert found.axis == (axis if len(scales) > 1 else None)


def test_options_and_versions_survive(tmp_path: Path) -> None:
    operators = {one.type: one for one in read(tmp_path, tiny.conv_graph()).operators}
    assert operators["CONV_2D"].attributes["stride_w"] == 2
    assert operators["AVERAGE_POOL_2D"].attributes["filter_width"] == 2
    assert str(operators["CONV_2D"].attributes["fused_activation_function"]).upper() == "RELU6"
    node = Node(type="RELU", inputs=("x",), outputs=("y",), version=2)
    ports = (Tensor(name="x", shape=(1,)), Tensor(name="y", shape=(1,)))
    (relu,) = read(tmp_path, Graph(tensors=ports, nodes=(node,), inputs=("x",), outputs=("y",))).operators
    assert relu.version == 2


def test_one_operator_code_serves_all_operators_of_a_type_and_version() -> None:
    tensors = tuple(Tensor(name=str(n), shape=(1,)) for n in range(5))
    steps = [("RELU", 1), ("RELU", 1), ("RELU", 2), ("TANH", 1)]
    nodes = tuple(
        Node(type=kind, inputs=(str(n),), outputs=(str(n + 1),), version=version)
        for n, (kind, version) in enumerate(steps)
    )
    model = flatbuffer.parse(tflite_bytes(Graph(tensors=tensors, nodes=nodes, inputs=("0",), outputs=("4",))))
    assert [operator.opcodeIndex for operator in model.subgraphs[0].operators] == [0, 0, 1, 2]
    assert len(model.operatorCodes) == 3


def test_an_operand_left_out_is_minus_one(tmp_path: Path) -> None:
    tensors = (
        Tensor(name="x", shape=(1, 2)),
        Tensor(name="w", shape=(3, 2), data=np.ones((3, 2), np.float32)),
        Tensor(name="y", shape=(1, 3)),
    )
    node = Node(type="FULLY_CONNECTED", inputs=("x", "w", ""), outputs=("y",), options_table="FullyConnectedOptions")
    graph = Graph(tensors=tensors, nodes=(node,), inputs=("x",), outputs=("y",))
    assert read(tmp_path, graph).operators[0].inputs == (0, 1, -1)
    session = litert.open(tmp_path / "model.tflite")
    assert session.run([np.array([[1, 2]], np.float32)])[0].tolist() == [[3, 3, 3]]


def test_a_signature_is_written_or_not() -> None:
    graph = tiny.conv_graph()
    with_one = flatbuffer.parse(tflite_bytes(graph))
    (signature,) = with_one.signatureDefs
    assert signature.signatureKey == b"serving_default"
    assert [(one.name, one.tensorIndex) for one in signature.inputs] == [(b"input", 0)]
    assert not flatbuffer.parse(tflite_bytes(graph, signature=False)).signatureDefs


def test_several_subgraphs_and_custom_operators(tmp_path: Path) -> None:
    ports = (Tensor(name="x", shape=(1,)), Tensor(name="y", shape=(1,)))
    mystery = Node(type="Mystery", inputs=("x",), outputs=("y",), custom=True)
    relu = Node(type="RELU", inputs=("x",), outputs=("y",))
    graphs = [Graph(tensors=ports, nodes=(node,), inputs=("x",), outputs=("y",)) for node in (mystery, relu)]
    model = flatbuffer.parse(tflite_bytes(*graphs))
    assert len(model.subgraphs) == 2
    assert [code.customCode for code in model.operatorCodes] == [b"Mystery", None]
    (first, *_) = read(tmp_path, *graphs).operators
    assert (first.type, first.custom) == ("Mystery", True)


def test_newer_options_go_into_the_second_table() -> None:
    """Types above 127 have options in BuiltinOptions2, and the old field of their code stays at 127."""
    tensors = (
        Tensor(name="x", shape=(2,)),
        Tensor(name="y", shape=(2,)),
    )
    node = Node(type="STABLEHLO_ADD", inputs=("x", "x"), outputs=("y",))
    model = flatbuffer.parse(tflite_bytes(Graph(tensors=tensors, nodes=(node,), inputs=("x",), outputs=("y",))))
    (code,) = model.operatorCodes
    assert code.deprecatedBuiltinCode == 127
    assert code.builtinCode > 127


@pytest.mark.parametrize(
    "change",
    [
        {"nodes": (Node(type="NO_SUCH_OPERATOR", inputs=("x",), outputs=("y",)),)},
        {"nodes": (Node(type="RELU", inputs=("nowhere",), outputs=("y",)),)},
        {"inputs": ("nowhere",)},
        {"tensors": (Tensor(name="x", shape=(1,), dtype="float7"), Tensor(name="y", shape=(1,)))},
    ],
)
def test_a_mistake_in_a_test_is_told_at_once(change: dict[str, Any]) -> None:
    words: dict[str, Any] = {
        "tensors": (Tensor(name="x", shape=(1,)), Tensor(name="y", shape=(1,))),
        "nodes": (Node(type="RELU", inputs=("x",), outputs=("y",)),),
        "inputs": ("x",),
        "outputs": ("y",),
    }
    assert tflite_bytes(Graph(**words))[4:8] == b"TFL3"
    with pytest.raises((AttributeError, KeyError)):
        tflite_bytes(Graph(**{**words, **change}))


def test_the_file_survives_a_round_trip_through_the_converters_own_writer(tmp_path: Path) -> None:
    path = tiny.conv_tflite(tmp_path)
    again = tmp_path / "again.tflite"
    again.write_bytes(flatbuffer.dump(flatbuffer.load(path)))
    samples = tiny.tiny_samples(tiny.CONV_SHAPE, tiny.CLASSES, 4)[0]
    np.testing.assert_array_equal(litert.open(path).run([samples])[0], litert.open(again).run([samples])[0])
    first, second = models.read(path), models.read(again)
    assert first.operators == second.operators
    assert first.tensors == second.tensors
