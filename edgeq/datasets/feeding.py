"""Open the sources of a dataset and stream its samples to a model."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgeq.datasets import files, pictures, scripts, shapes, steps
from edgeq.datasets.arrays import Rows
from edgeq.errors import DatasetError
from edgeq.types import Dataset, InputSpec, ModelGraph, Shape, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]


def spread(numbers: Sequence[int], most: int) -> list[int]:
    """At most so many of the sample numbers, evenly spread over them: files are often sorted by class."""
    if len(numbers) <= most:
        return list(numbers)
    return [numbers[place] for place in np.unique(np.linspace(0, len(numbers) - 1, most).round().astype(int))]


class Source(Protocol):
    """Stored samples of one input; `shape` and `dtype` are of one sample as it is stored."""

    where: str
    count: int
    dtype: np.dtype[Any]

    @property
    def shape(self) -> Shape:
        """Of the first sample."""
        ...

    def read(self, index: int) -> Array:
        """One stored sample; raises DatasetError."""
        ...

    def close(self) -> None:
        """Close its file."""
        ...


def open_file(spec: InputSpec, root: str) -> Source:
    """The source of an input that comes from files; raises DatasetError."""
    if spec.images is not None:
        return pictures.Pictures(spec, pictures.paths(spec, root), str(files.inside(root, spec.images)))
    return Rows(files.inside(root, spec.npz or ""), spec.array or "")


@contextlib.contextmanager
def opened(dataset: Dataset) -> Iterator[list[Source]]:
    """One source for each input, in the dataset's order; raises DatasetError."""
    with contextlib.ExitStack() as stack:
        sources: list[Source] = []
        for source in _sources(dataset):
            stack.callback(source.close)
            sources.append(source)
        yield sources


def _sources(dataset: Dataset) -> Iterator[Source]:
    if dataset.function is None:
        yield from (open_file(spec, dataset.root) for spec in dataset.inputs)
        return
    script = scripts.split(f"{dataset.path}:{dataset.function}")
    if script is None:
        raise DatasetError("not a Python script", where=dataset.path)
    generator = scripts.Generator(*script)
    for place, spec in enumerate(dataset.inputs):
        yield scripts.Column(generator, spec.name or place, dataset.count)


def samples(dataset: Dataset, graph: ModelGraph, indices: Sequence[int]) -> Iterator[tuple[Array, ...]]:
    """The samples with those numbers, one array for each model input, in the model's order.

    The dataset is bound to the model. Arrays have a leading batch axis of 1 (none for a model that has no
    batch axis); real float32 values where the model takes real values, also for quantized inputs, else the
    model's integers. One sample is in memory at a time. Raises DatasetError with the sample's number.
    """
    tensors = [graph.tensors[index] for index in graph.inputs]
    with opened(dataset) as sources:
        for index in indices:
            if not 0 <= index < dataset.count:
                raise DatasetError(f"there is no sample {index}; there are {dataset.count}", where=dataset.path)
            yield tuple(
                prepared(spec, source.read(index), tensor, f"{source.where}, sample {index}")
                for spec, source, tensor in zip(dataset.inputs, sources, tensors, strict=True)
            )


def prepared(spec: InputSpec, stored: Array, tensor: TensorSpec, where: str) -> Array:
    """One stored sample as the model is fed; raises DatasetError."""
    ready = steps.apply(spec, shapes.checked(spec, stored, where), tensor, where)
    fed = ready.reshape(shapes.fit(ready.shape, tensor, where).shape)
    return np.ascontiguousarray(fed).reshape(fed.shape)  # a scalar stays one
