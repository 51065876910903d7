"""How well a model's answer fits each sample's label, from 0 to 1, so that answers can be compared in pairs.

A metric gives one number for all samples; to tell chance from effect there must be one for each. All of them
are bounded, so that a single answer that exploded does not decide.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq.datasets.truth import class_axis, plain
from edgeq.evaluation.classification import ranks
from edgeq.types import LabelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Values = NDArray[np.float64]
    Quality = Callable[[Array, Array, LabelSpec], Values]


PLACES = 4096
"""Of a picture's labels are looked at, about."""


class Paired(NamedTuple):
    """Mean of differences in pairs, its standard error, and how many samples there were."""

    mean: float
    error: float
    samples: int

    @property
    def z(self) -> float:
        """The mean in standard errors."""
        return self.mean / self.error if self.error > 0 else float(np.sign(self.mean)) * np.inf if self.mean else 0.0


def paired(better: Values, worse: Values) -> Paired:
    """Differences of two measures of the same samples, in their order.

    The error is at least mean / count, so that a few samples which all agree prove little.
    """
    gaps = np.asarray(better, np.float64) - np.asarray(worse, np.float64)
    count = len(gaps)
    if count < 2:
        return Paired(float(gaps.mean()) if count else 0.0, float("inf"), count)
    error = float(gaps.std(ddof=1)) / count**0.5
    return Paired(float(gaps.mean()), max(error, abs(float(gaps.mean())) / count), count)


def probabilities(values: Array, axis: int) -> Values:
    """Class probabilities of a model that gives either these or logits; classes go last."""
    moved = np.moveaxis(np.asarray(values, np.float64), axis, -1)
    if moved.size and moved.min() >= 0 and np.abs(moved.sum(axis=-1) - 1).max() < 0.05:
        return moved
    moved = moved - moved.max(axis=-1, keepdims=True)
    grown = np.exp(moved)
    return np.asarray(grown / grown.sum(axis=-1, keepdims=True))


def of_classes(outputs: Array, labels: Array, spec: LabelSpec) -> Values:
    """Probability of the true class, averaged over a sample's labels that are not ignored."""
    sample = plain(outputs.shape[1:])
    axis = class_axis(sample, plain(labels.shape[1:]))
    return np.array(
        [_of_class(one.reshape(sample), label, axis, spec) for one, label in zip(outputs, labels, strict=True)]
    )


def _of_class(output: Array, label: Array, axis: int | None, spec: LabelSpec) -> float:
    true = label.reshape(-1).astype(np.int64)
    places = np.arange(0, len(true), len(true) // PLACES | 1)  # an odd step meets every column of a picture
    places = places if spec.ignore is None else places[true[places] != spec.ignore]
    if not places.size:
        return 0.5
    if axis is not None:
        chosen = np.moveaxis(output, axis, -1).reshape(len(true), -1)[places]
        return float(np.take_along_axis(probabilities(chosen, 1), true[places, np.newaxis], axis=1).mean())
    if output.dtype.kind in "iub":
        return float((output.reshape(-1)[places] == true[places]).mean())
    single = output.reshape(-1)[places].astype(np.float64)
    one = single if single.min() >= 0 and single.max() <= 1 else 1 / (1 + np.exp(-np.clip(single, -50, 50)))
    return float(np.where(true[places] == 1, one, 1 - one).mean())


def of_values(outputs: Array, labels: Array, _spec: LabelSpec) -> Values:
    """1 / (1 + error / spread): 1/2 is as far off as the labels' own mean would be."""
    count = len(labels)
    true = np.asarray(labels, np.float64).reshape(count, -1)
    spread = float(np.mean((true - true.mean(axis=0)) ** 2)) or 1.0
    found = np.asarray(outputs, np.float64).reshape(count, *plain(outputs.shape[1:]))
    errors = np.array([_error(one, label) for one, label in zip(found, labels, strict=True)])
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + errors / spread))


def _error(output: Array, label: Array) -> float:
    """Mean squared error; a picture may have its channels first."""
    true = np.asarray(label, np.float64).reshape(plain(label.shape))
    if output.shape != true.shape and output.ndim == 3:
        output = np.moveaxis(output, 0, -1)
    with np.errstate(over="ignore"):
        return float(np.mean((output.reshape(-1) - true.reshape(-1)) ** 2))


def of_pairs(outputs: Array, labels: Array, _spec: LabelSpec) -> Values:
    """1 - the distance between a pair's rank by cosine and its rank by label, as a share of all pairs."""
    flat = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
    flat = flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-12)
    alike = (flat[::2] * flat[1::2]).sum(axis=1)
    return np.asarray(1 - np.abs(ranks(alike) - ranks(labels.reshape(-1))) / max(len(alike), 1))


OF_METRIC: MappingProxyType[str, Quality] = MappingProxyType(
    {
        **dict.fromkeys(("top1", "top5", "f1", "auc", "miou"), of_classes),
        **dict.fromkeys(("mse", "mae", "psnr", "ssim"), of_values),
        "pair_spearman": of_pairs,
    }
)


def distinctness(outputs: Array) -> Values:
    """Share of each sample's output that all samples' mean does not explain: 0 where every answer is the same."""
    flat = np.asarray(outputs, np.float64).reshape(len(outputs), -1)
    energy = (flat**2).sum(axis=1)
    own = ((flat - flat.mean(axis=0)) ** 2).sum(axis=1)
    return np.asarray(np.minimum(1.0, np.divide(own, energy, out=np.zeros_like(own), where=energy > 0)))


def confidence(outputs: Array) -> Values:
    """Mean of the top per cent of each sample's probabilities; zeros where there are none."""
    likely = _probable(np.asarray(outputs, np.float64))
    if not likely.shape[1]:
        return np.zeros(len(outputs))
    return np.asarray(np.sort(likely, axis=1)[:, -max(1, likely.shape[1] // 100) :].mean(axis=1))


def _probable(outputs: Values) -> Values:
    """(samples, values) of the channels, first or last, that never leave 0..1; a detector has others for its boxes."""
    inside: NDArray[np.bool_] = np.asarray(((outputs >= 0) & (outputs <= 1)).all(axis=0))
    best = np.zeros(inside.shape, bool)
    for axis in {0, inside.ndim - 1} if inside.ndim > 1 else ():
        others = tuple(k for k in range(inside.ndim) if k != axis)
        whole = np.broadcast_to(inside.all(axis=others, keepdims=True), inside.shape)
        best = whole if whole.sum() > best.sum() else best
    return outputs[:, best if inside.ndim > 1 else np.full(inside.shape, bool(inside.all()))]
