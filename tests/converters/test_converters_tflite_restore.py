"""Weights that are stored as integers become float again; stand-ins; names; the flatbuffer itself."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters.tflite import calibration, restore, stand_in
from edgeq.errors import ConvertError, ModelError
from edgeq.runtimes import litert
from edgeq.testing import models as tiny
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite

RANDOM = np.random.default_rng(11)
WEIGHTS = RANDOM.integers(-127, 128, (4, 8)).astype(np.int8)
SCALES = (0.01, 0.02, 0.5, 1e-4)


def dense(weights: Tensor, *before: Node, extra: tuple[Tensor, ...] = ()) -> Graph:
    tensors = (Tensor(name="x", shape=(1, 8)), weights, *extra, Tensor(name="y", shape=(1, 4)))
    used = before[-1].outputs[0] if before else weights.name
    node = Node(type="FULLY_CONNECTED", inputs=("x", used, ""), outputs=("y",), options_table="FullyConnectedOptions")
    return Graph(tensors=tensors, nodes=(*before, node), inputs=("x",), outputs=("y",))


def behind_dequantize(folder: Path) -> Path:
    stored = Tensor(name="w", shape=(4, 8), dtype="int8", data=WEIGHTS, scales=SCALES, zero_points=(0,) * 4)
    node = Node(type="DEQUANTIZE", inputs=("w",), outputs=("w_real",), options_table="DequantizeOptions", version=5)
    return write_tflite(folder / "behind.tflite", dense(stored, node, extra=(Tensor(name="w_real", shape=(4, 8)),)))


def run(path: Path, sample: np.ndarray) -> np.ndarray:
    return np.asarray(litert.open(path).run([sample])[0])


def types(model: Any) -> list[str]:
    return [flatbuffer.type_of(model, operator) for operator in model.subgraphs[0].operators]


def restored(path: Path, out: Path) -> tuple[Any, int]:
    model = flatbuffer.load(path)
    count = restore.float_weights(model)
    out.write_bytes(flatbuffer.dump(model))
    return flatbuffer.load(out), count


def test_weights_behind_dequantize_give_the_same_answers_without_it(tmp_path: Path) -> None:
    path = behind_dequantize(tmp_path)
    model, count = restored(path, tmp_path / "float.tflite")
    assert (types(model), count) == (["FULLY_CONNECTED"], 1)
    sample = RANDOM.normal(0, 1, (1, 8)).astype(np.float32)
    np.testing.assert_allclose(run(tmp_path / "float.tflite", sample), run(path, sample), rtol=1e-6)
    wanted = sample @ (WEIGHTS * np.float32(SCALES)[:, None]).T
    np.testing.assert_allclose(run(tmp_path / "float.tflite", sample), wanted, rtol=1e-5)


def test_half_float_weights_are_restored(tmp_path: Path) -> None:
    half = RANDOM.normal(0, 1, (4, 8)).astype(np.float16)
    node = Node(type="DEQUANTIZE", inputs=("w",), outputs=("w_real",), options_table="DequantizeOptions", version=3)
    stored = Tensor(name="w", shape=(4, 8), dtype="float16", data=half)
    path = write_tflite(tmp_path / "half.tflite", dense(stored, node, extra=(Tensor(name="w_real", shape=(4, 8)),)))
    model, count = restored(path, tmp_path / "float.tflite")
    assert (types(model), count) == (["FULLY_CONNECTED"], 1)
    sample = np.ones((1, 8), np.float32)
    np.testing.assert_allclose(run(tmp_path / "float.tflite", sample), run(path, sample), rtol=1e-5)


def test_weights_that_a_float_operator_takes_directly_are_restored(tmp_path: Path) -> None:
    stored = Tensor(name="w", shape=(4, 8), dtype="int8", data=WEIGHTS, scales=(0.01,), zero_points=(0,))
    path = write_tflite(tmp_path / "hybrid.tflite", dense(stored))
    _, count = restored(path, tmp_path / "float.tflite")
    assert count == 1
    sample = RANDOM.normal(0, 1, (1, 8)).astype(np.float32)
    wanted = sample @ (WEIGHTS * np.float32(0.01)).T
    np.testing.assert_allclose(run(tmp_path / "float.tflite", sample), wanted, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(run(path, sample), wanted, atol=0.1)  # its kernel quantizes x as well


def test_the_integers_are_gone_from_the_restored_file(tmp_path: Path) -> None:
    path = behind_dequantize(tmp_path)
    assert WEIGHTS.tobytes() in path.read_bytes()
    restored(path, tmp_path / "float.tflite")
    assert WEIGHTS.tobytes() not in (tmp_path / "float.tflite").read_bytes()


def test_a_float_model_is_left_alone(tmp_path: Path) -> None:
    model = flatbuffer.load(tiny.conv_tflite(tmp_path))
    before = flatbuffer.dump(model)
    assert restore.float_weights(model) == 0
    assert flatbuffer.dump(model) == before


def test_a_dequantize_that_makes_an_output_is_kept(tmp_path: Path) -> None:
    stored = Tensor(name="w", shape=(4, 8), dtype="int8", data=WEIGHTS, scales=(0.1,), zero_points=(0,))
    node = Node(type="DEQUANTIZE", inputs=("w",), outputs=("r",), options_table="DequantizeOptions", version=2)
    graph = Graph(tensors=(stored, Tensor(name="r", shape=(4, 8))), nodes=(node,), inputs=(), outputs=("r",))
    model = flatbuffer.load(write_tflite(tmp_path / "out.tflite", graph))
    assert restore.float_weights(model) == 0
    assert types(model) == ["DEQUANTIZE"]


@settings(max_examples=80, deadline=None)
@given(
    data=st.data(),
    shape=hnp.array_shapes(min_dims=1, max_dims=4, max_side=5),
    dtype=st.sampled_from(["int8", "uint8", "int16"]),
)
def test_real_values_are_scale_times_steps_from_zero_point(data: Any, shape: tuple[int, ...], dtype: str) -> None:
    stored = data.draw(hnp.arrays(dtype, shape))
    axis = data.draw(st.integers(0, len(shape) - 1))
    count = data.draw(st.sampled_from([1, shape[axis]]))
    scales = data.draw(hnp.arrays(np.float32, count, elements=st.floats(2.0**-20, 8, width=32)))
    zeros = data.draw(hnp.arrays(np.int64, count, elements=st.integers(-128, 127)))
    along = [count if place == axis else 1 for place in range(len(shape))] if count > 1 else [1] * len(shape)
    wanted = (stored.astype(np.float64) - zeros.reshape(along)) * scales.astype(np.float64).reshape(along)
    made = restore.real_values(*holder(stored, dtype, scales, zeros, axis))
    np.testing.assert_allclose(made, wanted, rtol=1e-6)
    assert (made.dtype, made.shape) == (np.float32, shape)


def holder(stored: np.ndarray, dtype: str, scales: np.ndarray, zeros: np.ndarray, axis: int) -> tuple[Any, Any]:
    """A model with one buffer, and the tensor in it."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT(buffers=[])
    number = flatbuffer.add_buffer(model, stored)
    quantization = schema.QuantizationParametersT(scale=scales, zeroPoint=zeros, quantizedDimension=axis)
    tensor = schema.TensorT(shape=list(stored.shape), buffer=number, name=b"w", quantization=quantization)
    tensor.type = getattr(schema.TensorType, dtype.upper())
    return model, tensor


