"""Weights in 8 and 4 bits with float arithmetic, in both formats: answers, sizes, what is stored how."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeq import backends, datasets, models
from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters.onnx import prepare, weights
from edgeq.converters.tflite.restore import type_name
from edgeq.errors import ConvertError
from edgeq.runtimes import infer, onnxruntime
from edgeq.testing import models as tiny
from edgeq.testing.bundles import RUNTIMES
from edgeq.testing.plans import plan_of
from edgeq.types import (
    FLOAT32,
    Dataset,
    ModelGraph,
    QuantizedModel,
    Scheme,
    Signature,
)

Bound = tuple[ModelGraph, Dataset]
EIGHT = Signature(activations="float32", weights="int8", granularity="per-channel", symmetric="weights")
FOUR = dataclasses.replace(EIGHT, weights="int4")
DEFAULTS = {"weight_only_wi8": EIGHT, "weight_only_wi4": FOUR}
WIDE = Signature(activations="int16", weights="int8", bias="int32", granularity="per-channel", symmetric="both")
UNSIGNED = dataclasses.replace(WIDE, activations="uint16", symmetric="weights")


def convert(
    bound: Bound,
    name: str,
    out: Path,
    overrides: dict[int, Signature] | None = None,
    default: Signature | None = None,
) -> QuantizedModel:
    graph, dataset = bound
    scheme = Scheme(name=name, default=default or DEFAULTS.get(name, WIDE), overrides=overrides or {})
    plan = plan_of(graph, scheme)
    needed = dataset if name.startswith("static") else None
    return backends.find("converters", graph.format).convert(graph, plan, needed, out)  # type: ignore[no-any-return]


def bind(model: Path, description: Path) -> Bound:
    graph = models.read(model)
    return graph, datasets.bind(datasets.load(description), graph)


def answers(path: Path, bound: Bound, count: int = 50) -> np.ndarray:
    graph, dataset = bound
    session = backends.find("runtimes", RUNTIMES[path.suffix]).open(path, threads=2)
    samples = datasets.samples(dataset, graph, dataset.evaluation[:count])
    return np.concatenate([np.ravel(one) for sample in samples for one in infer(session, sample)])


def sqnr_db(wanted: np.ndarray, given: np.ndarray) -> float:
    noise = np.square(wanted.astype(np.float64) - given).sum()
    return float(10 * np.log10(np.square(wanted.astype(np.float64)).sum() / max(noise, 1e-30)))


def compared(bound: Bound, name: str, out: Path) -> tuple[float, float]:
    """SQNR to float in dB, and the share of the float file's size."""
    made = convert(bound, name, out)
    share = made.artifact.size_bytes / made.artifact.float_size_bytes
    return sqnr_db(answers(Path(bound[0].path), bound), answers(out, bound)), share


