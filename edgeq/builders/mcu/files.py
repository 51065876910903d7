"""The words of a firmware's generated files."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import store
from edgeq.builders.mcu import boards, machines
from edgeq.codegen.generate import Compiled, Port
from edgeq.types import QuantizedModel, Target

if TYPE_CHECKING:
    import jinja2
    import numpy as np
    from numpy.typing import NDArray

TEMPLATES = {
    "Makefile.j2": "Makefile",
    "CMakeLists.txt.j2": "CMakeLists.txt",
    "README.md.j2": "README.md",
    "io.h.j2": "io.h",
    "golden.c.j2": "golden.c",
    "model_data.h.j2": "tflm/model_data.h",
    "model_data.cc.j2": "tflm/model_data.cc",
    "resolver.h.j2": "tflm/resolver.h",
}
"""Template -> the file that it becomes."""

GOLDEN_BYTES = 256 << 10
"""Of golden vectors in flash, at most; `golden.npz` has all of them."""
STACK_BYTES = 2048
"""What the linker leaves for the stack, at least."""
_LIMITS = {"int8_t": (-128, 127), "uint8_t": (0, 255), "int16_t": (-32768, 32767)}
_RUNTIME = ("eq_selftest.c", "eq_text.c", "eq_watermark.c")
HOT = (
    *("eq_matrix.c", "eq_depthwise_conv2d.c", "eq_transpose_conv.c", "eq_add.c", "eq_mul.c", "eq_lookup.c"),
    *("eq_matrix_s16.c", "eq_depthwise_conv2d_s16.c"),
)
"""Kernels with inner loops, which a firmware compiles for speed; the rest for size."""
PROTOCOL = ("eq_protocol.c", "eq_protocol.h", "eq_protocol_main.c", "eq_protocol_own.c", "eq_protocol_own.h")
_ADDERS = {"CONV_2D": "AddConv2D", "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D", "AVERAGE_POOL_2D": "AddAveragePool2D"}
_ADDERS |= {"MAX_POOL_2D": "AddMaxPool2D", "PADV2": "AddPadV2", "PRELU": "AddPrelu", "SVDF": "AddSvdf"}
"""Where MicroMutableOpResolver's methods are spelled otherwise than the operator in camel case."""


def words(place: Path, compiled: Compiled, quantized: QuantizedModel, target: Target, name: str) -> dict[str, object]:
    """All that the templates name."""
    toolchain = target.toolchain or {}
    machine = machines.machine(target)
    port = machines.port(target) if machine else ""
    board = boards.board(target)
    model = (place / "model.tflite").read_bytes()
    return {
        "title": _plain(name),
        "target": target.name,
        "core": target.cpu.core,
        "sha256": quantized.artifact.sha256,
        "firmware": firmware(place),
        "gcc": toolchain.get("gcc", ""),
        "flags": toolchain.get("flags", ""),
        "machine": machine,
        "qemu": machines.MACHINES[machine].qemu if machine else "",
        "qemu_options": machines.qemu_options(target) if machine else "",
        "specs": machines.library(target) if machine else "",
        "defines": compiled.defines,
        "kernels": [f"kernels/{file}" for file in compiled.kernels if file.endswith(".c")],
        "hot": [f"kernels/{file}" for file in compiled.kernels if file in HOT],
        "runtime": [f"runtime/{file}" for file in _RUNTIME],
        "protocol": [
            *(f"protocol/{file}" for file in PROTOCOL if file.endswith(".c")),
            "golden.c",
            "runtime/eq_text.c",
            "runtime/eq_watermark.c",
        ],
        "host_port": _sources(place, "host"),
        "port": _sources(place, port) if port else [],
        "arena_bytes": compiled.arena_bytes,
        "constant_bytes": compiled.constant_bytes,
        "target_flash": target.memory.flash_bytes,
        "target_ram": target.memory.ram_bytes,
        "stack_bytes": STACK_BYTES,
        "inputs": _ports(compiled.inputs),
        "outputs": _ports(compiled.outputs),
        "operators": compiled.operators,
        "size_bytes": len(model),
        "bytes": listed(model),
        "adders": sorted({adder(type) for type in compiled.operators}),
        "tflm_arena_bytes": quantized.plan.memory.arena_bytes if quantized.plan.runtime == "tflite-micro" else None,
        "clock_mhz": (target.cpu.clock_hz or 0) // 1_000_000,
        **(boards.words(board) if board else {"board": None}),
        **_golden(place / "golden.npz", compiled),
    }


