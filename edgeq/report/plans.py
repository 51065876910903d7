"""A plan for people: what was chosen and why, the memory that it needs, what does not follow."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edgeq.report.terminal import cell, checks, quantity, table
from edgeq.types import Check, Placement, Plan, PlannedMemory
from edgeq.units import format_ms, format_size

PLACEMENT_STYLES = {"cpu": "green", "gpu": "green", "npu": "green", "float": "yellow", "refused": "red"}
_HELD = {
    "activations": "activations and scratch buffers, which share their bytes over time",
    "interpreter": "the interpreter: its allocators, a struct for each tensor and operator, the ports",
    "operators": "what operators keep: parameters, multipliers and shifts",
    "variables": "state that outlives an inference",
}


def plan(found: Plan, *, every_operator: bool = False) -> RenderableType:
    """What was chosen and why; operators grouped unless each one is asked for."""
    memory, latency = found.memory, found.predicted.latency_ms
    facts = [
        ("runtime", found.runtime),
        ("scheme", found.scheme.name + (f", ranges by {found.scheme.ranges}" if found.scheme.is_static else "")),
        ("flash", format_size(memory.flash_bytes)),
        ("RAM", f"{format_size(memory.ram_bytes)} (arena {format_size(memory.arena_bytes)})"),
        *_arena(memory, every_operator),
        *_compiled(memory),
        ("latency", format_ms(latency) if latency is not None else f"- ({found.unavailable.get('latency_ms', '')})"),
    ]
    parts: list[RenderableType] = [
        table(f"plan for {found.target}", ("", ""), facts),
        _operators(found.operators, every_operator),
        checks("\nchecks", found.checks),
    ]
    if found.risks:
        rows = [(risk.rule, _ranges(risk.operators), risk.why) for risk in found.risks]
        parts.append(table("\naccuracy at risk", ("rule", "operators", "why"), rows))
    parts += _shortfall(found.checks)
    if found.rejected:
        parts.append(table("\nnot taken", ("scheme", "why"), [(r.scheme, r.why) for r in found.rejected]))
    return Group(*parts)


def _compiled(memory: PlannedMemory) -> list[tuple[str, str]]:
    """What the model takes when it is compiled to C instead."""
    size = memory.compiled_bytes
    if not size:
        return [("compiled to C", f"no: {memory.compiled_refusal}")] if memory.compiled_refusal else []
    flash = format_size(size["constants"] + size["code"])
    return [("compiled to C", f"flash {flash}, RAM {format_size(size['arena'])} (arena, exact)")]


def _arena(memory: PlannedMemory, every_part: bool) -> list[tuple[str, str]]:
    """What a runtime's arena holds beside activations: in one line, or each part with what it is."""
    held = {name: size for name, size in memory.arena_parts_bytes.items() if size}
    if not held.keys() - {"activations"}:
        return []
    if every_part:
        return [(f"  {name}", f"{format_size(size)}: {_HELD.get(name, name)}") for name, size in held.items()]
    return [("arena", ", ".join(f"{name} {format_size(size)}" for name, size in held.items()))]


def _shortfall(found: Iterable[Check]) -> list[RenderableType]:
    """What is needed, had and short, of every figure that is over its limit."""
    rows = [
        (check.rule, quantity(check.needed, check.unit), quantity(check.available, check.unit),
         quantity(check.needed - check.available, check.unit))
        for check in found
        if not check.ok and isinstance(check.needed, int | float) and isinstance(check.available, int | float)
        and check.needed > check.available
    ]  # fmt: skip
    return [table("\ntoo much", ("limit", "needed", "had", "short"), rows)] if rows else []


def _explained(placements: Sequence[Placement]) -> Table:
    """Every operator with its rule, what it could not have, and the edit; equal ones share a row."""
    groups: dict[Placement, list[int]] = {}
    for one in placements:
        groups.setdefault(dataclasses.replace(one, index=0), []).append(one.index)
    rows: list[Sequence[object]] = []
    for one, indices in groups.items():
        refused = Text("\n".join(cell(f"{other.what}: {other.why}") for other in one.alternatives) or "-")
        reason = f"{one.rule}: {one.why}"
        rows.append((_ranges(indices), one.type, _placed(one.placement), one.signature, reason, refused, one.edit))
    columns = ("#", "operator", "where", "signature", "rule", "refused", "smallest change")
    return table("\noperators", columns, rows)


def _ranges(indices: Sequence[int]) -> str:
    """`0, 3-5` for 0, 3, 4, 5."""
    parts: list[list[int]] = []
    for index in indices:
        if parts and index == parts[-1][-1] + 1:
            parts[-1].append(index)
        else:
            parts.append([index])
    return ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}-{part[-1]}" for part in parts)


def findings(found: Plan, rows: Sequence[Mapping[str, str]]) -> RenderableType:
    """Claims of a plan that do not follow."""
    if not rows:
        return Text(f"every verdict of the plan for {cell(found.target)} follows", "bold green")
    cells = [(row["subject"], row["claimed"], row["derived"], row["why"]) for row in rows]
    return Group(
        table("does not follow", ("what", "the plan says", "what follows", "why"), cells),
        Text(f"{len(rows)} claims do not follow", "bold red"),
    )


def _operators(placements: Sequence[Placement], every_operator: bool) -> Table:
    if every_operator:
        return _explained(placements)
    groups = Counter((p.type, p.placement, p.signature, p.why) for p in placements)
    grouped = [(count, kind, _placed(place), sign, why) for (kind, place, sign, why), count in groups.items()]
    return table("\noperators", ("count", "operator", "where", "signature", "why"), grouped)


def _placed(placement: str) -> Text:
    return Text(placement, PLACEMENT_STYLES.get(placement, ""))
