"""The first candidate that holds wins; what came before it is told; what fails to convert is passed over."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq import planning, search, store
from edgeq.errors import ConvertError
from edgeq.types import Accuracy, Plan, QuantizedModel


def _found(job: Any, plans: tuple[Plan, ...], out: Path, **words: Any) -> QuantizedModel:
    return search.search(job.graph, plans, words.pop("dataset", job.dataset), out, **words)


def _accuracy(found: QuantizedModel) -> Accuracy:
    assert found.accuracy is not None
    return found.accuracy


def test_the_first_that_holds_wins_and_nothing_was_tried_before(dense: Any, tmp_path: Path) -> None:
    found = _found(dense, dense.plans, tmp_path / "q.tflite")
    assert dataclasses.replace(found.plan, trials=()) == dense.plans[0]
    assert found.tried == ()
    assert _accuracy(found).ok
    assert _accuracy(found).float_score is not None
    assert found.fidelity[0].cosine is not None
    assert found.fidelity[0].cosine > 0.99


def test_the_artifact_is_the_file(dense: Any, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "er" / "q.tflite"
    found = _found(dense, dense.plans, out)
    assert found.artifact.path == "q.tflite"
    assert found.artifact.sha256 == store.sha256(out)
    assert found.artifact.size_bytes == out.stat().st_size
    assert found.artifact.float_size_bytes == Path(dense.graph.path).stat().st_size


@pytest.mark.parametrize(
    ("max_drop", "winner", "given_up"),
    [(0.01, "static_wi8_ai8", 0), (0.005, "dynamic_wi8_af32", 2), (0.001, "weight_only_wf16", 3)],
)
def test_tried_lists_exactly_the_ones_before(
    sine: Any, tmp_path: Path, max_drop: float, winner: str, given_up: int
) -> None:
    plans = sine.only("static_wi8_ai8", "static_wi8_ai8_mixed", "dynamic_wi8_af32", "weight_only_wf16")
    found = _found(sine, plans, tmp_path / "q.tflite", max_drop=max_drop)
    assert found.plan.scheme.name == winner
    assert [entry.scheme for entry in found.tried] == [planning.label(plan.scheme) for plan in plans[:given_up]]
    assert all("worse than float" in entry.why for entry in found.tried)
    assert _accuracy(found).ok
    assert _accuracy(found).tolerance == max_drop


@pytest.mark.parametrize(
    ("least_db", "winner", "is_corrected"),
    [(20.0, "static_wi8_ai8", False), (34.5, "static_wi8_ai8", True), (60.0, "weight_only_wf16", False)],
)
def test_an_sqnr_that_is_asked_for_decides_too(
    sine: Any, tmp_path: Path, least_db: float, winner: str, is_corrected: bool
) -> None:
    found = _found(sine, sine.plans, tmp_path / "q.tflite", min_sqnr_db=least_db)
    assert (found.plan.scheme.name, found.plan.scheme.corrected) == (winner, is_corrected)
    assert found.fidelity[0].sqnr_db is not None
    assert found.fidelity[0].sqnr_db >= least_db
    assert all(f"at least {least_db:g} is asked" in entry.why for entry in found.tried)


def test_where_no_sqnr_is_high_enough_the_highest_is_kept(sine: Any, tmp_path: Path) -> None:
    plans = sine.only("dynamic_wi8_af32", "weight_only_wf16", "static_wi8_ai8")
    found = _found(sine, plans, tmp_path / "q.tflite", min_sqnr_db=150.0)
    assert not _accuracy(found).ok
    assert found.plan.scheme.name == "weight_only_wf16"
    assert "SQNR" in _accuracy(found).why


def test_without_a_float_model_there_is_no_sqnr(dense: Any, make_job: Callable[..., Any], tmp_path: Path) -> None:
    _found(dense, dense.only("static_wi8_ai8"), tmp_path / "q.tflite")
    arrived = make_job(tmp_path / "q.tflite", tmp_path / "dataset.yaml")
    found = _found(arrived, arrived.plans, tmp_path / "as_is.tflite", min_sqnr_db=10.0)
    assert not _accuracy(found).ok
    assert "is not known" in _accuracy(found).why


def test_the_order_is_the_callers(sine: Any, tmp_path: Path) -> None:
    found = _found(sine, tuple(reversed(sine.plans)), tmp_path / "q.tflite")
    assert dataclasses.replace(found.plan, trials=()) == sine.plans[-1]


def test_none_holds_so_the_least_lossy_is_kept(sine: Any, tmp_path: Path) -> None:
    plans = sine.only("static_wi8_ai8", "dynamic_wi8_af32", "static_wi8_ai8_mixed")
    out = tmp_path / "q.tflite"
    found = _found(sine, plans, out, max_drop=0.0)
    assert found.plan.scheme.name == "dynamic_wi8_af32"
    assert not _accuracy(found).ok
    assert "worse than float" in _accuracy(found).why
    assert [entry.scheme for entry in found.tried] == [planning.label(plan.scheme) for plan in plans]
    assert store.sha256(out) == found.artifact.sha256


def test_what_is_kept_is_what_was_scored(sine: Any, tmp_path: Path) -> None:
    """The middle one is kept though a worse one was converted after it."""
    best = _found(sine, sine.only("dynamic_wi8_af32"), tmp_path / "alone.tflite", max_drop=0.0)
    plans = sine.only("static_wi8_ai8", "dynamic_wi8_af32", "static_wi8_ai8_mixed")
    found = _found(sine, plans, tmp_path / "q.tflite", max_drop=0.0)
    assert (tmp_path / "q.tflite").read_bytes() == (tmp_path / "alone.tflite").read_bytes()
    assert found.accuracy == best.accuracy
    assert found.fidelity == best.fidelity


def test_a_scheme_that_cannot_be_converted_is_passed_over(dense: Any, tmp_path: Path) -> None:
    uncalibrated = dataclasses.replace(dense.dataset, calibration=())
    plans = dense.only("static_wi8_ai8", "dynamic_wi8_af32")
    found = _found(dense, plans, tmp_path / "q.tflite", dataset=uncalibrated)
    assert found.plan.scheme.name == "dynamic_wi8_af32"
    assert [entry.scheme for entry in found.tried] == [planning.label(plans[0].scheme)]
    assert "calibration" in found.tried[0].why
    assert _accuracy(found).ok


def test_when_nothing_can_be_converted_each_is_named(dense: Any, tmp_path: Path) -> None:
    uncalibrated = dataclasses.replace(dense.dataset, calibration=())
    static = tuple(plan for plan in dense.plans if plan.scheme.is_static)
    assert len(static) > 2
    with pytest.raises(ConvertError) as caught:
        _found(dense, static, tmp_path / "q.tflite", dataset=uncalibrated)
    for plan in static:
        assert planning.label(plan.scheme) in caught.value.message
    assert caught.value.where == dense.graph.path
    assert not (tmp_path / "q.tflite").exists()


def test_labels_tell_the_tried_apart(sine: Any, tmp_path: Path) -> None:
    static = tuple(plan for plan in sine.plans if plan.scheme.name == "static_wi8_ai8")
    found = _found(sine, static, tmp_path / "q.tflite", max_drop=0.0)
    names = [entry.scheme for entry in found.tried]
    assert len(set(names)) == len(static) == 5


def test_a_collapsed_model_is_given_up_whatever_its_score(sine: Any, tmp_path: Path) -> None:
    """Calibrated on one sample near 0 the sine answers a constant: a large tolerance must not let it through."""
    import numpy as np

    x = np.load(Path(sine.dataset.root) / "sine_1000.npz")["x"].ravel()
    narrow = dataclasses.replace(sine.dataset, calibration=(int(x.argmin()),))
    plans = sine.only("static_wi8_ai8", "dynamic_wi8_af32")
    found = _found(sine, plans, tmp_path / "q.tflite", dataset=narrow, max_drop=10.0)
    assert found.plan.scheme.name == "dynamic_wi8_af32"
    assert len(found.tried) == 1
    assert "worse than float" not in found.tried[0].why
    alone = _found(sine, plans[:1], tmp_path / "alone.tflite", dataset=narrow, max_drop=10.0)
    assert not _accuracy(alone).ok
    assert _accuracy(alone).why == found.tried[0].why


def test_progress_tells_the_float_scoring_then_each_scheme(sine: Any, tmp_path: Path) -> None:
    steps: list[tuple[str, int, int]] = []
    plans = sine.only("static_wi8_ai8", "dynamic_wi8_af32")
    _found(sine, plans, tmp_path / "q.tflite", max_drop=0.005, progress=lambda *step: steps.append(step))
    names = list(dict.fromkeys(name for name, _, _ in steps))
    assert names[0] == "scoring float"
    assert names.index("scoring static_wi8_ai8") < names.index("scoring dynamic_wi8_af32")
    assert names.count("scoring float") == 1
    for name in names:
        ends = [(done, total) for step, done, total in steps if step == name]
        assert all(0 <= done <= total for done, total in ends), name
        assert ends[-1][0] == ends[-1][1], name


def test_a_quantized_model_has_no_float_reference(dense: Any, make_job: Callable[..., Any], tmp_path: Path) -> None:
    _found(dense, dense.only("static_wi8_ai8"), tmp_path / "q.tflite")
    arrived = make_job(tmp_path / "q.tflite", tmp_path / "dataset.yaml")
    assert {plan.scheme.name for plan in arrived.plans} == {"as_is"}
    steps: list[str] = []
    found = _found(arrived, arrived.plans, tmp_path / "as_is.tflite", progress=lambda step, *_: steps.append(step))
    assert "scoring float" not in steps
    assert _accuracy(found).float_score is None
    assert _accuracy(found).drop is None
    assert _accuracy(found).quantized_score is not None
    assert found.fidelity == ()
    assert (tmp_path / "as_is.tflite").read_bytes() == (tmp_path / "q.tflite").read_bytes()


def test_the_result_can_be_stored_and_read(sine: Any, tmp_path: Path) -> None:
    found = _found(sine, sine.only("static_wi8_ai8"), tmp_path / "q.tflite", max_drop=0.0)
    store.write(tmp_path / "quantized.json", found)
    assert store.read(tmp_path / "quantized.json", QuantizedModel) == found
    assert json.loads((tmp_path / "quantized.json").read_text())["accuracy"]["ok"] is False


def test_a_search_is_repeatable(dense: Any, tmp_path: Path) -> None:
    one = _found(dense, dense.plans, tmp_path / "one.tflite")
    other = _found(dense, dense.plans, tmp_path / "other.tflite")
    assert one.artifact.sha256 == other.artifact.sha256
    assert one.accuracy == other.accuracy
