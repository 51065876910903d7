"""What each kind of quantizer makes of given values: real numbers in, the real numbers that its codes stand for out.

Values are channels by rows, (channels, n). Ranges are those of the values themselves (min-max), so that the table
compares the grids, not the clipping.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeq.quantization import codebook as codebooks

BITS = 8
OCTAVE_STEPS = 8
"""Levels of the logarithmic quantizer from one power of two to the next."""
SQNR_LIMIT_DB = 200.0

Floats: TypeAlias = NDArray[np.float64]


def symmetric(values: Floats, bits: int = BITS) -> Floats:
    """Equal steps from -max to max, zero in the middle: 2^bits - 1 levels, one scale for each row of `values`."""
    steps = 2 ** (bits - 1) - 1
    return _rounded(values, np.abs(values).max(axis=1, keepdims=True, initial=0) / steps, -steps, steps)


def asymmetric(values: Floats, bits: int = BITS) -> Floats:
    """Equal steps from min to max, widened to hold zero, which is a level of its own: 2^bits levels for each row."""
    low = values.min(axis=1, keepdims=True, initial=0)
    scale = (values.max(axis=1, keepdims=True, initial=0) - low) / (2**bits - 1)
    zero = np.rint(np.divide(-low, scale, out=np.zeros_like(low), where=scale > 0))
    return _rounded(values, scale, -zero, 2**bits - 1 - zero)


def power_of_two(values: Floats, bits: int = BITS) -> Floats:
    """As `symmetric`, with the smallest power of two as scale that clips nothing: rescaling is a shift."""
    steps = 2 ** (bits - 1) - 1
    needed = np.abs(values).max(axis=1, keepdims=True, initial=0) / steps
    scale = np.exp2(np.ceil(np.log2(np.where(needed > 0, needed, 1))))
    return _rounded(values, np.where(needed > 0, scale, 0), -steps, steps)


def logarithmic(values: Floats, bits: int = BITS) -> Floats:
    """A sign and a power of two in eighths: levels +-max * 2^(-k / 8), and zero; 2^bits - 1 levels for each row."""
    largest = np.abs(values).max(axis=1, keepdims=True, initial=0)
    last = 2 ** (bits - 1) - 2
    share = np.divide(np.abs(values), largest, out=np.zeros_like(values), where=largest > 0)
    codes = np.minimum(np.rint(-OCTAVE_STEPS * np.log2(np.where(share > 0, share, 1))), last)
    smallest = largest * 2.0 ** (-last / OCTAVE_STEPS)
    found = np.sign(values) * largest * np.exp2(-codes / OCTAVE_STEPS)
    return np.where(np.abs(values) < smallest / 2, 0.0, found)


def k_means(values: Floats, bits: int = BITS) -> Floats:
    """The nearest of 2^bits values that k-means finds for all rows together."""
    return codebooks.nearest(values, codebooks.codebook(values, 2**bits)) if values.size else values


def _rounded(values: Floats, scale: Floats, low: Any, high: Any) -> Floats:
    codes = np.rint(np.divide(values, scale, out=np.zeros_like(values), where=scale > 0))
    return np.asarray(np.clip(codes, low, high) * scale)


def _per_tensor(quantizer: Callable[[Floats], Floats], values: Floats) -> Floats:
    return quantizer(values.reshape(1, -1)).reshape(values.shape)


QUANTIZERS: Mapping[str, Callable[[Floats], Floats]] = {
    "symmetric_per_tensor": functools.partial(_per_tensor, symmetric),
    "symmetric_per_channel": symmetric,
    "asymmetric_per_tensor": functools.partial(_per_tensor, asymmetric),
    "asymmetric_per_channel": asymmetric,
    "power_of_two": functools.partial(_per_tensor, power_of_two),
    "logarithmic": functools.partial(_per_tensor, logarithmic),
    "k_means": k_means,
    "k_means_4_bit": functools.partial(k_means, bits=4),
}
"""By name; 8 bits where the name says nothing else."""


def costs(values: Floats) -> dict[str, float | None]:
    """SQNR in dB of each quantizer on these values; None where they are all zero or not finite."""
    if not np.isfinite(values).all():
        return dict.fromkeys(QUANTIZERS)
    return {name: sqnr_db(values, quantizer(values)) for name, quantizer in QUANTIZERS.items()}


def sqnr_db(values: NDArray[Any], found: NDArray[Any]) -> float | None:
    """10 log10(sum of squares / sum of squared errors), at most 200 dB; None without a signal."""
    real = values.astype(np.float64)
    return ratio_db(float(np.sum(np.square(real))), float(np.sum(np.square(real - found))))


def ratio_db(signal: float, noise: float) -> float | None:
    """A ratio of energies in dB, within 200 dB; None without a signal or where one is not finite."""
    if not (math.isfinite(signal) and math.isfinite(noise)) or signal <= 0:
        return None
    if noise <= 0:
        return SQNR_LIMIT_DB
    return max(-SQNR_LIMIT_DB, min(SQNR_LIMIT_DB, 10 * (math.log10(signal) - math.log10(noise))))


def by_channel(values: NDArray[Any], axis: int | None) -> Floats:
    """An array as (channels, n) in float64; one channel without an axis."""
    wide = np.asarray(values, np.float64)
    if axis is None or wide.ndim == 0:
        return wide.reshape(1, -1)
    moved = np.moveaxis(wide, axis, 0)
    return moved.reshape(moved.shape[0], -1)


def channel_spread(values: Floats) -> float | None:
    """Largest over smallest magnitude of the channels that are not all zero: what one scale for all must span."""
    largest = np.abs(values).max(axis=1, initial=0)
    largest = largest[largest > 0]
    return float(largest.max() / largest.min()) if largest.size else None
