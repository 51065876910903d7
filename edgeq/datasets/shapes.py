"""Whether a sample's shape fits a model's input, and what would make it fit."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, NamedTuple

from edgeq.datasets import steps
from edgeq.errors import DatasetError
from edgeq.types import InputSpec, Shape, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.generic]


class Fit(NamedTuple):
    """The shape that the model is fed, with its batch axis; a note where unit axes were added or removed."""

    shape: Shape
    note: str | None = None


def checked(spec: InputSpec, raw: Array, where: str) -> Array:
    """The stored sample, if the preprocessing fits it (samples of a script and pictures may differ)."""
    steps.check(spec, raw.shape, where)
    return raw


def wanted(tensor: TensorSpec) -> tuple[Shape, bool]:
    """Shape of one sample as the model wants it, and whether a batch axis of 1 goes before it.

    Raises DatasetError for a model that only takes several samples at once.
    """
    if not tensor.shape or tensor.shape[0] in (1, -1):
        return tensor.shape[1:], bool(tensor.shape)
    return tensor.shape, False


def fit(shape: Shape, tensor: TensorSpec, where: str, spec: InputSpec | None = None) -> Fit:
    """How a prepared sample is fed; raises DatasetError with what would be right."""
    sample, batched = wanted(tensor)
    lead = (1,) if batched else ()
    if not tensor.shape and shape:  # a model that does not say what rank it takes
        return Fit((1, *shape))
    if matches(shape, sample):
        return Fit(lead + shape)
    filled = _unit_axes(shape, sample)
    if filled is not None:
        note = f"input {tensor.name!r}: samples of {steps.shown(shape)} are fed as {steps.shown(filled)}"
        return Fit(lead + filled, note)
    raise _misfit(shape, tensor, where, spec)


def matches(shape: Shape, sample: Shape) -> bool:
    """Whether shapes agree, with -1 for any."""
    return len(shape) == len(sample) and all(b in (a, -1) for a, b in zip(shape, sample, strict=True))


def _unit_axes(shape: Shape, sample: Shape) -> Shape | None:
    """`sample`, if the two differ only in axes of length 1."""
    if -1 in sample:
        return None
    return sample if [n for n in shape if n != 1] == [n for n in sample if n != 1] else None


def _misfit(shape: Shape, tensor: TensorSpec, where: str, spec: InputSpec | None) -> DatasetError:
    sample, batched = wanted(tensor)
    message = f"input {tensor.name!r}: samples are {steps.shown(shape)}, the model wants {steps.shown(sample)}"
    if not batched and matches(shape, sample[1:]):
        message = f"input {tensor.name!r}: the model takes {sample[0]} samples at once; export it with a batch of 1"
        return DatasetError(message, where=where)
    return DatasetError(message, where=where, hint=_remedy(shape, sample, spec))


def _remedy(shape: Shape, sample: Shape, spec: InputSpec | None) -> str | None:
    """A line that can be pasted into dataset.yaml."""
    earlier = (spec.transpose if spec else None) or tuple(range(len(shape)))
    for order in _orders(len(shape)):
        if order != tuple(range(len(shape))) and matches(tuple(shape[axis] for axis in order), sample):
            return f"transpose: {[earlier[axis] for axis in order]}"
    if spec is None or spec.images is None or len(sample) != 3:
        return None
    height, width = sample[1:] if sample[0] in (1, 3) else sample[:2]
    transpose = ", transpose: [2, 0, 1]" if sample[0] in (1, 3) and not spec.transpose else ""
    return f"resize: [{height}, {width}]{transpose}" if min(height, width) > 0 else None


def _orders(rank: int) -> list[tuple[int, ...]]:
    """Orders of axes to try, the usual ones (channels first, channels last) before the others."""
    usual = [(2, 0, 1), (1, 2, 0)] if rank == 3 else []
    return [*usual, *itertools.permutations(range(rank))] if rank <= 4 else []
