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

from edgeq.quantization.layers import Extent, Layer

Array = NDArray[Any]
BALANCES = (0.25, 0.5, 0.75, 1.0)
"""How far reach is taken from activations and given to the weights that read them: 0.5 shares it, 1 takes it all."""
MOST = 4096.0
"""No channel is multiplied by more than this, or by less than its inverse."""
HEADROOM = 3.0
"""How far beyond the largest value seen a clip must stay: other samples reach further."""
GAIN = 0.5
"""Expected error, relative to the one before, from which on a change is worth it: what is expected is rough."""
_STEPS = 255.0
_WEIGHT_STEPS = 254.0


class Site(NamedTuple):
    """Tensors whose channels are multiplied alike: which layers make them, which read them.

    Without makers it is an operator put between that multiplies.
    `limit` is where an operator between clips from above; channels are never raised beyond it.
    """

    makers: tuple[str, ...]
    readers: tuple[str, ...]
    channels: int
    limit: float | None


@np.errstate(all="ignore")
def factors(site: Site, layers: Mapping[str, Layer], seen: Mapping[str, Extent]) -> Array | None:
    """What to multiply each channel by; None where nothing is gained."""
    readers = [(layers[name], seen[name]) for name in site.readers]
    if any(one.count == 0 for _, one in readers):
        return None
    reach = np.max([np.maximum(-one.low, one.high) for _, one in readers], axis=0).astype(np.float64)
    largest = float(reach.max(initial=0.0))
    alive = reach > largest / MOST**2
    if not alive.any():
        return None
    weights = np.max([_reach_of_weights(layer, alive) for layer, _ in readers], axis=0)
    weights = np.maximum(weights, weights[alive].max() / MOST) + np.finfo(np.float64).tiny
    costs = [(_expected(readers, np.ones(site.channels)), np.ones(site.channels))]
    for balance in BALANCES:
        made = np.where(alive, weights ** (1 - balance) / np.where(alive, reach, 1.0) ** balance, 0.0)
        made *= largest / (made * reach).max()
        made[~alive] = np.maximum(weights[~alive] / (weights[alive] / made[alive]).max(), 1.0)  # no wider than others
        made = _bounded(made, reach, site.limit)
        costs.append((_expected(readers, made), made))
    best, chosen = min(costs, key=lambda pair: pair[0])
    return chosen if best < GAIN * costs[0][0] else None


def _bounded(made: Array, reach: Array, limit: float | None) -> Array:
    """Below a clip channels are only raised, and not near to it."""
    if limit is None:
        return np.clip(made, 1 / MOST, MOST)
    return np.clip(made, 1.0, np.maximum(np.minimum(MOST, limit / np.maximum(HEADROOM * reach, limit / MOST)), 1.0))


def _reach_of_weights(layer: Layer, alive: Array) -> Array:
    """Largest weight by which each input channel is read, relative to the largest of an alive one in the same output.

    A channel that is always 0 may have any weights, also such as no other can share a scale with.
    """
    sizes = np.abs(layer.weights.astype(np.float64))
    counted = np.repeat(alive.reshape(layer.groups, -1), len(sizes) // layer.groups, axis=0)[:, :, np.newaxis]
    peaks = np.where(counted, sizes, 0.0).max(axis=(1, 2), keepdims=True)
    relative = np.divide(sizes, peaks, out=np.zeros_like(sizes), where=peaks > 0).max(axis=2)
    return np.asarray(relative.reshape(layer.groups, -1, layer.weights.shape[1]).max(axis=1).reshape(-1))


def _expected(readers: Sequence[tuple[Layer, Extent]], made: Array) -> float:
    """Error of the readers' answers relative to the answers, from rounding activations and weights to 8 bits."""
    return sum(_of_reader(layer, one, made) for layer, one in readers)


def _of_reader(layer: Layer, seen: Extent, made: Array) -> float:
    weights = layer.matrix(layer.weights).reshape(layer.groups, -1, layer.weights.shape[1], layer.weights.shape[2])
    shares = made.reshape(layer.groups, 1, -1, 1)
    scaled = weights / shares
    squares = seen.squares().reshape(shares.shape)
    step = float((seen.high * made).max() - (seen.low * made).min()) / _STEPS
    steps = 2 * np.abs(scaled).max(axis=(2, 3)) / _WEIGHT_STEPS
    errors = np.minimum(step**2, 12 * squares * shares**2)  # rounding a value away costs no more than the value
    of_activations = float((errors * scaled.astype(np.float64) ** 2).sum())
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
