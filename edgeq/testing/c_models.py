"""Generated C compiled by the host's gcc and called from Python; LiteRT's reference kernels beside it."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen import headers
from edgeq.codegen.generate import Compiled, Port

WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SANITIZERS = ("-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
ALIGNMENT_BYTES = 16
_GUARD_BYTES = 64
_TYPES = {"int8_t": "int8", "uint8_t": "uint8", "int16_t": "int16", "int32_t": "int32", "float": "float32"}

Array = NDArray[Any]


def write(compiled: Compiled, folder: Path) -> list[Path]:
    """The generated files in `folder`, and the C files that make up the model."""
    (folder / "model.c").write_text(compiled.source)
    (folder / "model.h").write_text(compiled.header)
    kernels = headers.folder() / "kernels"
    return [folder / "model.c", *(kernels / name for name in compiled.kernels if name.endswith(".c"))]


def gcc(arguments: Sequence[object]) -> None:
    """Run the host's compiler; its complaint is the error."""
    done = subprocess.run(["gcc", *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-4000:])


def includes(folder: Path) -> list[str]:
    """Where headers are looked for."""
    return [f"-I{folder}", f"-I{headers.folder() / 'kernels'}"]


class Model:
    """A compiled model in this process. The arena has a guard behind it, which `run` checks."""

    def __init__(self, compiled: Compiled, folder: Path, *flags: str) -> None:
        sources = write(compiled, folder)
        library = folder / "model.so"
        defines = [f"-D{name}" for name in compiled.defines]
        gcc(["-O2", *WARNINGS, *defines, *flags, *includes(folder), "-shared", "-fPIC", "-o", library, *sources])
        self.compiled = compiled
        self._library = ctypes.CDLL(str(library))
        room = compiled.arena_bytes + _GUARD_BYTES + ALIGNMENT_BYTES
        self._memory = np.zeros(room, np.uint8)
        start = -self._memory.ctypes.data % ALIGNMENT_BYTES
        self.arena = self._memory[start : start + compiled.arena_bytes]
        self._guard = self._memory[start + compiled.arena_bytes :]

    def run(self, inputs: Sequence[Array], *, fresh: bool = True) -> list[Array]:
        """One inference from a fresh arena full of rubbish, or from the state that the one before left.

        Raises RuntimeError where bytes behind the arena changed.
        """
        place = ctypes.c_void_p(self.arena.ctypes.data)
        if fresh:
            self.arena[:] = 0xA5
            self._guard[:] = 0x5A
            if self._library.eq_model_reset(place):
                raise RuntimeError("the arena was refused")
        for port, values in zip(self.compiled.inputs, inputs, strict=True):
            self._view(port)[...] = values
        if self._library.eq_model_invoke(place):
            raise RuntimeError("the arena was refused")
        if (self._guard != 0x5A).any():
            raise RuntimeError("bytes behind the arena changed")
        return [self._view(port).copy() for port in self.compiled.outputs]

    def _view(self, port: Port) -> Array:
        part = self.arena[port.offset : port.offset + port.size_bytes]
        return part.view(_TYPES[port.c_type]).reshape(port.shape)


def differing_bytes(given: Sequence[Array], expected: Sequence[Array]) -> int:
    """How many bytes of all outputs differ."""
    pairs = zip(given, expected, strict=True)
    return sum(int((a.view(np.uint8) != np.ascontiguousarray(b).view(np.uint8)).sum()) for a, b in pairs)
