"""Constants of an ONNX model: their bytes checked, external files looked up, small values read."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from edgeq.errors import ModelError
from edgeq.models.tensors import checked_shape, elements, tensor_bytes
from edgeq.types import Shape

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

DTYPES = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "str",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
    14: "complex64",
    15: "complex128",
    16: "bfloat16",
    17: "float8_e4m3fn",
    18: "float8_e4m3fnuz",
    19: "float8_e5m2",
    20: "float8_e5m2fnuz",
    21: "uint4",
    22: "int4",
    23: "float4_e2m1fn",
    24: "float8_e8m0fnu",
    25: "uint2",
    26: "int2",
    27: "float6_e2m3fn",
    28: "float6_e3m2fn",
}
"""ONNX TensorProto.DataType -> the name that NumPy (or ml_dtypes) uses."""

_EXTERNAL = 1
_READ_ELEMENTS = 1 << 16
_TYPED = {
    "float_data": ("float32", "complex64"),
    "int64_data": ("int64",),
    "double_data": ("float64", "complex128"),
    "uint64_data": ("uint64", "uint32"),
}
_PACKED = {"int4": 2, "uint4": 2, "float4_e2m1fn": 2, "int2": 4, "uint2": 4}


def check(tensor: onnx.TensorProto, path: Path) -> tuple[str, Shape, Path | None]:
    """(dtype, shape, external file) of a constant; raises ModelError where its data does not fit its shape."""
    place = f"constant {tensor.name[:60]!r}"
    dtype = DTYPES.get(tensor.data_type)
    if dtype is None:
        raise ModelError(f"{place} has the unknown data type {tensor.data_type}", where=str(path))
    shape = checked_shape(tensor.dims, dtype, str(path), place)
    if -1 in shape:
        raise ModelError(f"{place} has a dynamic axis; a constant's shape must be fixed", where=str(path))
    if tensor.data_location == _EXTERNAL:
        return dtype, shape, _outside(tensor, path, tensor_bytes(shape, dtype))[0]
    needed, held, unit = _needed_and_held(tensor, dtype, shape)
    if needed != held:
        raise ModelError(f"{place} holds {held} {unit}; shape {list(shape)} of {dtype} takes {needed}", where=str(path))
    return dtype, shape, None


def values(tensor: onnx.TensorProto, path: Path) -> list[float] | None:
    """Values of a checked constant as numbers, or None where they are many or no plain numbers."""
    import numpy as np

    dtype, shape, _ = check(tensor, path)
    if elements(shape) > _READ_ELEMENTS or dtype == "str" or dtype.startswith("complex"):
        return None
    stored = array(tensor, path)
    return None if stored is None else [float(value) for value in np.asarray(stored, np.float64).ravel()]


def array(tensor: onnx.TensorProto, path: Path) -> npt.NDArray[Any] | None:
    """A constant as an array; None for external data of a type that NumPy has not.

    External data is mapped, not loaded. Raises ModelError where the data does not fit the shape.
    """
    import numpy as np
    from onnx import numpy_helper

    dtype, shape, outside = check(tensor, path)
    if outside is None:
        stored: npt.NDArray[Any] = numpy_helper.to_array(tensor)
        return stored
    if dtype not in np.sctypeDict:
        return None
    file, offset, length = _outside(tensor, path, tensor_bytes(shape, dtype))
    kind = np.dtype(dtype).newbyteorder("<")
    return np.memmap(file, kind, "r", offset, shape) if length else np.empty(shape, kind)


def _needed_and_held(tensor: onnx.TensorProto, dtype: str, shape: Shape) -> tuple[int, int, str]:
    count = elements(shape)
    if dtype == "str":
        return count, len(tensor.string_data), "strings"
    if tensor.HasField("raw_data"):
        return tensor_bytes(shape, dtype), len(tensor.raw_data), "bytes"
    field = next((field for field, dtypes in _TYPED.items() if dtype in dtypes), "int32_data")
    per_number = _PACKED.get(dtype, 1)
    needed = -(-count // per_number) * (2 if dtype.startswith("complex") else 1)
    return needed, len(getattr(tensor, field)), "numbers"


def _outside(tensor: onnx.TensorProto, path: Path, size_bytes: int) -> tuple[Path, int, int]:
    """(file, offset, length) of external data; refused unless it is a file within the model's own folder."""
    place = f"external data of {tensor.name[:60]!r}"
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = _inside(location, path, place)
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or size_bytes)
        total = file.stat().st_size
    except ValueError as error:
        raise ModelError(f"{place}: offset and length must be whole numbers", where=str(path)) from error
    except OSError as error:
        raise ModelError(f"{place}: {file.name} cannot be read: {error.strerror}", where=str(path)) from error
    if length != size_bytes or offset < 0 or offset + length > total:
        raise ModelError(
            f"{place}: {length} bytes at {offset} of {file.name} ({total} bytes); its shape takes {size_bytes}",
            where=str(path),
        )
    return file, offset, length


def _inside(location: str, path: Path, place: str) -> Path:
    named = PurePosixPath(location)
    if not location or "\0" in location or named.is_absolute() or ".." in named.parts or "\\" in location:
        raise ModelError(f"{place} names {location[:80]!r}, not a file in the model's folder", where=str(path))
    folder = path.resolve().parent
    try:
        file = (folder / location).resolve()
        exists = file.is_file()
    except (OSError, RuntimeError) as error:  # a name too long, a loop of links
        raise ModelError(f"{place}: {location[:80]!r} cannot be looked up", where=str(path)) from error
    if not file.is_relative_to(folder):
        raise ModelError(f"{place} names {location[:80]!r}, which leads out of the model's folder", where=str(path))
    if not exists:
        raise ModelError(f"{place} is missing", where=str(path), hint=f"put {location[:80]} beside {path.name}")
    return file
