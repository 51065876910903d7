"""What the float model answers, and how well its answers fit labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq import datasets
from edgeq.datasets.truth import CLASS_METRICS, PAIRED, class_axis, plain
from edgeq.evaluation.doctor import quality
from edgeq.runtimes import infer
from edgeq.types import Dataset, LabelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeq.runtimes import Session

    Array = NDArray[Any]
    Values = NDArray[np.float64]

OUTPUT_BYTES = 128 << 20


class Answers(NamedTuple):
    """The first output for some samples, and their labels (one for every two samples with pair_spearman)."""

    dataset: Dataset
    numbers: tuple[int, ...]
    outputs: Array
    labels: Array | None

    def fit(self, labels: Array | None = None) -> Values | None:
        """How well each answer fits its label, 0 to 1, or one of others; None without labels."""
        truth = self.labels if labels is None else labels
        measure = quality.OF_METRIC.get(self.dataset.metric)
        if truth is None or measure is None or not len(truth):
            return None
        return measure(self.outputs, truth, self.dataset.labels or LabelSpec())

    @property
    def classes(self) -> int | None:
        """Number of classes that the model tells apart; None where it does not choose among classes."""
        if self.labels is None or self.dataset.metric not in CLASS_METRICS:
            return None
        sample = plain(self.outputs.shape[1:])
        axis = class_axis(sample, plain(self.labels.shape[1:]))
        return 2 if axis is None else sample[axis]


def chosen(dataset: Dataset, most: int) -> list[int]:
    """At most so many of the evaluation samples, evenly spread; whole pairs where the metric compares pairs."""
    width = 2 if dataset.metric == PAIRED else 1
    units = len(dataset.evaluation) // width
    places = np.unique(np.linspace(0, units - 1, min(units, max(1, most // width))).round().astype(int))
    return [dataset.evaluation[width * place + k] for place in places for k in range(width)]


def first_output(session: Session, sample: Sequence[Array]) -> Array:
    """The output that metrics look at, without its batch axis."""
    value = infer(session, sample)[0]
    return value[0] if value.ndim and value.shape[0] == 1 else value


def answers(dataset: Dataset, numbers: Sequence[int], outputs: Iterable[Array]) -> Answers:
    """Outputs, in the order of the samples' numbers, beside the labels."""
    return Answers(dataset, tuple(numbers), np.stack(list(outputs)), datasets.labels(dataset, numbers))


def part(found: Answers, places: Sequence[int]) -> Answers:
    """Some of the answers; whole pairs where the metric compares pairs."""
    labels = found.labels
    if labels is not None:
        labels = labels[[place // 2 for place in places[::2]] if found.dataset.metric == PAIRED else list(places)]
    return Answers(found.dataset, tuple(found.numbers[place] for place in places), found.outputs[list(places)], labels)
