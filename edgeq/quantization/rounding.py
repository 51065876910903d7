"""Round weights to integers so that the layer's answers change least, not each weight on its own.

Weights are rounded one input after another; what rounding one of them adds to the answers is taken away by those that
are not rounded yet, as far as their inputs are correlated: Frantar et al., "GPTQ", 2022, after Hassibi and Stork,
"Optimal Brain Surgeon", 1993. With a bias, whose correction takes the mean, correlation is counted about the mean.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.quantization.layers import Layer, Statistics

Array = NDArray[Any]
DAMPING = 0.01
"""Share of the mean square that is added to each: few samples tell little of rare inputs."""
_BLOCK = 64


class Grid(NamedTuple):
    """Integers that weights may become: (integer - zero) * scale, with one scale and zero for each output."""

    scales: Array
    zeros: Array
    low: int
    high: int


def nearest(weights: Array, grid: Grid) -> Array:
    """Each weight's nearest integer; weights are (outputs, anything)."""
    along = (-1, *([1] * (weights.ndim - 1)))
    scales, zeros = grid.scales.reshape(along), grid.zeros.reshape(along)
    return np.asarray(np.clip(np.rint(weights / scales) + zeros, grid.low, grid.high), np.int32)


def rounded(layer: Layer, grid: Grid, seen: Statistics, *, is_centred: bool) -> Array:
    """Integers of the layer's weights, in their shape, with the least error over what the layer was seen to read."""
    weights = layer.matrix().astype(np.float64)
    scales = np.broadcast_to(grid.scales, len(layer.weights)).reshape(weights.shape[:2])
    zeros = np.broadcast_to(grid.zeros, len(layer.weights)).reshape(weights.shape[:2])
    made = np.empty(weights.shape, np.int32)
    for (start, end), product in zip(seen.blocks, seen.products, strict=True):
        means = seen.means()[:, start:end] if is_centred else None
        spread = _correlation(product, seen.count, means)
        part = weights[..., start:end]
        plain = nearest(part.reshape(-1, end - start), grid).reshape(part.shape)
        if not np.isfinite(spread).all():  # squares of such inputs are beyond 32 bits: nothing is known of them
            made[..., start:end] = plain
            continue
        clever = _one_by_one(part, spread, scales, zeros, (grid.low, grid.high))
        gaps = [part - (one - zeros[:, :, None]) * scales[:, :, None] for one in (plain, clever)]
        losses = [((gap @ spread) * gap).sum(axis=2, keepdims=True) for gap in gaps]
        made[..., start:end] = np.where(losses[1] < losses[0], clever, plain)
    return made.reshape(layer.weights.shape)


def _correlation(product: Array, count: int, means: Array | None) -> Array:
    """Correlations in units of the mean square, so that their size plays no part."""
    with np.errstate(over="ignore", invalid="ignore"):
        found = product.astype(np.float64) / max(count, 1)
        if means is not None:
            found -= means[:, :, None] * means[:, None, :]
        places = np.arange(found.shape[1])
        squares = np.maximum(found[:, places, places], 0)
        found[:, places, places] = squares
        unit = squares.mean(axis=1)[:, None, None]
        return np.where(unit > 0, found / np.where(unit > 0, unit, 1.0), np.eye(len(places)))


def _one_by_one(weights: Array, spread: Array, scales: Array, zeros: Array, ends: tuple[int, int]) -> Array:
    """Round the inputs that matter most first; all arrays have the groups first."""
    order = np.argsort(-np.einsum("gkk->gk", spread), axis=1, kind="stable")
    upper = _compensation(np.take_along_axis(np.take_along_axis(spread, order[:, :, None], 1), order[:, None, :], 2))
    left = np.take_along_axis(weights.transpose(0, 2, 1), order[:, :, None], 1)
    made = np.empty(left.shape, np.int32)
    for start in range(0, left.shape[1], _BLOCK):
        end = min(start + _BLOCK, left.shape[1])
        errors = np.empty((len(left), end - start, left.shape[2]))
        for place in range(start, end):
            made[:, place] = np.clip(np.rint(left[:, place] / scales) + zeros, *ends)
            back = (made[:, place] - zeros) * scales
            error = errors[:, place - start] = (left[:, place] - back) / upper[:, place, place, None]
            left[:, place + 1 : end] -= upper[:, place, place + 1 : end, None] * error[:, None, :]
        left[:, end:] -= upper[:, start:end, end:].transpose(0, 2, 1) @ errors
    return np.take_along_axis(made, np.argsort(order, axis=1)[:, :, None], 1).transpose(0, 2, 1)


def _compensation(spread: Array) -> Array:
    """Upper Cholesky factor of the inverse: row k tells how later inputs make good for k."""
    places = np.arange(spread.shape[1])
    for damping in (DAMPING, 10 * DAMPING, 100 * DAMPING):
        damped = spread.copy()
        damped[:, places, places] += damping
        try:
            return np.asarray(np.linalg.cholesky(np.linalg.inv(damped)).transpose(0, 2, 1))
        except np.linalg.LinAlgError:  # sums of 32-bit numbers are not always those of real inputs
            continue
    return np.broadcast_to(np.eye(len(places)), spread.shape)


def bias_shift(layer: Layer, grid: Grid, integers: Array, seen: Statistics) -> Array:
    """What to add to the bias so that the layer's mean answers stay: one number for each output."""
    along = (-1, *([1] * (integers.ndim - 1)))
    back = (integers - grid.zeros.reshape(along)) * grid.scales.reshape(along)
    return np.asarray(np.einsum("gok,gk->go", layer.matrix(layer.weights - back), seen.means()).reshape(-1))
