"""Target profiles and operator tables: YAML on the shelf, or a user's own, to dataclasses."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq import documents, units
from edgeq.documents import KeyPath, PathError
from edgeq.errors import TargetError
from edgeq.types import Constraint, OperatorTable, Signature, Target

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
DATA_TYPES = frozenset(
    {"float32", "float16", "int4", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool", "string"}
)
_SIZES = ("ram", "flash", "model_budget", "reserved_flash", "reserved_ram")
_POWER = frozenset({"hwmon", "rapl", "battery", "pmic"})


# --- where they are --------------------------------------------------------------------------


def folders() -> list[Path]:
    """Folders with profiles: those in EDGEQ_TARGETS, then the shelf."""
    own = [Path(part) for part in os.environ.get("EDGEQ_TARGETS", "").split(os.pathsep) if part]
    return [*own, _shelf()]


def _shelf() -> Path:
    package = Path(__file__).resolve().parent
    installed = package / "_data" / "targets"
    return installed if installed.is_dir() else package.parent / "targets"


def names() -> list[str]:
    """Names of all profiles, sorted."""
    return sorted({path.stem for folder in folders() for path in folder.glob("*.yaml") if NAME.fullmatch(path.stem)})


def load_all() -> list[Target]:
    """All profiles, by name; raises TargetError."""
    return [load(name) for name in names()]


def load(ref: str | Path) -> Target:
    """The profile with that name, or in that YAML file; raises TargetError with the file and line."""
    path = _own_file(ref)
    return _load_target(path if path else _named(str(ref), names(), "target", ""))


def load_table(name: str, *, beside: Path | None = None) -> OperatorTable:
    """The operator table with that name, from `operators/` beside the file `beside` (or its folder), else the shelf."""
    places = [beside.parent / "operators", beside.parent] if beside else []
    for folder in places:
        path = folder / f"{name}.yaml"
        if NAME.fullmatch(name) and path.is_file():
            return _load_table(path)
    return _load_table(_named(name, _table_names(), "operator table", "operators"))


def load_tables(target: Target, ref: str | Path | None = None) -> dict[str, OperatorTable]:
    """The operator tables of a target's runtimes, those of fallbacks too, by table name; `ref` is what the target was loaded from."""
    beside = _own_file(ref) if ref is not None else None
    named = (name for spec in target.runtimes for name in (spec.operators, spec.fallback) if name is not None)
    return {name: load_table(name, beside=beside) for name in dict.fromkeys(named)}


def _own_file(ref: str | Path) -> Path | None:
    """The path of a user's own file; None for a name of the shelf."""
    is_file = isinstance(ref, Path) or os.sep in ref or ref.endswith((".yaml", ".yml"))
    return Path(ref) if is_file else None


def _table_names() -> list[str]:
    return sorted({path.stem for folder in folders() for path in (folder / "operators").glob("*.yaml")})


def _named(name: str, known: list[str], kind: str, subfolder: str) -> Path:
    if name not in known or not NAME.fullmatch(name):
        close = difflib.get_close_matches(name[:100], known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are: {', '.join(known)}"
        raise TargetError(f"no {kind} is called {name[:100]!r}", hint=hint)
    paths = (folder / subfolder / f"{name}.yaml" for folder in folders())
    return next(path for path in paths if path.is_file())


# --- profiles --------------------------------------------------------------------------------


def _load_target(path: Path) -> Target:
    data, lines = documents.read_yaml(path, error=TargetError)
    try:
        target = documents.decode(Target, _sized(data), where=str(path), lines=lines, error=TargetError)
        _first(_target_problems(target, path.stem))
    except PathError as problem:
        raise documents.located(TargetError, problem, str(path), lines) from problem
    return target


def _first(problems: Iterator[PathError]) -> None:
    for problem in problems:
        raise problem


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


# --- operator tables -------------------------------------------------------------------------


def _load_table(path: Path) -> OperatorTable:
    table = documents.load_yaml(path, OperatorTable, error=TargetError, transform=_any_to_none)
    _, lines = documents.read_yaml(path, error=TargetError)
    try:
        _first(_table_problems(table, path.stem))
    except PathError as problem:
        raise documents.located(TargetError, problem, str(path), lines) from problem
    return table


def _any_to_none(data: dict[str, Any]) -> dict[str, Any]:
    """The data with `signatures: any` as None."""
    rows = data.get("operators")
    if not isinstance(rows, dict):
        return data
    return data | {"operators": {name: _row(name, row) for name, row in rows.items()}}


def _row(name: str, row: object) -> object:
    if not isinstance(row, dict) or row.get("signatures", "") is None:
        raise PathError(("operators", name), "should be a mapping with 'signatures: any' or a list of signatures")
    return row | {"signatures": None} if row.get("signatures") == "any" else row


def _table_problems(table: OperatorTable, stem: str) -> Iterator[PathError]:
    if table.schema != 1:
        yield PathError(("schema",), f"should be 1, got {table.schema}")
    if table.name != stem or not NAME.fullmatch(table.name):
        yield PathError(("name",), f"should be the file's name {stem!r} (a-z, 0-9, ., _, -), got {table.name!r}")
    for key in ("source", "version", "runtime"):
        if not getattr(table, key).strip():
            yield PathError((key,), "should not be empty")
    if not table.operators:
        yield PathError(("operators",), "should have at least one operator")
    for index, constraint in enumerate(table.constraints):
        yield from _constraint_problems(constraint, ("constraints", index))
    for name, row in table.operators.items():
        place = ("operators", name)
        if row.signatures is not None and not row.signatures:
            yield PathError((*place, "signatures"), "should be 'any' or at least one signature")
        for index, signature in enumerate(row.signatures or ()):
            yield from _signature_problems(signature, (*place, "signatures", index))
        for index, constraint in enumerate(row.constraints):
            yield from _constraint_problems(constraint, (*place, "constraints", index))


def _signature_problems(signature: Signature, place: KeyPath) -> Iterator[PathError]:
    named = {key: getattr(signature, key) for key in ("activations", "weights", "bias")}
    for key, dtype in named.items():
        if dtype is not None and dtype not in DATA_TYPES:
            yield PathError((*place, key), f"{dtype!r} is not a data type; known are {', '.join(sorted(DATA_TYPES))}")
    if signature.output is not None and signature.output.dtype not in DATA_TYPES:
        yield PathError((*place, "output", "dtype"), f"{signature.output.dtype!r} is not a data type")


def _constraint_problems(constraint: Constraint, place: KeyPath) -> Iterator[PathError]:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,60}", constraint.rule):
        yield PathError((*place, "rule"), f"{constraint.rule[:60]!r} is not a rule's name (a-z, 0-9, '_')")
    if constraint.minimum is not None and constraint.maximum is not None and constraint.minimum > constraint.maximum:
        yield PathError((*place, "minimum"), "should be at most the maximum")