@pytest.fixture(scope="module", params=["tflite", "onnx"])
def conv(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bound:
    folder = tmp_path_factory.mktemp("conv")
    make = tiny.conv_tflite if request.param == "tflite" else tiny.conv_onnx
    return bind(make(folder), tiny.tiny_dataset(folder, channels_first=request.param == "onnx"))


def stored_kinds(path: Path) -> Counter[str]:
    """Types of constants of two dimensions and more."""
    if path.suffix == ".onnx":
        graph = onnx.load(str(path)).graph
        return Counter(TensorProto.DataType.Name(one.data_type) for one in graph.initializer if len(one.dims) > 1)
    model = flatbuffer.load(path)
    tensors = model.subgraphs[0].tensors
    return Counter(type_name(one) for one in tensors if flatbuffer.is_constant(model, one) and len(one.shape) > 1)


# --- both formats ----------------------------------------------------------------------------

REAL = {
    # least SQNR in dB and largest share of the float file, with 8 and with 4 bits
    "kws_dscnn/kws_float.tflite": ((36, 0.47), (13, 0.37)),
    "kws_dscnn/kws_float.onnx": ((36, 0.51), (13, 0.43)),
    "vww_mobilenetv1/vww_float.tflite": ((36, 0.33), (12, 0.22)),
    "vww_mobilenetv1/vww_float.onnx": ((36, 0.33), (12, 0.22)),
    "ad_autoencoder/ad_float.tflite": ((43, 0.28), (22, 0.16)),
    "ad_autoencoder/ad_float.onnx": ((43, 0.27), (22, 0.15)),
    "sr_espcn/espcn_float.tflite": ((39, 0.30), (21, 0.17)),
    "seg_mobilenetv3/portrait_float.tflite": ((13, 0.30), (1, 0.18)),
    "seg_mobilenetv3/portrait_float.onnx": ((13, 0.29), (1, 0.18)),
    "text_minilm_l3/minilm_l3_float.onnx": ((27, 0.26), (13, 0.18)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_models_shrink_to_a_quarter_and_an_eighth(shared: Path, tmp_path: Path, name: str) -> None:
    path = shared / name
    bound = bind(path, path.with_name("dataset.yaml"))
    for scheme, (least, most) in zip(("weight_only_wi8", "weight_only_wi4"), REAL[name], strict=True):
        found_db, share = compared(bound, scheme, tmp_path / f"m{path.suffix}")
        assert found_db >= least, scheme
        assert share <= most, scheme


def test_ports_stay_float_and_no_samples_are_needed(conv: Bound, tmp_path: Path) -> None:
    for name in ("weight_only_wi8", "weight_only_wi4"):
        made = convert(conv, name, tmp_path / f"m.{conv[0].format}")
        assert {port.dtype for port in (*made.inputs, *made.outputs)} == {"float32"}


def test_depthwise_kernels_keep_8_bits_and_it_is_told(conv: Bound, tmp_path: Path) -> None:
    out = tmp_path / f"m.{conv[0].format}"
    made = convert(conv, "weight_only_wi4", out)
    kind = {"tflite": "DEPTHWISE_CONV_2D", "onnx": "Conv"}[conv[0].format]
    assert made.notes == (f"weights in 8 bits: {kind} (1)",)
    assert stored_kinds(out) == {"INT4": 2, "INT8": 1}
    assert convert(conv, "weight_only_wi8", out).notes == ()
    assert stored_kinds(out) == {"INT8": 3}


def test_exceptions_stay_in_float_or_have_8_bits(conv: Bound, tmp_path: Path) -> None:
    graph, out = conv[0], tmp_path / f"m.{conv[0].format}"
    first, dense = (
        next(one.index for one in graph.operators if one.type in kinds)
        for kinds in (("CONV_2D", "Conv"), ("FULLY_CONNECTED", "Gemm", "MatMul"))
    )
    convert(conv, "weight_only_wi4", out, {first: FLOAT32, dense: EIGHT})
    assert stored_kinds(out) == {"FLOAT": 1, "INT8": 2} if graph.format == "onnx" else {"FLOAT32": 1, "INT8": 2}


def test_what_was_made_is_restored_and_made_again(conv: Bound, tmp_path: Path) -> None:
    """A file with small weights is a partly quantized input: the second time nothing more is lost."""
    first, second = (tmp_path / f"{name}.{conv[0].format}" for name in ("first", "second"))
    for name in ("weight_only_wi8", "weight_only_wi4"):
        convert(conv, name, first)
        graph = models.read(first)
        assert graph.state in ("partial", "weights")
        made = convert((graph, conv[1]), name, second)
        assert "3 weights were stored as integers" in made.notes[0]
        assert sqnr_db(answers(first, conv), answers(second, conv)) > 60
        wide = convert((graph, conv[1]), "static_wi8_ai16", second)
        assert any("restored" in note for note in wide.notes)


def test_an_exception_for_no_operator_is_refused(conv: Bound, tmp_path: Path) -> None:
    with pytest.raises(ConvertError, match="operator 99"):
        convert(conv, "weight_only_wi8", tmp_path / "m", {99: FLOAT32})


def test_a_model_without_weights_is_refused_in_onnx(tmp_path: Path) -> None:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", ports[:1], ports[1:])
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))
    read = models.read(path)
    plan = plan_of(read, Scheme(name="weight_only_wi8", default=EIGHT))
    with pytest.raises(ConvertError, match="no weights"):
        backends.find("converters", "onnx").convert(read, plan, None, tmp_path / "m.onnx")


# --- ONNX: layout and rounding ---------------------------------------------------------------


def one_layer(kind: str, shape: tuple[int, ...], places: int = 1, **options: Any) -> tuple[onnx.ModelProto, np.ndarray]:
    """A model of one node with seeded weights; operands behind the weights are left out."""
    values = np.random.default_rng(3).normal(0, 1, shape).astype(np.float32)
    node = helper.make_node(kind, ["x", "w"] if places else ["w", "x"], ["y"], name="n", **options)
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT if places else TensorProto.INT64, None)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(values, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), values


