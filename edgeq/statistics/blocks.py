"""Block bootstrap of the share of samples below a percentile.

Samples are drawn again in blocks of consecutive ones, so that what ties neighbours together stays (Künsch 1989,
circular as in Politis and Romano 1992). What is drawn is not the percentile but the share of samples below it, which
needs one number for each block; shares become values by way of the sorted samples (Woodruff 1952).
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

REPLICATES = 2000
MOST_BLOCKS = 1000
"""More do not narrow an interval; 20,000 samples in blocks of 20 are drawn 20 times faster than one by one."""
_CHUNK = 1 << 20


def checked(samples: Any) -> Floats:
    """Samples as an array; raises ValueError for none, for NaN and infinity, and for more than one axis."""
    values = np.asarray(samples, np.float64)
    if values.ndim != 1 or not values.size or not np.isfinite(values).all():
        raise ValueError("samples are finite numbers on one axis, at least one")
    return values


def below(values: Floats, percent: float, rng: np.random.Generator) -> Floats:
    """1 for each sample below the percentile, 0 for the others; equal samples are parted by lot.

    Neither all nor none are below one within the range: without a sample on each side nothing could vary.
    """
    count = round(values.size * percent / 100)
    inside = 0 < percent < 100
    count = min(max(count, 1), values.size - 1) if inside else count
    return np.asarray(_ranks(values, rng) < count, np.float64)


@dataclass(frozen=True, slots=True)
class Blocks:
    """Length of the blocks, and the share of the variance of a mean that blocks of that length miss."""

    length: int
    missed: float = 0.0


def choose(series: Floats) -> Blocks:
    """Blocks for a mean's variance: Politis and White 2004 with the correction of 2009."""
    count = series.size
    centred = series - series.mean()
    if count < 8 or not centred.any():
        return Blocks(1)
    lags = min(count - 1, int(np.ceil(np.sqrt(count))) + _run(count))
    covariance = _autocovariance(centred, lags)
    width = min(2 * _last_lag(covariance / covariance[0], count), lags)
    if width < 1:
        return Blocks(1)
    k = np.arange(-width, width + 1)
    weights = np.clip(2 * (1 - np.abs(k) / width), 0, 1) * covariance[np.abs(k)]
    spread, slope = float(weights.sum()), float((np.abs(k) * weights).sum())
    if spread <= 0 or slope <= 0:
        return Blocks(1)
    length = max(1, min(int(np.ceil((1.5 * (slope / spread) ** 2 * count) ** (1 / 3))), count // 4))
    return Blocks(length, min(0.5, slope / spread / length))


def _run(count: int) -> int:
    """How many autocorrelations in a row must be small."""
    return max(5, int(np.ceil(np.sqrt(np.log10(count)))))


def _last_lag(correlation: Floats, count: int) -> int:
    """The last lag before a run of autocorrelations that are none."""
    small = np.abs(correlation[1:]) < 2 * np.sqrt(np.log10(count) / count)
    run = min(_run(count), small.size)
    starts = np.flatnonzero(np.convolve(small, np.ones(run), "valid") == run)
    return int(starts[0]) if starts.size else small.size


def _autocovariance(centred: Floats, lags: int) -> Floats:
    size = 1 << int(2 * centred.size - 1).bit_length()
    power = np.abs(np.fft.rfft(centred, size)) ** 2
    return np.asarray(np.fft.irfft(power, size)[: lags + 1] / centred.size)


def shares(values: Floats, percent: float, rng: np.random.Generator) -> Floats:
    """2,000 draws of the share of samples below the percentile, widened for how few blocks they rest on."""
    marks = below(values, percent, rng)
    chosen = max(choose(marks), choose(_ranks(values, rng)), key=lambda found: found.length)
    length = max(chosen.length, -(-values.size // MOST_BLOCKS))
    sums = np.convolve(np.concatenate([marks, marks[: length - 1]]), np.ones(length), "valid")
    blocks = -(-values.size // length)
    rows = max(1, _CHUNK // blocks)
    drawn = [
        sums[rng.integers(0, sums.size, (min(rows, REPLICATES - start), blocks))].mean(axis=1) / length
        for start in range(0, REPLICATES, rows)
    ]
    wider = _widening(blocks, chosen.missed) if chosen.length > 1 else 1.0
    return np.asarray(percent / 100 + (np.concatenate(drawn) - marks.mean()) * wider)


def _ranks(values: Floats, rng: np.random.Generator) -> Floats:
    """Places in order: they show dependence without being led by outliers."""
    ranks = np.empty(values.size)
    ranks[np.lexsort((rng.random(values.size), values))] = np.arange(values.size)
    return ranks


def _widening(blocks: int, missed: float) -> float:
    """Student's t over the normal's quantile at 95 %, and what the blocks' length misses of the variance."""
    free, z = max(1, blocks - 1), NormalDist().inv_cdf(0.975)
    student = z + (z**3 + z) / (4 * free) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * free**2)
    return float(student / z * np.sqrt(blocks / free / (1 - missed)))
