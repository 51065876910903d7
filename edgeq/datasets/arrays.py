"""Arrays of an `.npz` file, read one row at a time.

`numpy.load` unpacks a whole array; here only one row is in memory at any time, in the data type that is
stored, and the declared size is checked before anything is unpacked. Format: NumPy's `lib.format`, zip.
"""

from __future__ import annotations

import ast
import contextlib
import lzma
import math
import struct
import zipfile
import zlib
from pathlib import Path
from types import MappingProxyType
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq.datasets.files import regular
from edgeq.errors import DatasetError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

ARRAY_LIMIT_BYTES = 4 << 30  # of a packed array; one stored as it is cannot be larger than its file
ROW_LIMIT_BYTES = 256 << 20
_HEADER_LIMIT_BYTES = 4096
_LENGTH_FIELDS = MappingProxyType({1: "<H", 2: "<I", 3: "<I"})
_PROBLEMS = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,  # an encrypted member, or a packing that zipfile does not know
    ValueError,
)
_KINDS = MappingProxyType({"U": "text", "S": "text", "O": "pickled Python objects", "c": "complex numbers"})


class Header(NamedTuple):
    """What the front of an `.npy` says; `size_bytes` is the front's own size."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    size_bytes: int


class Rows:
    """The rows (first axis) of one array of an `.npz`; raises DatasetError.

    `shape` and `dtype` are of one row as it is stored. Reading forwards streams; reading backwards
    unpacks from the start again.
    """

    def __init__(self, path: Path, array: str) -> None:
        self.where = f"{path} ({array})"
        with contextlib.ExitStack() as undo:  # closes what was opened unless all goes well
            archive = undo.enter_context(_archive(path))
            member = _member(archive, array, path)
            try:
                self._stream = undo.enter_context(archive.open(member))
                header = _header(self._stream, self.where)
            except _PROBLEMS as error:
                raise _problem(error, self.where) from error
            _check(header, member, self.where)
            self.count, self.shape, self.dtype = header.shape[0], header.shape[1:], header.dtype
            self._start = header.size_bytes
            self._row_bytes = math.prod(self.shape) * self.dtype.itemsize
            self._whole = self._transposed(header) if header.fortran and len(header.shape) > 1 else None
            self._files = undo.pop_all()

    def read(self, index: int) -> Array:
        """One row; raises DatasetError when the file is broken there."""
        if self._whole is not None:
            return np.ascontiguousarray(self._whole[index])
        content = self._bytes(self._start + index * self._row_bytes, self._row_bytes)
        return np.frombuffer(content, dtype=self.dtype).reshape(self.shape)

    def close(self) -> None:
        """Close the file."""
        self._files.close()

    def _bytes(self, offset: int, size: int) -> bytes:
        try:
            if self._stream.tell() != offset:
                self._stream.seek(offset)
            content = self._stream.read(size)
        except _PROBLEMS as error:
            raise _problem(error, self.where) from error
        if len(content) != size:
            raise DatasetError("the file ends in the middle of the array", where=self.where)
        return content

    def _transposed(self, header: Header) -> Array:
        """All of a column-major array: its rows are not contiguous, so it cannot be streamed."""
        size = self.count * self._row_bytes
        if size > ROW_LIMIT_BYTES:
            raise DatasetError(
                "too large to be stored column by column",
                where=self.where,
                hint="save it through numpy.ascontiguousarray",
            )
        return np.frombuffer(self._bytes(self._start, size), dtype=self.dtype).reshape(header.shape, order="F")


def names(path: Path) -> list[str]:
    """Names of the arrays in an `.npz`; raises DatasetError."""
    with _archive(path) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def _archive(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(regular(path))
    except _PROBLEMS as error:
        raise DatasetError("not an .npz file (a zip of arrays)", where=str(path)) from error


def _member(archive: zipfile.ZipFile, array: str, path: Path) -> zipfile.ZipInfo:
    try:
        return archive.getinfo(f"{array}.npy")
    except KeyError as error:
        found = [name.removesuffix(".npy") for name in archive.namelist()]
        listed = (", ".join(found[:20]) or "none") + (" ..." if len(found) > 20 else "")
        raise DatasetError(f"no array {array!r}; it has {listed}", where=str(path)) from error


def _problem(error: Exception, where: str) -> DatasetError:
    return DatasetError(f"broken .npz: {str(error)[:200] or type(error).__name__}", where=where)


def _header(stream: IO[bytes], where: str) -> Header:
    """Shape and data type at the front of an `.npy`. Nothing longer than 4 KiB is read or evaluated."""
    front = stream.read(_HEADER_LIMIT_BYTES)
    field = _LENGTH_FIELDS.get(front[6] if len(front) > 6 else 0)
    if not front.startswith(b"\x93NUMPY") or field is None:
        raise DatasetError("not an array in NumPy's format", where=where)
    (length,) = struct.unpack_from(field, front, 8)
    start = 8 + struct.calcsize(field)
    if start + length > len(front):
        raise DatasetError("the array's header is cut off or too long", where=where)
    shape, dtype, fortran = _described(front[start : start + length].decode("latin-1"), where)
    return Header(shape, dtype, fortran, start + length)


def _described(text: str, where: str) -> tuple[tuple[int, ...], np.dtype[Any], bool]:
    try:
        entries = ast.literal_eval(text.strip())
        shape, fortran = entries["shape"], entries["fortran_order"]
        dtype = np.dtype(entries["descr"]) if isinstance(entries["descr"], str) else None
    except (ValueError, SyntaxError, TypeError, KeyError, RecursionError, MemoryError) as error:
        raise DatasetError("the array's header is not NumPy's", where=where) from error
    if not isinstance(shape, tuple) or any(type(n) is not int or n < 0 for n in shape) or type(fortran) is not bool:
        raise DatasetError("the array's header is not NumPy's", where=where)
    if dtype is None or dtype.kind not in "biuf":
        kind = _KINDS.get(dtype.kind if dtype else "", "records")
        raise DatasetError(f"the array holds {kind}; only numbers are read", where=where)
    return shape, dtype, fortran


def _check(header: Header, member: zipfile.ZipInfo, where: str) -> None:
    """Whether an array has samples and is as large as it says, and no zip bomb."""
    if not header.shape:
        raise DatasetError("a single number; samples must be on the first axis", where=where)
    size = math.prod(header.shape) * header.dtype.itemsize
    if size + header.size_bytes != member.file_size:
        raise DatasetError(
            f"the array says it has {size} bytes, the file has {member.file_size - header.size_bytes}", where=where
        )
    if size > ARRAY_LIMIT_BYTES and member.compress_type != zipfile.ZIP_STORED:
        raise DatasetError("the packed array is larger than 4 GiB", where=where, hint="save it with numpy.savez")
    if math.prod(header.shape[1:]) * header.dtype.itemsize > ROW_LIMIT_BYTES:
        raise DatasetError("one sample is larger than 256 MiB", where=where)