LAYERS: list[tuple[str, tuple[int, ...], dict[str, int], int, tuple[int, ...], tuple[int, ...]]] = [
    # type, shape of weights, attributes, place of weights, shape of scales with 8 and with 4 bits
    ("Conv", (6, 8, 3, 3), {}, 1, (6,), (6,)),
    ("Conv", (8, 1, 3, 3), {"group": 8}, 1, (8,), (8,)),
    ("ConvTranspose", (8, 6, 2, 2), {}, 1, (6,), (6,)),
    ("Gemm", (40, 6), {}, 1, (6,), (6,)),
    ("Gemm", (6, 40), {"transB": 1}, 1, (6,), (6,)),
    ("MatMul", (40, 6), {}, 1, (6,), (2, 6)),
    ("MatMul", (3, 40, 6), {}, 1, (6,), (6,)),
    ("MatMul", (5, 7), {}, 1, (7,), (1, 7)),
    ("Gather", (50, 8), {}, 0, (50,), (50,)),
]


@pytest.mark.parametrize(("kind", "shape", "options", "place", "eight", "four"), LAYERS)
@pytest.mark.parametrize("bits", [8, 4])
def test_each_layer_is_stored_along_its_outputs_and_comes_back(
    kind: str,
    shape: tuple[int, ...],
    options: dict[str, int],
    place: int,
    eight: tuple[int, ...],
    four: tuple[int, ...],
    bits: int,
) -> None:
    model, values = one_layer(kind, shape, place, **options)
    done = weights.shrink(model, {"n": bits})
    scale = next(numpy_helper.to_array(one) for one in model.graph.initializer if one.name == "w_scale")
    assert scale.shape == (eight if bits == 8 else four)
    assert prepare.restore_weights(model) == 1
    (back,) = [numpy_helper.to_array(one) for one in model.graph.initializer]
    if done["n"] == 8:
        assert np.abs(back - values).max() <= scale.max() / 2 * 1.001
        assert scale.max() == pytest.approx(np.abs(values).max() / 127)
    else:
        assert sqnr_db(values, back) > 15
        assert 0.6 * np.abs(values).max() / 7 < scale.max() <= np.abs(values).max() / 7 * 1.001


SHAPES = st.tuples(st.integers(1, 70), st.integers(1, 5))
BLOCKS = st.sampled_from([1, 16, 32])
SIZES = st.sampled_from([0.0, 1e-45, 1e-38, 1e-30, 1.0, 1e30, 3e38])


def spread(scales: np.ndarray, block: int, rows: int) -> np.ndarray:
    """The scale of each value."""
    wide = np.repeat(scales, block, 0)[:rows] if block > 1 else scales[:, np.newaxis]
    return np.asarray(wide, np.float64)


@settings(max_examples=60, deadline=None)
@generated(shape=SHAPES, block=BLOCKS, size=SIZES)
def test_rounding_to_8_bits_is_never_off_by_more_than_half_a_step(
    shape: tuple[int, int], block: int, size: float
) -> None:
    real = (np.random.default_rng(0).uniform(-1, 1, shape) * size).astype(np.float32)
    stored, scales = weights.rounded(real, weights.Layout(8, 0, block))
    assert np.abs(stored.astype(int)).max(initial=0) <= 127
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    wide = spread(scales, block, shape[0])
    error = np.abs(stored.astype(np.float64) * wide - real)
    assert (error <= np.maximum(wide * 0.5001, 1e-36)).all()


@settings(max_examples=60, deadline=None)
@generated(shape=SHAPES, block=BLOCKS, size=SIZES, seed=st.integers(0, 5))
def test_rounding_to_4_bits_errs_no_more_than_the_widest_scale(
    shape: tuple[int, int], block: int, size: float, seed: int
) -> None:
    """Clipping is chosen where the squared error of a group falls; nowhere is it above that of unclipped values."""
    real = (np.random.default_rng(seed).standard_t(3, shape) * size / 100).astype(np.float32)
    real = np.nan_to_num(real, posinf=3e38, neginf=-3e38)
    stored, scales = weights.rounded(real, weights.Layout(4, 0, block))
    assert stored.min(initial=0) >= -8
    assert stored.max(initial=0) <= 7
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    wide = spread(scales, block, shape[0])
    starts = np.arange(0, shape[0], block)
    ends = np.maximum.reduceat(np.abs(real), starts, 0) if block > 1 else np.abs(real).max(1)
    widest = spread(np.where(ends < 1e-37, 1, ends / 7), block, shape[0])
    errors = [(np.clip(np.rint(real / one), -8, 7) * one - real) / widest for one in (wide, widest)]
    ours, plain = ([np.square(part).sum() for part in groups(error, block)] for error in errors)
    assert (np.array(ours) <= np.array(plain) * 1.001 + 1e-6).all()


