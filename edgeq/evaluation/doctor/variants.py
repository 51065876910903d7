"""Other ways to prepare the same stored samples: other scalings, other orders of colours and axes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from edgeq.types import InputSpec, Shape

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

Kind = Literal["scaling", "colour", "layout"]
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_CHANNELS = 3


def _same(sample: Array) -> Array:
    return sample


class Variant(NamedTuple):
    """One other preparation: an InputSpec, and what is done to the sample after its steps.

    `right` says what to write into dataset.yaml if this is how the model wants it.
    """

    kind: Kind
    spec: InputSpec
    right: str
    turn: Callable[[Array], Array] = _same


class Extent(NamedTuple):
    """Of the stored values of some samples."""

    low: float
    high: float
    mean: float
    std: float


def variants(spec: InputSpec, stored: Shape, fed: Shape, extent: Extent) -> list[Variant]:
    """Every other preparation that shapes allow. `fed` is the shape after the steps, without a batch axis."""
    return [*_scalings(spec, stored, extent), *_colours(spec, fed), *_layouts(spec, fed)]


def _scalings(spec: InputSpec, stored: Shape, extent: Extent) -> Iterator[Variant]:
    given = _steps(spec)
    for scale, mean, std in _usual(stored, extent):
        other = dataclasses.replace(spec, scale=scale, mean=mean, std=std)
        if not _alike(_steps(other), given, extent):
            yield Variant("scaling", other, _written(scale, mean, std))


def _usual(
    stored: Shape, extent: Extent
) -> Iterator[tuple[float | None, float | tuple[float, ...] | None, float | tuple[float, ...] | None]]:
    """Scalings that models are trained with, from bytes, shares or signed values; then those that the data suggest."""
    yield None, None, None
    for ceiling in _ceilings(extent):
        to_one = 1 / ceiling
        yield to_one, None, None
        yield 2 * to_one, 1.0, None
        yield 255 * to_one, None, None
        yield 255 * to_one, 128.0, None
        if stored and stored[-1] == _CHANNELS:
            yield to_one, IMAGENET[0], IMAGENET[1]
            yield 255 * to_one, (103.939, 116.779, 123.68), None
    if extent.low < 0:
        half = max(-extent.low, extent.high)
        yield 0.5 / half, -0.5, None
        yield 127.5 / half, -127.5, None
        yield 1 / half, None, None
    if extent.std > 0:
        yield None, extent.mean, extent.std
    for gain in (1 / 256, 1 / 16, 1 / 4, 4.0, 16.0, 256.0):
        yield gain, None, None


def _ceilings(extent: Extent) -> list[float]:
    """What stands for full scale: bytes and shares are known by their largest value."""
    if extent.low < 0:
        return []
    return [255.0] if extent.high > 2 else [1.0]


def _steps(spec: InputSpec) -> tuple[Array, Array]:
    """The steps as one gain and one offset for each channel."""
    scale, mean, std = (
        np.asarray(value if value is not None else neutral, np.float64)
        for value, neutral in ((spec.scale, 1.0), (spec.mean, 0.0), (spec.std, 1.0))
    )
    return np.asarray(scale / std), np.asarray(-mean / std)


def _alike(one: tuple[Array, Array], other: tuple[Array, Array], extent: Extent) -> bool:
    """Whether two scalings give nearly the same values over the stored range."""
    ends = np.array([[extent.low], [extent.high]])
    a, b = (ends * steps[0] + steps[1] for steps in (one, other))
    return bool(np.abs(a - b).max() <= 0.1 * max(float(np.ptp(b)), 1e-12))


def _written(scale: object, mean: object, std: object) -> str:
    named = {"scale": scale, "mean": mean, "std": std}
    used = [f"{key}: {_number(value)}" for key, value in named.items() if value is not None]
    return ", ".join(used) or "no scale, mean or std: the samples as they are stored"


def _number(value: object) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(f"{part:g}" for part in value) + "]"
    return f"{value:.6g}"


def _colours(spec: InputSpec, fed: Shape) -> Iterator[Variant]:
    """Red and blue exchanged, on whichever end of the shape the three channels are."""
    if len(fed) != 3 or _CHANNELS not in (fed[0], fed[-1]):
        return
    axis = 2 if fed[-1] == _CHANNELS else 0
    other = {"rgb": "bgr", "bgr": "rgb"}.get(spec.color, "rgb")
    right = f"color: {other}" if spec.images is not None else "red and blue exchanged in the stored samples"
    yield Variant("colour", spec, right, lambda sample: np.flip(sample, axis))


def _layouts(spec: InputSpec, fed: Shape) -> Iterator[Variant]:
    """Rows and columns exchanged, and values that were reshaped where they should have been transposed."""
    if len(fed) == 2 and min(fed) > 1:
        yield Variant("layout", spec, "rows and columns exchanged", _exchanged)
    if len(fed) == 3 and min(fed) == 1:
        yield Variant("layout", spec, "rows and columns exchanged", _exchanged)
    if len(fed) == 3 and min(fed) > 1:
        yield from _pictures(spec, fed)


def _exchanged(sample: Array) -> Array:
    """A matrix whose values stand column by column where rows are expected, in the same shape."""
    flat = sample.reshape([size for size in sample.shape if size != 1])
    return flat.reshape(flat.shape[::-1]).T.reshape(sample.shape)


def _pictures(spec: InputSpec, fed: Shape) -> Iterator[Variant]:
    last = fed[-1] <= fed[0]
    height, width, channels = fed if last else (fed[1], fed[2], fed[0])
    axes = (1, 0, 2) if last else (0, 2, 1)
    if height == width:
        yield Variant("layout", spec, "height and width exchanged (transpose)", lambda sample: sample.transpose(axes))
    planes, pixels = (channels, height, width), (height, width, channels)
    stored_planes = "the stored values reshaped to channel first (NCHW), then transpose: [1, 2, 0]"
    stored_pixels = "the stored values reshaped to channel last (NHWC), then transpose: [2, 0, 1]"
    if last:
        yield Variant("layout", spec, stored_planes, lambda sample: sample.reshape(planes).transpose(1, 2, 0))
        yield Variant("layout", spec, stored_pixels, lambda sample: sample.transpose(2, 0, 1).reshape(pixels))
    else:
        yield Variant("layout", spec, stored_pixels, lambda sample: sample.reshape(pixels).transpose(2, 0, 1))
        yield Variant("layout", spec, stored_planes, lambda sample: sample.transpose(1, 2, 0).reshape(planes))
