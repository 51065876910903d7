"""Outliers, and trains of them: what comes back at a steady period."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeq.statistics.blocks import Floats

_FENCE_RATIO = 1.25
_FENCE_SPREADS = 8.0
_WINDOW = 101
LEAST_EVENTS = 6
LEAST_TIME_SHARE = 0.05
"""The kernel's own tick interrupts every 4 ms or so and takes up to 4 % on a virtual machine."""
LEAST_REGULAR = 0.6
"""Of the spikes' time, how much falls on the beat: 1 is all, 0 is none."""
_CHANCE = 1e-2
_BINS = 1 << 14
_MOST_BEATS = _BINS // 8
"""Beyond them the bins are too coarse."""


@dataclass(frozen=True, slots=True)
class Outliers:
    """Samples far above the level around them; `time_share` is what they take beyond it, of all the time."""

    count: int
    share: float
    time_share: float
    fence: float
    """Above how many times the median a sample is one, where the level is the run's own."""


@dataclass(frozen=True, slots=True)
class Spikes:
    """Outliers that come back: share of samples and of time, period in s, size over the level."""

    count: int
    share: float
    time_share: float
    period_s: float
    size: float


def level(values: Floats) -> Floats:
    """The running median over 101 samples, on a grid of every 25th sample: it follows steps, not spikes."""
    half = _WINDOW // 2
    places = np.arange(0, values.size, max(1, half // 2))
    medians = [np.median(values[max(0, place - half) : place + half + 1]) for place in places]
    return np.asarray(np.interp(np.arange(values.size), places, medians))


@dataclass(frozen=True, slots=True)
class Seen:
    """Samples beside the level around them; `far` are those a quarter above it and beyond 8 robust spreads."""

    values: Floats
    level: Floats
    fence: float
    far: NDArray[np.bool_]


def look(values: Floats) -> Seen:
    """The level of samples, and which of them are outliers."""
    around = level(values)
    relative = values / around
    spread = 1.4826 * float(np.median(np.abs(relative - np.median(relative))))
    fence = max(_FENCE_RATIO, 1 + _FENCE_SPREADS * spread)
    return Seen(values, around, fence, values > around * fence)


def outliers(seen: Seen) -> Outliers:
    """Count and shares of the outliers."""
    extra = float((seen.values - seen.level)[seen.far].sum())
    return Outliers(int(seen.far.sum()), float(seen.far.mean()), extra / float(seen.values.sum()), seen.fence)


def train(seen: Seen, moments: Floats) -> Spikes | None:
    """Spikes that come back at a period and take 5 % of the time or more; None where there are none."""
    told = outliers(seen)
    if told.count < LEAST_EVENTS or told.time_share < LEAST_TIME_SHARE:
        return None
    excess = (seen.values - seen.level)[seen.far]
    weights = np.minimum(excess, np.percentile(excess, 95))  # one long pause must not decide
    period_s = _period(moments[seen.far] - moments[0], weights, float(moments[-1] - moments[0]))
    if period_s is None:
        return None
    size = float(np.average((seen.values / seen.level)[seen.far], weights=weights))
    return Spikes(told.count, told.share, told.time_share, period_s, size)


def _period(times: Floats, weights: Floats, span: float) -> float | None:
    """The period of which the times are multiples, or None where chance explains them (Rayleigh's test, weighted).

    All frequencies of which every fourth beat at least could be a spike are tried; the more of them, the more
    concentration chance gives. A train of short spikes is as strong at every multiple of its frequency: the lowest is
    its own.
    """
    if span <= 0:
        return None
    beats = min(4 * times.size, _MOST_BEATS)
    counts = np.histogram(times, _BINS, (0.0, span), weights=weights)[0]
    strength = np.abs(np.fft.rfft(counts, 2 * _BINS))[: 2 * beats + 1] / weights.sum()
    strength[: 2 * LEAST_EVENTS] = 0.0  # too few rounds in the run to call it a train
    best = float(strength.max())
    independent = float(weights.sum() ** 2 / (weights**2).sum())
    # Rayleigh's own tail is far too careful where nearly all of few spikes fall on the beat
    unlikely = max(independent * best**2, -(independent - 1) / 2 * np.log1p(-(min(best, 0.9999) ** 2)))
    if best < LEAST_REGULAR or unlikely < np.log(beats / _CHANCE):
        return None
    lowest = int(np.argmax(strength > 0.8 * best))
    near = strength[lowest : lowest + 4]
    return 2 * span / (lowest + int(np.argmax(near)))
