"""A target profile: YAML to a Target, refused where a fact is wrong or has no source."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq import documents, units
from edgeq.documents import PathError
from edgeq.errors import TargetError
from edgeq.targets.names import NAME, raise_first
from edgeq.types import Target

_SIZES = ("ram", "flash", "model_budget", "reserved_flash", "reserved_ram")
_POWER = frozenset({"hwmon", "rapl", "battery", "pmic"})


def read_profile(path: Path) -> Target:
    """The profile in a YAML file; raises TargetError with the file and line."""
    data, lines = documents.read_yaml(path, error=TargetError)
    try:
        target = documents.decode(Target, _sized(data), where=str(path), lines=lines, error=TargetError)
        raise_first(_target_problems(target, path.stem))
    except PathError as problem:
        raise documents.located(TargetError, problem, str(path), lines) from problem
    return target


def _sized(data: dict[str, Any]) -> dict[str, Any]:
    """The data with `memory` in bytes."""
    memory = data.get("memory")
    if not isinstance(memory, dict):
        return data
    return data | {"memory": dict(_size(key, value) for key, value in memory.items())}


def _size(key: str, value: object) -> tuple[str, int]:
    if key not in _SIZES:
        raise PathError(("memory", key), f"unknown key; known are {', '.join(_SIZES)}")
    if not isinstance(value, (int, str)):
        raise PathError(("memory", key), f"{value!r} is not a size; write a number of bytes or '64 KiB'")
    try:
        return f"{key}_bytes", units.parse_size(value)
    except ValueError as problem:
        raise PathError(("memory", key), str(problem)) from problem


def _target_problems(target: Target, stem: str) -> Iterator[PathError]:
    if target.schema != 1:
        yield PathError(("schema",), f"should be 1, got {target.schema}")
    if target.name != stem or not NAME.fullmatch(target.name):
        yield PathError(("name",), f"should be the file's name {stem!r} (a-z, 0-9, ., _, -), got {target.name!r}")
    yield from _memory_problems(target)
    yield from _cpu_problems(target)
    if not target.runtimes:
        yield PathError(("runtimes",), "should name at least one runtime")
    for index, spec in enumerate(target.runtimes):
        if not NAME.fullmatch(spec.operators):
            yield PathError(
                ("runtimes", index, "operators"), f"{spec.operators!r} is not a table's name (a-z, 0-9, ., _, -)"
            )
    for index, meter in enumerate(target.power):
        if meter not in _POWER:
            yield PathError(("power", index), f"unknown meter {meter!r}; known are {', '.join(sorted(_POWER))}")
    yield from _roofline_problems(target)
    yield from _source_problems(target)


def _memory_problems(target: Target) -> Iterator[PathError]:
    memory = target.memory
    if memory.ram_bytes <= 0:
        yield PathError(("memory", "ram"), "should be more than 0")
    if memory.flash_bytes is not None and memory.flash_bytes <= 0:
        yield PathError(("memory", "flash"), "should be more than 0")
    if memory.model_budget_bytes is not None and not 0 < memory.model_budget_bytes <= memory.ram_bytes:
        yield PathError(("memory", "model_budget"), "should be more than 0 and at most the RAM")
    if memory.reserved_ram_bytes >= memory.ram_bytes:
        yield PathError(("memory", "reserved_ram"), "should be less than the RAM")
    if memory.reserved_flash_bytes and memory.reserved_flash_bytes >= (memory.flash_bytes or 0):
        yield PathError(("memory", "reserved_flash"), "should be less than the flash")


def _cpu_problems(target: Target) -> Iterator[PathError]:
    if not 0 < target.cpu.cores <= 1024:
        yield PathError(("cpu", "cores"), f"should be 1 to 1024, got {target.cpu.cores}")
    if target.cpu.clock_hz is not None and not 1_000 <= target.cpu.clock_hz <= 20_000_000_000:
        yield PathError(("cpu", "clock_hz"), f"should be in Hz, 1000 to 20000000000, got {target.cpu.clock_hz}")


def _roofline_problems(target: Target) -> Iterator[PathError]:
    if target.roofline is None:
        return
    for key in ("int8_macs_per_s", "float32_macs_per_s", "memory_bytes_per_s"):
        rate = getattr(target.roofline, key)
        if rate is not None and rate <= 0:
            yield PathError(("roofline", key), f"should be more than 0, got {rate}")
    if not target.roofline.source.strip():
        yield PathError(("roofline", "source"), "should say where the rates come from")


def _source_problems(target: Target) -> Iterator[PathError]:
    stated = {source.fact for source in target.sources if source.where.strip()}
    groups = {"cpu": True, "memory": True, "runtimes": True, "power": bool(target.power)}
    groups |= {"toolchain": bool(target.toolchain), "emulator": bool(target.emulator)}
    for group, is_there in groups.items():
        if is_there and group not in stated:
            yield PathError(("sources",), f'no source for {group}: add {{fact: {group}, where: "..."}}')
    for index, source in enumerate(target.sources):
        if source.fact.split(".")[0] not in groups:
            yield PathError(("sources", index, "fact"), f"{source.fact!r} is not one of {', '.join(groups)}")