def linkers(target: Target) -> dict[str, dict[str, object]]:
    """Linker scripts: of the emulated machine and of the board, by the file that each becomes, with its words."""
    found: dict[str, dict[str, object]] = {}
    if machines.machine(target):
        known = machines.memories(target)
        ram = boards.Region(known.ram_origin, known.ram_bytes)
        name = machines.machine(target)
        about = f"{name}, the emulated machine of {target.name}: RAM is as large as the smaller of the two."
        flash = boards.Region(known.flash_origin, known.flash_bytes)
        found["linker.ld"] = {"about": about, "flash": flash, "ram": ram, "data": ram, "boot": False}
    board = boards.board(target)
    if board:
        words = {name: getattr(board, name) for name in ("flash", "ram", "data", "boot")}
        found["board.ld"] = {"about": f"{board.title}.", **words}
    return {name: {**words, "stack_bytes": STACK_BYTES} for name, words in found.items()}


def _sources(place: Path, port: str) -> list[str]:
    return [path.relative_to(place).as_posix() for path in sorted((place / "ports" / port).glob("*.c"))]


def _plain(name: str) -> str:
    """A bundle's name for a heading: what Markdown could read otherwise becomes a dash."""
    return "".join(sign if sign.isascii() and (sign.isalnum() or sign in "-_. ") else "-" for sign in name)[:100]


def _ports(ports: Sequence[Port]) -> list[dict[str, object]]:
    """Ports with what `io.h` writes: limits of the type, the scale as a C constant."""
    return [
        {
            "name": port.name,
            "c_type": port.c_type,
            "offset": port.offset,
            "size_bytes": port.size_bytes,
            "scale": port.scale,
            "zero_point": port.zero_point,
            "element_bytes": port.size_bytes // port.count,
            "milli_q16": round((port.scale if port.scale is not None else 1) * 1000 * 65536),
            "limits": _LIMITS.get(port.c_type),
            "scale_text": _float(port.scale) if port.scale is not None else "",
        }
        for port in ports
    ]


def _float(value: float) -> str:
    """A float32 constant in C that reads back as itself."""
    text = f"{value:.9g}"
    return f"{text}f" if any(sign in text for sign in ".en") else f"{text}.0f"


def _golden(path: Path, compiled: Compiled) -> dict[str, object]:
    """As many vectors as the flash for them holds, one at least, as bytes."""
    import numpy as np

    with np.load(path) as kept:
        inputs, outputs = (
            [kept[f"{side}_{number}"] for number in range(len(ports))]
            for side, ports in (("input", compiled.inputs), ("output", compiled.outputs))
        )
    size = sum(port.size_bytes for port in (*compiled.inputs, *compiled.outputs))
    vectors = max(1, min(inputs[0].nbytes // compiled.inputs[0].size_bytes, GOLDEN_BYTES // max(size, 1)))
    return {
        "vectors": vectors,
        "input_bytes": listed(_joined(inputs, compiled.inputs, vectors)),
        "output_bytes": listed(_joined(outputs, compiled.outputs, vectors)),
    }


def _joined(arrays: Sequence[NDArray[np.generic]], ports: Sequence[Port], vectors: int) -> bytes:
    """Vector after vector, in each the ports in their order."""
    kept = [(array.tobytes(), port.size_bytes) for array, port in zip(arrays, ports, strict=True)]
    return b"".join(content[at * size : (at + 1) * size] for at in range(vectors) for content, size in kept)


def firmware(place: Path) -> str:
    """SHA-256 over the sources that every port of the firmware has, by which a board says what it was flashed with."""
    parts = ("kernels/*.[ch]", "protocol/*.[ch]", "runtime/*.[ch]", "model.[ch]")
    digest = hashlib.sha256()
    for path in sorted(path for part in parts for path in place.glob(part)):
        digest.update(f"{path.relative_to(place).as_posix()} {store.sha256(path)}\n".encode())
    return digest.hexdigest()


def sizes(place: Path, compiled: Compiled, target: Target) -> Mapping[str, object]:
    """What is known before a compiler has seen the code."""
    return {
        "firmware": firmware(place),
        "arena_bytes": compiled.arena_bytes,
        "constant_bytes": compiled.constant_bytes,
        "inputs_bytes": [port.size_bytes for port in compiled.inputs],
        "outputs_bytes": [port.size_bytes for port in compiled.outputs],
        "target": target.name,
        "target_flash_bytes": target.memory.flash_bytes,
        "target_ram_bytes": target.memory.ram_bytes,
    }


def listed(content: bytes) -> str:
    """Bytes as a C initializer's lines."""
    return "\n".join(
        "    " + " ".join(f"{byte}," for byte in content[at : at + 24]) for at in range(0, len(content), 24)
    )


def adder(type: str) -> str:
    """The resolver's method for an operator."""
    return _ADDERS.get(type, "Add" + "".join(part.capitalize() for part in type.split("_")))


def render(template: str, given: Mapping[str, object]) -> str:
    """A template's text."""
    return _environment().get_template(template).render(given)


@functools.cache
def _environment() -> jinja2.Environment:
    import jinja2

    return jinja2.Environment(  # noqa: S701 C, make and Markdown: names are escaped before they come here
        loader=jinja2.PackageLoader("edgeq.builders.mcu"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
