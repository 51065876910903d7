"""From a stored sample to what the model is fed: (x * scale - mean) / std, then transpose, in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from edgeq.datasets.checks import numbers
from edgeq.errors import DatasetError
from edgeq.types import Dataset, InputSpec, Shape, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

_ARITHMETIC = ("scale", "mean", "std")


def preprocessing(dataset: Dataset, index: int) -> dict[str, object]:
    """The steps of one input (by its place in a bound dataset) as plain JSON values, without those unused.

    Keys: scale, mean, std, transpose, and for pictures resize (height, width) and color.
    """
    spec = dataset.inputs[index]
    keys = [*_ARITHMETIC, "transpose", *(("resize", "color") if spec.images is not None else ())]
    found = {key: getattr(spec, key) for key in keys}
    return {k: list(v) if isinstance(v, tuple) else v for k, v in found.items() if v is not None}


def is_real(tensor: TensorSpec) -> bool:
    """Whether an input takes real values: float, or integer with quantization parameters."""
    return tensor.dtype.startswith(("float", "bfloat")) or tensor.quantization is not None


def check(spec: InputSpec, shape: Shape, where: str) -> None:
    """Whether the steps fit the stored shape of one sample; raises DatasetError."""
    for key in _ARITHMETIC:
        wide = len(numbers(getattr(spec, key)))
        if wide > 1 and (not shape or wide != shape[-1]):
            channels = shape[-1] if shape else 1
            raise DatasetError(f"`{key}` has {wide} values, a sample has {channels} channels (last axis)", where=where)
    if spec.transpose is not None and len(spec.transpose) != len(shape):
        raise DatasetError(
            f"`transpose` names {len(spec.transpose)} axes, a sample has {len(shape)} ({shown(shape)})", where=where
        )


def outcome(spec: InputSpec, shape: Shape) -> Shape:
    """Shape of one sample after the steps."""
    return tuple(shape[axis] for axis in spec.transpose) if spec.transpose else shape


def apply(spec: InputSpec, raw: Array, tensor: TensorSpec, where: str) -> Array:
    """One sample as the model takes it, without the batch axis; raises DatasetError."""
    ready = _real(spec, raw, where) if is_real(tensor) else _whole(raw, tensor, where)
    return ready.transpose(spec.transpose) if spec.transpose else ready


def _real(spec: InputSpec, raw: Array, where: str) -> Array:
    with np.errstate(over="ignore", invalid="ignore"):
        values = raw.astype(np.float32)
        if spec.scale is not None:
            values *= np.asarray(spec.scale, dtype=np.float32)
        if spec.mean is not None:
            values -= np.asarray(spec.mean, dtype=np.float32)
        if spec.std is not None:
            values /= np.asarray(spec.std, dtype=np.float32)
    if not np.isfinite(values).all():
        raise DatasetError("holds NaN or infinity", where=where)
    return values


def _whole(raw: Array, tensor: TensorSpec, where: str) -> Array:
    """Integers as the model's data type; a value that does not fit is refused."""
    wanted = np.dtype(tensor.dtype)
    if raw.dtype.kind not in "biu":
        raise DatasetError(f"holds {raw.dtype}, input {tensor.name!r} takes whole numbers ({wanted})", where=where)
    limits = (0, 1) if wanted.kind == "b" else (np.iinfo(wanted).min, np.iinfo(wanted).max)
    if raw.size and not limits[0] <= int(raw.min()) <= int(raw.max()) <= limits[1]:
        raise DatasetError(
            f"holds {int(raw.min())} to {int(raw.max())}, input {tensor.name!r} takes {wanted}", where=where
        )
    return raw.astype(wanted)


def shown(shape: Shape) -> str:
    """`3x32x32`; a dynamic axis is `?`."""
    return "x".join("?" if n < 0 else str(n) for n in shape) or "single numbers"
