"""Where a histogram is cut so that 8 bits tell least from it, against the definition written out."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeq.quantization.divergence import CANDIDATES, LEVELS, threshold

BINS = 2048
HALF = BINS // 2
Counts = NDArray[np.int64]


def by_hand(counts: Counts, k: int) -> float:
    """The divergence of one threshold, bin by bin."""
    seen = [0 if place in (HALF - 1, HALF) else int(count) for place, count in enumerate(counts)]
    used = [place for place, count in enumerate(seen) if count]
    first, last = max(used[0], HALF - k), min(used[-1] + 1, HALF + k)
    inside = seen[first:last]
    if not any(inside):
        return float("inf")
    told = [0.0] * len(inside)
    edges = [*sorted({step * len(inside) // LEVELS for step in range(LEVELS)}), len(inside)]
    for start, end in itertools.pairwise(edges):
        holders = [place for place in range(start, end) if inside[place]]
        share = sum(inside[start:end]) / max(len(holders), 1)
        for place in holders:
            told[place] = share
    true = list(inside)
    true[0] += sum(seen[:first])
    true[-1] += sum(seen[last:])
    told = [max(one, 0.5) if wanted else 0.0 for one, wanted in zip(told, true, strict=True)]
    shares = [(a / sum(true), b / sum(told)) for a, b in zip(true, told, strict=True) if a]
    return float(sum(a * np.log(a / b) for a, b in shares))


def drawn(seed: int, width: float, shift: float, count: int) -> Counts:
    values = np.random.default_rng(seed).standard_normal(count) * width + shift
    return np.histogram(values, BINS, (-8, 8))[0]


@pytest.mark.parametrize(
    ("seed", "width", "shift", "count"), [(0, 1, 0, 50), (0, 1, 0, 5000), (1, 0.5, -2, 50), (2, 3, 2, 5000)]
)
def test_no_candidate_has_a_smaller_divergence(seed: int, width: float, shift: float, count: int) -> None:
    counts = drawn(seed, width, shift, count)
    used = np.flatnonzero(counts)
    widest = int(max(HALF - used[0], used[-1] + 1 - HALF))
    chosen = threshold(counts)
    others = np.linspace(LEVELS // 2, widest, CANDIDATES).astype(int)
    assert chosen in others
    least = by_hand(counts, chosen)
    assert all(least <= by_hand(counts, int(k)) + 1e-12 for k in others[::9])


@pytest.mark.parametrize("places", [[HALF], [HALF - 1], [HALF - 1, HALF], []])
def test_what_holds_zeros_only_is_not_cut(places: list[int]) -> None:
    counts = np.zeros(BINS, np.int64)
    counts[places] = 7
    assert threshold(counts) == HALF


@pytest.mark.parametrize("place", [0, 5, HALF - 2, HALF + 1, BINS - 1])
def test_one_value_is_kept_whole(place: int) -> None:
    counts = np.zeros(BINS, np.int64)
    counts[place] = 1000
    assert threshold(counts) == (HALF - place if place < HALF else place + 1 - HALF)


def test_equals_are_decided_for_the_wider_range() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[HALF + 1 : HALF + LEVELS] = 10
    assert threshold(counts) == LEVELS


def test_counts_are_left_as_they_were() -> None:
    counts = drawn(0, 1, 0, 1000)
    before = counts.copy()
    threshold(counts)
    np.testing.assert_array_equal(counts, before)
