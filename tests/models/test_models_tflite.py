"""The TFLite reader against the interpreter's own view, published figures and made-up edge cases."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from edgeq import models
from edgeq.errors import ModelError
from edgeq.models import liveness
from edgeq.models.tflite import operator_names
from edgeq.testing import models as tiny
from edgeq.testing.tflite import Graph, Node, Tensor, tflite_bytes, write_tflite
from edgeq.types import ModelGraph

FILES = (
    "ad_autoencoder/ad_float",
    "ad_autoencoder/ad_reference_int8",
    "ic_resnet8/resnet8_float",
    "ic_resnet8/resnet8_reference_int8",
    "kws_dscnn/kws_float",
    "kws_dscnn/kws_hybrid",
    "kws_dscnn/kws_reference_int8",
    "lstm_mnist/mnist_lstm_float",
    "lstm_mnist/mnist_lstm_reference_int8",
    "seg_mobilenetv3/portrait_float",
    "seg_mobilenetv3/portrait_reference_uint8",
    "sine_hello_world/hello_world_float",
    "sine_hello_world/hello_world_reference_int8",
    "sr_espcn/espcn_float",
    "vww_mobilenetv1/vww_float",
    "vww_mobilenetv1/vww_reference_int8",
)

FACTS = {
    # multiply-accumulates and parameters as computed from the published architectures; state
    "ad_autoencoder/ad_float": (264_192, 265_864, "float"),
    "ad_autoencoder/ad_reference_int8": (264_192, 265_864, "quantized"),
    "ic_resnet8/resnet8_float": (12_501_632, 77_706, "float"),
    "ic_resnet8/resnet8_reference_int8": (12_501_632, 77_706, "quantized"),
    "kws_dscnn/kws_float": (2_656_768, 22_604, "float"),
    "kws_dscnn/kws_hybrid": (2_656_768, 22_604, "partial"),
    "kws_dscnn/kws_reference_int8": (2_656_768, 22_604, "quantized"),
    "lstm_mnist/mnist_lstm_float": (28 * 4 * 20 * (28 + 20) + 20 * 28 * 10, 4 * 20 * (28 + 20 + 1) + 5610, "float"),
    "lstm_mnist/mnist_lstm_reference_int8": (113_120, 9_530, "quantized"),
    "seg_mobilenetv3/portrait_reference_uint8": (147_466_240, 940_122, "quantized"),
    "sine_hello_world/hello_world_float": (16 + 16 * 16 + 16, 16 + 16 + 16 * 16 + 16 + 16 + 1, "float"),
    "sr_espcn/espcn_float": (128 * 128 * (25 * 64 + 9 * 64 * 32 + 9 * 32 * 4), 21_284, "float"),
    "vww_mobilenetv1/vww_float": (7_489_664, 210_850, "float"),
}


def quantization_of(detail: dict[str, Any]) -> tuple[list[float], list[int]]:
    found = detail["quantization_parameters"]
    return list(found["scales"]), list(found["zero_points"])


@pytest.mark.parametrize("name", FILES)
def test_real_files_as_the_interpreter_sees_them(shared: Path, name: str) -> None:
    path = shared / f"{name}.tflite"
    graph = models.read(path)
    interpreter = Interpreter(
        model_path=str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    details = {detail["index"]: detail for detail in interpreter.get_tensor_details()}
    for index, detail in details.items():
        if index >= len(graph.tensors):
            continue  # temporaries that the interpreter adds
        tensor = graph.tensors[index]
        assert tensor.name == detail["name"]
        assert tensor.shape == tuple(detail["shape_signature"])
        assert tensor.dtype == np.dtype(detail["dtype"]).name
        scales, zero_points = quantization_of(detail)
        assert list(tensor.quantization.scales if tensor.quantization else ()) == scales
        assert list(tensor.quantization.zero_points if tensor.quantization else ()) == zero_points
        if len(scales) > 1:
            assert tensor.quantization is not None
            assert tensor.quantization.axis == detail["quantization_parameters"]["quantized_dimension"]
    assert set(range(len(graph.tensors))) == set(details) & set(range(len(graph.tensors)))
    operators = interpreter._get_ops_details()
    assert [operator.type for operator in graph.operators] == [found["op_name"] for found in operators]
    assert [list(operator.inputs) for operator in graph.operators] == [list(found["inputs"]) for found in operators]
    assert [list(operator.outputs) for operator in graph.operators] == [list(found["outputs"]) for found in operators]
    assert list(graph.inputs) == [port["index"] for port in interpreter.get_input_details()]
    assert list(graph.outputs) == [port["index"] for port in interpreter.get_output_details()]


@pytest.mark.parametrize("name", FACTS)
def test_real_files_have_the_published_totals(shared: Path, name: str) -> None:
    graph = models.read(shared / f"{name}.tflite")
    macs, parameters, state = FACTS[name]
    assert graph.macs == macs
    assert graph.parameters == parameters
    assert graph.state == state
    assert graph.format == "tflite"


def test_weight_bytes_follow_from_the_stored_types(shared: Path) -> None:
    whole = models.read(shared / "kws_dscnn/kws_float.tflite")
    assert whole.weight_bytes == 4 * whole.parameters
    hybrid = models.read(shared / "kws_dscnn/kws_hybrid.tflite")
    in_int8 = 10 * 4 * 64 + 4 * 64 * 64
    assert hybrid.weight_bytes == 4 * (hybrid.parameters - in_int8) + in_int8
    assert "5 float32, 5 int8" in hybrid.notes[-1]


def test_the_arena_is_near_what_another_compiler_needs(shared: Path) -> None:
    """Facts measured beforehand: 16,000 bytes (kws) and 49,152 (resnet8)."""
    assert liveness.arena_bytes(models.read(shared / "kws_dscnn/kws_reference_int8.tflite")) == 16_000
    assert liveness.arena_bytes(models.read(shared / "ic_resnet8/resnet8_reference_int8.tflite")) == 49_152


def test_old_files_name_operators_in_the_old_field(shared: Path) -> None:
    path = shared / "kws_dscnn/kws_hybrid.tflite"
    codes = schema.ModelT.InitFromPackedBuf(path.read_bytes()).operatorCodes
    assert {code.builtinCode for code in codes} == {0}, "this file predates the new field"
    assert [operator.type for operator in models.read(path).operators[:2]] == ["CONV_2D", "DEPTHWISE_CONV_2D"]


def test_a_tiny_network_in_full(tmp_path: Path) -> None:
    path = tiny.conv_tflite(tmp_path)
    graph = models.read(path)
    assert graph.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert graph.size_bytes == path.stat().st_size
    assert graph.tensors[graph.inputs[0]].shape == (-1, 12, 12, 3)
    assert graph.tensors[graph.inputs[0]].size_bytes == 12 * 12 * 3 * 4
    assert [operator.macs for operator in graph.operators] == [36 * 27 * 8, 36 * 9 * 8, 0, 0, 32, 0]
    assert graph.macs == 36 * 27 * 8 + 36 * 9 * 8 + 32
    assert graph.parameters == 27 * 8 + 8 + 9 * 8 + 8 + 8 * 4 + 4
    assert graph.weight_bytes == 4 * graph.parameters
    assert graph.peak_activation_bytes == 12 * 12 * 3 * 4 + 36 * 8 * 4
    assert any("dynamic axes counted as 1: input [-1, 12, 12, 3]" in note for note in graph.notes)
    attributes = graph.operators[0].attributes
    assert attributes["stride_w"] == 2
    assert attributes["padding"] == "SAME"
    assert attributes["fused_activation_function"] == "RELU6"
    assert graph.operators[2].attributes["padding"] == "VALID"


def make(tmp_path: Path, *graphs: Graph, signature: bool = True) -> ModelGraph:
    return models.read(write_tflite(tmp_path / "made.tflite", *graphs, signature=signature))


def refuse(tmp_path: Path, *graphs: Graph) -> str:
    path = write_tflite(tmp_path / "made.tflite", *graphs, signature=False)
    with pytest.raises(ModelError) as caught:
        models.read(path)
    assert caught.value.where == str(path)
    assert "\n" not in caught.value.message
    return caught.value.message


def one(node: Node, *tensors: Tensor, inputs: tuple[str, ...] = ("x",), outputs: tuple[str, ...] = ("y",)) -> Graph:
    return Graph(tensors=tensors, nodes=(node,), inputs=inputs, outputs=outputs)


X = Tensor(name="x", shape=(1, 4))
Y = Tensor(name="y", shape=(1, 4))
RELU = Node(type="RELU", inputs=("x",), outputs=("y",))


def test_custom_operators_keep_their_name(tmp_path: Path) -> None:
    graph = models.read(tiny.custom_op_tflite(tmp_path))
    assert graph.operators[0].type == "EdgeqMystery"
    assert graph.operators[0].custom
    assert not graph.operators[1].custom
    assert any("EdgeqMystery" in note for note in graph.notes)


def test_operator_codes_newer_than_the_schema_are_named(tmp_path: Path) -> None:
    content = bytearray(tflite_bytes(one(Node(type="RELU", inputs=("x",), outputs=("y",), version=77), X, Y)))
    model = schema.Model.GetRootAs(bytes(content), 0)
    code = model.OperatorCodes(0)
    offset = code._tab.Pos + code._tab.Offset(10)
    assert content[offset] == schema.BuiltinOperator.RELU
    content[offset : offset + 4] = (4000).to_bytes(4, "little")
    (tmp_path / "new.tflite").write_bytes(content)
    operator = models.read(tmp_path / "new.tflite").operators[0]
    assert (operator.type, operator.custom, operator.version) == ("BUILTIN_4000", True, 77)


def test_every_operator_of_the_schema_has_a_name() -> None:
    names = operator_names()
    assert names[3] == "CONV_2D"
    assert len(names) == len(set(names.values())) > 200


def test_control_flow_subgraphs(tmp_path: Path) -> None:
    main = one(
        Node(
            type="WHILE",
            inputs=("x",),
            outputs=("y",),
            options_table="WhileOptions",
            options={"condSubgraphIndex": 1, "bodySubgraphIndex": 2},
        ),
        X,
        Y,
    )
    test = one(
        Node(type="LESS", inputs=("x", "k"), outputs=("y",)),
        X,
        Tensor(name="k", shape=(1, 4), data=np.ones((1, 4), np.float32)),
        Tensor(name="y", shape=(1, 4), dtype="bool"),
    )
    weights = Tensor(name="w", shape=(4, 4), data=np.ones((4, 4), np.float32))
    body = one(
        Node(type="FULLY_CONNECTED", inputs=("x", "w", ""), outputs=("y",), options_table="FullyConnectedOptions"),
        X,
        weights,
        Y,
    )
    unused = one(Node(type="FULLY_CONNECTED", inputs=("x", "w", ""), outputs=("y",)), X, weights, Y)
    graph = make(tmp_path, main, test, body, unused)
    assert [operator.subgraph for operator in graph.operators] == [0, 1, 2, 3]
    assert [operator.index for operator in graph.operators] == [0, 1, 2, 3]
    assert graph.tensors[graph.operators[2].inputs[1]].name == "w"
    assert graph.operators[2].inputs[2] == -1
    assert graph.macs == 16, "the subgraph that nothing calls does not count"
    assert any("4 subgraphs" in note for note in graph.notes)
    assert graph.peak_activation_bytes == 32 + 32


def test_calls_of_subgraphs_that_are_not_there(tmp_path: Path) -> None:
    call = Node(
        type="WHILE",
        inputs=("x",),
        outputs=("y",),
        options_table="WhileOptions",
        options={"condSubgraphIndex": 0, "bodySubgraphIndex": 9},
    )
    assert "calls subgraph 9" in refuse(tmp_path, one(call, X, Y))
    call.options["bodySubgraphIndex"] = 0  # type: ignore[index]
    assert "circle" in refuse(tmp_path, one(call, X, Y))


def test_variables_are_no_constants_and_live_throughout(tmp_path: Path) -> None:
    state = Tensor(name="state", shape=(1, 100), variable=True)
    graph = make(tmp_path, one(Node(type="ADD", inputs=("x", "state"), outputs=("y",)), X, Y, state))
    assert not graph.tensors[2].is_constant
    assert graph.peak_activation_bytes == 16 + 16 + 400


def test_shared_buffers_count_once(tmp_path: Path) -> None:
    weights = np.arange(16, dtype=np.float32).reshape(4, 4)
    tensors = (X, Y, Tensor(name="h", shape=(1, 4)), *(Tensor(name=n, shape=(4, 4), data=weights) for n in "ab"))
    nodes = (
        Node(type="FULLY_CONNECTED", inputs=("x", "a", ""), outputs=("h",)),
        Node(type="FULLY_CONNECTED", inputs=("h", "b", ""), outputs=("y",)),
    )
    content = tflite_bytes(Graph(tensors=tensors, nodes=nodes, inputs=("x",), outputs=("y",)))
    (tmp_path / "two.tflite").write_bytes(content)
    assert models.read(tmp_path / "two.tflite").parameters == 32
    model = schema.Model.GetRootAs(content, 0)
    second = model.Subgraphs(0).Tensors(4)
    changed = bytearray(content)
    changed[second._tab.Pos + second._tab.Offset(8)] = model.Subgraphs(0).Tensors(3).Buffer()
    (tmp_path / "one.tflite").write_bytes(changed)
    graph = models.read(tmp_path / "one.tflite")
    assert (graph.parameters, graph.weight_bytes) == (16, 64)
    assert graph.macs == 32


def test_shapes_and_axes_are_no_parameters(tmp_path: Path) -> None:
    shape = Tensor(name="shape", shape=(2,), dtype="int32", data=np.array([2, 2], np.int32))
    graph = make(tmp_path, one(Node(type="RESHAPE", inputs=("x", "shape"), outputs=("y",)), X, Y, shape))
    assert graph.parameters == graph.weight_bytes == 0


def dense(kind: str, data: Any, source: str = "x", **quantization: Any) -> tuple[Node, Tensor]:
    node = Node(type="FULLY_CONNECTED", inputs=(source, kind, ""), outputs=("y",))
    return node, Tensor(name=kind, shape=data.shape, dtype=str(data.dtype), data=data, **quantization)


INT8 = np.ones((4, 4), np.int8)
SCALE = {"scales": (0.5,), "zero_points": (0,)}


def test_state_of_dynamic_range_files(tmp_path: Path) -> None:
    node, weights = dense("w", INT8, **SCALE)
    graph = make(tmp_path, one(node, X, Y, weights))
    assert graph.state == "weights"
    assert graph.tensors[2].quantization is not None
    assert (graph.parameters, graph.weight_bytes) == (16, 16)


def test_state_of_weights_behind_dequantize(tmp_path: Path) -> None:
    unpack = Node(type="DEQUANTIZE", inputs=("w",), outputs=("r",))
    real = Tensor(name="r", shape=(4, 4))
    user = Node(type="FULLY_CONNECTED", inputs=("x", "r", ""), outputs=("y",))
    for dtype, state in (("int8", "partial"), ("float16", "weights")):
        data = np.ones((4, 4), dtype)
        weights = Tensor(name="w", shape=(4, 4), dtype=dtype, data=data, **(SCALE if dtype == "int8" else {}))
        graph = Graph(tensors=(X, Y, weights, real), nodes=(unpack, user), inputs=("x",), outputs=("y",))
        found = make(tmp_path, graph)
        assert found.state == state
        assert (found.parameters, found.macs) == (16, 16)
        assert "behind DEQUANTIZE" in found.notes[-1]


def test_state_of_static_int8_and_of_plain_float(tmp_path: Path) -> None:
    node, weights = dense("w", INT8, **SCALE)
    ports = [Tensor(name=name, shape=(1, 4), dtype="int8", scales=(0.1,), zero_points=(-3,)) for name in "xy"]
    assert make(tmp_path, one(node, *ports, weights)).state == "quantized"
    assert make(tmp_path, one(RELU, *ports)).state == "quantized"
    assert make(tmp_path, one(RELU, X, Y)).state == "float"


def test_quantization_along_an_axis(tmp_path: Path) -> None:
    node, weights = dense("w", INT8, scales=(1.0, 2.0, 3.0, 4.0), zero_points=(0,), axis=0)
    found = make(tmp_path, one(node, X, Y, weights)).tensors[2].quantization
    assert found is not None
    assert (found.scales, found.zero_points, found.axis) == ((1.0, 2.0, 3.0, 4.0), (0, 0, 0, 0), 0)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        ({"scales": (1.0, 2.0), "zero_points": (0, 0)}, "2 scales along axis 0"),
        ({"scales": (1.0,) * 4, "zero_points": (0,) * 4, "axis": 7}, "along axis 7"),
        ({"scales": (1.0,) * 4, "zero_points": (0,) * 3}, "4 scales and 3 zero points"),
        ({"scales": (float("nan"),), "zero_points": (0,)}, "no positive number"),
        ({"scales": (-1.0,), "zero_points": (0,)}, "no positive number"),
    ],
)
def test_quantization_that_makes_no_sense(tmp_path: Path, quantization: dict[str, Any], message: str) -> None:
    node, weights = dense("w", INT8, **quantization)
    assert message in refuse(tmp_path, one(node, X, Y, weights))


def test_constants_that_do_not_fill_their_shape(tmp_path: Path) -> None:
    short = Tensor(name="w", shape=(4, 5), data=np.ones((4, 4), np.float32))
    assert "holds 64 bytes; shape [4, 5] of float32 takes 80" in refuse(tmp_path, one(RELU, X, Y, short))


def test_packed_types_take_half_a_byte(tmp_path: Path) -> None:
    packed = Tensor(name="w", shape=(3, 3), dtype="int4", data=np.ones(5, np.int8), **SCALE)
    node = Node(type="FULLY_CONNECTED", inputs=("x", "w", ""), outputs=("y",))
    graph = make(tmp_path, one(node, X, Y, packed))
    assert (graph.parameters, graph.weight_bytes, graph.state) == (9, 5, "weights")


@pytest.mark.parametrize(
    ("shape", "message"),
    [((1, -7), "axis of size -7"), ((2**31 - 1,) * 3, "more than 64 TiB"), ((1,) * 40, "40 axes")],
)
def test_shapes_that_cannot_be(tmp_path: Path, shape: tuple[int, ...], message: str) -> None:
    assert message in refuse(tmp_path, one(RELU, X, Y, Tensor(name="bad", shape=shape)))


def test_operators_out_of_order_and_in_circles(tmp_path: Path) -> None:
    h = Tensor(name="h", shape=(1, 4))
    late = (Node(type="RELU", inputs=("h",), outputs=("y",)), Node(type="RELU", inputs=("x",), outputs=("h",)))
    graph = Graph(tensors=(X, Y, h), nodes=late, inputs=("x",), outputs=("y",))
    assert "reads tensor 2 before operator 1 makes it" in refuse(tmp_path, graph)
    circle = Node(type="RELU", inputs=("y",), outputs=("y",))
    assert "before operator 0 makes it" in refuse(tmp_path, one(circle, X, Y))
    twice = Graph(tensors=(X, Y), nodes=(RELU, RELU), inputs=("x",), outputs=("y",))
    assert "makes tensor 1" in refuse(tmp_path, twice)


def test_a_file_without_outputs_or_subgraphs(tmp_path: Path) -> None:
    assert "no model output" in refuse(tmp_path, Graph(tensors=(X,), nodes=(), inputs=("x",), outputs=()))
    assert "no subgraph" in refuse(tmp_path)


def test_strings_and_resources_have_no_size(tmp_path: Path) -> None:
    graph = make(tmp_path, one(RELU, X, Y, Tensor(name="s", shape=(3,), dtype="string"), Tensor(
        name="r", shape=(), dtype="resource")))  # fmt: skip
    assert [(tensor.dtype, tensor.size_bytes) for tensor in graph.tensors[2:]] == [("str", 0), ("resource", 0)]


def test_files_whose_tables_share_parts_without_end_are_refused_quickly(tmp_path: Path) -> None:
    """250,000 references to one and the same subgraph of a thousand operators."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)

    def vector(offset: int, count: int) -> int:
        builder.StartVector(4, count, 4)
        for _ in range(count):
            builder.PrependUOffsetTRelative(offset)
        return int(builder.EndVector())

    tensors = vector(schema.TensorT(name="t", shape=[1]).Pack(builder), 1000)
    schema.SubGraphStart(builder)
    schema.SubGraphAddTensors(builder, tensors)
    graphs = vector(schema.SubGraphEnd(builder), 50_000)
    buffers = vector(schema.BufferT().Pack(builder), 1)
    schema.ModelStart(builder)
    schema.ModelAddSubgraphs(builder, graphs)
    schema.ModelAddBuffers(builder, buffers)
    builder.Finish(schema.ModelEnd(builder), b"TFL3")
    (tmp_path / "bomb.tflite").write_bytes(bytes(builder.Output()))
    with pytest.raises(ModelError, match="claim more data than the file holds"):
        models.read(tmp_path / "bomb.tflite")
