"""What differs by more than the noise, and what is only said."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from edgeq import types
from edgeq.report import compared, comparison, verdict
from edgeq.types import Report

NAMES = ("old", "new")


def series(p50_ms: float, seed: int = 0, spread: float = 0.01, count: int = 400) -> tuple[int, ...]:
    """Raw samples around a latency, none the same."""
    noise = np.random.default_rng(seed).normal(1.0, spread, count)
    return tuple(int(value) for value in p50_ms * 1e6 * np.clip(noise, 0.5, 2))


def with_latency(measured: types.Measurement, samples: tuple[int, ...]) -> types.Measurement:
    p50, p90, p99 = (float(value) / 1e6 for value in np.percentile(samples, (50, 90, 99)))
    latency = types.Latency(p50=p50, p90=p90, p99=p99, mean=p50, std=0.0, min=p50, max=p99, runs=len(samples),
                            first=p50, load=p50)  # fmt: skip
    return replace(measured, latency_ms=latency, latency_samples_ns=samples)


@pytest.fixture
def base(quantized: types.QuantizedModel, measurement: types.Measurement) -> Report:
    measured = with_latency(measurement, series(4.0))
    energy = types.Energy(per_inference_mj=2.0, idle_mw=1900.0, load_mw=2400.0, source="ina219", samples=200)
    measured = replace(measured, energy=energy)
    judged = verdict.judge(quantized, measured, None, types.Budgets())
    return Report(model="kws", quantized=quantized, bundle=None, measurement=measured, validation=None, verdict=judged)


def changed(base: Report, **changes: Any) -> Report:
    assert base.measurement is not None
    return replace(base, measurement=replace(base.measurement, **changes))


def slowed(base: Report, factor: float, seed: int = 1) -> Report:
    assert base.measurement is not None
    return replace(base, measurement=with_latency(base.measurement, series(4.0 * factor, seed)))


def row(found: types.Compared, quantity: str) -> types.Difference:
    return next(one for one in found.differences if one.quantity == quantity)


def test_a_run_beside_itself_is_undecided(base: Report) -> None:
    found = comparison.compare(base, base, names=NAMES)
    assert row(found, "latency p50").answer == "undecided"
    assert found.ok
    assert not found.mismatches
    assert {one.answer for one in found.differences} <= {"undecided", "same", "shown", "missing"}


def test_another_session_of_the_same_speed_is_undecided(base: Report) -> None:
    answers = [row(comparison.compare(base, slowed(base, 1.0, seed), names=NAMES), "latency p50").answer
               for seed in range(1, 21)]  # fmt: skip
    assert answers == ["undecided"] * 20


@pytest.mark.parametrize("factor", [1.05, 1.2, 3.0])
def test_a_slow_down_is_a_regression(base: Report, factor: float) -> None:
    found = comparison.compare(base, slowed(base, factor), names=NAMES)
    latency = row(found, "latency p50")
    assert (latency.answer, latency.regressed) == ("worse", True)
    assert latency.low is not None
    assert latency.high is not None
    assert latency.low < factor - 1 < latency.high + 0.005
    assert [one.quantity for one in found.regressions] == ["latency p50"]
    back = row(comparison.compare(slowed(base, factor), base, names=NAMES), "latency p50")
    assert (back.answer, back.regressed) == ("better", False)


def test_what_is_tolerated_is_worse_but_no_regression(base: Report) -> None:
    slow = slowed(base, 1.05)
    found = comparison.compare(base, slow, names=NAMES, tolerance=0.1)
    assert (row(found, "latency p50").answer, found.ok) == ("worse", True)
    assert "tolerated" in row(found, "latency p50").why
    assert not comparison.compare(base, slowed(base, 1.2), names=NAMES, tolerance=0.1).ok


def test_noise_between_sessions_widens_what_is_no_difference(base: Report) -> None:
    restless = comparison.session_noise([4.0, 4.4, 3.7, 4.3, 3.8, 4.1])
    assert 0.1 < restless.relative <= comparison.MOST_NOISE
    assert "6 earlier sessions" in restless.source
    found = comparison.compare(base, slowed(base, 1.08), names=NAMES, noise=restless)
    assert row(found, "latency p50").answer == "undecided"


@pytest.mark.parametrize("p50s", [[], [4.0], [4.0, 4.5, 3.0, 4.4], [4.0] * 10, [4.0, 4.001, 4.002, 3.999, 4.0]])
def test_few_or_quiet_sessions_leave_the_usual_noise(p50s: list[float]) -> None:
    assert comparison.session_noise(p50s) == comparison.Noise()


def test_one_wild_session_does_not_hide_regressions() -> None:
    assert comparison.session_noise([4.0, 4.01, 4.02, 3.99, 4.0, 40.0]).relative <= 0.03


@given(st.lists(st.floats(1e-6, 1e6), max_size=60))
def test_the_noise_of_sessions_has_limits(p50s: list[float]) -> None:
    found = comparison.session_noise(p50s)
    assert comparison.SESSION_NOISE <= found.relative <= comparison.MOST_NOISE


def test_without_raw_samples_nothing_is_ranked(base: Report) -> None:
    found = comparison.compare(base, changed(slowed(base, 3.0), latency_samples_ns=()), names=NAMES)
    assert row(found, "latency p50").answer == "undecided"
    assert "raw samples" in row(found, "latency p50").why


def test_what_one_side_has_not_measured_is_said(base: Report) -> None:
    emulated = changed(
        base, latency_ms=None, latency_samples_ns=(), energy=None,
        unavailable={"latency_ms": "an emulator has no time", "energy_mj": "no meter"},
    )  # fmt: skip
    found = comparison.compare(base, emulated, names=NAMES)
    assert (row(found, "latency p50").answer, row(found, "latency p50").why) == ("missing", "an emulator has no time")
    assert (row(found, "energy").answer, row(found, "energy").why) == ("missing", "no meter")
    assert found.ok
    assert not [one for one in comparison.compare(emulated, emulated, names=NAMES).differences
                if one.quantity in ("latency p50", "energy")]  # fmt: skip


@pytest.mark.parametrize(
    ("bytes_after", "answer"),
    [(53_000, "same"), (53_400, "undecided"), (60_000, "worse"), (40_000, "better")],
)
def test_the_file_s_size(base: Report, bytes_after: int, answer: str) -> None:
    assert base.quantized is not None
    artifact = replace(base.quantized.artifact, size_bytes=bytes_after)
    after = replace(base, quantized=replace(base.quantized, artifact=artifact))
    found = row(comparison.compare(base, after, names=NAMES), "size")
    assert (found.answer, found.regressed) == (answer, answer == "worse")


@pytest.mark.parametrize(("peak", "answer"), [(60, "same"), (62, "undecided"), (70, "worse"), (50, "better")])
def test_memory(base: Report, peak: int, answer: str) -> None:
    after = changed(base, memory_bytes=types.MeasuredMemory(peak_rss=peak << 20))
    assert row(comparison.compare(base, after, names=NAMES), "peak RSS").answer == answer


def test_energy_by_what_the_meter_says_of_itself(base: Report) -> None:
    assert base.measurement is not None
    assert base.measurement.energy is not None
    more = replace(base.measurement.energy, per_inference_mj=2.4)
    assert row(comparison.compare(base, changed(base, energy=more), names=NAMES), "energy").answer == "worse"
    vague = replace(more, uncertainty_mj=0.8)
    assert row(comparison.compare(base, changed(base, energy=vague), names=NAMES), "energy").answer == "undecided"


@pytest.mark.parametrize(
    ("metric", "score", "answer"),
    [("top1", 0.8975, "same"), ("top1", 0.89, "undecided"), ("top1", 0.85, "worse"), ("top1", 0.95, "better"),
     ("mse", 0.85, "better"), ("mse", 0.95, "worse"), ("of a plug-in", 0.85, "worse")],
)  # fmt: skip
def test_accuracy_by_the_accepted_drop(base: Report, metric: str, score: float, answer: str) -> None:
    assert base.quantized is not None
    assert base.quantized.accuracy is not None

    def scored(value: float) -> Report:
        accuracy = replace(base.quantized.accuracy, metric=metric, quantized_score=value)  # type: ignore[union-attr, type-var]
        return replace(base, quantized=replace(base.quantized, accuracy=accuracy))  # type: ignore[type-var]

    found = row(comparison.compare(scored(0.8975), scored(score), names=NAMES), metric)
    assert (found.answer, found.regressed) == (answer, answer == "worse")


def test_scores_of_other_samples_are_not_compared(base: Report) -> None:
    assert base.quantized is not None
    assert base.quantized.accuracy is not None
    fewer = replace(base.quantized.accuracy, samples=10, quantized_score=0.1)
    after = replace(base, quantized=replace(base.quantized, accuracy=fewer))
    found = row(comparison.compare(base, after, names=NAMES), "top1")
    assert (found.answer, found.regressed) == ("missing", False)
    assert "400 and on 10 samples" in found.why


def test_scores_on_the_device(base: Report) -> None:
    validated = types.Validation(
        metric="top1", samples=400, float_score=0.9, host_score=0.9, device_score=0.9, differing_samples=0, ok=True
    )
    before, after = (replace(base, validation=replace(validated, device_score=score)) for score in (0.9, 0.8))
    assert row(comparison.compare(before, after, names=NAMES), "top1 on the device").regressed
    other = replace(base, validation=replace(validated, samples=3))
    assert row(comparison.compare(before, other, names=NAMES), "score on the device").answer == "missing"


def test_the_speed_up_over_float_is_shown(base: Report) -> None:
    def sped(ratio: float) -> Report:
        return changed(base, speedup=types.Speedup(ratio=ratio, low=ratio, high=ratio, float_p50_ms=8.0,
                                                   quantized_p50_ms=4.0, rounds=5, seconds=1.0))  # fmt: skip

    found = row(comparison.compare(sped(2.0), sped(1.5), names=NAMES), "speed-up over float")
    assert (found.before, found.after, found.change, found.answer) == (2.0, 1.5, -0.25, "shown")


def beside_float(base: Report, p50_ms: float, again_ms: float) -> Report:
    """A session that measured the quantized model twice: by itself, and in turn with the float model."""
    assert base.measurement is not None
    speedup = types.Speedup(
        ratio=2.0, low=1.9, high=2.1, float_p50_ms=2 * again_ms, quantized_p50_ms=again_ms, rounds=9, seconds=1.0
    )
    return replace(base, measurement=replace(with_latency(base.measurement, series(p50_ms)), speedup=speedup))


def test_a_disturbed_session_is_no_regression(base: Report) -> None:
    calm, disturbed, slower = (beside_float(base, p50, again) for p50, again in ((4.0, 4.2), (5.9, 4.2), (5.9, 6.2)))
    found = comparison.compare(calm, disturbed, names=NAMES)
    assert (row(found, "latency p50").answer, found.ok) == ("undecided", True)
    assert "disagree" in found.latency_noise_source
    assert comparison.compare(calm, slower, names=NAMES).regressions[0].quantity == "latency p50"
    assert comparison.compare(calm, slower, names=NAMES).latency_noise == comparison.SESSION_NOISE


def test_a_busy_device_is_named(base: Report) -> None:
    def loaded(load: float) -> Report:
        state = types.Conditions(load_1min=load)
        device = {"name": "desk-pi", "machine": "aarch64", "cpu": {"cores": 4}}
        return changed(base, device=device, conditions=types.ConditionsPair(before=state, after=state))

    found = comparison.compare(loaded(0.3), loaded(6.1), names=NAMES)
    assert [(one.what, one.before, one.after) for one in found.mismatches] == [("load", "0.3", "6.1")]
    assert not comparison.compare(loaded(0.3), loaded(2.5), names=NAMES).mismatches


def test_runs_whose_level_moved_are_named(base: Report) -> None:
    moved = types.Steadiness(begins_s=0.0, changes=(types.LevelChange(kind="step", at_s=1, until_s=1, ratio=1.4),))
    found = comparison.compare(base, changed(base, steadiness=moved), names=NAMES)
    assert [(one.what, one.after) for one in found.mismatches] == [("level moved", "yes")]


def test_parity_that_no_longer_holds_is_a_regression(base: Report) -> None:
    exact, near, lost = (
        changed(base, parity=types.Parity(exact=exact, max_steps=steps, vectors=32, ok=ok))
        for exact, steps, ok in ((True, 0, True), (False, 1, True), (False, 90, False))
    )
    assert row(comparison.compare(exact, lost, names=NAMES), "parity").regressed
    assert not row(comparison.compare(lost, lost, names=NAMES), "parity").regressed
    found = row(comparison.compare(exact, near, names=NAMES), "parity")
    assert (found.answer, found.regressed) == ("worse", False)
    assert row(comparison.compare(lost, exact, names=NAMES), "parity").answer == "better"


@pytest.mark.parametrize(
    ("changes", "what", "apart"),
    [
        ({"device": {"name": "desk-pi", "machine": "armv7l"}}, "architecture", True),
        ({"device": {"name": "desk-pi", "machine": "aarch64", "board": "Pi 5"}}, "board", True),
        ({"device": {"name": "desk-pi", "machine": "aarch64", "cpu": {"model": "A76"}}}, "processor", True),
        ({"device": {"name": "other-pi", "machine": "aarch64"}}, "device", False),
        ({"runtime": {"name": "ai_edge_litert", "version": "2.4.0"}}, "runtime version", False),
        ({"runtime": {"name": "onnxruntime", "version": "2.3.0"}}, "runtime", False),
        ({"settings": types.RunSettings(cpus=(2, 3))}, "pinned to", False),
    ],
)
def test_other_circumstances_are_named(base: Report, changes: dict[str, Any], what: str, apart: bool) -> None:
    found = comparison.compare(base, changed(base, **changes), names=NAMES)
    assert [(one.what, one.apart) for one in found.mismatches] == [(what, apart)]


@pytest.mark.parametrize(
    ("before", "after", "throttled", "what"),
    [
        ({"governor": "performance"}, {"governor": "powersave"}, False, "governor"),
        ({"frequency_hz": (1_500_000_000,)}, {"frequency_hz": (1_000_000_000,)}, False, "clock"),
        ({"frequency_hz": (1_500_000_000,)}, {"frequency_hz": (1_490_000_000,)}, False, None),
        ({"temperature_c": 45.0}, {"temperature_c": 80.0}, False, "temperature"),
        ({"temperature_c": 45.0}, {"temperature_c": 50.0}, False, None),
        ({}, {}, True, "throttled"),
    ],
)
def test_conditions_that_differ_are_named(
    base: Report, before: dict[str, Any], after: dict[str, Any], throttled: bool, what: str | None
) -> None:
    def under(state: dict[str, Any], hot: bool) -> Report:
        one = types.Conditions(**state)
        return changed(base, conditions=types.ConditionsPair(before=one, after=one, throttled=hot))

    found = comparison.compare(under(before, False), under(after, throttled), names=NAMES)
    assert [one.what for one in found.mismatches] == ([what] if what else [])


def test_another_target_sets_two_apart(base: Report) -> None:
    assert base.quantized is not None
    other = replace(base, quantized=replace(base.quantized, plan=replace(base.quantized.plan, target="imx93")))
    found = comparison.compare(base, other, names=NAMES)
    assert [(one.what, one.apart) for one in found.mismatches] == [("target", True)]


def rendered(found: types.Compared) -> str:
    console = Console(file=io.StringIO(), width=400)
    with console.capture() as text:
        console.print(compared.terminal(found))
    return text.get()


def test_tables_and_documents_say_the_same(base: Report) -> None:
    found = comparison.compare(base, slowed(base, 1.5), names=NAMES, tolerance=0.01)
    assert "worse than before: latency p50" in rendered(found)
    assert "1.0% are tolerated" in rendered(found)
    document = compared.compared(found)
    assert document["regressions"] == ["latency p50"]
    assert document["ok"] is False
    assert document["differences"][0]["low"] > 0.4


names = st.text(max_size=40)


@given(names, names, names)
def test_hostile_names_stay_text(model: str, device: str, why: str) -> None:
    side = types.Side(name=model, model=model, target="t", device=device, scheme=why)
    found = types.Compared(
        before=side, after=side, tolerance=0.0, latency_noise=0.02, latency_noise_source="x",
        mismatches=(types.Mismatch(what=why, before=model, after=device),),
        differences=(types.Difference(quantity=why, unit="ms", before=1.0, after=None, answer="missing", why=why),),
    )  # fmt: skip
    assert all(char.isprintable() or char == "\n" for char in rendered(found))
