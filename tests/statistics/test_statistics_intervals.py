"""Intervals of percentiles: do they cover, on samples that depend on one another? Exact where theory is."""

from __future__ import annotations

import math
import time
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.statistics import blocks
from edgeq.statistics.intervals import Interval, percentile_interval

SAMPLES = st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=200)


def autoregressive(rng: np.random.Generator, count: int, phi: float) -> NDArray[np.float64]:
    """Standard normal values of which each remembers the last one."""
    values = np.empty(count + 100)
    values[0] = rng.standard_normal()
    noise = rng.standard_normal(count + 100) * math.sqrt(1 - phi * phi)
    for n in range(1, count + 100):
        values[n] = phi * values[n - 1] + noise[n]
    return values[100:]


def coverage(phi: float, count: int, percent: float, rounds: int = 200) -> float:
    """How often the interval holds the true percentile of log-normal samples."""
    rng = np.random.default_rng(3)
    true = math.exp(0.3 * NormalDist().inv_cdf(percent / 100))
    hits = 0
    for _ in range(rounds):
        found = percentile_interval(np.exp(0.3 * autoregressive(rng, count, phi)), percent)
        hits += found.low <= true <= found.high
    return hits / rounds


@pytest.mark.parametrize(
    ("phi", "count", "percent", "least"),
    [
        (0.0, 50, 50, 0.93),
        (0.0, 500, 90, 0.92),
        (0.0, 500, 99, 0.92),
        (0.5, 500, 50, 0.89),
        (0.5, 500, 90, 0.89),
        (0.9, 500, 50, 0.86),
        (0.9, 500, 90, 0.84),
    ],
)
def test_intervals_cover_at_about_95_percent(phi: float, count: int, percent: float, least: float) -> None:
    found = coverage(phi, count, percent)
    assert found >= least, f"{found:.3f}"


def test_what_ignores_dependence_covers_far_less() -> None:
    """The ordinary binomial interval on the same samples, to show what the blocks are for."""
    rng, hits = np.random.default_rng(3), 0
    for _ in range(200):
        ranked = np.sort(autoregressive(rng, 500, 0.9))
        hits += ranked[228] <= 0 <= ranked[271]
    assert hits / 200 < 0.6


@pytest.mark.parametrize(("count", "low", "high"), [(50, 18, 32), (100, 40, 61), (1000, 469, 532)])
def test_independent_samples_get_the_binomial_interval(count: int, low: int, high: int) -> None:
    """Places of the order statistics of the exact interval of a median."""
    values = np.random.default_rng(1).permutation(np.arange(1.0, count + 1))
    found = percentile_interval(values, 50)
    assert found.low == pytest.approx(low, abs=max(2, count / 200))
    assert found.high == pytest.approx(high, abs=max(2, count / 200))


@pytest.mark.parametrize(("count", "is_bounded"), [(50, False), (200, False), (1500, True)])
def test_a_p99_of_too_few_samples_has_no_upper_end(count: int, is_bounded: bool) -> None:
    """The largest of n samples lies above the 99th percentile with 1 - 0.99^n: 367 are needed for 97.5 %."""
    found = percentile_interval(np.random.default_rng(2).lognormal(size=count), 99)
    assert found.is_bounded is is_bounded
    assert math.isfinite(found.low)


@given(SAMPLES, st.floats(0, 100))
@settings(deadline=None, max_examples=60)
def test_the_value_is_numpys_and_lies_inside(samples: list[float], percent: float) -> None:
    found = percentile_interval(samples, percent)
    assert found.value == pytest.approx(float(np.percentile(samples, percent)))
    assert found.low <= found.value <= found.high
    assert found.low == -math.inf or found.low >= min(samples)
    assert found.high == math.inf or found.high <= max(samples)


@given(st.lists(st.floats(1e-3, 1e3), min_size=8, max_size=60), st.floats(0.5, 4))
@settings(deadline=None, max_examples=40)
def test_intervals_scale_with_the_samples(samples: list[float], factor: float) -> None:
    plain, scaled = percentile_interval(samples, 50), percentile_interval([factor * one for one in samples], 50)
    for name in ("low", "value", "high"):
        assert getattr(scaled, name) == pytest.approx(factor * getattr(plain, name), rel=1e-9)


def test_more_confidence_is_wider_and_more_samples_are_narrower() -> None:
    values = np.random.default_rng(4).lognormal(size=2000)
    widths = [percentile_interval(values, 50, confidence=one) for one in (0.5, 0.9, 0.99)]
    spans = [one.high - one.low for one in widths]
    assert spans == sorted(spans)
    assert spans[0] < spans[-1]
    few = percentile_interval(values[:100], 50)
    assert few.high - few.low > 2 * (widths[1].high - widths[1].low)


def test_dependence_widens() -> None:
    rng = np.random.default_rng(5)
    loose, tied = (percentile_interval(autoregressive(rng, 1000, phi) + 10, 50) for phi in (0.0, 0.95))
    assert tied.high - tied.low > 2.5 * (loose.high - loose.low)


def test_the_same_samples_give_the_same_interval() -> None:
    values = np.random.default_rng(6).lognormal(size=300)
    assert percentile_interval(values, 90) == percentile_interval(list(values), 90)
    assert percentile_interval(values, 90, seed=1).value == percentile_interval(values, 90, seed=2).value


def test_equal_samples_have_no_width() -> None:
    assert percentile_interval([3.0] * 100, 50) == Interval(3.0, 3.0, 3.0)


def test_a_coarse_clock_does_not_spoil_the_interval() -> None:
    """Half of the samples are equal: ties are parted by lot, not by time."""
    values = np.repeat([1.0, 1.0, 2.0], 200)
    found = percentile_interval(np.random.default_rng(7).permutation(values), 50)
    assert (found.low, found.value, found.high) == (1.0, 1.0, 1.0)


@pytest.mark.parametrize("samples", [[], [[1.0, 2.0]], [1.0, math.nan], [1.0, math.inf], [-math.inf]])
def test_what_is_no_series_of_samples_is_refused(samples: list[float]) -> None:
    with pytest.raises(ValueError, match="finite numbers on one axis"):
        percentile_interval(samples, 50)


@pytest.mark.parametrize(("percent", "confidence"), [(-1, 0.95), (101, 0.95), (math.nan, 0.95), (50, 0), (50, 1)])
def test_what_is_out_of_range_is_refused(percent: float, confidence: float) -> None:
    with pytest.raises(ValueError, match="percent is from 0 to 100"):
        percentile_interval([1.0, 2.0], percent, confidence=confidence)


def test_20_000_samples_take_little_time_and_memory() -> None:
    import tracemalloc

    values = np.random.default_rng(8).lognormal(size=20_000)
    percentile_interval(values, 50)
    tracemalloc.start()
    begun = time.process_time()
    percentile_interval(values, 99)
    spent, peak = time.process_time() - begun, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert spent < 0.3
    assert peak < 64 << 20


@pytest.mark.parametrize(("phi", "low", "high"), [(0.0, 1, 3), (0.5, 4, 40), (0.95, 20, 250)])
def test_blocks_grow_with_dependence(phi: float, low: int, high: int) -> None:
    found = blocks.choose(autoregressive(np.random.default_rng(9), 2000, phi))
    assert low <= found.length <= high
    assert 0 <= found.missed <= 0.5


def test_a_constant_series_needs_no_blocks() -> None:
    assert blocks.choose(np.ones(100)) == blocks.Blocks(1)
