"""Which samples become golden vectors."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import datasets, models
from edgeq.testing import models as tiny
from edgeq.types import Dataset, ModelGraph, TensorSpec
from edgeq.workflow.quantize import GOLDEN_BYTES, _golden


def _dataset(evaluation: tuple[int, ...], calibration: tuple[int, ...] = ()) -> Dataset:
    count = max((*evaluation, *calibration), default=0) + 1
    return Dataset(
        path="d.yaml",
        root=".",
        inputs=(),
        labels=None,
        metric="cosine",
        count=count,
        calibration=calibration,
        evaluation=evaluation,
    )


def _graph(*sizes: int) -> ModelGraph:
    """A graph with inputs of these sizes in bytes."""
    tensors = tuple(
        TensorSpec(index=i, name=f"in{i}", shape=(1, size), dtype="uint8", size_bytes=size)
        for i, size in enumerate(sizes)
    )
    return ModelGraph(
        format="tflite",
        path="m.tflite",
        sha256="",
        size_bytes=1,
        inputs=tuple(range(len(sizes))),
        outputs=(),
        tensors=tensors,
        operators=(),
        parameters=0,
        weight_bytes=0,
        macs=0,
        peak_activation_bytes=0,
    )


def test_many_small_samples_give_32_evenly_spread() -> None:
    found = _golden(_dataset(tuple(range(100, 1100))), _graph(64))
    assert len(found) == 32
    assert (found[0], found[-1]) == (100, 1099)
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert max(gaps) - min(gaps) <= 1


@pytest.mark.parametrize(
    ("size_bytes", "vectors"),
    [(1, 32), (GOLDEN_BYTES // 32, 32), (GOLDEN_BYTES // 24, 24), (GOLDEN_BYTES // 16, 16), (GOLDEN_BYTES, 16)],
)
def test_large_inputs_give_fewer_but_never_less_than_16(size_bytes: int, vectors: int) -> None:
    assert len(_golden(_dataset(tuple(range(1000))), _graph(size_bytes))) == vectors


def test_all_inputs_count_together() -> None:
    half = GOLDEN_BYTES // 40
    assert len(_golden(_dataset(tuple(range(1000))), _graph(half, half))) == 20


def test_few_evaluation_samples_are_filled_up_from_calibration() -> None:
    found = _golden(_dataset((0, 1, 2), tuple(range(10, 100))), _graph(64))
    assert len(found) == 32
    assert found[:3] == [0, 1, 2]
    assert set(found) <= {0, 1, 2, *range(10, 100)}


def test_enough_evaluation_samples_leave_calibration_alone() -> None:
    found = _golden(_dataset(tuple(range(50, 100)), tuple(range(50))), _graph(64))
    assert min(found) >= 50


def test_fewer_samples_than_wanted_are_all_taken_once() -> None:
    assert _golden(_dataset((4, 2, 7), (2, 9)), _graph(64)) == [4, 2, 7, 9]
    assert _golden(_dataset((5,)), _graph(64)) == [5]


@given(
    st.lists(st.integers(0, 5000), min_size=1, max_size=300, unique=True),
    st.lists(st.integers(0, 5000), max_size=80, unique=True),
    st.lists(st.integers(0, 1 << 34), min_size=1, max_size=4),
)
def test_golden_samples_are_distinct_known_and_bounded(
    evaluation: list[int], calibration: list[int], sizes: list[int]
) -> None:
    found = _golden(_dataset(tuple(evaluation), tuple(calibration)), _graph(*sizes))
    known = {*evaluation, *calibration}
    assert len(found) == len(set(found))
    assert set(found) <= known
    assert min(16, len(known)) <= len(found) <= 32


def test_a_real_graph_and_data_set(tmp_path: Path) -> None:
    graph = models.read(tiny.conv_tflite(tmp_path))
    dataset = datasets.bind(datasets.load(str(tiny.tiny_dataset(tmp_path))), graph)
    found = _golden(dataset, graph)
    assert len(found) == 32
    assert set(found) <= set(dataset.evaluation)
    assert _golden(dataclasses.replace(dataset, evaluation=dataset.evaluation[:20]), graph)[:1] == [16]
