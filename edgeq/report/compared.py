"""Two runs side by side, and lists of runs: for the terminal, for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

from rich.console import Group, RenderableType
from rich.text import Text

from edgeq.report.json import Document, document
from edgeq.report.terminal import cell, quantity, table
from edgeq.types import Compared, Difference, Run
from edgeq.units import format_ms, format_size

COLUMNS = ("quantity", "before", "after", "change", "noise", "answer", "why")
RUN_COLUMNS = ("run", "model", "target", "device", "scheme", "size", "score", "p50", "peak RSS", "holds", "labels")
STYLES = {"better": "green", "worse": "yellow"}


def terminal(found: Compared) -> RenderableType:
    """Circumstances that differ, every quantity, the answer."""
    parts: list[RenderableType] = [Text(line) for line in sides(found)]
    if found.mismatches:
        rows = [(one.what, one.before, one.after) for one in found.mismatches]
        parts.append(table("\nnot under the same circumstances", ("", "before", "after"), rows))
    parts.append(table("", COLUMNS, [_styled(one) for one in found.differences]))
    parts.append(Text(answer(found), "bold green" if found.ok else "bold red"))
    return Group(*parts)


def sides(found: Compared) -> list[str]:
    """What is compared, and what counts as noise of latency."""
    noise = f"{found.latency_noise:.1%} ({found.latency_noise_source})"
    tolerance = f", and {found.tolerance:.1%} are tolerated" if found.tolerance else ""
    return [
        *(
            f"{word}: {cell(side.name)} ({cell(side.model)}, {cell(side.scheme) or '-'} on {cell(side.device) or '-'})"
            for word, side in (("before", found.before), ("after ", found.after))
        ),
        f"latency between sessions: noise of {noise}{tolerance}",
    ]


def cells(one: Difference) -> list[object]:
    """One quantity in words."""
    change = "-" if one.change is None else f"{one.change:+.1%}"
    if one.low is not None and one.high is not None:
        change += f" ({one.low:+.1%} to {one.high:+.1%})"
    relative = bool(one.unit)
    noise = "-" if one.noise is None else f"{one.noise:.1%}" if relative else f"{one.noise:.4g}"
    both = (quantity(side, one.unit) for side in (one.before, one.after))
    return [one.quantity, *both, change, noise, "" if one.answer == "shown" else one.answer, one.why]


def _styled(one: Difference) -> list[object]:
    values = cells(one)
    values[5] = Text(str(values[5]), "bold red" if one.regressed else STYLES.get(one.answer, ""))
    return values


def answer(found: Compared) -> str:
    """The answer in one line."""
    if not found.ok:
        return "worse than before: " + ", ".join(cell(one.quantity) for one in found.regressions)
    return "nothing is worse beyond the noise"


def compared(found: Compared) -> Document:
    """What `edgeq compare --json` prints."""
    return document(**asdict(found), regressions=[one.quantity for one in found.regressions], ok=found.ok)


def runs(found: Sequence[Run]) -> RenderableType:
    """A list of runs."""
    shown = table(None, RUN_COLUMNS, map(run_cells, found))
    shown.columns[0].no_wrap = True  # an id is there to be copied
    shown.columns[0].min_width = max((len(one.id) for one in found), default=0)
    return shown


def run_cells(one: Run) -> list[object]:
    """One run in a line."""
    return [
        one.id, one.model, one.target, one.device, one.scheme, format_size(one.size_bytes), one.accuracy,
        format_ms(one.p50_ms), format_size(one.peak_rss_bytes), "yes" if one.ok else "no", ", ".join(one.labels),
    ]  # fmt: skip


def run_facts(one: Run) -> RenderableType:
    """Everything that a run's row says beside its report."""
    rows = [(name.replace("_", " "), value) for name, value in asdict(one).items() if value not in ((), "")]
    shown = [(name, ", ".join(value) if isinstance(value, tuple) else value) for name, value in rows]
    return table(None, ("", ""), shown)


def run_row(one: Run) -> Document:
    """One run for scripts; `at` as ISO 8601 in UTC."""
    return {**asdict(one), "at": one.at.isoformat().replace("+00:00", "Z"), "labels": list(one.labels)}


def runs_json(found: Iterable[Run]) -> Document:
    """What `edgeq history --json` prints."""
    return document(runs=[run_row(one) for one in found])
