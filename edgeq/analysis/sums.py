"""Sums that stream: energies of signal and noise, ranges, histograms, a bounded choice of values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.quantization import quantizers
from edgeq.quantization.observers import Histogram

KEPT_VALUES = 1 << 16
"""Values of a tensor that are kept to try quantizers on, over all samples."""


@dataclass(slots=True)
class Energy:
    """Sums of squares of a reference and of what another answers beside it."""

    signal: float = 0.0
    noise: float = 0.0
    count: int = 0

    def add(self, reference: NDArray[Any], found: NDArray[Any]) -> None:
        """Take in two arrays of as many values."""
        a = np.asarray(reference, np.float64).reshape(-1)
        b = np.asarray(found, np.float64).reshape(-1)
        with np.errstate(invalid="ignore", over="ignore"):
            gap = a - b
            self.signal += float(np.dot(a, a))
            self.noise += float(np.dot(gap, gap))
        self.count += a.size

    @property
    def sqnr_db(self) -> float | None:
        """Signal over noise, at most 200 dB; None without a signal."""
        return quantizers.ratio_db(self.signal, self.noise) if self.count else None


@dataclass(slots=True)
class Spread:
    """Range of a tensor, of its channels, its histogram and some of its values, evenly chosen from each sample."""

    keep: int
    axis: int | None = None
    low: float = math.inf
    high: float = -math.inf
    histogram: Histogram = field(default_factory=Histogram)
    lows: NDArray[np.float64] | None = None
    highs: NDArray[np.float64] | None = None
    kept: list[NDArray[np.float32]] = field(default_factory=list)
    is_whole: bool = True

    def add(self, values: NDArray[Any]) -> None:
        """Take in one sample's values; values that are not finite are passed over."""
        flat = np.asarray(values, np.float32)
        if not flat.size or not np.isfinite(flat).all():
            return
        low, high = float(flat.min()), float(flat.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.histogram.add(flat.reshape(-1), max(-low, high))
        self._keep(quantizers.by_channel(flat, self.axis if flat.ndim > 1 else None))

    def _keep(self, rows: NDArray[np.float64]) -> None:
        lows, highs = rows.min(axis=1), rows.max(axis=1)
        if self.lows is None or self.highs is None or self.lows.shape != lows.shape:
            self.lows, self.highs = lows, highs
        else:
            self.lows, self.highs = np.minimum(self.lows, lows), np.maximum(self.highs, highs)
        columns = max(1, min(rows.shape[1], self.keep // len(rows)))
        self.is_whole &= columns == rows.shape[1] and len(rows) <= self.keep
        places = np.linspace(0, rows.shape[1] - 1, columns).astype(np.int64)
        self.kept.append(rows[: self.keep, places].astype(np.float32))

    def values(self) -> NDArray[np.float64]:
        """The kept values as (channels, n); where some were left out, each channel's true ends are among them."""
        if not self.kept or self.lows is None or self.highs is None:
            return np.zeros((1, 0))
        same = [piece for piece in self.kept if len(piece) == len(self.kept[-1])]
        ends = [] if self.is_whole else [np.stack([self.lows[: self.keep], self.highs[: self.keep]], axis=1)]
        return np.concatenate([*same, *ends], axis=1).astype(np.float64)
