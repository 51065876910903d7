"""Embeddings in 8 bits: looked up as integers, a scale for each column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from edgeq import datasets, models, planning, targets
from edgeq.converters import onnx as converter
from edgeq.converters.onnx import tables
from edgeq.runtimes import infer, onnxruntime

ROWS, WIDE = 30, 8


def values(shape: tuple[int, ...] = (ROWS, WIDE), seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def lookup(table: np.ndarray, *more: Any, **options: Any) -> onnx.ModelProto:
    """A model that looks rows up in a table `t`; more nodes may read it too."""
    nodes = [helper.make_node("Gather", ["t", "rows"], ["y"], name="n", **options), *more]
    outputs = [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None) for node in nodes]
    ports = [helper.make_tensor_value_info("rows", TensorProto.INT64, None)]
    graph = helper.make_graph(nodes, "g", ports, outputs, [numpy_helper.from_array(table, "t")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def run(model: onnx.ModelProto, folder: Path, rows: np.ndarray) -> np.ndarray:
    path = folder / "m.onnx"
    onnx.save(model, str(path))
    return np.asarray(onnxruntime.open(path).run([rows])[0])


@pytest.mark.parametrize("shape", [(ROWS, WIDE), (ROWS, 3, WIDE), (1, 4), (ROWS, 1)])
@pytest.mark.parametrize("rows", [(5,), (2, 3), (1, 4, 2)])
def test_rows_come_back_within_half_a_step_of_their_column(
    tmp_path: Path, shape: tuple[int, ...], rows: tuple[int, ...]
) -> None:
    table = values(shape)
    model = lookup(table)
    asked = np.random.default_rng(0).integers(-shape[0], shape[0], rows)  # Gather counts from the end too
    assert tables.shrink(model, {"n"}) == 1
    steps = np.abs(table).reshape(-1, shape[-1]).max(axis=0) / 127
    found = run(model, tmp_path, asked)
    assert found.shape == table[asked].shape
    assert (np.abs(found - table[asked]) <= steps * 0.5001).all()


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 9), size=st.sampled_from([0.0, 1e-45, 1e-30, 1.0, 1e30]), large=st.integers(0, WIDE - 1))
def test_a_large_column_costs_the_others_nothing(seed: int, size: float, large: int) -> None:
    table = values(seed=seed) * np.float32(size)
    table[:, large] *= np.float32(100)
    model = lookup(table)
    tables.shrink(model, {"n"})
    held = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    back = held["t_int8"] * held["t_scale"].astype(np.float64)
    steps = np.abs(table).max(axis=0).astype(np.float64) / 127
    assert (np.abs(back - table) <= np.maximum(steps * 0.5001, 1e-36)).all()
    assert (held["t_scale"] > 0).all()


def test_the_float_table_is_gone_and_the_result_keeps_its_name(tmp_path: Path) -> None:
    table = values((1000, 64))
    model = lookup(table)
    before = len(model.SerializeToString())
    tables.shrink(model, {"n"})
    assert len(model.SerializeToString()) < 0.26 * before
    assert {item.data_type for item in model.graph.initializer if len(item.dims) > 1} == {TensorProto.INT8}
    assert model.graph.node[-1].output[0] == "y"
    run(model, tmp_path, np.array([1, 2]))


def test_two_readers_share_a_table(tmp_path: Path) -> None:
    model = lookup(values(), helper.make_node("Gather", ["t", "rows"], ["z"], name="other", axis=0))
    assert sorted(tables.readers(model, {"n", "other"})) == ["n", "other"]
    assert tables.shrink(model, {"n", "other"}) == 2
    assert sum(item.data_type == TensorProto.INT8 for item in model.graph.initializer) == 1
    run(model, tmp_path, np.array([[0, 3]]))


@pytest.mark.parametrize(
    "model",
    [
        lookup(values(), helper.make_node("Identity", ["t"], ["z"], name="other")),
        lookup(values(), helper.make_node("Gather", ["t", "rows"], ["z"], name="other", axis=1)),
        lookup(values(), axis=1),
        lookup(values((ROWS,))),
        lookup(values().astype(np.float16)),
    ],
    ids=["another reader", "a reader of columns", "columns", "a vector", "half floats"],
)
def test_what_is_read_otherwise_is_left_alone(model: onnx.ModelProto) -> None:
    before = model.SerializeToString()
    assert tables.readers(model, {"n", "other"}) == []
    assert tables.shrink(model, {"n", "other"}) == 0
    assert model.SerializeToString() == before


def test_nodes_that_are_not_named_keep_their_table() -> None:
    model = lookup(values(), helper.make_node("Gather", ["t", "rows"], ["z"], name="other"))
    assert tables.shrink(model, {"n"}) == 0, "the other reader wants the float table"
    assert tables.shrink(model, set()) == 0


def test_a_table_that_is_a_port_stays() -> None:
    model = lookup(values())
    model.graph.output.append(helper.make_tensor_value_info("t", TensorProto.FLOAT, [ROWS, WIDE]))
    assert tables.shrink(model, {"n"}) == 0


# --- a transformer -----------------------------------------------------------------------------

SCHEMES = {
    # least SQNR to float in dB, and largest share of the float file
    "static_wi8_ai8": (19, 0.27),
    "weight_only_wi8": (31, 0.27),
    "weight_only_wi4": (14.5, 0.18),
}


@pytest.mark.slow
@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_transformer_shrinks_whole(shared: Path, tmp_path: Path, scheme: str) -> None:
    path, out = shared / "text_minilm_l3" / "minilm_l3_float.onnx", tmp_path / "m.onnx"
    graph = models.read(path)
    dataset = datasets.bind(datasets.load(path.with_name("dataset.yaml")), graph)
    target = targets.load("generic-linux-x86_64")
    plan = planning.plan(graph, target, targets.load_tables(target), scheme=scheme).chosen
    made = converter.convert(graph, plan, dataset, out)
    least, share = SCHEMES[scheme]
    assert made.artifact.size_bytes <= share * made.artifact.float_size_bytes
    samples = list(datasets.samples(dataset, graph, dataset.evaluation[:60]))
    wanted, found = (
        np.concatenate([np.ravel(infer(session, one)[0]) for one in samples])
        for session in (onnxruntime.open(path), onnxruntime.open(out))
    )
    assert 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()) > least
