"""Sizes of tensors, the state rule, the bounded inference, and text that comes from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgeq import models
from edgeq.errors import ModelError
from edgeq.models import onnx_shapes
from edgeq.models.flatbuffer import _snake
from edgeq.models.onnx_constants import DTYPES
from edgeq.models.state import ROLES, State, find_state
from edgeq.models.tensors import checked_shape, elements, shown, tensor_bytes
from edgeq.testing import models as tiny
from edgeq.types import Operator, Quantization, TensorSpec

SCALE = Quantization(scales=(0.5,), zero_points=(0,))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int64", "uint16", "int8", "bool", "complex128"])
def test_sizes_are_numpys(dtype: str) -> None:
    assert tensor_bytes((3, 5), dtype) == np.zeros((3, 5), dtype).nbytes
    assert tensor_bytes((), dtype) == np.zeros((), dtype).nbytes
    assert tensor_bytes((0, 7), dtype) == 0
    assert tensor_bytes((-1, 7), dtype) == np.zeros((1, 7), dtype).nbytes


def test_packed_types_round_up_to_whole_bytes() -> None:
    assert [tensor_bytes((count,), "int4") for count in range(5)] == [0, 1, 1, 2, 2]
    assert [tensor_bytes((count,), "int2") for count in (1, 4, 5)] == [1, 1, 2]
    assert elements((-1, 3, -1, 4)) == 12


def test_every_onnx_type_has_its_name_and_size() -> None:
    """Against the types and the packing of the installed onnx."""
    for number in set(TensorProto.DataType.values()) - {TensorProto.UNDEFINED, TensorProto.STRING}:
        dtype = helper.tensor_dtype_to_np_dtype(number)
        assert DTYPES[number] == dtype.name
        for count in (1, 7, 8):
            stored = numpy_helper.from_array(np.zeros(count, dtype), "zeros")
            assert stored.data_type == number
            assert tensor_bytes((count,), DTYPES[number]) == len(stored.raw_data)


@pytest.mark.parametrize("shape", [(-2,), (1,) * 33, (1 << 40, 1 << 40)])
def test_shapes_that_cannot_be(shape: tuple[int, ...]) -> None:
    with pytest.raises(ModelError) as caught:
        checked_shape(shape, "float32", "some.tflite", "tensor 3")
    assert caught.value.message.startswith("tensor 3")
    assert caught.value.where == "some.tflite"


@pytest.mark.parametrize(
    ("camel", "snake"),
    [
        ("strideW", "stride_w"),
        ("dilationWFactor", "dilation_w_factor"),
        ("asymmetricQuantizeInputs", "asymmetric_quantize_inputs"),
        ("bodySubgraphIndex", "body_subgraph_index"),
        ("axis", "axis"),
    ],
)
def test_option_names_are_the_schemas(camel: str, snake: str) -> None:
    assert _snake(camel) == snake


def spec(index: int, dtype: str, *, constant: bool = False) -> TensorSpec:
    return TensorSpec(
        index=index,
        name=str(index),
        shape=(4,),
        dtype=dtype,
        size_bytes=4,
        is_constant=constant,
        quantization=SCALE if "int" in dtype else None,
    )


def dense(activation: str, *weights: str) -> tuple[list[TensorSpec], list[Operator]]:
    """A chain of dense layers with these types of weights; `!int8` puts a DEQUANTIZE in front."""
    tensors, operators = [spec(0, activation)], []
    source = 0
    for kind in weights:
        start = len(tensors)
        tensors += [
            spec(start, kind.strip("!"), constant=True),
            spec(start + 1, "float32"),
            spec(start + 2, activation),
        ]
        if kind.startswith("!"):
            operators.append(operator(len(operators), "DEQUANTIZE", (start,), start + 1))
        weight = start + 1 if kind.startswith("!") else start
        operators.append(operator(len(operators), "FULLY_CONNECTED", (source, weight, -1), start + 2))
        source = start + 2
    return tensors, operators


def operator(index: int, type: str, inputs: tuple[int, ...], output: int) -> Operator:
    return Operator(index=index, type=type, version=1, inputs=inputs, outputs=(output,))


@pytest.mark.parametrize(
    ("activation", "weights", "state"),
    [
        ("float32", ("float32", "float32"), "float"),
        ("float32", ("int8", "int8"), "weights"),
        ("float32", ("int4", "int8"), "weights"),
        ("float32", ("!float16", "!float16"), "weights"),
        ("float32", ("!float16", "int8"), "weights"),
        ("float32", ("!float16", "float32"), "float"),
        ("float32", ("int8", "float32"), "partial"),
        ("float32", ("!int8", "float32"), "partial"),
        ("float32", ("!int8", "!int8"), "partial"),
        ("float16", ("float16", "float16"), "float"),
        ("int8", ("int8", "int8"), "quantized"),
        ("int16", ("int8", "int8"), "quantized"),
        ("uint8", ("uint8",), "quantized"),
    ],
)
def test_the_state_rule(activation: str, weights: tuple[str, ...], state: State) -> None:
    found, sentence = find_state("tflite", *dense(activation, *weights))
    assert found == state
    reduced = [kind for kind in weights if kind.strip("!") not in ("float32", activation)]
    assert (sentence is None) == (found == "float" and not reduced)


def test_one_integer_layer_among_float_ones_is_quantized() -> None:
    tensors, operators = dense("float32", "float32", "int8")
    tensors[operators[1].inputs[0]] = spec(operators[1].inputs[0], "int8")
    state, sentence = find_state("tflite", tensors, operators)
    assert state == "quantized"
    assert sentence is not None
    assert "1 of 2 compute operators" in sentence


def test_recurrent_layers_have_the_weights_of_their_format() -> None:
    assert ROLES["tflite"]["LSTM"] != ROLES["onnx"]["LSTM"]
    assert ROLES["onnx"]["LSTM"] == (0, (1, 2))


def test_text_of_a_file_cannot_steer_a_terminal(tmp_path: Path) -> None:
    assert shown("a\x1b[2Jb\nc\u202ed") == "a?[2Jb?c?d"
    assert len(shown("x" * 5000)) == 200
    nodes = [helper.make_node("Bad\x1b[31m\nOp", ["x"], ["y"], domain="no\nwhere")]
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 2]) for name in "xy"]
    graph = helper.make_graph(nodes, "g", ports[:1], ports[1:])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("no\nwhere", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), str(tmp_path / "odd.onnx"))
    notes = models.read(tmp_path / "odd.onnx").notes
    assert any("no?where.Bad?[31m?Op" in note for note in notes)
    assert all(note.isprintable() for note in notes)


def test_the_child_infers_what_the_library_does(tmp_path: Path) -> None:
    model = onnx.load(str(tiny.conv_onnx(tmp_path)))
    shapes, failure = onnx_shapes.infer(model)
    assert failure is None
    inferred = onnx.shape_inference.infer_shapes(model)
    for value in inferred.graph.value_info:
        axes = tuple(axis.dim_value if axis.HasField("dim_value") else -1 for axis in value.type.tensor_type.shape.dim)
        assert shapes[0][value.name] == (value.type.tensor_type.elem_type, axes)


def test_inference_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = onnx.load(str(tiny.conv_onnx(tmp_path)))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((64, 64), np.float32), "large"))
    before = model.SerializeToString()
    onnx_shapes.infer(model)
    assert model.SerializeToString() == before


def test_inference_does_not_import_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnx.py").write_text("raise SystemExit('imported from the working folder')")
    path = tiny.conv_onnx(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert models.read(path).macs == 10_400


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("ad_autoencoder", "ad_float"),
        ("ic_resnet8", "resnet8_float"),
        ("kws_dscnn", "kws_float"),
        ("seg_mobilenetv3", "portrait_float"),
        ("sr_espcn", "espcn_float"),
        ("vww_mobilenetv1", "vww_float"),
    ],
)
def test_both_readers_agree_on_the_same_network(shared: Path, folder: str, name: str) -> None:
    tflite, onnx_graph = (models.read(shared / folder / f"{name}{suffix}") for suffix in (".tflite", ".onnx"))
    assert tflite.macs == onnx_graph.macs
    assert tflite.parameters == onnx_graph.parameters
    assert tflite.weight_bytes == onnx_graph.weight_bytes
    assert tflite.tensors[tflite.inputs[0]].shape == onnx_graph.tensors[onnx_graph.inputs[0]].shape
    layers = sorted(operator.macs for operator in tflite.operators if operator.macs)
    assert layers == sorted(operator.macs for operator in onnx_graph.operators if operator.macs)
