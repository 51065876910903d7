"""Stored vectors on their way to the device and back, a chunk at a time."""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import store
from edgeq.errors import CommandFailed, DatasetError
from edgeq.types import Port

if TYPE_CHECKING:
    from numpy.typing import NDArray

CHUNK_BYTES = 16 << 20
DYNAMIC_LIMIT_BYTES = 256 << 20
"""Largest output of one chunk where the contract leaves its size open."""
_MARGIN_BYTES = 64 << 10
_HEADER = re.compile(
    rb"\x93NUMPY\x01\x00(?s:..)\{'descr': '([<|][a-z]\d{1,2})', 'fortran_order': False, "
    rb"'shape': \(((?:\d{1,12}, )*\d{1,12},?)\), \} *\n"
)
"""The header as NumPy writes it; its own reader evaluates any literal and fails in a dozen ways."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """A bundle's io.json."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def batch(self) -> int:
        """Vectors that the model takes at once; 1 where its first axis is dynamic."""
        first = self.inputs[0].shape[:1] if self.inputs else ()
        return first[0] if first and first[0] > 0 else 1


def check_inputs(contract: Contract, inputs: Sequence[NDArray[Any]]) -> int:
    """Number of vectors; raises DatasetError when the arrays do not fit the contract."""
    counts = {array.shape[:1] for array in inputs}
    if len(inputs) != len(contract.inputs) or len(counts) != 1 or not all(map(sum, counts)):
        raise DatasetError(f"the model has {len(contract.inputs)} inputs with one number of vectors each")
    for port, array in zip(contract.inputs, inputs, strict=True):
        if array.dtype != port.dtype or not _fits(port.shape[1:], array.shape[1:]):
            told = f"{array.dtype}{list(array.shape)}, the model takes {port.dtype}{list(port.shape)}"
            raise DatasetError(f"{port.name}: {told}")
    return len(inputs[0])


def _fits(wanted: Sequence[int], shape: Sequence[int]) -> bool:
    return len(wanted) == len(shape) and all(want in (-1, size) for want, size in zip(wanted, shape, strict=True))


def chunks(contract: Contract, count: int) -> Iterator[tuple[int, int]]:
    """(start, stop) of each chunk: about 16 MiB of inputs and outputs together, whole batches."""
    vector_bytes = sum(_vector_bytes(port) for port in (*contract.inputs, *contract.outputs))
    size = max(1, CHUNK_BYTES // max(1, vector_bytes) // contract.batch) * contract.batch
    for start in range(0, count, size):
        yield start, min(start + size, count)


def _vector_bytes(port: Port) -> int:
    return math.prod(max(1, size) for size in port.shape[1:]) * np.dtype(port.dtype).itemsize


def write_inputs(contract: Contract, inputs: Sequence[NDArray[Any]], start: int, stop: int, path: Path) -> int:
    """Write a chunk, its last vector repeated until the batch is full; returns how many vectors it has."""
    missing = -(stop - start) % contract.batch
    parts: dict[str, Any] = {}
    for number, array in enumerate(inputs):
        part = array[start:stop]
        parts[f"input_{number}"] = np.concatenate([part, *[part[-1:]] * missing]) if missing else part
    with store.writing(path), path.open("wb") as stream:
        np.savez(stream, **parts)
    return stop - start + missing


def limit_bytes(contract: Contract, sent: int) -> int:
    """The most that the outputs of a chunk may take as a file."""
    if any(-1 in port.shape[1:] for port in contract.outputs):
        return DYNAMIC_LIMIT_BYTES
    groups = sent // contract.batch
    return sum(_rows(contract, port, groups) * _vector_bytes(port) for port in contract.outputs) + _MARGIN_BYTES


def _rows(contract: Contract, port: Port, groups: int) -> int:
    """Length of an output's first axis over so many batches."""
    return groups * (port.shape[0] if port.shape and port.shape[0] > 0 else contract.batch)


def read_outputs(contract: Contract, path: Path, sent: int) -> list[NDArray[Any]]:
    """Arrays of the device's .npz; raises CommandFailed unless each has the contract's dtype and shape.

    Sizes and headers are checked before memory is taken; nothing is unpickled or decompressed.
    """
    names = [f"output_{number}.npy" for number in range(len(contract.outputs))]
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if sorted(members) != sorted(names) or len(archive.infolist()) != len(names):
                raise CommandFailed("the device's outputs are not those of the contract")
            groups = sent // contract.batch
            return [
                _array(archive, members[name], port, _rows(contract, port, groups))
                for name, port in zip(names, contract.outputs, strict=True)
            ]
    except (zipfile.BadZipFile, ValueError, EOFError, OSError, NotImplementedError, RuntimeError) as error:
        raise CommandFailed(f"the device's outputs cannot be read: {error}") from error


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo, port: Port, rows: int) -> NDArray[Any]:
    if member.compress_type != zipfile.ZIP_STORED or member.file_size > DYNAMIC_LIMIT_BYTES + _MARGIN_BYTES:
        raise CommandFailed(f"the device's output {port.name} is compressed or too big")
    content = memoryview(archive.read(member))
    end = 10 + int.from_bytes(content[8:10], "little")
    header = _HEADER.fullmatch(content, 0, end)
    if header is None:
        raise CommandFailed(f"the device's output {port.name} has an unknown header")
    stored, dtype = header[1].decode(), np.dtype(port.dtype)
    shape = tuple(int(size) for size in header[2].split(b",") if size.strip())
    wanted = (rows, *port.shape[1:])
    if stored != dtype.str or not _fits(wanted, shape):
        raise CommandFailed(f"the device's output {port.name} is {stored}{list(shape)}, not {dtype.str}{list(wanted)}")
    return np.frombuffer(content[end:], dtype).reshape(shape)


class Results:
    """Outputs of all chunks, in files that are mapped into memory."""

    def __init__(self, contract: Contract, count: int, workdir: Path) -> None:
        self.arrays: list[NDArray[Any]] = []
        self._contract = contract
        self._count = count
        self._workdir = workdir

    def add(self, outputs: Sequence[NDArray[Any]], start: int, stop: int) -> None:
        """Keep a chunk's outputs without the vectors that only filled its last batch."""
        for number, (port, output) in enumerate(zip(self._contract.outputs, outputs, strict=True)):
            per_vector = self._per_vector(port)
            if len(self.arrays) <= number:
                self.arrays.append(self._open(number, (self._count * per_vector, *output.shape[1:]), output.dtype))
            if output.shape[1:] != self.arrays[number].shape[1:]:
                raise CommandFailed(f"the device's output {port.name} changes its shape from chunk to chunk")
            self.arrays[number][start * per_vector : stop * per_vector] = output[: (stop - start) * per_vector]

    def _per_vector(self, port: Port) -> int:
        rows = _rows(self._contract, port, 1)
        if rows % self._contract.batch:
            raise CommandFailed(f"output {port.name} has {rows} rows for {self._contract.batch} vectors")
        return rows // self._contract.batch

    def _open(self, number: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        path = self._workdir / f"output_{number}.npy"
        with store.writing(path):
            mapped: NDArray[Any] = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape)
        return mapped
