"""Labels: read them, count them, and hold them against the model's first output."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeq.datasets import files
from edgeq.datasets.arrays import Rows
from edgeq.datasets.steps import is_real, shown
from edgeq.errors import DatasetError
from edgeq.types import Dataset, LabelSpec, ModelGraph, Shape, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

CLASS_METRICS = frozenset({"top1", "top5", "f1", "miou", "auc"})
IMAGE_METRICS = frozenset({"psnr", "ssim"})
PAIRED = "pair_spearman"


def labels(dataset: Dataset, indices: Sequence[int]) -> Array | None:
    """Labels of the samples with those numbers, times `scale` (then float32); None without labels.

    Where a label belongs to a pair of samples (pair_spearman), one for every two samples, which must be
    2i and 2i+1. Raises DatasetError.
    """
    spec = _spec(dataset)
    if spec is None:
        return None
    numbers = _pairs(indices, dataset.path) if dataset.metric == PAIRED else list(indices)
    stream = _stream(spec, dataset.root, numbers)
    first = next(stream, None)
    if first is None:
        return np.empty(0, dtype=np.float32)
    found = np.empty((len(numbers), *first.shape), dtype=first.dtype)
    for place, value in enumerate(itertools.chain([first], stream)):
        found[place] = value
    return found


def check_count(dataset: Dataset) -> None:
    """Whether there is a label for each sample (or pair), and whole pairs are scored; raises DatasetError."""
    spec = _spec(dataset)
    if spec is None:
        return
    wanted, what = (dataset.count // 2, "pairs") if dataset.metric == PAIRED else (dataset.count, "samples")
    with _opened(spec, dataset.root) as source:
        if source.count != wanted:
            raise DatasetError(f"{source.count} labels for {wanted} {what}", where=source.where)
    if dataset.metric == PAIRED:
        _pairs(dataset.evaluation, dataset.path)


def check(dataset: Dataset, graph: ModelGraph) -> None:
    """Whether the scored labels fit the model's first output in shape and range; raises DatasetError."""
    spec = _spec(dataset)
    if spec is None or dataset.metric == PAIRED:
        return
    output = graph.tensors[graph.outputs[0]]
    numbers = sorted(dataset.evaluation)
    stream = _stream(spec, dataset.root, numbers)
    if dataset.metric not in CLASS_METRICS:
        _check_shape(next(stream).shape, output.shape, dataset)
        return
    classes: int | None = None
    for number, value in zip(numbers, stream, strict=True):
        if number == numbers[0]:
            classes = _classes(output, value.shape, dataset)
        kept = value if spec.ignore is None else value[value != spec.ignore]
        _check_class(kept, classes, f"{dataset.path}, label {number}")


def class_axis(output: Shape, label: Shape) -> int | None:
    """Axis of the classes in one sample's output, where neither shape has axes of length 1.

    It is the axis that the label has not: the last, or else the first; None if the output has a single value
    for each label. Raises ValueError when the shapes have nothing to do with each other.
    """
    if _alike(output, label):
        return None
    if len(output) == len(label) + 1:
        for axis, rest in ((len(output) - 1, output[:-1]), (0, output[1:])):
            if _alike(rest, label):
                return axis
    raise ValueError(f"labels of {shown(label)} for an output of {shown(output)}")


def plain(shape: Sequence[int]) -> Shape:
    """A shape without its axes of length 1."""
    return tuple(n for n in shape if n != 1)


def _alike(one: Shape, other: Shape) -> bool:
    return len(one) == len(other) and all(a == b or -1 in (a, b) for a, b in zip(one, other, strict=True))


def _spec(dataset: Dataset) -> LabelSpec | None:
    return None if dataset.metric == "cosine" else dataset.labels


class _Cells:
    """Numbers in a column of a CSV table."""

    def __init__(self, path: Path, column: str) -> None:
        self.where = str(path)
        self._values = [self._number(text) for text in files.column(path, column)]
        self.count = len(self._values)

    def _number(self, text: str) -> int | float:
        try:
            return int(text) if text.lstrip("+-").isdigit() and len(text) < 19 else float(text)
        except ValueError as error:
            raise DatasetError(f"label {text[:40]!r} is not a number", where=self.where) from error

    def read(self, index: int) -> Array:
        return np.asarray(self._values[index])

    def close(self) -> None:
        """Nothing is kept open."""


@contextlib.contextmanager
def _opened(spec: LabelSpec, root: str) -> Iterator[Rows | _Cells]:
    if spec.csv is not None:
        source: Rows | _Cells = _Cells(files.inside(root, spec.csv), spec.column or "")
    else:
        source = Rows(files.inside(root, spec.npz or ""), spec.array or "")
    with contextlib.closing(source):
        yield source


def _stream(spec: LabelSpec, root: str, numbers: Sequence[int]) -> Iterator[Array]:
    """One label after the other, scaled; NaN and infinity are refused."""
    with _opened(spec, root) as source:
        for number in numbers:
            value = source.read(number)
            if spec.scale is not None:
                value = np.asarray(value.astype(np.float32) * np.float32(spec.scale))
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise DatasetError("holds NaN or infinity", where=f"{source.where}, label {number}")
            yield value


def _pairs(indices: Sequence[int], where: str) -> list[int]:
    """Numbers of the pairs that rows 2i, 2i+1 make up; raises DatasetError for half a pair."""
    even, odd = list(indices[::2]), list(indices[1::2])
    if len(even) != len(odd) or any(a % 2 or b != a + 1 for a, b in zip(even, odd, strict=True)):
        raise DatasetError(
            "evaluation must take whole pairs: rows 2i and 2i+1, side by side", where=where, hint='evaluation: "all"'
        )
    return [a // 2 for a in even]


def _check_shape(label: Shape, output: Shape, dataset: Dataset) -> None:
    sample, wanted = plain(output[1:]), plain(label)
    moved = wanted[-1:] + wanted[:-1] if dataset.metric in IMAGE_METRICS else wanted
    if output and not _alike(sample, wanted) and not _alike(sample, moved):
        raise DatasetError(f"labels are {shown(label)}, the model's output is {shown(output[1:])}", where=dataset.path)


def _classes(output: TensorSpec, label: Shape, dataset: Dataset) -> int | None:
    """Number of classes; None if unknown. One value for each label is the score of class 1 of two."""
    sample = plain(output.shape[1:])
    try:
        axis = class_axis(sample, plain(label)) if output.shape else None
    except ValueError as error:
        raise DatasetError(str(error), where=dataset.path) from error
    if axis is None:
        return 2 if output.shape and is_real(output) else None
    classes = sample[axis]
    if dataset.metric == "top5" and 0 < classes <= 5:
        raise DatasetError(f"top5 needs more than 5 classes, the model has {classes}", where=dataset.path)
    return classes if classes > 0 else None


def _check_class(value: Array, classes: int | None, where: str) -> None:
    if value.dtype.kind == "f" and not np.array_equal(value, np.round(value)):
        raise DatasetError("a class must be a whole number", where=where)
    if value.size and (value.min() < 0 or (classes is not None and value.max() >= classes)):
        wrong = value.min() if value.min() < 0 else value.max()
        limit = f"; the model has {classes} classes, from 0" if classes is not None else ""
        raise DatasetError(f"class {wrong:g} is out of range{limit}", where=where)
