"""Is one series of latency samples faster than another?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from edgeq.statistics import blocks
from edgeq.statistics.intervals import Interval

Answer = Literal["faster", "slower", "undecided"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """The ratio of medians after/before with its interval; undecided where that holds 1."""

    ratio: float
    low: float
    high: float
    answer: Answer


def compare(before: Any, after: Any, *, confidence: float = 0.95, margin: float = 0.0, seed: int = 0) -> Comparison:
    """Compare two series of positive samples by the ratio of their medians.

    The interval tells of the noise inside the two series only. Between two sessions a device differs by more (clock,
    addresses, neighbours): `margin`, such as 0.02, widens what counts as no difference. Raises ValueError for
    samples that are none or not positive.
    """
    medians = [_medians(samples, confidence, seed + place) for place, samples in enumerate((before, after))]
    ratio = medians[1][0] / medians[0][0]
    tail = (1 - confidence) / 2
    drawn = medians[1][1] / medians[0][1]
    low, high = (float(end) for end in np.quantile(drawn, (tail, 1 - tail)))
    low, high = min(low, ratio), max(high, ratio)
    return Comparison(ratio, low, high, _answer(low, high, margin))


def paired(before: Any, after: Any, *, confidence: float = 0.95) -> Interval:
    """The median of before/after over pairs measured in turn, with the interval of the sign test.

    The order within each pair was drawn by lot, so that pairs are independent whatever the device does; nothing is
    assumed of how their ratios are spread. Fewer than six pairs bound nothing. Raises ValueError as `compare` does.
    """
    over, under = blocks.checked(before), blocks.checked(after)
    if over.shape != under.shape or min(over.min(), under.min()) <= 0 or not 0 < confidence < 1:
        raise ValueError("pairs are positive numbers, confidence is between 0 and 1")
    ratios = np.sort(over / under)
    count, tail, below = ratios.size, (1 - confidence) / 2, 0
    place = -1
    while place < count and (below + math.comb(count, place + 1)) / 2**count <= tail:
        place += 1
        below += math.comb(count, place)
    value = float(np.median(ratios))
    if place < 0:
        return Interval(-math.inf, value, math.inf)
    return Interval(float(ratios[place]), value, float(ratios[count - 1 - place]))


def _answer(low: float, high: float, margin: float) -> Answer:
    if high < 1 - margin:
        return "faster"
    return "slower" if low > 1 + margin else "undecided"


def _medians(samples: Any, confidence: float, seed: int) -> tuple[float, blocks.Floats]:
    """The median, and draws of it."""
    values = blocks.checked(samples)
    if values.min() <= 0 or not 0 < confidence < 1:
        raise ValueError("samples are positive, confidence is between 0 and 1")
    drawn = blocks.shares(values, 50.0, np.random.default_rng(seed))
    # where more of the draw lies below the median, the draw's own median is lower (Bahadur 1966)
    return float(np.median(values)), np.quantile(values, np.clip(1 - drawn, 0, 1))
