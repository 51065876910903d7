"""A target profile: YAML to a Target, refused where a fact is wrong or has no source."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from edgeq import documents, units
from edgeq.documents import PathError
from edgeq.errors import TargetError
from edgeq.targets.accelerators import accelerator_problems
from edgeq.targets.hardware import hardware_problems
from edgeq.targets.names import NAME, raise_first
from edgeq.types import RuntimeSpec, Target

_SIZES = ("ram", "flash", "model_budget", "reserved_flash", "reserved_ram")
_POWER = frozenset({"hwmon", "rapl", "battery", "pmic"})
_CLOCK = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([kKmMgG]?[hH][zZ])\s*")
_HERTZ = {"hz": 1, "khz": 10**3, "mhz": 10**6, "ghz": 10**9}
_WITHOUT_SOURCE = frozenset({"name", "title", "kind", "schema", "sources", "roofline"})  # a roofline has its own


def read_profile(path: Path) -> Target:
    """The profile in a YAML file; raises TargetError with the file and line."""
    data, lines = documents.read_yaml(path, error=TargetError)
    try:
        target = documents.decode(Target, _plain(data), where=str(path), lines=lines, error=TargetError)
        raise_first(_target_problems(target, path.stem))
    except PathError as problem:
        raise documents.located(TargetError, problem, str(path), lines) from problem
    return target


def _plain(data: dict[str, Any]) -> dict[str, Any]:
    """The data with `memory` in bytes; refuses a clock with a unit by what it would be in Hz."""
    cpu = data.get("cpu")
    if isinstance(cpu, dict) and isinstance(cpu.get("clock_hz"), str):
        raise PathError(("cpu", "clock_hz"), _clock_words(cpu["clock_hz"]))
    memory = data.get("memory")
    if not isinstance(memory, dict):
        return data
    return data | {"memory": dict(_size(key, value) for key, value in memory.items())}


def _clock_words(text: str) -> str:
    match = _CLOCK.fullmatch(text)
    words = f"should be a whole number of Hz, got {text[:60]!r}"
    if match is None:
        return words
    return f"{words}; write {round(float(match[1]) * _HERTZ[match[2].lower()])}"


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
    yield from hardware_problems(target)
    yield from accelerator_problems(target)
    yield from _runtime_problems(target.runtimes)
    yield from _meter_problems(target.power)
    yield from _roofline_problems(target)
    yield from _source_problems(target)


def _runtime_problems(runtimes: tuple[RuntimeSpec, ...]) -> Iterator[PathError]:
    if not runtimes:
        yield PathError(("runtimes",), "should name at least one runtime")
    seen = set()
    for index, spec in enumerate(runtimes):
        for key in ("operators", "fallback"):
            table = getattr(spec, key)
            if table is not None and not NAME.fullmatch(table):
                yield PathError(("runtimes", index, key), f"{table[:100]!r} is not a table's name (a-z, 0-9, ., _, -)")
        if not NAME.fullmatch(spec.name):
            yield PathError(("runtimes", index, "name"), f"{spec.name[:100]!r} is not a name (a-z, 0-9, ., _, -)")
        if spec.fallback == spec.operators:
            yield PathError(("runtimes", index, "fallback"), "should be another table than its own operators")
        if spec.name in seen:
            yield PathError(("runtimes", index, "name"), f"{spec.name!r} appears twice")
        seen.add(spec.name)


def _meter_problems(power: tuple[str, ...]) -> Iterator[PathError]:
    for index, meter in enumerate(power):
        if meter not in _POWER:
            yield PathError(("power", index), f"unknown meter {meter!r}; known are {', '.join(sorted(_POWER))}")
        elif meter in power[:index]:
            yield PathError(("power", index), f"{meter!r} appears twice")


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
    """Every group of facts that is there needs a source, and a source needs its fact."""
    stated = {source.fact for source in target.sources if source.where.strip()}
    groups = [item.name for item in fields(Target) if item.name not in _WITHOUT_SOURCE]
    for group in groups:
        if getattr(target, group) and group not in stated:
            yield PathError(("sources",), f'no source for {group}: add {{fact: {group}, where: "..."}}')
    for index, source in enumerate(target.sources):
        if not source.where.strip():
            yield PathError(("sources", index, "where"), "should say where the fact was read")
        if source.fact.split(".")[0] not in groups:
            yield PathError(("sources", index, "fact"), f"{source.fact[:100]!r} is not one of {', '.join(groups)}")
        elif not _is_stated(target, source.fact):
            yield PathError(("sources", index, "fact"), f"there is no {source.fact[:100]} in this profile")


def _is_stated(target: Target, fact: str) -> bool:
    """Whether the profile has a value at `cpu`, or at `cpu.features`."""
    group, _, key = fact.partition(".")
    found = getattr(target, group)
    if not key or not found:
        return bool(found)
    if is_dataclass(found):
        return bool(getattr(found, key, None) or getattr(found, f"{key}_bytes", None))
    return isinstance(found, dict) and key in found
