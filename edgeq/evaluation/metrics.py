"""Every metric that a dataset may name, and the drop that is accepted when nobody says.

The defaults, in the metric's unit:

- top1, top5, f1, miou, auc: 0.01, one point, what the vendors' model zoos accept for INT8;
  for top1 and top5 one sample where that is more.
- psnr: 0.3 dB; eight bits cost super-resolution networks that work less (ESPCN 0.2 dB).
- ssim: 0.01, one point.
- pair_spearman: 0.02; a rank correlation over some hundred pairs moves by that much anyway.
- cosine: 0.05; 0.95 is noise of a tenth of the signal's energy (SQNR 10 dB, since cosine = 1 / sqrt(1 + 1 / SQNR)),
  above which the networks measured so far still work.
- mse: the larger of 10 % of float's and 1 % of the labels' variance; mae: of 10 % of float's and 5 % of the labels'
  standard deviation. By ratio alone a model near perfect would have no room (sin(x): mae 0.012 of a span of 2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq.datasets.truth import plain
from edgeq.errors import DatasetError
from edgeq.evaluation import classification, images
from edgeq.types import LabelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Score = Callable[[Array, Array, LabelSpec], float]
    Tolerance = Callable[[float, Array], float]


class Metric(NamedTuple):
    """A score of the first output against labels (samples on the first axis of both).

    `tolerance(float_score, labels)` is the drop that is accepted by default. A metric that needs no
    labels gets the float model's outputs in their place.
    """

    score: Score
    higher_is_better: bool
    needs_labels: bool
    unit: str
    tolerance: Tolerance


def mse(outputs: Array, labels: Array, _spec: LabelSpec) -> float:
    """Mean squared error over all values."""
    return float(np.mean([np.mean(error**2) for error in _errors(outputs, labels)]))


def mae(outputs: Array, labels: Array, _spec: LabelSpec) -> float:
    """Mean absolute error over all values."""
    return float(np.mean([np.mean(np.abs(error)) for error in _errors(outputs, labels)]))


def _errors(outputs: Array, labels: Array) -> Iterator[NDArray[np.float64]]:
    if plain(outputs.shape[1:]) != plain(labels.shape[1:]):
        raise DatasetError(f"labels of {labels.shape[1:]} for an output of {outputs.shape[1:]}")
    for output, label in zip(outputs, labels, strict=True):
        yield output.reshape(-1).astype(np.float64) - label.reshape(-1)


def cosine(outputs: Array, reference: Array, _spec: LabelSpec) -> float:
    """Cosine of the angle between a sample's outputs and the float model's, averaged over samples."""
    return float(np.mean([_cosine(a, b) for a, b in zip(outputs, reference, strict=True)]))


def _cosine(one: Array, other: Array) -> float:
    """Two zero vectors are alike; zero and anything else are not."""
    a, b = (np.ravel(side).astype(np.float64) for side in (one, other))
    lengths = float(np.linalg.norm(a)), float(np.linalg.norm(b))
    if not all(lengths):
        return float(lengths[0] == lengths[1])
    return float(np.clip((a / lengths[0]) @ (b / lengths[1]), -1, 1))


def pair_spearman(outputs: Array, labels: Array, _spec: LabelSpec) -> float:
    """Rank correlation between labels and the cosines of outputs 2i and 2i+1; 0 if either never varies."""
    alike = np.array([_cosine(a, b) for a, b in zip(outputs[::2], outputs[1::2], strict=True)])
    one, other = (r - r.mean() for r in (classification.ranks(alike), classification.ranks(labels.reshape(-1))))
    if len(one) != len(other):
        raise DatasetError(f"{len(other)} labels for {len(one)} pairs")
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(one @ other) / size if size else 0.0


def fixed(drop: float) -> Tolerance:
    """A drop that is accepted whatever the score."""
    return lambda _score, _labels: drop


def counted(drop: float) -> Tolerance:
    """A drop that is accepted, and one sample in any case: fewer than 1 / drop samples cannot tell less apart."""
    return lambda _score, labels: max(drop, 1 / max(len(labels), 1))


def _mse_tolerance(score: float, labels: Array) -> float:
    return max(0.1 * score, 0.01 * float(np.var(labels, dtype=np.float64)))


def _mae_tolerance(score: float, labels: Array) -> float:
    return max(0.1 * score, 0.05 * float(np.std(labels, dtype=np.float64)))


METRICS = MappingProxyType(
    {
        "top1": Metric(classification.top1, True, True, "", counted(0.01)),
        "top5": Metric(classification.top5, True, True, "", counted(0.01)),
        "f1": Metric(classification.f1, True, True, "", fixed(0.01)),
        "miou": Metric(classification.miou, True, True, "", fixed(0.01)),
        "auc": Metric(classification.auc, True, True, "", fixed(0.01)),
        "mse": Metric(mse, False, True, "", _mse_tolerance),
        "mae": Metric(mae, False, True, "", _mae_tolerance),
        "psnr": Metric(images.psnr, True, True, "dB", fixed(0.3)),
        "ssim": Metric(images.ssim, True, True, "", fixed(0.01)),
        "pair_spearman": Metric(pair_spearman, True, True, "", fixed(0.02)),
        "cosine": Metric(cosine, True, False, "", fixed(0.05)),
    }
)