def test_weights_that_do_not_fit_their_shape_are_refused() -> None:
    model, tensor = holder(np.zeros(12, np.int8), "int8", np.ones(1, np.float32), np.zeros(1, np.int64), 0)
    tensor.shape = [5, 5]
    with pytest.raises(ConvertError, match="weights 'w' do not fit their shape"):
        restore.real_values(model, tensor)


def test_scales_that_do_not_fit_the_axis_are_refused() -> None:
    model, tensor = holder(np.zeros((3, 4), np.int8), "int8", np.ones(5, np.float32), np.zeros(5, np.int64), 1)
    with pytest.raises(ConvertError, match="do not fit"):
        restore.real_values(model, tensor)


@pytest.mark.parametrize("kind", ["UINT4", "INT2", "BOOL"])
def test_other_types_are_refused_by_name(kind: str) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model, tensor = holder(np.zeros(4, np.int8), "int8", np.ones(1, np.float32), np.zeros(1, np.int64), 0)
    tensor.type = getattr(schema.TensorType, kind)
    with pytest.raises(ConvertError, match={"UINT4": "unsigned 4-bit", "INT2": "2-bit"}.get(kind, kind)):
        restore.real_values(model, tensor)


@pytest.mark.parametrize("shape", [(3, 5), (4, 4), (1,), (0, 3)])
def test_nibbles_are_unpacked_low_half_first(shape: tuple[int, ...]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    values = RANDOM.integers(-8, 8, shape)
    flat = np.pad(values.reshape(-1), (0, values.size % 2)).astype(np.uint8) & 15
    raw = (flat[::2] | (flat[1::2] << 4)).astype(np.uint8).view(np.int8)
    model, tensor = holder(raw, "int8", np.array([0.5], np.float32), np.zeros(1, np.int64), 0)
    tensor.shape, tensor.type = list(shape), schema.TensorType.INT4
    assert np.array_equal(restore.real_values(model, tensor), values.astype(np.float32) / 2)
    tensor.shape = [*shape, 3]
    with pytest.raises(ConvertError, match="do not fit") if values.size else contextlib.nullcontext():
        restore.real_values(model, tensor)


@pytest.mark.parametrize("shape", [(-3, -5), (2**31, 2**31), (-1, 4)])
def test_hostile_shapes_of_nibbles_are_refused(shape: tuple[int, ...]) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model, tensor = holder(np.zeros(8, np.int8), "int8", np.ones(1, np.float32), np.zeros(1, np.int64), 0)
    tensor.shape, tensor.type = list(shape), schema.TensorType.INT4
    with pytest.raises(ConvertError, match="do not fit"):
        restore.real_values(model, tensor)


def test_sparse_weights_are_refused() -> None:
    model, tensor = holder(np.zeros(4, np.int8), "int8", np.ones(1, np.float32), np.zeros(1, np.int64), 0)
    tensor.sparsity = object()
    with pytest.raises(ConvertError, match="sparse"):
        restore.real_values(model, tensor)


def moving_graph() -> Graph:
    tensors = (Tensor(name="x", shape=(1, 4, 4, 8)), Tensor(name="y", shape=(1, 8, 8, 2)))
    options = {"blockSize": 2}
    node = Node(
        type="DEPTH_TO_SPACE", inputs=("x",), outputs=("y",), options_table="DepthToSpaceOptions", options=options
    )
    return Graph(tensors=tensors, nodes=(node,), inputs=("x",), outputs=("y",))


def test_stand_ins_are_taken_back(tmp_path: Path) -> None:
    model = flatbuffer.load(write_tflite(tmp_path / "d.tflite", moving_graph()))
    codes = stand_in.put(model, "int8")
    assert types(model) == ["SPACE_TO_DEPTH"]
    stand_in.take(model, codes)
    assert types(model) == ["DEPTH_TO_SPACE"]


def test_names_are_numbered_and_come_back(tmp_path: Path) -> None:
    model = flatbuffer.load(tiny.mlp_tflite(tmp_path))
    before = [tensor.name for tensor in model.subgraphs[0].tensors]
    names = flatbuffer.number_names(model)
    assert [tensor.name for tensor in model.subgraphs[0].tensors] == [f"0.{i}".encode() for i in range(len(before))]
    model.subgraphs[0].tensors[3].name += b"_dequant"
    flatbuffer.restore_names(model, names)
    assert [tensor.name for tensor in model.subgraphs[0].tensors] == [*before[:3], before[3] + b"_dequant", *before[4:]]


def test_only_computed_float_tensors_are_calibrated(tmp_path: Path) -> None:
    model = flatbuffer.load(tiny.conv_tflite(tmp_path))
    labels = calibration.activation_labels(model, flatbuffer.number_names(model))
    known = {label.split(" ")[0] for label in labels.values()}
    assert known == {"input", "conv", "depthwise", "pool", "mean", "dense", "scores"}


def test_loading_and_dumping_changes_no_answer(tmp_path: Path) -> None:
    path = tiny.conv_tflite(tmp_path)
    (tmp_path / "again.tflite").write_bytes(flatbuffer.dump(flatbuffer.load(path)))
    sample = RANDOM.uniform(0, 1, (1, 12, 12, 3)).astype(np.float32)
    assert np.array_equal(run(path, sample), run(tmp_path / "again.tflite", sample))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 4000), value=st.integers(0, 255), cut=st.integers(8, 4000))
def test_a_broken_file_is_a_model_error(tmp_path: Path, place: int, value: int, cut: int) -> None:
    content = bytearray(tiny.conv_tflite(tmp_path).read_bytes())
    content[place % len(content)] = value
    path = tmp_path / "broken.tflite"
    path.write_bytes(content[:cut] if cut % 2 else content)
    try:
        flatbuffer.load(path)
    except ModelError as error:
        assert error.where == str(path)
