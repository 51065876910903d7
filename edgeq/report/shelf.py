"""Target profiles on a terminal: the shelf, and one profile with each fact beside its source."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import fields

from rich.console import Group, RenderableType

from edgeq.report.terminal import table
from edgeq.types import Accelerator, Roofline, Target
from edgeq.units import format_size

_GROUPS = {"android": 0, "linux": 1, "mcu": 2}
_COLUMNS = ("target", "kind", "cpu", "accelerator", "RAM", "flash", "runtimes")


def targets(found: Iterable[Target]) -> RenderableType:
    """The shelf: phones, boards and microcontrollers, in each those with an accelerator last."""
    ordered = sorted(found, key=lambda one: (_GROUPS[one.kind], one.accelerator is not None, one.name))
    rows = [
        (
            target.name,
            target.kind,
            f"{target.cpu.cores} x {target.cpu.core}",
            target.accelerator.name if target.accelerator else "-",
            format_size(target.memory.ram_bytes),
            format_size(target.memory.flash_bytes),
            ", ".join(runtime.name for runtime in target.runtimes),
        )
        for target in ordered
    ]
    return table(None, _COLUMNS, rows)


def target(found: Target) -> RenderableType:
    """One profile: each fact beside where it was read, then its runtimes with their operator tables."""
    sources: dict[str, list[str]] = {}
    for source in found.sources:
        sources.setdefault(source.fact, []).append(source.where)
    rows = [(fact, value, "; ".join(sources.pop(fact, []))) for fact, value in _facts(found)]
    if found.roofline is not None:
        rows.append(("roofline", _rates(found.roofline), found.roofline.source))
    rows += [(fact, "", "; ".join(wheres)) for fact, wheres in sources.items()]
    runtimes = [(r.name, r.versions or "any", r.format, r.operators, r.fallback or "-") for r in found.runtimes]
    return Group(
        table(f"{found.name}: {found.title}", ("fact", "value", "sources"), rows),
        table("\nruntimes", ("name", "versions", "format", "operator table", "rest goes to"), runtimes),
    )


def _facts(found: Target) -> Iterator[tuple[str, str]]:
    """Facts by the name that a source has for them."""
    clock = f", {found.cpu.clock_hz / 1e6:.0f} MHz" if found.cpu.clock_hz else ""
    yield "kind", found.kind
    yield "cpu", f"{found.cpu.arch} {found.cpu.core}, {found.cpu.cores} cores{clock}"
    if found.cpu.features:
        yield "cpu.features", " ".join(found.cpu.features)
    yield "memory", _memory(found)
    if found.accelerator is not None:
        yield "accelerator", _accelerator(found.accelerator)
    yield "runtimes", ", ".join(spec.name for spec in found.runtimes)
    if found.power:
        yield "power", ", ".join(found.power)
    if found.toolchain:
        yield "toolchain", " ".join(found.toolchain.values())
    if found.emulator:
        yield "emulator", ", ".join(f"{key} {_value(value)}" for key, value in found.emulator.items())
    if found.board:
        yield "board", found.board


def _memory(found: Target) -> str:
    memory = found.memory
    sizes = {
        "RAM": memory.ram_bytes,
        "flash": memory.flash_bytes,
        "for one model": memory.model_budget_bytes,
        "reserved RAM": memory.reserved_ram_bytes,
        "reserved flash": memory.reserved_flash_bytes,
    }
    return ", ".join(f"{name} {format_size(size)}" for name, size in sizes.items() if size)


def _accelerator(found: Accelerator) -> str:
    settings = ((item.name, getattr(found, item.name)) for item in fields(found) if item.name != "name")
    return ", ".join([found.name, *(f"{name} {value}" for name, value in settings if value is not None)])


def _rates(found: Roofline) -> str:
    rates = ((item.name, getattr(found, item.name)) for item in fields(found) if item.name != "source")
    return ", ".join(f"{name} {rate:.3g}" for name, rate in rates if rate is not None)


def _value(value: object) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key} {_value(inner)}" for key, inner in value.items())
    return hex(value) if isinstance(value, int) else str(value)
