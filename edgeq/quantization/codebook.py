"""Codebooks: the few values that stand for many with the least squared error (k-means in one dimension)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS = 4096
ROUNDS = 30

Floats = NDArray[np.float64]


def codebook(values: NDArray[Any], size: int, *, rounds: int = ROUNDS) -> Floats:
    """At most `size` values, in ascending order, by Lloyd's rounds on a histogram of `BINS` equal bins.

    Up to `BINS` different values are taken as they are. The first guess has as many entries as the cube root of the
    density asks for (Panter and Dite, 1951); a round never makes the error larger.
    """
    points, counts = condensed(values)
    if points.size <= size:
        return points
    entries = _first_guess(points, counts, size)
    for _ in range(rounds):
        moved = centroids(points, counts, entries)
        if np.array_equal(moved, entries):
            break
        entries = moved
    return entries


def condensed(values: NDArray[Any]) -> tuple[Floats, Floats]:
    """Different values with their counts, or the means of `BINS` equal bins where there are more."""
    flat = np.asarray(values, np.float64).reshape(-1)
    points, counts = np.unique(flat, return_counts=True)
    if points.size <= BINS:
        return points, counts.astype(np.float64)
    low, high = points[0], points[-1]
    bins = np.minimum(((flat - low) / (high - low) * BINS).astype(np.int64), BINS - 1)
    totals = np.bincount(bins, minlength=BINS).astype(np.float64)
    sums = np.bincount(bins, weights=flat, minlength=BINS)
    used = totals > 0
    return sums[used] / totals[used], totals[used]


def _first_guess(points: Floats, counts: Floats, size: int) -> Floats:
    gaps = np.gradient(points)
    mass = np.cumsum(np.cbrt(counts / np.maximum(gaps, 1e-300)) * gaps)
    wanted = (np.arange(size) + 0.5) / size * mass[-1]
    return np.unique(points[np.minimum(np.searchsorted(mass, wanted), points.size - 1)])


def centroids(points: Floats, counts: Floats, entries: Floats) -> Floats:
    """One of Lloyd's rounds: the mean of what lies nearest to each entry; an entry that nothing is near stays."""
    edges = np.searchsorted(points, (entries[1:] + entries[:-1]) / 2)
    mass = np.concatenate([[0.0], np.cumsum(counts)])
    moment = np.concatenate([[0.0], np.cumsum(counts * points)])
    starts, ends = np.concatenate([[0], edges]), np.concatenate([edges, [points.size]])
    held = mass[ends] - mass[starts]
    means = (moment[ends] - moment[starts]) / np.where(held > 0, held, 1)
    return np.asarray(np.where(held > 0, means, entries))


def nearest(values: NDArray[Any], entries: Floats) -> Floats:
    """Each value's nearest entry; `entries` ascend."""
    flat = np.asarray(values, np.float64)
    if entries.size == 1:
        return np.full_like(flat, entries[0])
    return np.asarray(entries[np.searchsorted((entries[1:] + entries[:-1]) / 2, flat)])
