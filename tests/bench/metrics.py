"""Metrics by their definitions, in parts: one row for each sample (or pair), so that samples can be drawn again.

`PARTS[metric]` makes the rows, `WHOLE[metric]` the score of any choice of them. Noise is twice the standard deviation
over such choices (bootstrap), of a score or of a difference of two scores on the same samples.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray
DRAWS = 400
HIGHER_IS_BETTER = {"mse": False, "mae": False}
"""True for all others."""


def parts(metric: str, outputs: Array, truth: Array, spec: Any) -> Array:
    """Rows of a metric: (samples or pairs, whatever it needs)."""
    return PARTS[metric](outputs.astype(np.float64), truth, spec or {})


def score(metric: str, rows: Array) -> float:
    """The metric of those rows."""
    return WHOLE.get(metric, _mean)(rows)


def drop(metric: str, float_score: float, other: float) -> float:
    """How much worse, in the metric's unit."""
    return float_score - other if HIGHER_IS_BETTER.get(metric, True) else other - float_score


def noise(rows: Array, of: Callable[[Array], float], seed: int = 0) -> float:
    """Twice the standard deviation of a figure over samples that are drawn again."""
    random = np.random.default_rng(seed)
    found = [of(rows[random.integers(0, len(rows), len(rows))]) for _ in range(DRAWS)]
    return float(2 * np.std(found))


def energies(reference: Array, outputs: Array) -> Array:
    """Energy of the signal and of the error, a row for each sample."""
    signal = reference.reshape(len(reference), -1).astype(np.float64)
    error = outputs.reshape(len(outputs), -1) - signal
    return np.stack([(signal**2).sum(axis=1), (error**2).sum(axis=1)], axis=1)


def sqnr_db(rows: Array) -> float:
    """Signal to quantization noise of all samples together, at most 200 dB."""
    signal, error = rows.sum(axis=0)
    return float(min(200.0, 10 * np.log10(signal / error))) if error > 0 and signal > 0 else 200.0


def _mean(rows: Array) -> float:
    return float(rows.mean())


def _top1(outputs: Array, truth: Array, _spec: Any) -> Array:
    return (outputs.reshape(len(outputs), -1).argmax(axis=1) == truth.reshape(-1)).astype(float)


def _mse(outputs: Array, truth: Array, _spec: Any) -> Array:
    return ((outputs.reshape(truth.shape) - truth) ** 2).reshape(len(truth), -1).mean(axis=1)


def _mae(outputs: Array, truth: Array, _spec: Any) -> Array:
    return np.abs(outputs.reshape(truth.shape) - truth).reshape(len(truth), -1).mean(axis=1)


def _psnr(outputs: Array, truth: Array, spec: Any) -> Array:
    cut = slice(spec.get("border", 0), -spec.get("border", 0) or None)
    error = (np.clip(outputs, 0, 1) - truth)[:, cut, cut] ** 2
    return -10 * np.log10(error.reshape(len(error), -1).mean(axis=1))


def _miou(outputs: Array, truth: Array, spec: Any) -> Array:
    """Of each class: pixels that are hit, and those that either side names."""
    chosen, known = outputs.argmax(axis=-1), truth != spec.get("ignore", -1)
    rows = []
    for one, real, use in zip(chosen, truth, known, strict=True):
        sides = [(one[use] == k, real[use] == k) for k in range(outputs.shape[-1])]
        rows.append([value for a, b in sides for value in ((a & b).sum(), (a | b).sum())])
    return np.array(rows, float)


def _whole_miou(rows: Array) -> float:
    hits, either = rows.sum(axis=0).reshape(-1, 2).T
    return float((hits[either > 0] / either[either > 0]).mean())


def _cosines(one: Array, other: Array) -> Array:
    a, b = one.reshape(len(one), -1), other.reshape(len(other), -1).astype(float)
    return (a * b).sum(axis=1) / np.maximum(np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1), 1e-30)


def _pairs(outputs: Array, truth: Array, _spec: Any) -> Array:
    return np.stack([_cosines(outputs[::2], outputs[1::2]), truth.reshape(-1)], axis=1)


def _whole_pairs(rows: Array) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(rows[:, 0], rows[:, 1]).statistic)


PARTS: dict[str, Callable[[Array, Array, Any], Array]] = {
    "top1": _top1,
    "mse": _mse,
    "mae": _mae,
    "psnr": _psnr,
    "miou": _miou,
    "cosine": lambda outputs, truth, _: _cosines(outputs, truth),
    "pair_spearman": _pairs,
}
WHOLE = {"miou": _whole_miou, "pair_spearman": _whole_pairs}
