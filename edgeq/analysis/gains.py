"""Channels that preparing multiplied: equalization changes what tensors hold, not what the model computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeq.quantization.quantizers import by_channel

Floats: TypeAlias = NDArray[np.float64]
Gains: TypeAlias = Mapping[int, Floats]
ALIKE = 1e-5
"""Share of the energy that may be left once channels are multiplied: a float model's rounding is far below."""
UNCHANGED = 1e-3


def axis_of(value: NDArray[Any], model_format: str) -> int | None:
    """The axis of channels: ONNX has a picture's behind the batch, all else has them last."""
    if value.ndim < 2:
        return None
    return 1 if model_format == "onnx" and value.ndim > 3 else value.ndim - 1


@dataclass(slots=True)
class Products:
    """Sums over samples, for each channel, of what a least squares factor between two models follows from."""

    axis: int | None
    original: Floats | None = None
    mixed: Floats | None = None
    prepared: Floats | None = None
    is_alike: bool = True

    def add(self, original: NDArray[Any], prepared: NDArray[Any]) -> None:
        """Take in one sample's values of a tensor in both models."""
        if original.shape != prepared.shape or not np.issubdtype(prepared.dtype, np.floating):
            self.is_alike = False
            return
        theirs, ours = by_channel(original, self.axis), by_channel(prepared, self.axis)
        sums = [(one * other).sum(axis=1) for one, other in ((theirs, theirs), (theirs, ours), (ours, ours))]
        if self.original is None or self.mixed is None or self.prepared is None:
            self.original, self.mixed, self.prepared = sums
        elif sums[0].shape == self.original.shape:
            self.original, self.mixed, self.prepared = (
                self.original + sums[0],
                self.mixed + sums[1],
                self.prepared + sums[2],
            )
        else:
            self.is_alike = False

    def gain(self) -> Floats | None:
        """What each channel was multiplied by; None where nothing was, or something else happened."""
        if (
            self.axis is None
            or not self.is_alike
            or self.original is None
            or self.mixed is None
            or self.prepared is None
        ):
            return None
        held = self.original > 0
        found = np.divide(self.mixed, self.original, out=np.ones_like(self.mixed), where=held)
        left = float((self.prepared - np.where(held, found * self.mixed, 0)).sum())
        is_gain = bool((found > 0).all()) and left <= ALIKE * float(self.prepared.sum())
        return found if is_gain and float(np.abs(found - 1).max(initial=0)) >= UNCHANGED else None


def shaped(found: Floats, axis: int, rank: int) -> Floats:
    """Factors of channels in a shape that divides a tensor."""
    return found.reshape([-1 if place == axis else 1 for place in range(rank)])
