"""Markdown for the summary of a GitHub step.

Names come from model files and devices. Each lies in a code span, where Markdown and HTML mean nothing; the characters
that could end the span or the cell are replaced.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edgeq.report.compared import COLUMNS, answer, cells
from edgeq.report.terminal import quantity
from edgeq.types import Compared, Report
from edgeq.units import format_ms, format_size

_LIMIT = 300
_REPLACED = str.maketrans({"`": "'", "|": "\N{BROKEN BAR}", "\\": "\N{SET MINUS}"})


def reports(found: Sequence[Report]) -> str:
    """A heading, the figures and the checks of each report."""
    return "\n\n".join(_report(one) for one in found)


def _report(found: Report) -> str:
    checks = [
        ("ok" if one.ok else "**no**", code(one.rule), code(one.subject), code(quantity(one.needed, one.unit)),
         code(quantity(one.available, one.unit)), code(one.why))
        for one in found.verdict.checks
    ]  # fmt: skip
    holds = "everything holds" if found.verdict.ok else "**not everything holds**"
    parts = [f"### edgeq: {code(found.model)}", holds, _figures(found)]
    parts.append(_table(("", "rule", "subject", "needed", "available", "why"), checks))
    return "\n\n".join(part for part in parts if part)


def _figures(found: Report) -> str:
    measured, quantized = found.measurement, found.quantized
    rows: list[tuple[str, str]] = []
    if quantized:
        rows.append(("scheme", code(quantized.plan.scheme.name)))
        rows.append(("size", code(format_size(quantized.artifact.size_bytes))))
    if measured:
        latency = measured.latency_ms
        rows.append(("device", code(measured.device.get("name"))))
        rows.append(("p50, p99", code(f"{format_ms(latency.p50)}, {format_ms(latency.p99)}" if latency else None)))
        rows.append(("peak RSS", code(format_size(measured.memory_bytes.peak_rss))))
        rows += [(f"no {code(name)}", code(why)) for name, why in measured.unavailable.items()]
    return _table(("", ""), rows) if rows else ""


def comparison(found: Compared) -> str:
    """A heading, the answer, every quantity, and the circumstances that differ."""
    rows = [[code(value) if value != "" else "" for value in cells(one)] for one in found.differences]
    parts = [
        f"### edgeq: {code(found.after.name)} against {code(found.before.name)}",
        answer(found) if found.ok else f"**{answer(found)}**",
        _table(COLUMNS, rows),
    ]
    if found.mismatches:
        differing = [(code(one.what), code(one.before), code(one.after)) for one in found.mismatches]
        parts.append(_table(("not the same", "before", "after"), differing))
    return "\n\n".join(parts)


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def code(value: object) -> str:
    """A value as a code span that it cannot leave."""
    words = " ".join(str("-" if value is None else value).split())[:_LIMIT].translate(_REPLACED)
    return f"`{''.join(char if char.isprintable() else '?' for char in words) or '-'}`"
