"""Choose the range of each activation while samples stream by.

Memory holds two numbers per tensor (min-max) or one histogram of `BINS` counts (all other methods), however many
samples are shown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeq.errors import ConvertError, UsageError
from edgeq.quantization import divergence
from edgeq.types import RangeMethod

BINS = 8192
PERCENTILE = 99.99
CANDIDATES = 48
ROUNDS = 2
_CHUNK = 1 << 16
FIGURES = 6
"""Numbers that stand for what was seen of a tensor, its counts left out."""
_SMALLEST_LIMIT = 2.0**-100

Values: TypeAlias = NDArray[Any]
Range: TypeAlias = tuple[float, float]


@dataclass(slots=True)
class Histogram:
    """Counts over `[-limit, limit)` in equal bins; `limit` is a power of two that doubles as needed.

    Doubling merges neighbours in pairs towards zero, so bins' edges stay where they were, zero is always an
    edge and no count is lost. A value is known to one bin: `width` = 2 * limit / bins, and limit is at
    most 2 * max(|x|) (or 2**-100), so that the error of any edge is at most 4 * max(|x|) / bins.
    """

    limit: float = 0.0
    counts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))

    @property
    def width(self) -> float:
        """Width of one bin, in real units."""
        return 2 * self.limit / len(self.counts)

    def add(self, values: NDArray[np.float32], largest: float) -> None:
        """Count finite values, none of them larger than `largest` in magnitude."""
        self._reach(largest)
        half = len(self.counts) // 2
        per_unit = np.float32(1 / self.width)
        for start in range(0, values.size, _CHUNK):
            # the factor is a power of two: the product is exact (or underflows to an edge), and so is the floor
            bins = np.floor(values[start : start + _CHUNK] * per_unit).astype(np.int64) + half
            self.counts += np.bincount(bins, minlength=len(self.counts))

    def _reach(self, largest: float) -> None:
        needed = 2.0 ** math.frexp(max(largest, _SMALLEST_LIMIT / 2))[1]
        if self.limit == 0:
            self.limit = needed
        while self.limit < needed:
            quarter = len(self.counts) // 4
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.pad(merged, quarter)
            self.limit *= 2

    def edges(self) -> NDArray[np.float64]:
        """Edges of the bins, one more than there are bins."""
        half = len(self.counts) // 2
        return np.arange(-half, half + 1, dtype=np.float64) * self.width

    def centres(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Centres and counts of the bins that hold values."""
        used = np.flatnonzero(self.counts)
        half = len(self.counts) // 2
        return (used.astype(np.float64) - half + 0.5) * self.width, self.counts[used].astype(np.float64)


@dataclass(slots=True)
class _Seen:
    low: float
    high: float
    histogram: Histogram | None
    lows: float = 0.0
    highs: float = 0.0
    updates: int = 0


