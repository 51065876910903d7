"""The table of candidates: what it says of each, and which of them nothing beats."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import search, store
from edgeq.search import front
from edgeq.search.trying import Attempt
from edgeq.testing.plans import plan_of
from edgeq.types import Accuracy, Artifact, Fidelity, Plan, Predicted, QuantizedModel, Scheme
from edgeq.types.targets import Signature

FIGURES = st.tuples(st.integers(0, 4), st.integers(1, 4), st.one_of(st.none(), st.integers(1, 4)))


def attempt(drop: float | None, size: int = 1, latency: float | None = None, **more: Any) -> Attempt:
    scheme = Scheme(name="static_wi8_ai8", default=Signature(activations="int8"))
    plan = plan_of(None, scheme, predicted=Predicted(latency_ms=latency))
    if drop is None:
        return Attempt(plan, Path("x"), why="not convertible")
    accuracy = Accuracy(
        metric="top1",
        samples=4,
        float_score=1.0,
        quantized_score=1.0 - drop,
        drop=drop,
        tolerance=0.5,
        ok=drop <= 0.5,
        why="" if drop <= 0.5 else "it lost too much",
    )
    model = QuantizedModel(
        plan=plan,
        artifact=Artifact(path="x", format="tflite", sha256="", size_bytes=size, float_size_bytes=10),
        float_path="",
        float_sha256="",
        inputs=(),
        outputs=(),
        accuracy=accuracy,
        **more,
    )
    return Attempt(plan, Path("x"), model, seconds=1.23456)


@given(st.lists(FIGURES, min_size=1, max_size=8))
def test_the_front_is_what_nothing_beats(figures: list[tuple[int, int, int | None]]) -> None:
    rows = front.trials(attempt(*one) for one in figures)
    points = [(drop, size, latency or 0) for drop, size, latency in figures]
    for row, point in zip(rows, points, strict=True):
        beaten = any(all(a <= b for a, b in zip(other, point, strict=True)) and other != point for other in points)
        assert row.on_front != beaten


@given(st.lists(FIGURES, min_size=1, max_size=8))
def test_somebody_is_always_on_the_front(figures: list[tuple[int, int, int | None]]) -> None:
    assert any(row.on_front for row in front.trials(attempt(*one) for one in figures))


def test_equals_stand_beside_each_other_on_the_front() -> None:
    assert [row.on_front for row in front.trials([attempt(0.1, 2, 3.0)] * 3)] == [True] * 3


def test_a_row_says_what_was_scored() -> None:
    fidelity = tuple(Fidelity(name=n, cosine=1.0, sqnr_db=db, max_abs_error=0.0) for n, db in (("a", 30.0), ("b", 9.5)))
    (row,) = front.trials([attempt(0.25, 7, 0.5, fidelity=fidelity)])
    assert (row.ok, row.why, row.score, row.drop) == (True, "", 0.75, 0.25)
    assert (row.sqnr_db, row.size_bytes, row.latency_ms, row.seconds) == (9.5, 7, 0.5, 1.235)
    assert row.on_front


def test_what_could_not_be_converted_has_a_reason_and_no_figures() -> None:
    rows = front.trials([attempt(None), attempt(0.75)])
    assert (rows[0].why, rows[0].drop, rows[0].size_bytes, rows[0].on_front) == ("not convertible", None, None, False)
    assert (rows[1].ok, rows[1].why, rows[1].on_front) == (False, "it lost too much", True)


def test_a_search_keeps_the_table_in_its_plan(sine: Any, tmp_path: Path) -> None:
    plans = sine.only("static_wi8_ai8", "dynamic_wi8_af32", "weight_only_wf16")
    found = search.search(sine.graph, plans, sine.dataset, tmp_path / "q.tflite", max_drop=0.001)
    trials = found.plan.trials
    assert [trial.scheme.split(" ")[0] for trial in trials] == [plan.scheme.name for plan in plans]
    assert [trial.ok for trial in trials] == [False, False, True]
    assert trials[-1].score == (found.accuracy.quantized_score if found.accuracy else None)
    assert trials[-1].size_bytes == found.artifact.size_bytes
    assert all(trial.sqnr_db is not None and trial.seconds > 0 for trial in trials)
    assert trials[-1].on_front, "it lost least"
    store.write(tmp_path / "plan.json", found.plan)
    assert store.read(tmp_path / "plan.json", Plan) == found.plan


@pytest.mark.parametrize("drop", [0.0, 10.0])
def test_a_search_of_one_has_a_table_of_one(dense: Any, tmp_path: Path, drop: float) -> None:
    found = search.search(dense.graph, dense.plans[:1], dense.dataset, tmp_path / "q.tflite", max_drop=drop)
    assert len(found.plan.trials) == 1
    assert found.plan.trials[0].on_front
    assert dataclasses.replace(found.plan, trials=()) == dense.plans[0]
