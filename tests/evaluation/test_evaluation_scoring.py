"""Collecting outputs, and what comes of a score."""

from __future__ import annotations

import gc
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import datasets, models
from edgeq.errors import DatasetError, ModelError, OutputError
from edgeq.evaluation import scoring
from edgeq.runtimes import litert
from edgeq.testing import models as tiny
from edgeq.types import Dataset, ModelGraph, Port, TensorSpec


@dataclass
class Formula:
    """A session that computes; a model file is not needed to see how outputs are kept."""

    function: Any
    outputs: tuple[Port, ...]
    inputs: tuple[Port, ...] = (Port(name="in", shape=(-1, 2), dtype="float32"),)

    def run(self, inputs: Any) -> list[Any]:
        return list(self.function(inputs[0]))


def graph_of(classes: int = 3) -> ModelGraph:
    ports = (("in", (-1, 2)), ("out", (-1, classes)))
    tensors = tuple(
        TensorSpec(index=n, name=name, shape=shape, dtype="float32", size_bytes=0)
        for n, (name, shape) in enumerate(ports)
    )
    empty = {"sha256": "", "size_bytes": 0, "parameters": 0, "weight_bytes": 0, "macs": 0, "peak_activation_bytes": 0}
    return ModelGraph(format="onnx", path="m", inputs=(0,), outputs=(1,), tensors=tensors, operators=(), **empty)


def dataset_of(folder: Path, metric: str = "top1", count: int = 20) -> Dataset:
    x = np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)
    np.savez(folder / "d.npz", x=x, y=np.arange(count) % 3)
    labels = "" if metric == "cosine" else "labels: {npz: d.npz, array: y}\n"
    (folder / "dataset.yaml").write_text(f"inputs: [{{npz: d.npz, array: x}}]\n{labels}metric: {metric}\n")
    return datasets.load(folder / "dataset.yaml")


def one_hot(dataset: Dataset, wrong: int = 0) -> Any:
    """Outputs that are right but for the first `wrong` samples."""
    labels = (np.arange(dataset.count) + (np.arange(dataset.count) < wrong)) % 3
    return (np.eye(3, dtype=np.float32)[labels],)


def test_outputs_of_all_ports_are_collected_with_progress(tmp_path: Path) -> None:
    dataset, seen = dataset_of(tmp_path), []
    ports = (
        Port(name="double", shape=(-1, 2), dtype="float32"),
        Port(name="steps", shape=(2,), dtype="int8", scale=0.5, zero_point=3),
        Port(name="count", shape=(), dtype="int64"),
    )
    session = Formula(lambda x: (x * 2, np.array([4, 5], np.int8), np.array(1 << 40)), ports)
    found = scoring.collect(session, dataset, graph_of(), [3, 1], lambda *step: seen.append(step), step="trying")
    samples = np.load(tmp_path / "d.npz")["x"]
    np.testing.assert_array_equal(found[0], samples[[3, 1]] * 2)
    assert found[1].tolist() == [[0.5, 1.0]] * 2
    assert (found[2].tolist(), found[2].dtype) == ([1 << 40] * 2, np.int64)
    assert seen == [("trying", 0, 2), ("trying", 1, 2), ("trying", 2, 2)]


def test_an_output_that_changes_its_shape_is_refused(tmp_path: Path) -> None:
    session = Formula(
        lambda x: (np.zeros((1, 1 + int(x[0, 0] > 0))),), (Port(name="boxes", shape=(-1, -1), dtype="float32"),)
    )
    with pytest.raises(ModelError, match="'boxes' changes its shape"):
        scoring.collect(session, dataset_of(tmp_path), graph_of(), range(20))


def test_large_outputs_go_to_a_file_that_vanishes(tmp_path: Path) -> None:
    width = scoring.MEMORY_LIMIT_BYTES // 4 // 8  # nine samples are over the limit
    session = Formula(
        lambda x: (np.full((1, width), x[0, 0], np.float32),), (Port(name="o", shape=(-1, width), dtype="float32"),)
    )
    before = len(list(Path("/proc/self/fd").iterdir()))
    found = scoring.collect(session, dataset_of(tmp_path), graph_of(), range(9))
    assert isinstance(found[0], np.memmap)
    np.testing.assert_array_equal(found[0][:, -1], np.load(tmp_path / "d.npz")["x"][:9, 0])
    assert "deleted" in Path("/proc/self/maps").read_text()
    del found
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_no_room_for_outputs_is_an_error_not_a_crash() -> None:
    with pytest.raises(OutputError, match="no room for"):
        scoring._room(1 << 46, np.zeros(64, np.float32))  # 16 PiB


