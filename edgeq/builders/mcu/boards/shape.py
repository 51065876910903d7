"""What is said of a board: memories, clock, UART, and the register writes that bring these up. Data, no code."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

KIB = 1 << 10
MIB = 1 << 20
BAUD = 115_200


class Step(NamedTuple):
    """One register: `register = (register & ~mask) | value`, or a wait until `(register & mask) == value`."""

    register: str
    address: int
    mask: int
    value: int
    why: str
    is_wait: bool = False


def wait(register: str, address: int, mask: int, value: int, why: str) -> Step:
    """A step that waits."""
    return Step(register, address, mask, value, why, is_wait=True)


class Region(NamedTuple):
    """Memory at an address."""

    origin: int
    size_bytes: int


class Board(NamedTuple):
    """A board as its port needs it.

    `data` is where variables with a first value and the stack lie; the rest of the RAM in use is in `ram`. `uart` names
    the UART, its pins and where they lead, `again` what starts the program anew. `clock_hz` is what the steps leave the
    core running at, no more.
    """

    title: str
    family: str
    core: str
    flash: Region
    ram: Region
    data: Region
    clock_hz: int
    uart: str
    uart_base: int
    uart_clock_hz: int
    steps: tuple[Step, ...]
    flashing: tuple[str, ...]
    again: str
    boot: str = ""
    uf2_family: int = 0
    defines: Mapping[str, str] = {}
