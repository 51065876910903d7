"""What a profile may say of processor, memory, compiler, emulator and board."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from edgeq.documents import PathError
from edgeq.targets.names import nearest
from edgeq.types import Target

_ARM_M = ("armv6-m", "armv7-m", "armv7e-m", "armv8-m.base", "armv8-m.main", "armv8.1-m.main")
_LINUX = ("aarch64", "armv7", "riscv64", "x86_64")
ARCHES: dict[str, tuple[str, ...]] = {
    "linux": _LINUX,
    "android": ("aarch64", "armv7", "x86_64"),
    "mcu": (*_ARM_M, "riscv32", "xtensa"),
}
"""Architectures of each kind of target, as gcc and the kernel write them."""

_OTHER_NAMES = {
    "arm64": "aarch64",
    "amd64": "x86_64",
    "x86-64": "x86_64",
    "armv7l": "armv7",
    "armhf": "armv7",
    "rv32": "riscv32",
    "rv64": "riscv64",
    "cortex-m": "armv7e-m",
}
_FEATURE = re.compile(r"[a-z0-9][a-z0-9_.-]{0,39}")
_GCC = re.compile(r"([A-Za-z0-9_.]+-){0,6}gcc(-[0-9.]{1,8})?")
_FLAG = re.compile(r"-m[a-z0-9-]{1,40}(=[A-Za-z0-9_.+-]{1,80})?")
_MACHINE = re.compile(r"[a-z0-9][a-z0-9.,_-]{0,60}")
_EMULATOR_KEYS = ("machine", "cpu", "memory")
_ADDRESS_LIMIT = 1 << 32


def hardware_problems(target: Target) -> Iterator[PathError]:
    """What is wrong with the processor, the memory, the toolchain, the emulator and the board of a profile."""
    yield from _cpu_problems(target)
    yield from _memory_problems(target)
    if target.toolchain is not None:
        yield from _toolchain_problems(target.toolchain, target.cpu.core)
    if target.emulator is not None:
        yield from _emulator_problems(target.emulator)
    if target.board is not None and (target.kind != "mcu" or not _MACHINE.fullmatch(target.board)):
        yield PathError(("board",), "should be a microcontroller board's name (a-z, 0-9, -); see docs/mcu.md")


def _cpu_problems(target: Target) -> Iterator[PathError]:
    cpu = target.cpu
    yield from _arch_problems(target)
    if not 0 < cpu.cores <= 1024:
        yield PathError(("cpu", "cores"), f"should be 1 to 1024, got {cpu.cores}")
    if cpu.clock_hz is not None and not 1_000 <= cpu.clock_hz <= 20_000_000_000:
        yield PathError(("cpu", "clock_hz"), f"should be in Hz, 1000 to 20000000000, got {cpu.clock_hz}")
    for index, feature in enumerate(cpu.features):
        if not _FEATURE.fullmatch(feature):
            yield PathError(("cpu", "features", index), f"{feature[:60]!r} is not a feature's name (a-z, 0-9, _, ., -)")
        elif feature in cpu.features[:index]:
            yield PathError(("cpu", "features", index), f"{feature!r} appears twice")


def _arch_problems(target: Target) -> Iterator[PathError]:
    arch, known = target.cpu.arch, ARCHES[target.kind]
    if arch in known:
        return
    owners = [kind for kind, arches in ARCHES.items() if arch in arches]
    other = _OTHER_NAMES.get(arch.lower())
    if owners:
        words = f"{arch!r} goes with kind {' or '.join(owners)}, not {target.kind}"
    elif other:
        words = f"{arch!r} is not known; it is written {other!r}"
    else:
        words = f"{arch[:60]!r} is not known{nearest(arch, known)}"
    yield PathError(("cpu", "arch"), words)


def _memory_problems(target: Target) -> Iterator[PathError]:
    memory = target.memory
    if memory.ram_bytes <= 0:
        yield PathError(("memory", "ram"), "should be more than 0")
    if target.kind == "mcu" and memory.flash_bytes is None:
        yield PathError(("memory",), "a microcontroller needs flash, for program and weights: add 'flash: 1 MiB'")
    if memory.flash_bytes is not None and memory.flash_bytes <= 0:
        yield PathError(("memory", "flash"), "should be more than 0")
    if memory.model_budget_bytes is not None and not 0 < memory.model_budget_bytes <= memory.ram_bytes:
        yield PathError(("memory", "model_budget"), "should be more than 0 and at most the RAM")
    if memory.reserved_ram_bytes >= memory.ram_bytes:
        yield PathError(("memory", "reserved_ram"), "should be less than the RAM")
    if memory.reserved_flash_bytes and memory.reserved_flash_bytes >= (memory.flash_bytes or 0):
        yield PathError(("memory", "reserved_flash"), "should be less than the flash")


def _toolchain_problems(toolchain: Mapping[str, str], core: str) -> Iterator[PathError]:
    """Only a gcc by its name and its machine options: what a profile names is run."""
    for key in toolchain:
        if key not in ("gcc", "flags"):
            yield PathError(("toolchain", key), f"unknown key{nearest(key, ('gcc', 'flags'))}")
    if not _GCC.fullmatch(toolchain.get("gcc", "")):
        yield PathError(("toolchain",), "gcc should be a compiler's name such as arm-none-eabi-gcc, without a folder")
    for flag in toolchain.get("flags", "").split():
        if not _FLAG.fullmatch(flag):
            yield PathError(("toolchain", "flags"), f"{flag[:60]!r} is not a machine option (-mcpu=..., -mthumb, ...)")
        elif flag.startswith("-mcpu=") and flag.removeprefix("-mcpu=").split("+")[0] != core:
            yield PathError(("toolchain", "flags"), f"{flag} is not for the core {core}")


def _emulator_problems(emulator: Mapping[str, object]) -> Iterator[PathError]:
    for key, value in emulator.items():
        if key not in _EMULATOR_KEYS:
            yield PathError(("emulator", key), f"unknown key{nearest(key, _EMULATOR_KEYS)}")
        elif key == "memory":
            yield from _origin_problems(value)
        elif not (isinstance(value, str) and _MACHINE.fullmatch(value)):
            yield PathError(("emulator", key), "should be a name that qemu knows (a-z, 0-9, -)")
    if "machine" not in emulator and "cpu" not in emulator:
        yield PathError(("emulator",), "should name a machine or a cpu")


def _origin_problems(memory: object) -> Iterator[PathError]:
    if not isinstance(memory, dict):
        yield PathError(("emulator", "memory"), "should be a mapping of flash and ram to addresses")
        return
    for key, origin in memory.items():
        if key not in ("flash", "ram"):
            yield PathError(("emulator", "memory", key), f"unknown key{nearest(key, ('flash', 'ram'))}")
        elif isinstance(origin, bool) or not isinstance(origin, int) or not 0 <= origin < _ADDRESS_LIMIT:
            yield PathError(("emulator", "memory", key), "should be an address below 0x100000000")
