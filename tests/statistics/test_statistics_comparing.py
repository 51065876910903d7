"""Is one faster? Undecided unless the interval says so; false answers are rare, real differences are found."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.statistics.comparing import compare, paired


def noise(seed: int, count: int, phi: float = 0.6) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Latency-like: dependent, with a heavy tail above."""
    rng = np.random.default_rng(seed)
    values = np.zeros(count)
    for n in range(1, count):
        values[n] = phi * values[n - 1] + 0.02 * rng.standard_normal()
    spikes = (rng.random(count) < 0.03) * rng.pareto(2, count)
    return np.asarray(5 * np.exp(values) * (1 + spikes))


def test_equal_series_are_seldom_told_apart() -> None:
    answers = [compare(noise(2 * n, 300), noise(2 * n + 1, 300)).answer for n in range(100)]
    assert answers.count("undecided") >= 88


@pytest.mark.parametrize(("factor", "answer"), [(1.2, "slower"), (0.8, "faster")])
def test_a_fifth_is_found(factor: float, answer: str) -> None:
    answers = [compare(noise(2 * n, 300), factor * noise(2 * n + 1, 300)).answer for n in range(30)]
    assert answers.count(answer) >= 29


def test_the_ratio_is_of_medians_and_its_interval_holds_it() -> None:
    before, after = noise(1, 400), 1.5 * noise(2, 400)
    found = compare(before, after)
    assert found.ratio == pytest.approx(np.median(after) / np.median(before))
    assert 1.4 < found.low <= found.ratio <= found.high < 1.6


def test_the_interval_covers_the_true_ratio() -> None:
    hits = sum(found.low <= 1.1 <= found.high
               for found in (compare(noise(2 * n, 300), 1.1 * noise(2 * n + 1, 300)) for n in range(100)))  # fmt: skip
    assert hits >= 88


def test_outliers_do_not_decide() -> None:
    before, after = noise(1, 400), noise(1, 400)
    after[::20] *= 100
    assert compare(before, after).answer == "undecided"


def test_a_margin_widens_what_is_no_difference() -> None:
    before, after = noise(1, 4000, 0.0), 1.05 * noise(2, 4000, 0.0)
    assert compare(before, after).answer == "slower"
    assert compare(before, after, margin=0.1).answer == "undecided"


def test_swapped_series_give_the_opposite_answer() -> None:
    before, after = noise(1, 400), 1.3 * noise(2, 400)
    assert (compare(before, after).answer, compare(after, before).answer) == ("slower", "faster")


@given(st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50), st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=50))
@settings(deadline=None, max_examples=50)
def test_any_positive_series_can_be_compared(before: list[float], after: list[float]) -> None:
    found = compare(before, after)
    assert 0 < found.low <= found.ratio <= found.high < math.inf
    assert found.answer == ("faster" if found.high < 1 else "slower" if found.low > 1 else "undecided")


@pytest.mark.parametrize("bad", [[], [0.0, 1.0], [-1.0], [math.nan], [math.inf]])
def test_what_is_no_latency_is_refused(bad: list[float]) -> None:
    for pair in ((bad, [1.0]), ([1.0], bad)):
        with pytest.raises(ValueError, match=r"samples are|axis"):
            compare(*pair)


@pytest.mark.parametrize(("count", "low", "high"), [(6, 1, 6), (12, 3, 10), (30, 10, 21), (100, 40, 61)])
def test_pairs_get_the_interval_of_the_sign_test(count: int, low: int, high: int) -> None:
    """Places as in tables of the sign test's interval."""
    found = paired(np.arange(1.0, count + 1), np.ones(count))
    assert (found.low, found.high) == (low, high)


def test_five_pairs_bound_nothing() -> None:
    assert not paired([1.0] * 5, [2.0] * 5).is_bounded
    assert paired([1.0] * 5, [2.0] * 5).value == 0.5


def test_pairs_do_not_mind_what_slows_both() -> None:
    """A device that wanders by a factor of ten: the ratio stays, the two medians do not tell it."""
    rng = np.random.default_rng(1)
    pace = np.exp(np.cumsum(0.2 * rng.standard_normal(60)))
    found = paired(2 * pace * rng.normal(1, 0.01, 60), pace * rng.normal(1, 0.01, 60))
    assert 1.97 < found.low <= found.value <= found.high < 2.03


def test_pairs_cover() -> None:
    rng, hits = np.random.default_rng(2), 0
    for _ in range(300):
        found = paired(rng.lognormal(0.3, 0.5, 25), np.ones(25))
        hits += found.low <= math.exp(0.3) <= found.high
    assert hits / 300 >= 0.93


@pytest.mark.parametrize(("before", "after"), [([1.0], [1.0, 2.0]), ([0.0], [1.0]), ([], []), ([1.0], [math.nan])])
def test_what_are_no_pairs_is_refused(before: list[float], after: list[float]) -> None:
    with pytest.raises(ValueError, match=r"pairs are|axis"):
        paired(before, after)
