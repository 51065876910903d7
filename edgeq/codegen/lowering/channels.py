"""Channels whose output never changes, written so that their accumulators stay small.

A channel that training has switched off keeps weights of a tiny scale, and a bias of thousands of millions on it. What
comes out is the same for every input; a bias of two units on the output's grid says the same, and lets the whole
layer be compiled with the shorter rounding (EQ_NARROW_ACCUMULATORS).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen.fixed_point import rescale
from edgeq.codegen.multipliers import Multiplier

_HALF = Multiplier(1 << 30, 0)
"""Rescales 2 * value to value."""
_NARROW, _WIDE = 1 << 30, 1 << 31


class Channels(NamedTuple):
    """Weights (channels on the first axis), biases and multipliers of a layer."""

    weights: NDArray[Any]
    bias: NDArray[np.int32]
    multipliers: list[Multiplier]


def settle(layer: Channels, input_zero_point: int, limits: tuple[int, int]) -> Channels:
    """The layer with constant channels made small; `limits` are those of the output less its zero point."""
    lowest, highest = _reach(layer, input_zero_point)
    large = np.flatnonzero(np.maximum(-lowest, highest) >= _NARROW)
    if len(layer.multipliers) != len(layer.bias) or not len(large):
        return layer
    weights, bias, made = layer.weights.copy(), layer.bias.copy(), list(layer.multipliers)
    for channel in large.tolist():
        ends = int(lowest[channel]), int(highest[channel])
        if max(-ends[0], ends[1]) >= _WIDE:
            continue  # the reference's accumulator may wrap around
        values = {max(limits[0], min(limits[1], rescale(end, *made[channel]))) for end in ends}
        if len(values) == 1:
            weights[channel], bias[channel], made[channel] = 0, 2 * values.pop(), _HALF
    return Channels(weights, bias, made)


def _reach(layer: Channels, input_zero_point: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Smallest and largest accumulator of each channel; what lies outside of an image adds nothing."""
    weights = layer.weights.astype(np.int64).reshape(len(layer.weights), -1)
    ends = np.stack([weights * (-128 - input_zero_point), weights * (127 - input_zero_point), np.zeros_like(weights)])
    bias = layer.bias.astype(np.int64)
    return bias + ends.min(axis=0).sum(axis=1), bias + ends.max(axis=0).sum(axis=1)
