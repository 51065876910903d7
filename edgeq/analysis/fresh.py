"""Weights quantized anew, in the data type and granularity that a file has: what sound quantization would cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.quantization import quantizers
from edgeq.types import Quantization, TensorSpec

BITS = {"int2": 2, "uint2": 2, "int4": 4, "uint4": 4, "int8": 8, "uint8": 8, "int16": 16, "uint16": 16}


def fresh(values: NDArray[Any], stored: TensorSpec) -> NDArray[np.float32] | None:
    """The values over their own range in the stored tensor's data type; None for a type that is no weight's."""
    found, bits = stored.quantization, BITS.get(stored.dtype)
    if found is None or bits is None or not np.isfinite(values).all():
        return None
    quantizer = quantizers.symmetric if _is_symmetric(found, stored.dtype, bits) else quantizers.asymmetric
    axis = axis_of(found, values.ndim)
    made = quantizer(quantizers.by_channel(values, axis), bits)
    return unfolded(made, values.shape, axis).astype(np.float32)


def _is_symmetric(found: Quantization, dtype: str, bits: int) -> bool:
    middle = 2 ** (bits - 1) if dtype.startswith("u") else 0
    return all(zero == middle for zero in found.zero_points)


def axis_of(found: Quantization | None, rank: int) -> int | None:
    """The axis of a per-channel scale; None per tensor."""
    if found is None or len(found.scales) < 2 or not rank:
        return None
    return (found.axis or 0) % rank


def unfolded(rows: NDArray[Any], shape: tuple[int, ...], axis: int | None) -> NDArray[Any]:
    """Undo `quantizers.by_channel`."""
    if axis is None:
        return rows.reshape(shape)
    moved = (shape[axis], *shape[:axis], *shape[axis + 1 :])
    return np.moveaxis(rows.reshape(moved), 0, axis)
