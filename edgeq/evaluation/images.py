"""Metrics of models whose output is a picture with values 0..1."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from edgeq.datasets.truth import plain
from edgeq.errors import DatasetError
from edgeq.types import LabelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]
    Picture = NDArray[np.float64]

PSNR_LIMIT_DB = 100.0
_RADIUS, _SIGMA = 5, 1.5
_CHANNELS = (1, 3, 4)


def psnr(outputs: Array, labels: Array, spec: LabelSpec) -> float:
    """Peak signal-to-noise ratio in dB for a peak of 1, averaged over pictures.

    Outputs are clipped to 0..1 and `border` pixels are cut off on each side. Equal pictures count 100 dB.
    """
    return float(np.mean([_psnr(a, b) for a, b in _pictures(outputs, labels, spec)]))


def ssim(outputs: Array, labels: Array, spec: LabelSpec) -> float:
    """Structural similarity, averaged over channels and pictures; clipped and cut as for psnr.

    Gaussian window of 11x11, sigma 1.5, K1 0.01, K2 0.03, where it fits whole (Wang et al. 2004).
    """
    return float(np.mean([_ssim(a, b) for a, b in _pictures(outputs, labels, spec)]))


def _psnr(picture: Picture, truth: Picture) -> float:
    error = float(np.mean((picture - truth) ** 2))
    return min(PSNR_LIMIT_DB, -10 * np.log10(error)) if error > 0 else PSNR_LIMIT_DB


def _ssim(x: Picture, y: Picture) -> float:
    if min(x.shape[:2]) < 2 * _RADIUS + 1:
        raise DatasetError("ssim needs pictures of at least 11x11 pixels inside the border")
    mean_x, mean_y = _blurred(x), _blurred(y)
    var_x, var_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    covariance = _blurred(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    top = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    return float(np.mean(top / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))))


def _blurred(picture: Picture) -> Picture:
    """Gaussian mean around each pixel that has a whole window."""
    weights = np.exp(-0.5 * (np.arange(-_RADIUS, _RADIUS + 1) / _SIGMA) ** 2)
    weights /= weights.sum()
    height, width = (size - 2 * _RADIUS for size in picture.shape[:2])
    rows = sum(w * picture[k : k + height] for k, w in enumerate(weights))
    return np.asarray(sum(w * rows[:, k : k + width] for k, w in enumerate(weights)))


def _pictures(outputs: Array, labels: Array, spec: LabelSpec) -> Iterator[tuple[Picture, Picture]]:
    """Pairs of height x width x channel in float64, clipped and cut; raises DatasetError."""
    for output, label in zip(outputs, labels, strict=True):
        picture, truth = _upright(output), _upright(label)
        if picture.shape != truth.shape:
            raise DatasetError(f"labels of {label.shape} for an output of {output.shape}")
        cut = slice(spec.border, -spec.border or None)
        picture, truth = np.clip(picture, 0, 1)[cut, cut], truth[cut, cut]
        if not picture.size:
            raise DatasetError(f"a border of {spec.border} leaves nothing of the picture")
        yield picture, truth


def _upright(sample: Array) -> Picture:
    """Height x width x channel of a picture that may be channel first or have unit axes."""
    picture = sample.reshape(plain(sample.shape)).astype(np.float64)
    if picture.ndim == 2:
        return picture[:, :, np.newaxis]
    if picture.ndim != 3:
        raise DatasetError(f"an output of {sample.shape} is not a picture")
    first = picture.shape[0] in _CHANNELS and picture.shape[2] not in _CHANNELS
    return np.moveaxis(picture, 0, 2) if first else picture
