"""The ONNX reader against onnx's and onnxruntime's own view, and made-up edge cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime import quantization as ort_quantization

from edgeq import models
from edgeq.errors import ModelError
from edgeq.models import onnx as reader
from edgeq.models import onnx_shapes
from edgeq.testing import models as tiny
from edgeq.types import ModelGraph

FACTS = {
    # the same networks as in TFLite have the same figures
    "ad_autoencoder/ad_float": (264_192, 265_864, "float"),
    "det_fastestdet/fastestdet_float": (121_491_744, 240_301, "float"),
    "ic_resnet8/resnet8_float": (12_501_632, 77_706, "float"),
    "imagenet_mobilenetv2/mobilenet_v2_float": (300_774_272, 3_487_816, "float"),
    "kws_dscnn/kws_float": (2_656_768, 22_604, "float"),
    "kws_dscnn/kws_hybrid": (2_656_768, 22_604, "partial"),
    "seg_mobilenetv3/portrait_float": (147_466_240, 940_122, "float"),
    "sr_espcn/espcn_float": (347_078_656, 21_284, "float"),
    "text_minilm_l3/minilm_l3_float": (5_310_720, 6_051_470, "float"),
    "vww_mobilenetv1/vww_float": (7_489_664, 210_850, "float"),
}


@pytest.mark.parametrize("name", FACTS)
def test_real_files(shared: Path, name: str) -> None:
    path = shared / f"{name}.onnx"
    graph = models.read(path)
    macs, parameters, state = FACTS[name]
    assert (graph.macs, graph.parameters, graph.state) == (macs, parameters, state)
    model = onnx.load(str(path))
    assert Counter(operator.type for operator in graph.operators) == Counter(node.op_type for node in model.graph.node)
    assert [operator.name for operator in graph.operators] == [node.name for node in model.graph.node]
    assert graph.operators[0].version == next(entry.version for entry in model.opset_import if not entry.domain)
    assert not any("unknown" in note or "not inferred" in note for note in graph.notes)


@pytest.mark.parametrize("name", [name for name in FACTS if "minilm" not in name])
def test_shapes_are_those_that_onnxruntime_computes(shared: Path, name: str, tmp_path: Path) -> None:
    """Every tensor of a run with batch 1 has the shape and the type that the reader tells."""
    path = shared / f"{name}.onnx"
    graph = models.read(path)
    model = onnx.load(str(path))
    made = [number for operator in graph.operators for number in operator.outputs if number >= 0]
    names = [graph.tensors[number].name for number in made]
    del model.graph.output[:]
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in names)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {}
    for number in graph.inputs:
        tensor = graph.tensors[number]
        feeds[tensor.name] = np.zeros([abs(size) for size in tensor.shape], tensor.dtype)
    for number, value in zip(made, session.run(names, feeds), strict=True):
        tensor = graph.tensors[number]
        assert [abs(size) for size in tensor.shape] == list(value.shape), tensor.name
        assert tensor.dtype == value.dtype.name
        assert tensor.size_bytes == value.nbytes


def test_the_hybrid_file_describes_its_integer_weights(shared: Path) -> None:
    graph = models.read(shared / "kws_dscnn/kws_hybrid.onnx")
    weights = [tensor for tensor in graph.tensors if tensor.is_constant and tensor.dtype == "int8" and tensor.shape]
    described = [tensor for tensor in weights if tensor.quantization is not None]
    assert len(described) == 5
    assert "5 int8 behind DEQUANTIZE" in graph.notes[-1]
    assert graph.weight_bytes == 4 * (graph.parameters - 18_944) + 18_944


def test_a_tiny_network_in_full(tmp_path: Path) -> None:
    graph = models.read(tiny.conv_onnx(tmp_path))
    assert [operator.type for operator in graph.operators] == [
        "Conv", "Clip", "Conv", "Clip", "AveragePool", "ReduceMean", "Gemm", "Softmax"
    ]  # fmt: skip
    assert [operator.macs for operator in graph.operators] == [36 * 27 * 8, 0, 36 * 9 * 8, 0, 0, 0, 32, 0]
    assert graph.parameters == 27 * 8 + 8 + 9 * 8 + 8 + 8 * 4 + 4, "clip limits are no parameters"
    assert graph.tensors[graph.inputs[0]].shape == (-1, 3, 12, 12)
    assert graph.tensors[graph.outputs[0]].shape == (-1, 4)
    assert graph.operators[0].attributes["strides"] == [2, 2]
    assert graph.operators[2].attributes["group"] == 8
    assert graph.peak_activation_bytes == 4 * (432 + 288)
    assert graph.opset == {"": 17}


def test_custom_operators_carry_their_domain(tmp_path: Path) -> None:
    operator = models.read(tiny.custom_op_onnx(tmp_path)).operators[0]
    assert operator.type == "edgeq.test.Mystery"
    assert operator.custom
    assert operator.attributes == {"strength": 3}
    assert operator.version == 1


Feed = tuple[str, int, Sequence[int | str]]


def save(
    tmp_path: Path,
    nodes: list[onnx.NodeProto],
    *,
    arrays: dict[str, Any] | None = None,
    inputs: Sequence[Feed] = (("x", TensorProto.FLOAT, (1, 4)),),
    outputs: Sequence[str] = ("y",),
    **more: Any,
) -> Path:
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(*value) for value in inputs],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in (arrays or {}).items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1), helper.make_opsetid("local", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8, **more)
    path = tmp_path / "made.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def make(tmp_path: Path, nodes: list[onnx.NodeProto], **more: Any) -> ModelGraph:
    return models.read(save(tmp_path, nodes, **more))


def refuse(path: Path) -> str:
    with pytest.raises(ModelError) as caught:
        models.read(path)
    assert caught.value.where == str(path)
    assert "\n" not in caught.value.message
    return caught.value.message


node = helper.make_node
WEIGHTS = np.ones((4, 4), np.float32)
RELU = node("Relu", ["x"], ["y"])


class _Samples(ort_quantization.CalibrationDataReader):  # type: ignore[misc]
    def __init__(self) -> None:
        samples, _ = tiny.tiny_samples(tiny.CONV_SHAPE, tiny.CLASSES, 8)
        self.left = [sample.transpose(2, 0, 1)[None] for sample in samples]

    def get_next(self) -> dict[str, Any] | None:
        return {"input": self.left.pop()} if self.left else None


@pytest.mark.parametrize("layout", ["QDQ", "QOperator"])
def test_files_that_onnxruntime_quantized(tmp_path: Path, layout: str) -> None:
    source, target = tiny.conv_onnx(tmp_path), tmp_path / "quantized.onnx"
    ort_quantization.quantize_static(
        str(source),
        str(target),
        _Samples(),
        quant_format=ort_quantization.QuantFormat[layout],
        per_channel=True,
        activation_type=ort_quantization.QuantType.QInt8,
        weight_type=ort_quantization.QuantType.QInt8,
    )
    graph = models.read(target)
    assert graph.state == "quantized"
    convolutions = 36 * 27 * 8 + 36 * 9 * 8
    if layout == "QDQ":
        assert graph.macs == convolutions + 32
    else:  # ONNX's inference knows no shapes behind onnxruntime's own operators, and that is said
        assert graph.macs == convolutions
        assert any("MACs not counted: 1 x com.microsoft.QGemm" in note for note in graph.notes)
    assert graph.parameters == models.read(source).parameters
    named = {tensor.name: tensor for tensor in graph.tensors}
    found = named["conv_w_quantized"].quantization
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(target)).graph.initializer}
    assert found is not None
    assert (found.axis, len(found.scales), found.zero_points) == (0, 8, (0,) * 8)
    np.testing.assert_array_equal(np.array(found.scales, np.float32), arrays["conv_w_scale"])
    entry = named["input_QuantizeLinear_Output" if layout == "QDQ" else "input_quantized"].quantization
    assert entry is not None
    assert entry.scales == (float(arrays["input_scale"]),)
    assert entry.zero_points == (int(arrays["input_zero_point"]),)


def test_files_quantized_to_dynamic_range(tmp_path: Path) -> None:
    source, target = tiny.conv_onnx(tmp_path), tmp_path / "dynamic.onnx"
    ort_quantization.quantize_dynamic(str(source), str(target), op_types_to_quantize=["Conv", "Gemm", "MatMul"])
    graph = models.read(target)
    assert {"ConvInteger", "DynamicQuantizeLinear"} <= {operator.type for operator in graph.operators}
    assert graph.state == "weights"
    assert graph.macs == 36 * 27 * 8 + 36 * 9 * 8 + 32


def test_float16_throughout_is_float(tmp_path: Path) -> None:
    half = (("x", TensorProto.FLOAT16, (1, 4)),)
    multiply = node("MatMul", ["x", "w"], ["y"])
    graph = make(tmp_path, [multiply], arrays={"w": WEIGHTS.astype(np.float16)}, inputs=half)
    assert graph.state == "float"
    mixed = [node("Cast", ["w"], ["r"], to=TensorProto.FLOAT), node("MatMul", ["x", "r"], ["y"])]
    assert make(tmp_path, mixed, arrays={"w": WEIGHTS.astype(np.float16)}).state == "weights"


def test_constant_nodes_make_constants(tmp_path: Path) -> None:
    nodes = [
        node("Constant", [], ["w"], value=numpy_helper.from_array(WEIGHTS)),
        node("Constant", [], ["k"], value_floats=[1.0, 2.0, 3.0, 4.0]),
        node("MatMul", ["x", "w"], ["h"]),
        node("Add", ["h", "k"], ["y"]),
    ]
    graph = make(tmp_path, nodes)
    assert (graph.parameters, graph.macs, graph.weight_bytes) == (20, 16, 80)
    assert [tensor.name for tensor in graph.tensors if tensor.is_constant] == ["w", "k"]
    assert graph.operators[1].attributes["value_floats"] == [1.0, 2.0, 3.0, 4.0]


def branch(weights: str, outer: str) -> onnx.GraphProto:
    return helper.make_graph(
        [node("MatMul", [outer, weights], ["r"]), node("Relu", ["r"], [f"r_{weights}"])],
        weights,
        [],
        [helper.make_tensor_value_info(f"r_{weights}", TensorProto.FLOAT, (1, 4))],
        [numpy_helper.from_array(WEIGHTS, weights)],
    )


def test_subgraphs_read_names_from_outside(tmp_path: Path) -> None:
    nodes = [
        node("Relu", ["x"], ["h"]),
        # make_node sorts attributes by name: else_branch stands first in the file
        node("If", ["c"], ["y"], else_branch=branch("a", "h"), then_branch=branch("b", "x")),
    ]
    inputs = (("x", TensorProto.FLOAT, (1, 4)), ("c", TensorProto.BOOL, ()))
    graph = make(tmp_path, nodes, inputs=inputs)
    assert [(operator.type, operator.subgraph) for operator in graph.operators] == [
        ("Relu", 0), ("If", 0), ("MatMul", 1), ("Relu", 1), ("MatMul", 2), ("Relu", 2)
    ]  # fmt: skip
    assert [operator.index for operator in graph.operators] == list(range(6))
    assert graph.operators[1].attributes == {"else_branch_subgraph_index": 1, "then_branch_subgraph_index": 2}
    assert graph.tensors[graph.operators[2].inputs[0]].name == "h"
    assert (graph.macs, graph.parameters) == (32, 32)
    # x and h and the condition and y, and two tensors inside the branch
    assert graph.peak_activation_bytes == 16 + 16 + 1 + 16 + 32
    assert any("3 subgraphs" in note for note in graph.notes)


def test_a_name_made_in_a_branch_is_unknown_outside(tmp_path: Path) -> None:
    nodes = [node("If", ["x"], ["h"], then_branch=branch("a", "x"), else_branch=branch("b", "x"))]
    assert "reads 'r'" in refuse(save(tmp_path, [*nodes, node("Relu", ["r"], ["y"])]))


def test_local_functions_are_noted_and_never_followed(tmp_path: Path) -> None:
    itself = helper.make_function(
        "local", "F", ["a"], ["b"], [node("F", ["a"], ["b"], domain="local")], [helper.make_opsetid("local", 1)]
    )
    graph = make(tmp_path, [node("F", ["x"], ["y"], domain="local")], functions=[itself])
    assert not graph.operators[0].custom
    assert any("local functions, not looked into: F" in note for note in graph.notes)


def test_recurrent_layers(tmp_path: Path) -> None:
    inputs = (("x", TensorProto.FLOAT, (7, 2, 3)),)
    arrays = {
        "w": np.ones((2, 20, 3), np.float32),
        "r": np.ones((2, 20, 5), np.float32),
        "b": np.ones((2, 40), np.float32),
        "h": np.ones((2, 2, 5), np.float32),
    }
    layer = node("LSTM", ["x", "w", "r", "b", "", "h", "h"], ["y"], hidden_size=5, direction="bidirectional")
    graph = make(tmp_path, [layer], arrays=arrays, inputs=inputs)
    assert graph.macs == 7 * 2 * 2 * 20 * (3 + 5)


def test_optional_operands_and_results_left_out(tmp_path: Path) -> None:
    nodes = [node("Clip", ["x", "", "high"], ["h"]), node("Dropout", ["h"], ["y", ""])]
    graph = make(tmp_path, nodes, arrays={"high": np.float32(6)})
    assert graph.operators[0].inputs[1] == -1
    assert graph.operators[1].outputs[1] == -1


def test_operators_of_onnxruntime_are_not_custom(tmp_path: Path) -> None:
    graph = make(tmp_path, [node("Gelu", ["x"], ["y"], domain="com.microsoft")])
    assert (graph.operators[0].type, graph.operators[0].custom) == ("com.microsoft.Gelu", False)


def test_unknown_names_and_double_makers(tmp_path: Path) -> None:
    assert "reads 'z', which nothing before it makes" in refuse(save(tmp_path, [node("Relu", ["z"], ["y"])]))
    assert "reads 'y'" in refuse(save(tmp_path, [node("Relu", ["y"], ["y"])]))
    late = [node("Relu", ["h"], ["y"]), node("Relu", ["x"], ["h"])]
    assert "execution order" in refuse(save(tmp_path, late))
    assert "was made before" in refuse(save(tmp_path, [RELU, RELU]))
    assert "output 'z' is made by no node" in refuse(save(tmp_path, [RELU], outputs=["z"]))
    assert "no operator type" in refuse(save(tmp_path, [node("", ["x"], ["y"])]))


def changed(tmp_path: Path, change: Any) -> Path:
    model = onnx.load(str(save(tmp_path, [RELU], arrays={"w": WEIGHTS})))
    change(model)
    (tmp_path / "changed.onnx").write_bytes(model.SerializeToString())
    return tmp_path / "changed.onnx"


def test_files_that_are_not_whole_models(tmp_path: Path) -> None:
    assert "no operator set version" in refuse(changed(tmp_path, lambda model: model.ClearField("opset_import")))
    assert "no graph" in refuse(changed(tmp_path, lambda model: model.ClearField("graph")))

    def shorten(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].raw_data = b"short"

    assert "holds 5 bytes; shape [4, 4] of float32 takes 64" in refuse(changed(tmp_path, shorten))

    def unknown_type(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].data_type = 99

    assert "unknown data type 99" in refuse(changed(tmp_path, unknown_type))

    def negative(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[0] = -5

    assert "axis of size -5" in refuse(changed(tmp_path, negative))

    def giant(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims[0] = 1 << 62

    assert "more than 64 TiB" in refuse(changed(tmp_path, giant))

    def endless_rank(model: onnx.ModelProto) -> None:
        model.graph.initializer[0].dims.extend([1] * 50)

    assert "52 axes" in refuse(changed(tmp_path, endless_rank))


@pytest.mark.parametrize(
    ("array", "field"),
    [(np.ones(5, np.float32), "float_data"), (np.ones(5, np.int64), "int64_data"), (np.ones(5, np.int8), "int32_data")],
)
def test_constants_in_typed_fields(tmp_path: Path, array: Any, field: str) -> None:
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    constant = helper.make_tensor("w", kind, array.shape, array.tolist())
    assert len(getattr(constant, field)) == 5
    model = onnx.load(str(save(tmp_path, [RELU])))
    model.graph.initializer.append(constant)
    (tmp_path / "typed.onnx").write_bytes(model.SerializeToString())
    assert models.read(tmp_path / "typed.onnx").tensors[1].size_bytes == array.nbytes
    model.graph.initializer[0].dims[0] = 6
    (tmp_path / "typed.onnx").write_bytes(model.SerializeToString())
    assert "holds 5 numbers" in refuse(tmp_path / "typed.onnx")


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    content = save(tmp_path, [node("Relu", ["x"], ["y"], name="FINDME")]).read_bytes()
    (tmp_path / "bytes.onnx").write_bytes(content.replace(b"FINDME", b"\xff\xfe\xff\xfe\xff\xfe"))
    assert "not UTF-8" in refuse(tmp_path / "bytes.onnx")


def test_files_over_two_gib_are_named_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.onnx").open("wb") as stream:
        stream.write(b"\x08\x08")
        stream.truncate((1 << 31) + 1)
    with pytest.raises(ModelError, match="larger than 2 GiB") as caught:
        models.read(tmp_path / "large.onnx")
    assert "external data" in str(caught.value.hint)


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    path = tiny.external_data_onnx(tmp_path)
    graph = models.read(path)
    plain = models.read(tiny.conv_onnx(tmp_path))
    data = tmp_path / "external.onnx.data"
    assert (graph.macs, graph.parameters) == (plain.macs, plain.parameters)
    assert graph.size_bytes == path.stat().st_size + data.stat().st_size
    assert any("external data: external.onnx.data" in note for note in graph.notes)
    data.write_bytes(data.read_bytes()[:-400])
    assert "external data" in refuse(path)
    data.unlink()
    assert "is missing" in refuse(path)


@pytest.mark.parametrize(
    "location", ["../secret", "/etc/passwd", "a/../../secret", "", "a\\..\\secret", "link", "x" * 5000, "folder"]
)
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    (tmp_path / "secret").write_bytes(bytes(64))
    folder = tmp_path / "model"
    (folder / "folder").mkdir(parents=True)
    (folder / "link").symlink_to(tmp_path / "secret")
    path = save(folder, [RELU], arrays={"w": WEIGHTS})
    model = onnx.load(str(path))
    constant = model.graph.initializer[0]
    constant.ClearField("raw_data")
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value=location)
    path.write_bytes(model.SerializeToString())
    assert "external data of 'w'" in refuse(path)


@pytest.mark.parametrize(("key", "value"), [("offset", "ten"), ("offset", "-8"), ("length", "9" * 30)])
def test_external_data_with_wrong_numbers(tmp_path: Path, key: str, value: str) -> None:
    path = tiny.external_data_onnx(tmp_path)
    model = onnx.load(str(path), load_external_data=False)
    entries = model.graph.initializer[0].external_data
    kept = [(entry.key, entry.value) for entry in entries if entry.key != key]
    del entries[:]
    for name, text in (*kept, (key, value)):
        entries.add(key=name, value=text)
    path.write_bytes(model.SerializeToString())
    assert "external data" in refuse(path)


def test_external_scales_are_read(tmp_path: Path) -> None:
    arrays = {"q": np.ones((4, 4), np.int8), "s": np.float32(0.25), "z": np.int8(3)}
    nodes = [node("DequantizeLinear", ["q", "s", "z"], ["w"]), node("MatMul", ["x", "w"], ["y"])]
    model = onnx.load(str(save(tmp_path, nodes, arrays=arrays)))
    path = tmp_path / "outside.onnx"
    onnx.save_model(model, str(path), save_as_external_data=True, location="all.data", size_threshold=0)
    graph = models.read(path)
    found = next(tensor for tensor in graph.tensors if tensor.name == "q").quantization
    assert found is not None
    assert (found.scales, found.zero_points) == ((0.25,), (3,))
    assert graph.state == "partial"


def test_scales_that_do_not_fit(tmp_path: Path) -> None:
    nodes = [node("DequantizeLinear", ["q", "s"], ["w"], axis=0), node("MatMul", ["x", "w"], ["y"])]
    arrays = {"q": np.ones((4, 4), np.int8), "s": np.ones(3, np.float32)}
    assert "3 scales along axis 0" in refuse(save(tmp_path, nodes, arrays=arrays))
    arrays["s"] = np.float32("nan")
    assert "no positive number" in refuse(save(tmp_path, nodes, arrays=arrays))


def test_inference_that_fails_leaves_shapes_unknown(tmp_path: Path) -> None:
    """A chain of Gather doubles the rank at each step: the child runs out of memory, not this process."""
    nodes = [node("Gather", [f"t{step}"] * 2, [f"t{step + 1}"]) for step in range(40)]
    graph = make(tmp_path, nodes, inputs=(("t0", TensorProto.INT64, (2, 2)),), outputs=["t40"])
    assert graph.notes[0].startswith("shapes were not inferred")
    assert any("unknown shape" in note for note in graph.notes)
    assert len(graph.operators) == 40


def test_a_reshape_to_a_thousand_axes_is_bounded(tmp_path: Path) -> None:
    nodes = [node("Reshape", ["x", "s"], ["t0"]), *(node("Relu", [f"t{n}"], [f"t{n + 1}"]) for n in range(2000))]
    arrays = {"s": np.ones(1000, np.int64)}
    graph = make(tmp_path, nodes, arrays=arrays, outputs=["t2000"])
    assert len(graph.operators) == 2001
    assert any("unknown shape" in note for note in graph.notes)


def test_inference_that_overflows_is_refused(tmp_path: Path) -> None:
    arrays = {"s": np.full(4, 1 << 40, np.int64)}
    assert "64 TiB" in refuse(save(tmp_path, [node("ConstantOfShape", ["s"], ["y"])], arrays=arrays))


def test_files_that_tell_every_shape_start_no_process(tmp_path: Path) -> None:
    model = onnx.shape_inference.infer_shapes(onnx.load(str(tiny.conv_onnx(tmp_path))))
    path = tmp_path / "told.onnx"
    onnx.save(model, str(path))
    assert onnx_shapes.infer(model) == onnx_shapes.written(model)
    assert reader.read(path, onnx_shapes.written).macs == 36 * 27 * 8 + 36 * 9 * 8 + 32


def test_large_constants_do_not_go_to_the_inference(tmp_path: Path) -> None:
    arrays = {"w": np.ones((4, 100_000), np.float32), "s": np.array([2, 200_000], np.int64)[::-1].copy()}
    nodes = [node("MatMul", ["x", "w"], ["h"]), node("Reshape", ["h", "s2"], ["y"])]
    arrays["s2"] = np.array([4, 25_000], np.int64)
    graph = make(tmp_path, nodes, arrays=arrays)
    assert graph.tensors[graph.outputs[0]].shape == (4, 25_000)
    assert graph.macs == 400_000
