"""Where the steady state begins, and what is wrong after it.

The samples are cut into some 40 pieces in the order in which they were taken. Each piece is described by its median
and its lower quartile, so that single outliers do not count: what preempts some inferences leaves the lower quartile
where it was, what slows the machine down moves it too. Levels are compared as logarithms, so that effects are ratios.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeq.statistics import blocks, spikes
from edgeq.statistics.blocks import Floats
from edgeq.statistics.spikes import Spikes

PIECES = 40
LEAST_SAMPLES = 40
"""Eight pieces of five; fewer samples show no shape."""
_PIECE_SAMPLES = 5
_WARM_SHARE = 0.25
"""Only the first quarter may be called warm-up; a speed-up after it is a finding."""
SMALLEST_CHANGE = 1.08
_SEPARATION = 5.0
_NEAR = 12
"""So many pieces on either side tell the levels before and after: another change may lie beyond them."""
_STEP_SHARE = 0.12
"""A change that takes longer than this share of the run is a drift."""

Kind = Literal["step", "drift"]


@dataclass(frozen=True, slots=True)
class Change:
    """A lasting change of level from `at_s` to `until_s` after the first sample; above 1 the ratio is a slow-down."""

    kind: Kind
    index: int
    at_s: float
    until_s: float
    ratio: float


@dataclass(frozen=True, slots=True)
class Steady:
    """What a run looks like; `why` says what could not be decided."""

    begins: int
    changes: tuple[Change, ...]
    outliers: spikes.Outliers
    spikes: Spikes | None
    why: str = ""

    @property
    def ok(self) -> bool:
        """Whether nothing was found after the beginning."""
        return not self.changes and self.spikes is None


@dataclass(frozen=True, slots=True)
class _Pieces:
    """Log levels of the pieces: medians, lower quartiles, the sample at which each begins."""

    medians: Floats
    quartiles: Floats
    starts: NDArray[np.int64]


def find(samples: Any, times: Any = None) -> Steady:
    """Look at samples (any unit) taken at `times` in s (default: one after another, as long as they took).

    Raises ValueError for samples that are none or not positive, and for times that are fewer or go back.
    """
    values = blocks.checked(samples)
    if values.min() <= 0:
        raise ValueError("samples are positive")
    moments, seen = _moments(values, times), spikes.look(values)
    if values.size < LEAST_SAMPLES:
        return Steady(0, (), spikes.outliers(seen), None, f"{values.size} samples show no shape, {LEAST_SAMPLES} do")
    pieces = _cut(values)
    first = _begin(pieces)
    found = _changes(pieces, first, len(pieces.starts), 2)
    begins = int(pieces.starts[first])
    trains = spikes.train(spikes.look(values[begins:]) if begins else seen, moments[begins:])
    return Steady(begins, tuple(_placed(*one, pieces, moments) for one in found), spikes.outliers(seen), trains)


def _moments(values: Floats, times: Any) -> Floats:
    if times is None:
        return np.asarray(np.concatenate([[0.0], np.cumsum(values[:-1])]))
    moments = np.asarray(times, np.float64)
    if moments.shape != values.shape or not np.isfinite(moments).all() or (np.diff(moments) < 0).any():
        raise ValueError("times are finite, one for each sample, and never go back")
    return np.asarray(moments - moments[0])


def _cut(values: Floats) -> _Pieces:
    count = min(PIECES, values.size // _PIECE_SAMPLES)
    edges = np.linspace(0, values.size, count + 1).astype(np.int64)
    logs = np.log(values)
    levels = [np.percentile(logs[a:b], (50, 25)) for a, b in pairwise(edges)]
    medians, quartiles = np.asarray(levels).T
    return _Pieces(medians, quartiles, edges[:-1])


def _begin(pieces: _Pieces) -> int:
    """The first piece that is no slower than what follows.

    Pieces are given up from the front as long as they lie above the later ones by more than these vary. A slow stretch
    that reaches beyond the first quarter is no warm-up.
    """
    levels, most = pieces.medians, int(len(pieces.medians) * _WARM_SHARE)
    rest = levels[most:]
    limit = np.median(rest) + max(4 * _spread(rest), np.log(1.02))
    run = int(np.cumprod(levels[:most] > limit).sum())  # an unbroken run from the very first piece
    return run if run < most else 0


def _spread(levels: Floats) -> float:
    """Robust standard deviation."""
    return float(1.4826 * np.median(np.abs(levels - np.median(levels))))


def _changes(pieces: _Pieces, first: int, last: int, depth: int) -> list[tuple[int, int, float]]:
    """(piece where it begins, piece where it is over, log ratio) of each change, in order."""
    least = max(3, len(pieces.starts) // 10)
    if last - first < 2 * least or not depth:
        return []
    start, end = _ramp(pieces.medians[first:last], least)
    start, end = first + start, first + end
    sides = slice(max(first, start - _NEAR), start), slice(end, min(last, end + _NEAR))
    height = _height(pieces.medians, sides)
    if not _is_change(pieces, sides, height):
        return []
    before = _changes(pieces, first, start, depth - 1)
    after = _changes(pieces, end, last, depth - 1)
    return [*before, (start, end, height), *after]


def _ramp(levels: Floats, least: int) -> tuple[int, int]:
    """(start, end) of the level, ramp, level that lies nearest to the levels in absolute distance."""
    count = len(levels)
    starts, ends = np.triu_indices(count + 1)
    inside = (starts >= least) & (ends <= count - least)
    starts, ends = starts[inside], ends[inside]
    before = np.array([np.median(levels[: max(1, place)]) for place in range(count + 1)])
    after = np.array([np.median(levels[min(place, count - 1) :]) for place in range(count + 1)])
    done = (np.arange(count) - starts[:, None] + 1) / (ends - starts + 1)[:, None]
    low, high = before[starts][:, None], after[ends][:, None]
    costs = np.abs(levels - (low + (high - low) * np.clip(done, 0, 1))).sum(axis=1)
    best = int(np.argmin(costs))
    return int(starts[best]), int(ends[best])


def _height(levels: Floats, sides: tuple[slice, slice]) -> float:
    return float(np.median(levels[sides[1]]) - np.median(levels[sides[0]]))


def _is_change(pieces: _Pieces, sides: tuple[slice, slice], height: float) -> bool:
    """Large, clear of the noise on both sides, and of all inferences: the lower quartile moves as well."""
    lower = _height(pieces.quartiles, sides)
    if abs(height) < np.log(SMALLEST_CHANGE) or lower * height <= 0 or abs(lower) < 0.6 * abs(height):
        return False
    before, after = pieces.medians[sides[0]], pieces.medians[sides[1]]
    noise = float(np.hypot(_spread(before), _spread(after)))
    return abs(height) > _SEPARATION * noise and _overlap(before, after) < 0.1


def _overlap(before: Floats, after: Floats) -> float:
    """Share of pairs of pieces in the other order (Mann and Whitney), at most one half."""
    larger = float((after[:, None] > before[None, :]).mean())
    return min(larger, 1 - larger)


def _placed(start: int, end: int, height: float, pieces: _Pieces, moments: Floats) -> Change:
    index = int(pieces.starts[start])
    over = int(pieces.starts[min(end, len(pieces.starts) - 1)])
    share = (end - start) / len(pieces.starts)
    kind: Kind = "step" if share <= _STEP_SHARE else "drift"
    return Change(kind, index, float(moments[index]), float(moments[over]), float(np.exp(height)))
