"""Sizes of the C structs that TFLite Micro keeps in its arena, and how it was compiled.

A layout lists a struct's fields in order: b one byte, h two, i four, l eight, e an enumeration, p a pointer or a
size_t; a number before a letter repeats it.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple

FIELD = re.compile(r"(\d*)([bhilep])")


class Build(NamedTuple):
    """How TFLite Micro was compiled.

    `enum_bytes` is 1 with arm-none-eabi-gcc, which makes enumerations as short as they can be, and 4 elsewhere.
    `host` is the Python wheel: without TF_LITE_STATIC_MEMORY, and its arena holds a recording allocator.
    `cmsis` tells the CMSIS-NN kernels: none (the reference kernels), plain C, dsp (Cortex-M4, M7, M33) or mve
    (Cortex-M52, M55, M85).
    """

    pointer_bytes: int = 4
    enum_bytes: int = 4
    host: bool = False
    cmsis: str = "none"


WHEEL = Build(pointer_bytes=8, host=True)
CORTEX_M = Build(enum_bytes=1)


class Structs(NamedTuple):
    """Layouts of the interpreter's own structs.

    Sources: micro_allocator.h, single_arena_buffer_allocator.h, greedy_memory_planner.h, recording_micro_allocator.h
    and c/common.h of tensorflow/tflite-micro.
    """

    allocators: tuple[str, ...]
    tensor: str
    node: str


STATIC = Structs(allocators=("8pi", "p2i4p2ipb", "5pb3p", "2p"), tensor="ep2i3p2eb", node="6pip")
HOST = Structs(allocators=("8pi4p", "p2i4p2ipb", "5pb25p", "2p"), tensor="e2p2ie4pi2bep2p", node="7pipbp")
EVAL_TENSOR, AFFINE, SUBGRAPH, POINTER = "2pe", "2pi", "2p", "p"


@lru_cache(maxsize=512)
def measure(layout: str, build: Build) -> tuple[int, int]:
    """Bytes and alignment of a struct."""
    widths = {"b": 1, "h": 2, "i": 4, "l": 8, "e": build.enum_bytes, "p": build.pointer_bytes}
    offset, alignment = 0, 1
    for number, field in FIELD.findall(layout):
        width = widths[field]
        offset = aligned(offset, width) + width * int(number or 1)
        alignment = max(alignment, width)
    return aligned(offset, alignment), alignment


def aligned(size: int, alignment: int) -> int:
    """The next multiple of `alignment`."""
    return -(-size // alignment) * alignment
