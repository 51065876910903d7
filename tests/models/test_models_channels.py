"""How far channels lie apart: TFLite and ONNX files with weights of known ranges."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper, numpy_helper

from edgeq import models, planning
from edgeq.errors import ModelError
from edgeq.models import channels
from edgeq.models.write_tflite import Graph, Node, Tensor, write_tflite
from edgeq.types import ModelGraph


def scaled(factors: dict[int, float], axis: int, dtype: Any = np.float32) -> Any:
    """Weights whose channels have a largest magnitude of 1, some multiplied."""
    weights = np.ones((8, 3, 4, 5), np.float64)
    for channel, factor in factors.items():
        weights[(slice(None),) * axis + (channel,)] *= factor
    return weights.astype(dtype)


def onnx_file(path: Path, weights: Any, *, external: bool = False, node: bool = False) -> ModelGraph:
    """`y = x + w`, so that any shape of weights makes a model."""
    tensor = numpy_helper.from_array(weights, "w")
    made = [helper.make_node("Constant", [], ["w"], value=tensor)] if node else []
    graph = helper.make_graph(
        [*made, helper.make_node("Add", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", tensor.data_type, weights.shape)],
        [helper.make_tensor_value_info("y", tensor.data_type, weights.shape)],
        [] if node else [tensor],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, path, save_as_external_data=external, location="weights.bin", size_threshold=0)
    return models.read(path)


def spread_of(graph: ModelGraph, axis: int) -> float | None:
    index = next(tensor.index for tensor in graph.tensors if tensor.name == "w")
    return channels.spread(graph, {index: axis}).get(index)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("kind", [{}, {"external": True}, {"node": True}])
def test_the_widest_channel_over_the_median_one(tmp_path: Path, axis: int, kind: Any) -> None:
    graph = onnx_file(tmp_path / "m.onnx", scaled({1: -180.0}, axis % 4), **kind)
    assert spread_of(graph, axis) == pytest.approx(180)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_every_real_type(tmp_path: Path, dtype: Any) -> None:
    assert spread_of(onnx_file(tmp_path / "m.onnx", scaled({2: 64.0}, 0, dtype)), 0) == pytest.approx(64)


@pytest.mark.parametrize("small", [0.0, 1e-30, 1e-8])
def test_dead_channels_do_not_count(tmp_path: Path, small: float) -> None:
    graph = onnx_file(tmp_path / "m.onnx", scaled({0: 3.0, **dict.fromkeys(range(1, 7), small)}, 0))
    assert spread_of(graph, 0) == pytest.approx(1.5)


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf])
def test_weights_without_a_range_are_left_out(tmp_path: Path, value: float) -> None:
    assert spread_of(onnx_file(tmp_path / "m.onnx", scaled(dict.fromkeys(range(8), value), 0)), 0) is None


def test_integers_are_left_out(tmp_path: Path) -> None:
    assert spread_of(onnx_file(tmp_path / "m.onnx", scaled({1: 100}, 0, np.int32)), 0) is None


def test_nothing_asked_reads_nothing(tmp_path: Path) -> None:
    graph = onnx_file(tmp_path / "m.onnx", scaled({}, 0))
    (tmp_path / "m.onnx").unlink()
    assert channels.spread(graph, {}) == {}


def test_a_file_that_changed_is_refused(tmp_path: Path) -> None:
    graph = onnx_file(tmp_path / "m.onnx", scaled({}, 0))
    onnx_file(tmp_path / "m.onnx", scaled({1: 2.0}, 0))
    with pytest.raises(ModelError, match="changed since it was read"):
        spread_of(graph, 0)


def test_external_data_that_shrank_is_refused(tmp_path: Path) -> None:
    graph = onnx_file(tmp_path / "m.onnx", scaled({}, 0), external=True)
    (tmp_path / "weights.bin").write_bytes(b"\0" * 16)
    with pytest.raises(ModelError, match="external data"):
        spread_of(graph, 0)


@settings(max_examples=60, deadline=None)
@given(
    values=arrays.arrays(
        np.float32,
        arrays.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=5),
        elements=st.floats(width=32, allow_nan=True, allow_infinity=True),
    ),
    data=st.data(),
)
def test_any_weights_give_one_or_more_or_nothing(tmp_path_factory: Any, values: Any, data: Any) -> None:
    axis = data.draw(st.integers(-values.ndim, values.ndim - 1))
    path = tmp_path_factory.mktemp("channels") / "m.onnx"
    found = spread_of(onnx_file(path, values), axis)
    assert found is None or 1 <= found <= 2.0**20 * 1.001


# --- TFLite ----------------------------------------------------------------------------------


def tflite_file(path: Path, weights: Any) -> ModelGraph:
    tensors = (
        Tensor(name="x", shape=weights.shape, dtype=str(weights.dtype)),
        Tensor(name="w", shape=weights.shape, dtype=str(weights.dtype), data=weights),
        Tensor(name="y", shape=weights.shape, dtype=str(weights.dtype)),
    )
    node = Node(type="ADD", inputs=("x", "w"), outputs=("y",), options_table="AddOptions")
    return models.read(write_tflite(path, Graph(tensors=tensors, nodes=(node,), inputs=("x",), outputs=("y",))))


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_channels_of_a_tflite_file(tmp_path: Path, axis: int, dtype: Any) -> None:
    graph = tflite_file(tmp_path / "m.tflite", scaled({1: -180.0, 2: 0.5}, axis % 4, dtype))
    assert spread_of(graph, axis) == pytest.approx(180)


def test_data_behind_the_flatbuffer(tmp_path: Path) -> None:
    """As files over 2 GB have it: the buffer's table names a place in the file."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    path, weights = tmp_path / "m.tflite", scaled({1: 48.0}, 0)
    tflite_file(path, weights)
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(path.read_bytes(), 0))
    number = next(tensor.buffer for tensor in model.subgraphs[0].tensors if tensor.name == b"w")
    model.buffers[number] = schema.BufferT(offset=1 << 16, size=weights.nbytes)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()).ljust(1 << 16, b"\0") + weights.tobytes())
    assert spread_of(models.read(path), 0) == pytest.approx(48)


def test_a_tflite_file_that_changed_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.tflite"
    graph = tflite_file(path, scaled({}, 0))
    whole = path.read_bytes()
    for changed in (b"", whole[:-1], whole + b"\0", b"\xff" * len(whole)):
        path.write_bytes(changed)
        with pytest.raises(ModelError, match="changed since it was read"):
            spread_of(graph, 0)


@settings(max_examples=100, deadline=None)
@given(place=st.integers(0, 3000), value=st.integers(0, 255))
def test_a_tflite_file_with_any_byte_changed_breaks_nothing(tmp_path_factory: Any, place: int, value: int) -> None:
    path = tmp_path_factory.mktemp("channels") / "m.tflite"
    graph = tflite_file(path, scaled({1: 4.0}, 0))
    damaged = bytearray(path.read_bytes())
    damaged[place % len(damaged)] = value
    path.write_bytes(damaged)
    try:
        found = spread_of(graph, 0)
    except ModelError:
        return
    assert found is None or found >= 1


def test_a_tflite_file_says_the_same_as_its_onnx_twin(shared: Path) -> None:
    found = []
    for kind in ("tflite", "onnx"):
        graph = models.read(shared / f"seg_mobilenetv3/portrait_float.{kind}")
        found.append(sorted(planning.spreads.of_weights(graph).values()))
    assert found[0] == pytest.approx(found[1], rel=1e-4)
    assert found[0][-1] == pytest.approx(35.2, rel=0.01)
