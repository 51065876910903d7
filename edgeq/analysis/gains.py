"""Channels that preparing multiplied: equalization changes what tensors hold, not what the model computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.analysis.fresh import unfolded
from edgeq.quantization.quantizers import by_channel

Gains = Mapping[int, NDArray[np.float64]]
ALIKE = 1e-5
"""Share of the energy that may be left once channels are multiplied: a float model's rounding is far below."""
UNCHANGED = 1e-3


def axis_of(value: NDArray[Any], model_format: str) -> int | None:
    """The axis of channels: ONNX has a picture's behind the batch, all else has them last."""
    if value.ndim < 2:
        return None
    return 1 if model_format == "onnx" and value.ndim > 3 else value.ndim - 1


def gain(original: NDArray[Any], prepared: NDArray[Any], axis: int | None) -> NDArray[np.float64] | None:
    """What each channel was multiplied by, shaped to divide by; None where nothing was, or something else happened."""
    if original.shape != prepared.shape or axis is None or not np.issubdtype(prepared.dtype, np.floating):
        return None
    ours, theirs = by_channel(prepared, axis), by_channel(original, axis)
    power = (theirs * theirs).sum(axis=1)
    found = np.divide((ours * theirs).sum(axis=1), power, out=np.ones(len(ours)), where=power > 0)
    left = float(np.square(ours - found[:, np.newaxis] * theirs).sum())
    is_gain = bool((found > 0).all()) and left <= ALIKE * float(np.square(ours).sum())
    if not is_gain or float(np.abs(found - 1).max()) < UNCHANGED:
        return None
    along = tuple(size if place == axis else 1 for place, size in enumerate(prepared.shape))
    return unfolded(found, along, None)
