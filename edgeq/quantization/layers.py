"""Layers with constant weights as numbers: what they read, summed up while samples stream by.

Weights have the shape (outputs, inputs of one group, taps of the kernel); a fully connected layer has one tap. A
layer with `groups` groups makes its outputs in as many equal parts, each from its own part of the inputs.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
POSITIONS = 256
"""Output positions of one sample that are looked at: those of one picture resemble one another."""
WIDEST = 512
"""Weights of one output whose inputs are correlated with one another; more are cut into blocks of this size."""


class Window(NamedTuple):
    """How a kernel moves over a picture: (height, width) each; `before` and `after` are rows and columns of zeros."""

    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilations: tuple[int, int]
    before: tuple[int, int]
    after: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A layer, the tensors that it reads and writes, and its numbers; `window` is None for a fully connected one.

    `channels_last` tells where pictures have their channels.
    """

    name: str
    source: str
    result: str
    weights: Array
    bias: Array | None
    groups: int
    window: Window | None
    channels_last: bool

    @property
    def inputs(self) -> int:
        """Channels that it reads."""
        return int(self.weights.shape[1]) * self.groups

    def matrix(self, values: Array | None = None) -> Array:
        """Weights, or values of their shape, as (groups, outputs of one group, inputs x taps)."""
        stored = self.weights if values is None else values
        return stored.reshape(self.groups, stored.shape[0] // self.groups, -1)


class Extent:
    """Ranges and mean squares of the channels that one layer reads."""

    def __init__(self, layer: Layer) -> None:
        self.layer = layer
        self.low: Array = np.zeros(layer.inputs, np.float32)
        self.high: Array = np.zeros(layer.inputs, np.float32)
        self.count = 0
        self._powers: Array = np.zeros(layer.inputs)

    def update(self, values: Array) -> None:
        """Take in what the layer reads of one sample."""
        if values.size:
            flat = self._reached(values)
            self.count += flat.shape[1]
            self._powers += np.einsum("cp,cp->c", flat, flat, dtype=np.float64)

    def squares(self) -> Array:
        """Mean square of each input channel."""
        return np.asarray(self._powers / max(self.count, 1), np.float64)

    def _reached(self, values: Array) -> Array:
        """The values as (channels, everything else), after their ranges were taken."""
        channels = channels_first(self.layer, values)
        flat = channels.reshape(len(channels), -1)
        self.low = np.minimum(self.low, flat.min(axis=1))
        self.high = np.maximum(self.high, flat.max(axis=1))
        return flat


class Statistics(Extent):
    """Means and correlations of what weights meet, too; its size does not depend on the number of samples."""

    def __init__(self, layer: Layer, seed: int = 0) -> None:
        super().__init__(layer)
        wide = int(layer.weights.shape[1] * layer.weights.shape[2])
        self.sums: Array = np.zeros((layer.groups, wide))
        self.blocks = tuple((start, min(start + WIDEST, wide)) for start in range(0, wide, WIDEST))
        self.products = [np.zeros((layer.groups, end - start, end - start), np.float32) for start, end in self.blocks]
        self._random = np.random.default_rng(seed)

    def update(self, values: Array) -> None:
        """Take in what the layer reads of one sample."""
        if not values.size:
            return
        self._reached(values)
        seen = columns(self.layer, values, self._random)
        self.count += seen.shape[2]
        self.sums += seen.sum(axis=2, dtype=np.float64)
        for place, (start, end) in enumerate(self.blocks):
            part = seen[:, start:end]
            with np.errstate(over="ignore", invalid="ignore"):  # `rounding.rounded` looks at what became of it
                self.products[place] += part @ part.transpose(0, 2, 1)

    def means(self) -> Array:
        """Mean of each value that a weight meets: (groups, inputs x taps)."""
        return self.sums / max(self.count, 1)

    def multiplied(self, made: Array) -> Statistics:
        """The statistics of the same channels, each multiplied by a number above 0."""
        found = copy.copy(self)
        found.low, found.high = self.low * made, self.high * made
        each = np.repeat(made.reshape(self.layer.groups, -1), self.layer.weights.shape[2], axis=1)
        found.sums = self.sums * each
        found.products = [
            (product * each[:, start:end, None] * each[:, None, start:end]).astype(np.float32)
            for (start, end), product in zip(self.blocks, self.products, strict=True)
        ]
        return found

    def squares(self) -> Array:
        """Mean square of each input channel."""
        diagonals = [np.einsum("gkk->gk", product) for product in self.products]
        joined = np.concatenate(diagonals, axis=1).reshape(self.layer.groups, self.layer.weights.shape[1], -1)
        return np.asarray(joined.mean(axis=2).reshape(-1) / max(self.count, 1), np.float64)


def channels_first(layer: Layer, values: Array) -> Array:
    """One sample's values as (channels, everything else)."""
    if layer.window is None:
        return values.reshape(-1, layer.inputs).T
    pictures = values.transpose(3, 0, 1, 2) if layer.channels_last else values.transpose(1, 0, 2, 3)
    return pictures.reshape(len(pictures), -1)


def columns(layer: Layer, values: Array, random: np.random.Generator, most: int = POSITIONS) -> Array:
    """What the weights meet at up to `most` output positions: (groups, inputs x taps, positions), float32."""
    if layer.window is None:
        rows = values.reshape(-1, layer.inputs).astype(np.float32, copy=False)
        chosen = rows[_picked(len(rows), most, random)]
        return np.ascontiguousarray(chosen.T).reshape(layer.groups, -1, len(chosen))
    pictures = values.transpose(0, 3, 1, 2) if layer.channels_last else values
    return _patches(pictures[0].astype(np.float32, copy=False), layer.window, layer.groups, random, most)


def _patches(picture: Array, window: Window, groups: int, random: np.random.Generator, most: int) -> Array:
    borders = ((0, 0), *zip(window.before, window.after, strict=True))
    padded = np.pad(picture, borders) if any(window.before + window.after) else picture
    spans = [(size - 1) * step + 1 for size, step in zip(window.kernel, window.dilations, strict=True)]
    sizes = [
        max((extent - span) // stride + 1, 0)
        for extent, span, stride in zip(padded.shape[1:], spans, window.strides, strict=True)
    ]
    places = _picked(sizes[0] * sizes[1], most, random)
    down, across = np.divmod(places, max(sizes[1], 1))
    taps = np.indices(window.kernel).reshape(2, -1)
    rows = down * window.strides[0] + taps[0][:, None] * window.dilations[0]
    cols = across * window.strides[1] + taps[1][:, None] * window.dilations[1]
    return np.ascontiguousarray(padded[:, rows, cols]).reshape(groups, -1, len(places))


def _picked(count: int, most: int, random: np.random.Generator) -> Array:
    return np.arange(count) if count <= most else np.sort(random.choice(count, most, replace=False))