class RangeObserver:
    """Ranges of named tensors from a stream of values; every range holds zero.

    `min-max` is exact. `percentile` keeps the middle `percentile` per cent and cuts half of the rest on each
    side; each end is at most one bin wider than the exact percentile. `mean-squared-error` looks for the
    clipping thresholds with the least error of 8-bit rounding and clipping on the histogram; a root mean
    square error read from the histogram is at most half a bin off, so the result is never worse than min-max
    by more than one bin. `mean-min-max` is the mean of the updates' minima and of their maxima: a few samples unlike
    all others do not widen it, but half of the samples reach beyond it. `entropy` cuts both sides at the threshold with
    the least divergence (see `edgeq.quantization.divergence`). Bins are as wide as `Histogram` says. `symmetric` makes
    every range `(-t, t)`.
    """

    def __init__(self, method: RangeMethod, *, percentile: float = PERCENTILE, symmetric: bool = False) -> None:
        if method not in _CHOICES:
            raise UsageError(f"{method!r} is no range method", hint=f"known: {', '.join(_CHOICES)}")
        if not 0 < percentile <= 100:
            raise UsageError(f"a percentile lies above 0 and at most at 100, got {percentile}")
        self._method = method
        self._percentile = percentile
        self._symmetric = symmetric
        self._seen: dict[str, _Seen] = {}

    @property
    def has_counts(self) -> bool:
        """Whether values are counted in histograms: only min-max does without."""
        return self._method != "min-max"

    def update(self, name: str, values: Values) -> None:
        """Take in one tensor's values; raises ConvertError for NaN and infinity. No values change nothing."""
        if values.size == 0:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            flat = np.asarray(values, np.float32).reshape(-1)
            low, high = float(flat.min()), float(flat.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ConvertError(
                f"tensor {name!r} becomes NaN or infinite in calibration",
                hint="look for broken samples, or a model that overflows, with: edgeq inspect",
            )
        seen = self._remember(name, low, high)
        if seen.histogram is not None:
            seen.histogram.add(flat, max(-low, high))

    def _remember(self, name: str, low: float, high: float) -> _Seen:
        seen = self._seen.get(name)
        if seen is None:
            histogram = None if self._method == "min-max" else Histogram()
            seen = self._seen[name] = _Seen(low, high, histogram)
        seen.low, seen.high = min(seen.low, low), max(seen.high, high)
        seen.lows, seen.highs, seen.updates = seen.lows + low, seen.highs + high, seen.updates + 1
        return seen

    def state(self, names: Sequence[str]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """What was seen of those tensors: (names, FIGURES) and (names, bins) counts.

        Figures are low, high, a histogram's limit, the sums of the updates' lows and highs, and how many there were.
        NaN stands for a tensor that was not seen; without histograms there are no bins.
        """
        figures = np.full((len(names), FIGURES), np.nan)
        counts = np.zeros((len(names), BINS if self.has_counts else 0), np.int64)
        for place, name in enumerate(names):
            seen = self._seen.get(name)
            if seen is not None:
                limit = seen.histogram.limit if seen.histogram else 0
                figures[place] = seen.low, seen.high, limit, seen.lows, seen.highs, seen.updates
                if seen.histogram is not None:
                    counts[place] = seen.histogram.counts
        return figures, counts

    def restore(self, names: Sequence[str], figures: NDArray[np.float64], counts: NDArray[np.int64]) -> bool:
        """Take over what `state` gave, with or without histograms; False, and nothing, where it is not possible."""
        if not _is_state(figures, counts) or (self.has_counts and not counts.size):
            return False
        self._seen = {}
        for name, (low, high, limit, lows, highs, updates), row in zip(names, figures.tolist(), counts, strict=True):
            if not math.isnan(low):
                histogram = Histogram(limit, row.astype(np.int64)) if self.has_counts else None
                self._seen[name] = _Seen(low, high, histogram, lows, highs, int(updates))
        return True

    def ranges(self) -> dict[str, Range]:
        """`(low, high)` with low <= 0 <= high for each tensor seen; `(0, 0)` where all values were zero."""
        choose = _CHOICES[self._method]
        return {name: choose(seen, self._percentile, self._symmetric) for name, seen in self._seen.items()}


def _is_state(figures: NDArray[np.float64], counts: NDArray[np.int64]) -> bool:
    """Whether these could be figures of an observer: ends in order, limits that are powers of two, no count below 0."""
    seen = ~np.isnan(figures).any(axis=1)
    low, high, limit, lows, highs, updates = figures[seen].T
    with np.errstate(over="ignore", invalid="ignore"):
        reach = np.maximum(-low, high)
    powers = np.frexp(limit)[0] == 0.5  # its fraction, of a power of two
    has_limits = bool(np.all(powers & (limit > reach))) if counts.size else True
    are_sums = np.all((updates >= 1) & (updates == np.rint(updates)) & (lows <= highs))
    is_finite = np.isfinite(figures[seen]).all()
    return bool(is_finite and are_sums and np.all(low <= high) and has_limits and np.all(counts >= 0))


def _with_zero(low: float, high: float, symmetric: bool) -> Range:
    """Widen a range to hold zero, and to be symmetric if asked."""
    if symmetric:
        reach = max(-low, high, 0.0)
        return -reach, reach
    return min(low, 0.0), max(high, 0.0)


def _min_max(seen: _Seen, _percentile: float, symmetric: bool) -> Range:
    return _with_zero(seen.low, seen.high, symmetric)


def _mean_min_max(seen: _Seen, _percentile: float, symmetric: bool) -> Range:
    return _with_zero(seen.lows / seen.updates, seen.highs / seen.updates, symmetric)


def _percentiles(seen: _Seen, percentile: float, symmetric: bool) -> Range:
    """Outer edges of the bins in which the two percentiles lie, never outside what was seen."""
    histogram = _histogram(seen)
    edges, counts = histogram.edges(), histogram.counts
    cut = max((100 - percentile) / 200 * float(counts.sum()), 1)
    low = edges[np.argmax(np.cumsum(counts) >= cut)]
    high = edges[len(counts) - np.argmax(np.cumsum(counts[::-1]) >= cut)]
    return _with_zero(max(float(low), seen.low), min(float(high), seen.high), symmetric)


def _least_error(seen: _Seen, _percentile: float, symmetric: bool) -> Range:
    """Shrink one end, then the other, twice: the best of `CANDIDATES` thresholds each time."""
    widest = _with_zero(seen.low, seen.high, symmetric)
    centres, counts = _histogram(seen).centres()
    shares = np.linspace(1 / CANDIDATES, 1, CANDIDATES)[::-1].tolist()
    if symmetric:
        return min(((widest[0] * s, widest[1] * s) for s in shares), key=lambda r: _cost(r, centres, counts, True))
    low, high = widest
    for _ in range(ROUNDS):
        high = min((widest[1] * s for s in shares), key=lambda h: _cost((low, h), centres, counts, False))
        low = min((widest[0] * s for s in shares), key=lambda bottom: _cost((bottom, high), centres, counts, False))
    return min((low, high), widest, key=lambda r: _cost(r, centres, counts, False))


def _least_divergence(seen: _Seen, _percentile: float, symmetric: bool) -> Range:
    histogram = _histogram(seen)
    most = divergence.threshold(histogram.counts) * histogram.width
    return _with_zero(max(seen.low, -most), min(seen.high, most), symmetric)


def _cost(ends: Range, values: NDArray[np.float64], counts: NDArray[np.float64], symmetric: bool) -> float:
    return float(np.dot(counts, (values - rounded(values, ends, symmetric)) ** 2))


def _histogram(seen: _Seen) -> Histogram:
    return seen.histogram if seen.histogram is not None else Histogram()


_CHOICES: dict[str, Callable[[_Seen, float, bool], Range]] = {
    "min-max": _min_max,
    "mean-min-max": _mean_min_max,
    "percentile": _percentiles,
    "mean-squared-error": _least_error,
    "entropy": _least_divergence,
}


def rounded(values: Values, ends: Range, symmetric: bool = False) -> NDArray[np.float64]:
    """Values after 8-bit quantization over a range and back; 255 steps, or 2 * 127 when symmetric."""
    low, high = ends
    steps = 254 if symmetric else 255
    scale = (high - low) / steps
    if scale == 0:
        return np.zeros_like(values, dtype=np.float64)
    first = -127 if symmetric else -round(-low / scale)
    with np.errstate(over="ignore"):
        return np.clip(np.rint(np.asarray(values, np.float64) / scale), first, first + steps) * scale
