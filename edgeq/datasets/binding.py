"""Check that a dataset fits a model, and bring its inputs into the model's order."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgeq.datasets import feeding, shapes, steps, truth
from edgeq.errors import DatasetError
from edgeq.types import Dataset, InputSpec, ModelGraph, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

PROBES = 8  # samples that are looked at; all are checked as they stream
OUTSIDE_SHARE = 0.25
_DRESSING = re.compile(r"^serving_default_|:\d+$")


def bind(dataset: Dataset, graph: ModelGraph) -> Dataset:
    """The dataset with its inputs in the model's order; raises DatasetError with what would be right.

    Count, names, shapes and data types are checked, values against a quantized input's range, and labels
    against the model's first output. Unit axes that are added or removed are noted in `notes`.
    """
    tensors = [graph.tensors[index] for index in graph.inputs]
    bound = dataclasses.replace(dataset, inputs=_ordered(dataset, tensors))
    bound = _laid_out(bound, graph, tensors)
    with feeding.opened(bound) as sources:
        notes = [_note(*group) for group in zip(bound.inputs, sources, tensors, strict=True)]
    bound = dataclasses.replace(bound, notes=tuple(note for note in notes if note))
    _check_values(bound, graph, tensors)
    truth.check(bound, graph)
    return bound


def _laid_out(dataset: Dataset, graph: ModelGraph, tensors: Sequence[TensorSpec]) -> Dataset:
    """Samples of an imported model's original in the order of axes that the import has: `transpose` is set for it."""
    if not any(graph.input_layouts):
        return dataset
    with feeding.opened(dataset) as sources:
        triples = zip(dataset.inputs, sources, tensors, graph.input_layouts, strict=True)
        specs = tuple(_turned(spec, source, tensor, layout) for spec, source, tensor, layout in triples)
    return dataclasses.replace(dataset, inputs=specs)


def _turned(spec: InputSpec, source: feeding.Source, tensor: TensorSpec, layout: tuple[int, ...] | None) -> InputSpec:
    """The input's steps with the layout's order behind them, if its samples are as the original wants them."""
    if layout is None or layout[0] != 0:  # the batch stays in front
        return spec
    order = tuple(axis - 1 for axis in layout[1:])
    steps.check(spec, source.shape, source.where)
    shape = steps.outcome(spec, source.shape)
    original = dict(zip(order, tensor.shape[1:], strict=True))
    if not shapes.matches(shape, tuple(original[axis] for axis in range(len(order)))):
        return spec
    earlier = spec.transpose or tuple(range(len(order)))
    return dataclasses.replace(spec, transpose=tuple(earlier[axis] for axis in order))


def _ordered(dataset: Dataset, tensors: Sequence[TensorSpec]) -> tuple[InputSpec, ...]:
    specs = dataset.inputs
    if len(specs) == len(tensors) == 1 and specs[0].npz == dataset.path.rpartition("/")[2]:
        return (dataclasses.replace(specs[0], name=None),)  # an .npz with one array, whatever its name
    pinned = {_named(spec, tensors, dataset): spec for spec in specs if spec.name is not None}
    if len(specs) != len(tensors) or len(pinned) != sum(spec.name is not None for spec in specs):
        names = ", ".join(repr(tensor.name) for tensor in tensors)
        raise DatasetError(
            f"{len(specs)} inputs are described, the model has {len(tensors)}: {names}", where=dataset.path
        )
    rest = iter([spec for spec in specs if spec.name is None])
    return tuple(pinned.get(place) or next(rest) for place in range(len(tensors)))


def _named(spec: InputSpec, tensors: Sequence[TensorSpec], dataset: Dataset) -> int:
    """Place of the model input that a name means; `serving_default_` and `:0` may be left out."""
    names = [tensor.name for tensor in tensors]
    bare = [_bare(name) for name in names]
    for wanted, known in ((spec.name or "", names), (_bare(spec.name or ""), bare)):
        if known.count(wanted) == 1:
            return known.index(wanted)
    raise DatasetError(
        f"the model has no input {spec.name!r}", where=dataset.path, hint=f"its inputs are {', '.join(names)}"
    )


def _bare(name: str) -> str:
    return _DRESSING.sub("", name)


def _note(spec: InputSpec, source: feeding.Source, tensor: TensorSpec) -> str | None:
    """Check data type and shape of one input by its first sample's description."""
    if not steps.is_real(tensor):
        if source.dtype.kind not in "biu":
            raise DatasetError(
                f"holds {source.dtype}, input {tensor.name!r} takes whole numbers ({tensor.dtype})", where=source.where
            )
        if spec.scale is not None or spec.mean is not None or spec.std is not None:
            raise DatasetError(
                f"`scale`, `mean` and `std` make real values, input {tensor.name!r} takes {tensor.dtype}",
                where=source.where,
            )
    shape = source.shape
    steps.check(spec, shape, source.where)
    return shapes.fit(steps.outcome(spec, shape), tensor, source.where, spec).note


def _check_values(dataset: Dataset, graph: ModelGraph, tensors: Sequence[TensorSpec]) -> None:
    """Read a few samples, and hold them against the range of a quantized input."""
    spread = np.unique(np.linspace(0, len(dataset.evaluation) - 1, PROBES).astype(int))
    probes = [dataset.evaluation[place] for place in spread]
    for index, sample in zip(probes, feeding.samples(dataset, graph, probes), strict=True):
        for tensor, values in zip(tensors, sample, strict=True):
            _check_range(tensor, values, f"{dataset.path}, sample {index}")


def _check_range(tensor: TensorSpec, values: Array, where: str) -> None:
    """Values that lie far outside what a quantized input can represent were prepared for another model."""
    for low, high in _range(tensor):
        real = values.astype(np.float64)
        margin = (high - low) / 2
        outside = np.mean((real < low - margin) | (real > high + margin))
        if outside > OUTSIDE_SHARE:
            raise DatasetError(
                f"input {tensor.name!r} represents {low:.4g} to {high:.4g}, the values are {real.min():.4g} to "
                f"{real.max():.4g}: `scale`, `mean` or `std` is wrong or missing",
                where=where,
            )


def _range(tensor: TensorSpec) -> Iterator[tuple[float, float]]:
    found = tensor.quantization
    if found is None or len(found.scales) != 1 or not tensor.dtype.startswith(("int", "uint")):
        return
    limits, zero = np.iinfo(tensor.dtype), found.zero_points[0] if found.zero_points else 0
    yield found.scales[0] * (int(limits.min) - zero), found.scales[0] * (int(limits.max) - zero)
