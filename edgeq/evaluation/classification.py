"""Metrics of models that choose a class, for whole samples and for each pixel.

Outputs are (samples, ..., classes) or (samples, classes, ...); the class axis is the one that labels have
not. One value for each label is the score of class 1 of two, chosen above 0.5. Integer outputs are class
numbers themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq.datasets.truth import class_axis, plain
from edgeq.errors import DatasetError
from edgeq.types import LabelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Counts = NDArray[np.int64]


class Tally(NamedTuple):
    """For each class: how often it was chosen rightly, chosen at all, and true."""

    hits: Counts
    chosen: Counts
    true: Counts


def top1(outputs: Array, labels: Array, spec: LabelSpec) -> float:
    """Share of labels whose class has the largest output."""
    found = tally(outputs, labels, spec)
    return float(found.hits.sum() / found.true.sum())


def top5(outputs: Array, labels: Array, spec: LabelSpec) -> float:
    """Share of labels whose class is among the five largest outputs; of equal ones the lower class goes first."""
    hits = total = 0
    for values, classes in _each(outputs, labels, spec):
        if values.ndim != 2 or values.shape[1] <= 5:
            raise DatasetError("top5 needs more than 5 classes")
        own = np.take_along_axis(values, classes[:, None], axis=1)
        before = np.arange(values.shape[1]) < classes[:, None]
        places = ((values > own) | ((values == own) & before)).sum(axis=1)
        hits, total = hits + int((places < 5).sum()), total + len(classes)
    return hits / total


def f1(outputs: Array, labels: Array, spec: LabelSpec) -> float:
    """F1 averaged over the classes that are true or chosen anywhere (macro)."""
    found = tally(outputs, labels, spec)
    both = found.chosen + found.true
    return float(np.mean(2 * found.hits[both > 0] / both[both > 0]))


def miou(outputs: Array, labels: Array, spec: LabelSpec) -> float:
    """Intersection over union over all samples together, averaged over the classes that occur."""
    found = tally(outputs, labels, spec)
    union = found.chosen + found.true - found.hits
    return float(np.mean(found.hits[union > 0] / union[union > 0]))


def auc(outputs: Array, labels: Array, spec: LabelSpec) -> float:
    """Area under the ROC curve; with more than two classes one against the rest, averaged.

    Equal scores count half (Mann-Whitney U).
    """
    parts = list(_each(outputs, labels, spec))
    values, classes = (np.concatenate(group) for group in zip(*parts, strict=True))
    if values.ndim == 1 or values.shape[1] == 2:
        score = values if values.ndim == 1 else values[:, 1].astype(np.float64) - values[:, 0]
        return _area(score, classes == 1)
    present = [c for c in range(values.shape[1]) if (classes == c).any()]
    return float(np.mean([_area(values[:, c], classes == c) for c in present]))


def tally(outputs: Array, labels: Array, spec: LabelSpec) -> Tally:
    """Count classes over all labels that are not `ignore`; raises DatasetError when none is left."""
    parts = None
    for values, classes in _each(outputs, labels, spec):
        size = 2 if values.ndim == 1 else values.shape[1]
        chosen = _chosen(values)
        size = max(size, int(labels.max()) + 1)
        chosen = np.where((chosen < 0) | (chosen >= size), size, chosen)
        hit = classes[chosen == classes]
        counts = np.stack([np.bincount(group, minlength=size + 1) for group in (hit, chosen, classes)])
        parts = counts if parts is None else parts + counts
    if parts is None:
        raise DatasetError("no label is left to score")
    return Tally(*parts)


def _chosen(values: Array) -> Counts:
    if values.ndim == 2:
        return np.asarray(values.argmax(axis=1), dtype=np.int64)
    return np.asarray(values if values.dtype.kind in "iu" else values > 0.5, dtype=np.int64)


def _each(outputs: Array, labels: Array, spec: LabelSpec) -> Iterator[tuple[Array, Counts]]:
    """For each sample: outputs (labels, classes) or (labels,), and the classes that are true."""
    sample = plain(outputs.shape[1:])
    try:
        axis = class_axis(sample, plain(labels.shape[1:]))
    except ValueError as error:
        raise DatasetError(str(error)) from error
    for output, label in zip(outputs, labels, strict=True):
        true = label.reshape(-1).astype(np.int64)
        values = output.reshape(sample)
        values = values.reshape(-1) if axis is None else np.moveaxis(values, axis, -1).reshape(true.size, -1)
        kept = slice(None) if spec.ignore is None else true != spec.ignore
        if true[kept].size:
            yield values[kept], true[kept]


def _area(scores: Array, positive: NDArray[np.bool_]) -> float:
    ones, zeros = int(positive.sum()), int((~positive).sum())
    if not ones or not zeros:
        raise DatasetError("auc needs samples of both kinds")
    return float((ranks(scores)[positive].sum() - ones * (ones + 1) / 2) / (ones * zeros))


def ranks(values: Array) -> NDArray[np.float64]:
    """Ranks from 1; equal values share the mean of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[place.reshape(-1)]
