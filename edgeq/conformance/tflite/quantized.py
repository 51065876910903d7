"""Real numbers as a data type stores them, with their scale and zero point."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
QUANTIZED = ("int4", "int8", "uint8", "int16")
_LIMITS = {"int4": (-8, 7), "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
_TENFOLD = ("int32", "int64")


class Stored(NamedTuple):
    """A tensor's stored values, its scales and zero points (none where it has none), and the numbers they stand for."""

    values: Array
    dtype: str
    scales: tuple[float, ...]
    zeros: tuple[int, ...]
    real: Array
    axis: int = 0


class Grid(NamedTuple):
    """Scale and zero point of a whole tensor."""

    scale: float
    zero: int


def grid(dtype: str, low: float, high: float) -> Grid:
    """The grid of activations over a range: symmetric for int16, as its kernels want."""
    bottom, top = _LIMITS[dtype]
    low, high = min(low, 0.0), max(high, 0.0, low + 1e-6)
    if dtype == "int16":
        return Grid(max(-low, high) / top, 0)
    scale = (high - low) / (top - bottom)
    return Grid(scale, round(bottom - low / scale))


def activations(values: Array, dtype: str, on: Grid | None) -> Stored:
    """Activations of a data type; those without a grid stand for themselves."""
    if on is None:
        return _plain(values, dtype)
    stored = _rounded(values, np.float32(on.scale), np.int64(on.zero), dtype)
    real = (stored.astype(np.float64) - on.zero) * np.float32(on.scale)
    return Stored(stored, dtype, (on.scale,), (on.zero,), real.astype(np.float32))


def _plain(values: Array, dtype: str) -> Stored:
    """Values without a scale; whole numbers are ten times the real ones, truths those above 0.2."""
    if dtype == "bool":
        stored: Array = values > 0.2
    elif dtype in _TENFOLD:
        stored = np.round(values * 10).astype(dtype)
    else:
        stored = values.astype(dtype)
    return Stored(stored, dtype, (), (), stored.astype(np.float32))


def weights(values: Array, dtype: str, *, axis: int, per_channel: bool, symmetric: bool) -> Stored:
    """Weights of a data type, one scale for each channel or for all."""
    if dtype not in QUANTIZED:
        return _plain(values, dtype)
    bottom, top = _LIMITS[dtype]
    around = tuple(number for number in range(values.ndim) if number != axis) if per_channel else None
    if symmetric:
        scales = np.abs(values).max(axis=around, keepdims=True) / top
        zeros = np.zeros_like(scales, np.int64)
    else:
        low, high = values.min(axis=around, keepdims=True), values.max(axis=around, keepdims=True)
        scales = (high - low) / (top - bottom)
        zeros = np.round(bottom - low / scales).astype(np.int64)
    scales = scales.astype(np.float32)
    stored = _rounded(values, scales, zeros, dtype)
    real = ((stored.astype(np.float64) - zeros) * scales).astype(np.float32)
    flat = tuple(map(float, scales.ravel()))
    return Stored(stored, dtype, flat, tuple(map(int, zeros.ravel())), real, axis if per_channel else 0)


def bias(values: Array, dtype: str, scales: tuple[float, ...]) -> Stored:
    """A bias on the scales of its products, input's scale by weights' scale."""
    if dtype not in ("int32", "int64"):
        return _plain(values, dtype)
    steps = np.asarray(scales, np.float64)
    stored = np.round(values / steps).astype(dtype)
    return Stored(stored, dtype, tuple(map(float, steps)), (0,) * len(steps), (stored * steps).astype(np.float32))


def _rounded(values: Array, scales: Any, zeros: Any, dtype: str) -> Array:
    bottom, top = _LIMITS[dtype]
    steps = np.round(values.astype(np.float64) / scales) + zeros
    stored: Array = np.clip(steps, bottom, top).astype("int8" if dtype == "int4" else dtype)
    return stored


def packed(stored: Stored) -> Array:
    """The bytes of stored values: two int4 values to a byte, the first in the lower half."""
    if stored.dtype != "int4":
        return stored.values
    flat = stored.values.ravel().astype(np.uint8) & 15
    flat = np.append(flat, np.zeros(flat.size % 2, np.uint8))
    return flat[0::2] | (flat[1::2] << 4)
