"""Real boards that a firmware can be built for, by the name that a profile's `board` gives."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence

from edgeq.builders.mcu.boards import nrf52, rp2, stm32
from edgeq.builders.mcu.boards.shape import BAUD, Board, Region, Step
from edgeq.errors import BuildError
from edgeq.types import Target

__all__ = ["BAUD", "BOARDS", "Board", "Region", "Step", "board", "files", "sources", "words"]

BOARDS: Mapping[str, Board] = {
    "nrf52840-dk": nrf52.NRF52840_DK,
    "nucleo-f746zg": stm32.NUCLEO_F746ZG,
    "nucleo-h743zi": stm32.NUCLEO_H743ZI,
    "nucleo-l4r5zi": stm32.NUCLEO_L4R5ZI,
    "nucleo-u575zi-q": stm32.NUCLEO_U575ZI_Q,
    "pico": rp2.PICO,
    "pico-2": rp2.PICO_2,
    "stm32f746g-disco": stm32.STM32F746G_DISCO,
}

_COMMON = ("cortex_m/eq_startup_cortex_m.c", "board/eq_port_board.c")
_HEADERS = ("board/eq_register.h", "board/eq_uart.h")


def board(target: Target) -> Board | None:
    """The board of a target, None where its profile names none; raises BuildError for an unknown one, another core."""
    if target.board is None:
        return None
    if target.board not in BOARDS:
        close = difflib.get_close_matches(target.board[:100], BOARDS, n=1, cutoff=0.5)
        hint = f"did you mean {close[0]}?" if close else f"known are: {', '.join(BOARDS)}"
        raise BuildError(f"no board is called {target.board[:100]!r}", where=target.name, hint=hint)
    found = BOARDS[target.board]
    if found.core != target.cpu.core:
        raise BuildError(f"{target.board} has a {found.core}, the profile says {target.cpu.core}", where=target.name)
    return found


def sources(found: Board) -> list[str]:
    """C files below `ports/` that a board's firmware is linked from."""
    boot = [f"{found.family}/{found.boot}"] if found.boot else []
    return [*_COMMON, f"{found.family}/eq_uart_{found.family}.c", *boot]


def files(found: Board) -> list[str]:
    """All files below `ports/` that a board needs; `board/eq_board.h` is generated."""
    return [*sources(found), *_HEADERS]


def words(found: Board) -> dict[str, object]:
    """What templates name of a board."""
    return {
        "board": found,
        "board_sources": [f"ports/{path}" for path in sources(found)],
        "board_steps": _rows(found.steps),
        "baud": BAUD,
    }


def _rows(steps: Sequence[Step]) -> list[str]:
    """The steps as C initializers, each with what it is for."""
    return [
        f"{{EQ_STEP_{'WAIT' if step.is_wait else 'SET'}, 0x{step.address:08X}u, 0x{step.mask:08X}u, "
        f"0x{step.value:08X}u}}, /* {step.register}: {step.why} */"
        for step in steps
    ]
