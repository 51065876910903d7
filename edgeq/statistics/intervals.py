"""Confidence intervals of percentiles."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgeq.statistics import blocks


@dataclass(frozen=True, slots=True)
class Interval:
    """A percentile with its interval; an end is infinite where so few samples do not bound it."""

    low: float
    value: float
    high: float

    @property
    def is_bounded(self) -> bool:
        """Whether both ends are finite."""
        return math.isfinite(self.low) and math.isfinite(self.high)


def percentile_interval(samples: Any, percent: float, *, confidence: float = 0.95, seed: int = 0) -> Interval:
    """A percentile (interpolated linearly) and its interval by a block bootstrap.

    For independent samples the ends are the order statistics of the binomial interval. The same samples and seed give
    the same interval. Raises ValueError for no samples, NaN, and percents or confidences out of range.
    """
    values = blocks.checked(samples)
    if not 0 <= percent <= 100 or not 0 < confidence < 1:
        raise ValueError("percent is from 0 to 100, confidence between 0 and 1")
    drawn = blocks.shares(values, percent, np.random.default_rng(seed))
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn, (tail, 1 - tail), method="inverted_cdf") * values.size
    value = float(np.percentile(values, percent))
    ranked = np.sort(values)
    # a percentile and an order statistic beside it may differ by rounding; the value is always inside
    return Interval(
        min(value, _order_statistic(ranked, round(low))),
        value,
        max(value, _order_statistic(ranked, round(high) + 1)),
    )


def _order_statistic(ranked: blocks.Floats, place: int) -> float:
    """The sample at a place counted from 1; beyond either end nothing bounds."""
    if place < 1:
        return -math.inf
    return float(ranked[place - 1]) if place <= ranked.size else math.inf