@pytest.mark.parametrize(
    ("wrong", "max_drop", "ok"),
    [(0, None, True), (1, None, True), (2, None, False), (1, 0.05, True), (2, 0.05, False), (2, 0.1, True)],
)
def test_the_drop_decides_and_max_drop_replaces_the_tolerance(
    tmp_path: Path, wrong: int, max_drop: float | None, ok: bool
) -> None:
    dataset = dataset_of(tmp_path)
    found = scoring.accuracy(dataset, one_hot(dataset), one_hot(dataset, wrong), max_drop)
    assert found.drop == pytest.approx(wrong / 20)
    assert (found.ok, bool(found.why)) == (ok, not ok)
    assert found.tolerance == (1 / 20 if max_drop is None else max_drop)
    assert (found.samples, found.float_score) == (20, 1.0)


def test_a_drop_of_exactly_the_tolerance_holds(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, count=100)
    reference, candidate = one_hot(dataset, 10), one_hot(dataset, 11)
    found = scoring.accuracy(dataset, reference, candidate)
    assert found.drop is not None
    assert found.drop > 0.01  # by rounding only
    assert found.ok


@pytest.mark.parametrize(("metric", "shift", "sign"), [("mse", 0.5, 1), ("mae", 0.5, 1), ("mae", -0.5, -1)])
def test_errors_drop_upwards(tmp_path: Path, metric: str, shift: float, sign: int) -> None:
    dataset = dataset_of(tmp_path, metric)
    labels = (np.arange(20) % 3).astype(np.float32)[:, None]
    found = scoring.accuracy(dataset, (labels + 1,), (labels + 1 + shift,), max_drop=9)
    assert found.drop is not None
    assert np.sign(found.drop) == sign


def test_a_collapsed_model_is_never_ok_whatever_is_accepted(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    for broken in (np.full((20, 3), np.nan), np.ones((20, 3)), -one_hot(dataset)[0]):
        found = scoring.accuracy(dataset, one_hot(dataset), (broken.astype(np.float32),), max_drop=1e9)
        assert not found.ok
        assert "collapsed" in found.why
        json.dumps(asdict(found), allow_nan=False)


def test_a_model_that_came_quantized_has_a_score_and_no_drop(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path)
    found = scoring.accuracy(dataset, None, one_hot(dataset, 2))
    assert (found.quantized_score, found.float_score, found.drop, found.ok) == (0.9, None, None, True)
    alike = dataset_of(tmp_path, "cosine")
    found = scoring.accuracy(alike, None, one_hot(alike))
    assert (found.quantized_score, found.ok) == (None, True)


def test_likeness_is_the_score_without_labels(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, "cosine")
    found = scoring.accuracy(dataset, one_hot(dataset), one_hot(dataset, 1))
    assert (found.float_score, found.quantized_score) == (1.0, pytest.approx(0.95))
    assert found.ok


def test_labels_that_cannot_be_scored_name_the_dataset(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, "mse")
    with pytest.raises(DatasetError, match="labels of") as caught:
        scoring.accuracy(dataset, None, one_hot(dataset))
    assert caught.value.where == dataset.path


def test_drop_is_positive_when_worse() -> None:
    assert scoring.drop("top1", 0.9, 0.8) == pytest.approx(0.1)
    assert scoring.drop("mae", 0.9, 0.8) == pytest.approx(-0.1)
    assert str(scoring.drop("mse", 1.0, 1.0)) == "0.0"


def test_a_tiny_model_from_file_to_fidelity(tmp_path: Path) -> None:
    path = tiny.conv_tflite(tmp_path)
    graph, session = models.read(path), litert.open(path)
    dataset = datasets.bind(datasets.load(tiny.tiny_dataset(tmp_path)), graph)
    outputs = scoring.collect(session, dataset, graph, dataset.evaluation)
    rounded = tuple(np.round(values * 32) / 32 for values in outputs)
    found = scoring.accuracy(dataset, outputs, rounded)
    assert found.float_score is not None
    assert found.float_score > 0.9
    (fidelity,) = scoring.fidelity(session.outputs, outputs, rounded)
    assert fidelity.name == session.outputs[0].name
    assert fidelity.max_abs_error is not None
    assert 0 < fidelity.max_abs_error <= 1 / 64 + 1e-6
    assert fidelity.sqnr_db is not None
    assert fidelity.sqnr_db > 10
