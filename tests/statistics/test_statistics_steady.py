"""What is wrong with a run is found, what is only noise is not."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.statistics import spikes, steady

Floats = NDArray[np.float64]
COUNT = 2000
PACE_S = 0.0005


def clean(seed: int, count: int = COUNT, phi: float = 0.8, spread: float = 0.02) -> tuple[Floats, Floats]:
    """(samples in s, moments): dependent, with a heavy tail and bursts of it."""
    rng = np.random.default_rng(seed)
    values = np.zeros(count)
    noise = rng.standard_normal(count)
    for n in range(1, count):
        values[n] = phi * values[n - 1] + spread * math.sqrt(1 - phi * phi) * noise[n]
    busy = np.convolve(rng.random(count) < 0.002, np.ones(20), "same") > 0
    tail = (rng.random(count) < 0.01 + 0.3 * busy) * rng.pareto(2.5, count)
    samples = PACE_S * np.exp(values) * (1 + tail)
    return samples, np.concatenate([[0.0], np.cumsum(samples)[:-1]])


def step(samples: Floats, moments: Floats, ratio: float, at: float = 0.5) -> Floats:
    return np.asarray(samples * np.where(moments > at * moments[-1], ratio, 1.0))


def throttling(samples: Floats, moments: Floats, ratio: float = 1.6, at: float = 0.2) -> Floats:
    """Full speed, then slower and slower towards a new level."""
    late = np.maximum(0.0, moments / moments[-1] - at)
    return np.asarray(samples * (1 + (ratio - 1) * (1 - np.exp(-late / 0.25))))


def train(samples: Floats, moments: Floats, period_s: float = 0.05, extra_s: float = 0.005) -> Floats:
    first = np.diff(np.floor(moments / period_s), prepend=-1.0) > 0
    return np.asarray(samples + extra_s * first)


@pytest.mark.parametrize(("phi", "spread"), [(0.0, 0.01), (0.8, 0.02), (0.97, 0.02), (0.5, 0.1)])
def test_clean_runs_raise_no_alarm(phi: float, spread: float) -> None:
    """Fifty runs of each kind of noise, 200 in all; at most 5 % may be called unsteady."""
    alarms = [seed for seed in range(50) if not steady.find(*clean(seed, 1000, phi, spread)).ok]
    assert len(alarms) <= 2, alarms


@pytest.mark.parametrize("ratio", [1.15, 1.3, 2.0, 0.75])
def test_a_step_is_found_where_it_is(ratio: float) -> None:
    hits = 0
    for seed in range(12):
        samples, moments = clean(seed)
        found = steady.find(step(samples, moments, ratio), moments).changes
        hits += len(found) == 1 and found[0].kind == "step" and found[0].ratio == pytest.approx(ratio, rel=0.05)
        assert not found or found[0].at_s == pytest.approx(0.5 * moments[-1], abs=0.06 * moments[-1])
    assert hits >= 11


@pytest.mark.parametrize("ratio", [1.3, 1.6, 3.0])
def test_throttling_is_a_drift(ratio: float) -> None:
    found = [steady.find(throttling(*clean(seed), ratio), clean(seed)[1]).changes for seed in range(8)]
    slow = [any(one.kind == "drift" and one.ratio > 1.1 for one in changes) for changes in found]
    assert sum(slow) >= 7


@pytest.mark.parametrize(("period_s", "extra_s"), [(0.05, 0.005), (0.02, 0.003), (0.1, 0.03)])
def test_a_spike_train_is_found_with_its_period(period_s: float, extra_s: float) -> None:
    hits = 0
    for seed in range(10):
        samples, moments = clean(seed, spread=0.01)
        found = steady.find(train(samples, moments, period_s, extra_s), moments).spikes
        hits += found is not None and found.period_s == pytest.approx(period_s, rel=0.03)
        assert found is None or found.time_share > 0.05
    assert hits >= 9


def test_spikes_at_random_moments_are_outliers_and_no_train() -> None:
    trains = 0
    for seed in range(20):
        samples, moments = clean(seed)
        rng = np.random.default_rng(seed)
        samples[rng.random(COUNT) < 0.01] += 0.005
        found = steady.find(samples, moments)
        trains += found.spikes is not None
        assert found.outliers.count >= 10
        assert 0.04 < found.outliers.time_share < 0.5
    assert trains <= 1


def test_two_steps_are_two_changes() -> None:
    samples, moments = clean(3)
    part = moments / moments[-1]
    found = steady.find(samples * np.where((part > 0.35) & (part < 0.7), 1.5, 1.0), moments).changes
    assert [one.ratio > 1 for one in found] == [True, False]


def test_a_slow_start_is_warm_up_and_nothing_to_complain_of() -> None:
    samples, moments = clean(4)
    slow = step(samples, moments, 1 / 1.5, at=0.1)
    found = steady.find(slow, moments)
    assert found.ok
    assert 0.05 * COUNT <= found.begins <= 0.15 * COUNT


def test_a_fast_start_is_a_slow_down() -> None:
    """Turbo for a while, then what the device can do for long."""
    samples, moments = clean(5)
    found = steady.find(step(samples, moments, 1.4, at=0.15), moments)
    assert found.begins == 0
    assert [one.ratio > 1.3 for one in found.changes] == [True]


def test_what_preempts_a_third_of_the_samples_is_no_change_of_level() -> None:
    """The lower quartile stays: another process had the core now and then, the machine is as fast as before."""
    samples, moments = clean(6)
    rng = np.random.default_rng(6)
    late = (moments > 0.5 * moments[-1]) & (rng.random(COUNT) < 0.35)
    assert not steady.find(samples * np.where(late, 3.0, 1.0), moments).changes


@pytest.mark.parametrize("count", [1, 5, 39])
def test_few_samples_show_no_shape_and_that_is_said(count: int) -> None:
    found = steady.find(*(one[:count] for one in clean(7)))
    assert found.ok
    assert f"{count} samples show no shape" in found.why


def test_forty_samples_show_a_large_step() -> None:
    samples, moments = clean(8, 40)
    assert steady.find(step(samples, moments, 2.0), moments).changes


def test_times_are_the_samples_own_where_none_are_given() -> None:
    samples, moments = clean(9)
    assert steady.find(step(samples, moments, 1.5)) == steady.find(
        step(samples, moments, 1.5), np.concatenate([[0.0], np.cumsum(step(samples, moments, 1.5))[:-1]])
    )


@given(st.floats(1e-9, 1e9))
@settings(deadline=None, max_examples=10)
def test_the_unit_does_not_matter(factor: float) -> None:
    samples, moments = clean(10, 400)
    plain, scaled = (steady.find(one, moments) for one in (samples, samples * factor))
    assert [one.index for one in plain.changes] == [one.index for one in scaled.changes]
    assert plain.outliers.count == pytest.approx(scaled.outliers.count, abs=2)


@given(st.lists(st.floats(1e-6, 1e6), min_size=40, max_size=120))
@settings(deadline=None, max_examples=25)
def test_any_samples_are_looked_at(values: list[float]) -> None:
    found = steady.find(values)
    assert 0 <= found.begins < len(values) / 2
    assert all(0 <= one.at_s <= one.until_s and one.ratio > 0 for one in found.changes)
    assert 0 <= found.outliers.share <= 1
    assert found.outliers.time_share <= 1


@pytest.mark.parametrize(
    ("samples", "times"),
    [([], None), ([1.0, -1.0], None), ([1.0, math.nan], None), ([1.0, 2.0], [0.0]), ([1.0, 2.0], [1.0, 0.0]),
     ([1.0, 2.0], [0.0, math.nan])],
)  # fmt: skip
def test_what_no_clock_tells_is_refused(samples: list[float], times: list[float] | None) -> None:
    with pytest.raises(ValueError, match=r"samples are|times are|axis"):
        steady.find(samples, times)


def test_equal_samples_are_steady() -> None:
    found = steady.find([5.0] * 500)
    assert found.ok
    assert found.outliers.count == 0


def test_a_spike_that_lasts_long_does_not_make_a_train() -> None:
    samples, moments = clean(11)
    samples[1000] *= 500
    found = steady.find(samples, moments)
    assert found.spikes is None
    assert found.outliers.time_share > 0.1


def test_outliers_are_told_from_the_level_around_them() -> None:
    """After a step to twice the level no sample there is an outlier only because of the step."""
    samples, moments = clean(12, spread=0.01)
    plain = spikes.outliers(spikes.look(samples)).count
    assert spikes.outliers(spikes.look(step(samples, moments, 2.0))).count <= plain + 60


@pytest.mark.parametrize("change", [step, throttling])
def test_20_000_samples_take_less_than_half_a_second(change: Callable[..., Floats]) -> None:
    samples, moments = clean(13, 20_000)
    changed = change(samples, moments, 1.5)
    begun = time.process_time()
    steady.find(changed, moments)
    assert time.process_time() - begun < 0.5
