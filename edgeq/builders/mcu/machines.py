"""Emulated machines and the ports for them. Source: design/facts.md, Microcontrollers (qemu 7.2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, cast

from edgeq.types import Target

_QUIET = "-display none -monitor none -serial none -semihosting-config enable=on,target=native"
_ARM = f"{_QUIET} -icount shift=6,align=off,sleep=off"
_RISCV = f"{_QUIET} -bios none -icount shift=0"
MIB = 1 << 20


class Machine(NamedTuple):
    """What an emulator gives: memories in bytes, their origins where the profile has none, the command that runs it."""

    flash_bytes: int
    ram_bytes: int
    flash_origin: int
    ram_origin: int
    qemu: str = "qemu-system-arm"
    options: str = _ARM


MACHINES: Mapping[str, Machine] = {
    "microbit": Machine(256 << 10, 16 << 10, 0, 0x20000000),
    "mps2-an385": Machine(4 * MIB, 4 * MIB, 0, 0x20000000),
    "mps2-an386": Machine(4 * MIB, 4 * MIB, 0, 0x20000000),
    "mps2-an500": Machine(4 * MIB, 4 * MIB, 0, 0x20000000),
    "mps2-an505": Machine(4 * MIB, 2 * MIB, 0x10000000, 0x38000000),
    "mps3-an547": Machine(512 << 10, 2 * MIB, 0x10000000, 0x31000000),
    "virt": Machine(16 * MIB, 16 * MIB, 0x80000000, 0x81000000, "qemu-system-riscv32", _RISCV),
}
"""`virt` has RAM only: its first 16 MiB stand for flash."""


class Memories(NamedTuple):
    """What the linker script says; RAM is no more than the target's own."""

    flash_origin: int
    flash_bytes: int
    ram_origin: int
    ram_bytes: int


def port(target: Target) -> str:
    """The folder below `ports/` for a target's processor; empty where there is none."""
    if target.cpu.arch.startswith("armv"):
        return "cortex_m"
    return "rv32" if target.cpu.arch == "riscv32" else ""


def machine(target: Target) -> str:
    """The emulated machine of a target that is known here; empty where there is none."""
    name = str((target.emulator or {}).get("machine", ""))
    return name if name in MACHINES and target.toolchain and port(target) else ""


def memories(target: Target) -> Memories:
    """Memories of a target's emulated machine."""
    known = MACHINES[machine(target)]
    origins = cast("Mapping[str, int]", (target.emulator or {}).get("memory") or {})
    return Memories(
        flash_origin=origins.get("flash", known.flash_origin),
        flash_bytes=known.flash_bytes,
        ram_origin=origins.get("ram", known.ram_origin),
        ram_bytes=min(known.ram_bytes, target.memory.ram_bytes),
    )


def qemu_options(target: Target) -> str:
    """The emulator's options, the machine among them."""
    name = machine(target)
    return f"-M {name} {MACHINES[name].options}"


def library(target: Target) -> str:
    """The C library's options: newlib's small one, and gcc's own helpers."""
    return "--specs=nano.specs" if port(target) == "cortex_m" else "--specs=picolibc.specs"