def groups(values: np.ndarray, block: int) -> list[np.ndarray]:
    """Values that share a scale: runs of a column, or whole rows."""
    if block == 1:
        return list(values)
    return [
        values[start : start + block, column]
        for start in range(0, len(values), block)
        for column in range(values.shape[1])
    ]


def test_a_lone_large_weight_does_not_flatten_its_block_in_4_bits() -> None:
    real = np.full((32, 1), 0.5, np.float32)
    real[0] = 4.0
    stored, scales = weights.rounded(real, weights.Layout(4, 0, 32))
    plain = np.rint(real / (4 / 7)) * (4 / 7)
    made = stored * scales
    assert np.square(made - real).sum() < 0.9 * np.square(plain - real).sum()


@settings(max_examples=40, deadline=None)
@generated(values=st.lists(st.integers(-8, 7), max_size=33))
def test_packed_nibbles_are_those_of_onnx(values: list[int]) -> None:
    raw = weights.packed(np.array(values, np.int8))
    tensor = TensorProto(name="w", data_type=TensorProto.INT4, dims=[len(values)], raw_data=raw)
    assert numpy_helper.to_array(tensor).astype(int).tolist() == values


def test_products_in_4_bits_become_the_kernel_that_reads_them(tmp_path: Path) -> None:
    model, _ = one_layer("MatMul", (64, 32))
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 2
    model.graph.input[0].type.tensor_type.shape.dim.add().dim_value = 64
    weights.shrink(model, {"n": 4})
    onnx.save(model, str(tmp_path / "m.onnx"))
    onnxruntime.optimised(tmp_path / "m.onnx", tmp_path / "fused.onnx")
    assert [node.op_type for node in onnx.load(str(tmp_path / "fused.onnx")).graph.node] == ["MatMulNBits"]
    sample = np.random.default_rng(0).normal(0, 1, (2, 64)).astype(np.float32)
    (given,) = onnxruntime.open(tmp_path / "m.onnx").run([sample])
    prepare.restore_weights(model)
    (stored,) = [numpy_helper.to_array(one) for one in model.graph.initializer]
    assert sqnr_db(sample @ stored, np.asarray(given)) > 35


def test_constants_shared_with_ports_and_vectors_are_left_alone() -> None:
    model, _ = one_layer("MatMul", (8, 4))
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [8, 4]))
    assert weights.shrink(model, {"n": 8}) == {}
    vector, _ = one_layer("MatMul", (8,))
    assert weights.shrink(vector, {"n": 8}) == {}
    unasked, _ = one_layer("MatMul", (8, 4))
    assert weights.shrink(unasked, {}) == {}


@pytest.mark.parametrize(("block", "scales"), [(2**40, (1, 4)), (3, (2, 4)), (-1, (8, 4)), (4, (2, 3)), (4, (8,))])
def test_hostile_blocks_are_refused(block: int, scales: tuple[int, ...]) -> None:
    stored = numpy_helper.from_array(np.ones((8, 4), np.int8), "q")
    node = helper.make_node("DequantizeLinear", ["q", "s"], ["w"], axis=0, block_size=block)
    scale = numpy_helper.from_array(np.ones(scales, np.float32), "s")
    graph = helper.make_graph([node, helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [], [], [stored, scale])
    model = helper.make_model(graph)
    if block == 2**40:  # one block over all of the axis
        assert prepare.restore_weights(model) == 1
        return
    with pytest.raises(ConvertError, match="'w' do not fit"):
        prepare.restore_weights(model)


# --- ONNX: 16-bit activations ----------------------------------------------------------------


@pytest.mark.parametrize("default", [WIDE, UNSIGNED])
def test_wide_activations_in_onnx_are_nearer_to_float(shared: Path, tmp_path: Path, default: Signature) -> None:
    path = shared / "kws_dscnn" / "kws_float.onnx"
    bound = bind(path, path.with_name("dataset.yaml"))
    made = convert(bound, "static_wi8_ai16", tmp_path / "m.onnx", default=default)
    written = onnx.load(str(tmp_path / "m.onnx"))
    kinds = {one.data_type for one in written.graph.initializer}
    activations = TensorProto.INT16 if default is WIDE else TensorProto.UINT16
    assert kinds >= {activations, TensorProto.INT8, TensorProto.INT32}
    assert {node.domain for node in written.graph.node} == {""}
    assert next(one.version for one in written.opset_import if not one.domain) >= 21
    assert sqnr_db(answers(path, bound), answers(tmp_path / "m.onnx", bound)) > 36
    assert "runs 0 operators with weights in integers" in made.notes[-1], "no 16-bit kernel on a CPU"
