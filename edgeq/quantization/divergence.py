"""Clip a range where its histogram, in 8 bits, tells least from the one that was seen.

The criterion is the Kullback-Leibler divergence of S. Migacz, 8-bit Inference with TensorRT (GTC 2017), here for ranges
that need not be symmetric: one threshold cuts both sides, and stops mattering on a side that ends before it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

LEVELS = 256
CANDIDATES = 128
_LEAST = 0.5
"""Counts that stand for none, where clipping puts values into a bin that held nothing."""

Counts = NDArray[np.float64]


def threshold(counts: NDArray[np.int64]) -> int:
    """How many bins on each side of the middle, where zero lies, are worth keeping; of equals the most.

    Bins that touch zero are left out: zero is stored exactly, and the peak that a ReLU leaves there would decide alone.
    """
    half = len(counts) // 2
    seen = counts.astype(np.float64)
    seen[half - 1 : half + 1] = 0
    used = np.flatnonzero(seen)
    if not used.size:
        return half
    first, last = int(used[0]), int(used[-1]) + 1
    widest = max(half - first, last - half)
    costs = {k: _divergence(seen, max(first, half - k), min(last, half + k)) for k in _candidates(widest)}
    return min(costs, key=lambda k: (costs[k], -k))


def _candidates(widest: int) -> Iterator[int]:
    """Thresholds from the widest down to where bins are as fine as 8 bits."""
    narrowest = min(widest, LEVELS // 2)
    yield from sorted({int(k) for k in np.linspace(narrowest, widest, CANDIDATES)}, reverse=True)


def _divergence(seen: Counts, first: int, last: int) -> float:
    """Of what clipping at those bins makes of the histogram, from 256 equal steps with their counts spread evenly."""
    inside = seen[first:last]
    if not inside.any():
        return np.inf
    clipped = inside.copy()
    clipped[0] += seen[:first].sum()
    clipped[-1] += seen[last:].sum()
    spread = _spread(inside)
    held = clipped > 0
    true, told = clipped[held], np.maximum(spread[held], _LEAST)
    return float(np.dot(true, np.log(true / true.sum()) - np.log(told / told.sum())) / true.sum())


def _spread(inside: Counts) -> Counts:
    """Each step's counts shared by those of its bins that held any."""
    starts = np.unique(np.arange(LEVELS) * len(inside) // LEVELS)
    held = inside > 0
    shares = np.add.reduceat(inside, starts) / np.maximum(np.add.reduceat(held, starts, dtype=np.int64), 1)
    return np.asarray(np.repeat(shares, np.diff(starts, append=len(inside))) * held)
