"""Bundle for a microcontroller: the model as C, the kernels that it needs, a self-test, and what builds all that.

The folder is self-contained: `make check` in it builds for this computer and compares golden vectors byte for byte,
`make emulate` does the same on an emulated core of the target's kind, `make board` makes images for a real board.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import builders, store
from edgeq.builders.mcu import arduino, boards, files, machines
from edgeq.codegen import generate, headers, reference
from edgeq.errors import BuildError
from edgeq.types import Bundle, Manifest, QuantizedModel, Target

if TYPE_CHECKING:
    from edgeq.runtimes import Array

RUNTIME = ("eq_selftest.c", "eq_text.c", "eq_watermark.c")
_HEADERS = ("eq_golden.h", "eq_port.h", "eq_text.h", "eq_watermark.h")


def build(
    quantized: QuantizedModel,
    folder: Path,
    samples: Iterable[Sequence[Array]],
    out: Path,
    name: str,
    *,
    target: Target,
) -> Bundle:
    """Build the bundle `out`; raises BuildError, naming the operator, for what has no kernel, and OutputError."""
    if quantized.artifact.format != "tflite":
        raise BuildError(f"C is generated from TFLite, the model is {quantized.artifact.format}")
    with builders.whole(out) as place:
        manifest = _fill(place, quantized, folder, samples, name, target)
    return Bundle(path=str(out), manifest=manifest)


def _fill(
    place: Path,
    quantized: QuantizedModel,
    folder: Path,
    samples: Iterable[Sequence[Array]],
    name: str,
    target: Target,
) -> Manifest:
    boards.board(target)  # a name that is not known is found before anything is computed
    model = builders.copy_model(place, quantized, folder)
    compiled = generate.compile_model(model)
    _check_ram(compiled, target)
    oracle = reference.open(model)
    vectors = builders.write_golden(place / "golden.npz", model, "litert", samples, oracle)
    builders.write_contract(place, quantized)
    write_firmware(place, compiled, quantized, target, name)
    manifest = builders.describe(place, quantized, name, model=model.name, entry_point="model.c", vectors=vectors)
    manifest = dataclasses.replace(
        manifest,
        estimates={"arena_bytes": compiled.arena_bytes, "constant_bytes": compiled.constant_bytes},
    )
    store.write(place / "manifest.json", manifest)
    return manifest


def _check_ram(compiled: generate.Compiled, target: Target) -> None:
    free = target.memory.ram_bytes - target.memory.reserved_ram_bytes
    if compiled.arena_bytes > free:
        raise BuildError(
            f"the arena takes {compiled.arena_bytes} bytes; {target.name} has {free} for it", where=target.name
        )


def write_firmware(
    place: Path, compiled: generate.Compiled, quantized: QuantizedModel, target: Target, name: str
) -> None:
    """The sources, the kernels and the build files; `golden.npz` and the model are in `place` already."""
    source = headers.folder()
    for kernel in compiled.kernels:
        _copy(source / "kernels" / kernel, place / "kernels")
    for part in (*RUNTIME, *_HEADERS):
        _copy(source / "runtime" / part, place / "runtime")
    for part in files.PROTOCOL:
        _copy(source / "protocol" / part, place / "protocol")
    ports = ["host", machines.port(target)] if machines.machine(target) else ["host"]
    for port in ports:
        for path in sorted((source / "ports" / port).glob("*.[ch]")):
            _copy(path, place / "ports" / port)
    store.write_bytes(place / "model.c", compiled.source.encode())
    store.write_bytes(place / "model.h", compiled.header.encode())
    words = files.words(place, compiled, quantized, target, name)
    for template, written in files.TEMPLATES.items():
        store.write_bytes(place / written, files.render(template, words).encode())
    for script, memory in files.linkers(target).items():
        store.write_bytes(place / script, files.render("linker.ld.j2", memory).encode())
    board = boards.board(target)
    if board:
        _write_board(place, board, source, words)
    arduino.write(place, compiled, words)
    store.write(place / "sizes.json", files.sizes(place, compiled, target))


def _write_board(place: Path, board: boards.Board, source: Path, words: Mapping[str, object]) -> None:
    """The port of a board, and what turns its image into UF2 where its boot ROM takes that."""
    for path in boards.files(board):
        _copy(source / "ports" / path, (place / "ports" / path).parent)
    store.write_bytes(place / "ports/board/eq_board.h", files.render("eq_board.h.j2", words).encode())
    if board.uf2_family:
        _copy(source / "tools/eq_uf2.c", place / "tools")


def _copy(path: Path, folder: Path) -> None:
    store.make_folder(folder)
    with store.writing(folder / path.name):
        shutil.copyfile(path, folder / path.name)
