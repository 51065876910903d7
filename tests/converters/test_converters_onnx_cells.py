"""Recurrent cells of ONNX under a static scheme: float arithmetic on weights in 8 bits, whatever the direction."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper, numpy_helper

from edgeq import backends, datasets, models, planning, targets
from edgeq.search import open_session
from edgeq.testing import planned
from edgeq.types import Dataset, ModelGraph, Plan

STEPS, INPUTS, RESULTS = 10, 6, 5
GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}


class Cell(NamedTuple):
    kind: str
    hidden: int = 32
    both_ways: bool = False


def write(folder: Path, cell: Cell, seed: int = 1) -> Path:
    """A cell, its last state, a dense layer; and samples for it."""
    draw = np.random.default_rng(seed).normal
    ways, rows = 2 if cell.both_ways else 1, GATES[cell.kind] * cell.hidden
    constants = {
        "W": draw(0, 0.3, (ways, rows, INPUTS)),
        "R": draw(0, 0.7 / cell.hidden**0.5, (ways, rows, cell.hidden)),
        "B": draw(0, 0.1, (ways, 2 * rows)),
        "F": draw(0, 0.3, (ways * cell.hidden, RESULTS)),
    }
    stored = [numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()]
    stored.append(numpy_helper.from_array(np.array([-1, ways * cell.hidden], np.int64), "shape"))
    direction = "bidirectional" if cell.both_ways else "forward"
    nodes = [
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node(
            cell.kind, ["xt", "W", "R", "B"], ["all", "last"], "cell", hidden_size=cell.hidden, direction=direction
        ),
        helper.make_node("Transpose", ["last"], ["turned"], perm=[1, 0, 2]),
        helper.make_node("Reshape", ["turned", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "F"], ["y"], "dense"),
    ]
    ports = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("x", ["N", STEPS, INPUTS]), ("y", ["N", RESULTS]))
    ]
    graph = helper.make_graph(nodes, "cells", ports[:1], ports[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, str(folder / "cell.onnx"))
    np.savez(folder / "x.npz", x=np.random.default_rng(seed + 1).random((48, STEPS, INPUTS)).astype(np.float32))
    (folder / "dataset.yaml").write_text(
        'inputs:\n  - {npz: x.npz, array: x}\nmetric: cosine\ncalibration: "0:16"\nevaluation: "16:48"\n'
    )
    return folder / "cell.onnx"


def bound(path: Path) -> tuple[ModelGraph, Dataset]:
    graph = models.read(path)
    return graph, datasets.bind(datasets.load(str(path.with_name("dataset.yaml"))), graph)


def static_plan(graph: ModelGraph, target: str = "generic-linux-x86_64") -> Plan:
    found = targets.load(target)
    return planning.choose(graph, found, targets.load_tables(found), scheme="static_wi8_ai8")


def converted(path: Path) -> tuple[Any, tuple[str, ...], Plan]:
    graph, dataset = bound(path)
    plan = static_plan(graph)
    out = path.with_name("quantized.onnx")
    made = backends.find("converters", "onnx").convert(graph, plan, dataset, out)
    return onnx.load(str(out)), made.notes, plan


def sqnr_db(path: Path) -> float:
    graph, dataset = bound(path)
    sessions = [open_session("onnx", file) for file in (path, path.with_name("quantized.onnx"))]
    signal = noise = 0.0
    for sample in datasets.samples(dataset, graph, dataset.evaluation):
        wanted, found = (np.asarray(one.run(list(sample))[0], np.float64) for one in sessions)
        signal, noise = signal + float((wanted**2).sum()), noise + float(((wanted - found) ** 2).sum())
    return float(10 * np.log10(signal / noise))


CELLS = [Cell("GRU"), Cell("LSTM"), Cell("RNN"), Cell("LSTM", both_ways=True), Cell("GRU", both_ways=True)]


@pytest.mark.parametrize("cell", CELLS, ids=lambda cell: f"{cell.kind}{'-both' if cell.both_ways else ''}")
def test_a_cell_keeps_its_answers_in_a_fraction_of_the_size(tmp_path: Path, cell: Cell) -> None:
    path = write(tmp_path, cell._replace(hidden=96))
    model, notes, plan = converted(path)
    assert f"weights in 8 bits, arithmetic in float: {cell.kind} (1)" in notes
    makers = {node.output[0]: node for node in model.graph.node}
    constants = {item.name: item for item in model.graph.initializer}
    (node,) = [node for node in model.graph.node if node.op_type == cell.kind]
    for name in node.input[1:3]:
        assert makers[name].op_type == "DequantizeLinear"
        assert constants[makers[name].input[0]].data_type == onnx.TensorProto.INT8
        scales = numpy_helper.to_array(constants[makers[name].input[1]])
        assert scales.shape == (GATES[cell.kind] * 96,), "a scale for each row of the gates"
    assert path.with_name("quantized.onnx").stat().st_size < 0.35 * path.stat().st_size
    assert sqnr_db(path) > 30
    assert list(planned.disagreements(models.read(path), plan, models.read(path.with_name("quantized.onnx")))) == []


def test_nothing_is_left_that_nobody_reads(tmp_path: Path) -> None:
    """onnxruntime warns of such constants at every start."""
    model, _, _ = converted(write(tmp_path, Cell("LSTM")))
    read = {name for node in model.graph.node for name in node.input}
    assert {item.name for item in model.graph.initializer} <= read


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kind=st.sampled_from(sorted(GATES)), hidden=st.integers(1, 40), seed=st.integers(0, 1000))
def test_any_size_converts(tmp_path: Path, kind: str, hidden: int, seed: int) -> None:
    path = write(tmp_path, Cell(kind, hidden), seed)
    converted(path)
    assert sqnr_db(path) > 15
