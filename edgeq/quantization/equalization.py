"""Give channels that share one range a like reach, without changing what the model computes.

A channel may be multiplied by any positive number where it is made and divided by it where it is read, as long as
nothing between changes its form. A channel that uses little of its tensor's range then uses more. Weights with one
scale for each output pay for it where the channels are read, and only there: Nagel et al., "Data-free quantization",
2019; Xiao et al., "SmoothQuant", 2023. How far to go is decided by the error that 8 bits are expected to make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.quantization.layers import Layer, Statistics

Array = NDArray[Any]
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST = 4096.0
"""No channel is multiplied by more."""
HEADROOM = 3.0
"""How far beyond the largest value seen a clip must stay: other samples reach further."""
GAIN = 0.95
"""Expected error, relative to the one before, from which on a change is worth it."""
_STEPS = 255.0
_WEIGHT_STEPS = 254.0


class Site(NamedTuple):
    """Tensors whose channels are multiplied alike: which layers make them, which read them.

    `limit` is where an operator between clips from above; channels are never raised beyond it.
    """

    makers: tuple[str, ...]
    readers: tuple[str, ...]
    channels: int
    limit: float | None


def factors(site: Site, layers: Mapping[str, Layer], seen: Mapping[str, Statistics]) -> Array | None:
    """What to multiply each channel by, all at least 1; None where nothing is gained."""
    readers = [(layers[name], seen[name]) for name in site.readers]
    if any(one.count == 0 for _, one in readers):
        return None
    reach = np.max([np.maximum(-one.low, one.high) for _, one in readers], axis=0).astype(np.float64)
    top = np.max([one.high for _, one in readers], axis=0).astype(np.float64)
    costs = [(_expected(readers, made), made) for made in _choices(reach, top, site.limit)]
    best, chosen = min(costs, key=lambda pair: pair[0])
    return chosen if best < GAIN * costs[0][0] else None


def _choices(reach: Array, top: Array, limit: float | None) -> Sequence[Array]:
    """The channels as they are, then nearer and nearer to one reach for all."""
    largest = float(reach.max(initial=0.0))
    alive = reach > largest / MOST**2
    ratio = np.where(alive, largest / np.where(alive, reach, 1.0), 1.0)
    ceiling = np.full(len(reach), MOST)
    if limit is not None:
        ceiling = np.maximum(np.minimum(ceiling, limit / np.maximum(HEADROOM * top, limit / MOST)), 1.0)
    return [np.minimum(ratio**strength, ceiling) for strength in STRENGTHS]


def _expected(readers: Sequence[tuple[Layer, Statistics]], made: Array) -> float:
    """Error of the readers' answers relative to the answers, from rounding activations and weights to 8 bits."""
    return sum(_of_reader(layer, one, made) for layer, one in readers)


def _of_reader(layer: Layer, seen: Statistics, made: Array) -> float:
    weights = layer.matrix(layer.weights).reshape(layer.groups, -1, layer.weights.shape[1], layer.weights.shape[2])
    shares = made.reshape(layer.groups, 1, -1, 1)
    scaled = weights / shares
    squares = seen.squares().reshape(shares.shape)
    step = float((seen.high * made).max() - (seen.low * made).min()) / _STEPS
    steps = 2 * np.abs(scaled).max(axis=(2, 3)) / _WEIGHT_STEPS
    of_activations = step**2 * float((scaled.astype(np.float64) ** 2).sum())
    of_weights = float((steps**2).sum(axis=1) @ (squares * shares**2).sum(axis=(1, 2, 3))) * layer.weights.shape[2]
    answers = 12 * float((weights.astype(np.float64) ** 2 * squares).sum())
    return (of_activations + of_weights) / answers if answers else 0.0


def as_maker(layer: Layer, made: Array) -> tuple[Array, Array | None]:
    """Weights and bias of a layer whose results are multiplied channel by channel."""
    weights = layer.weights * made.reshape(-1, 1, 1)
    return weights.astype(np.float32), None if layer.bias is None else (layer.bias * made).astype(np.float32)


def as_reader(layer: Layer, made: Array) -> Array:
    """Weights of a layer whose inputs were multiplied channel by channel."""
    weights = layer.weights.reshape(layer.groups, -1, *layer.weights.shape[1:])
    divided = weights / made.reshape(layer.groups, 1, -1, 1)
    return divided.reshape(layer.weights.shape).astype(np.float32)
