"""Two runs side by side, from folders or from the history."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgeq import history, store
from edgeq.errors import EdgeqError, UsageError
from edgeq.types import Compared, Report
from edgeq.workflow.run import report as report_of_stages

if TYPE_CHECKING:
    from edgeq.report.comparison import Noise

_PREFIX = "run:"
_STAGES = ("quantized.json", "measurement.json", "validation.json")


class Found(NamedTuple):
    """A report, what to call it, and its run's id where it came from the history."""

    name: str
    report: Report
    identity: str | None = None


def compare(
    one: str, other: str | None = None, *, baseline: str | None = None, tolerance: float = 0.0, anyway: bool = False
) -> Compared:
    """Judge the second against the first, or the only one against its baseline: `last`, `best` or a run's id.

    Each is a folder with stage files, or a run's id (`run:ID`, or the start of an id). Raises EdgeqError where the two
    were measured on different hardware or for different targets, unless `anyway`.
    """
    from edgeq.report import comparison

    if (other is None) == (baseline is None):
        raise UsageError(
            "compare takes two runs, or one and --baseline", hint="edgeq compare build/kws --baseline last"
        )
    after = find(one if other is None else other)
    before = find(one) if other is not None else find_baseline(after, baseline or "")
    found = comparison.compare(
        before.report, after.report, names=(before.name, after.name), tolerance=tolerance, noise=_noise(before, after)
    )
    _demand_comparable(found, anyway)
    return found


def find(name: str) -> Found:
    """The report of a folder or of a run; raises EdgeqError."""
    folder = Path(name)
    if not name.startswith(_PREFIX) and folder.is_dir():
        return Found(name, _of_folder(folder))
    if not name.startswith(_PREFIX) and ("/" in name or folder.exists()):
        raise EdgeqError("no folder with stage files", where=name, hint="edgeq history")
    run, report = history.get(name.removeprefix(_PREFIX))
    return Found(run.id, report, run.id)


def _of_folder(folder: Path) -> Report:
    """What stage files there are; `profile -o` and fleets leave the conversion's part in report.json only."""
    path = folder / "report.json"
    whole = store.read(path, Report) if path.is_file() else None
    if whole is not None and not any((folder / name).is_file() for name in _STAGES):
        return whole
    found = report_of_stages(folder)
    if whole is None or whole.measurement != found.measurement:
        return found
    bundle = found.bundle or whole.bundle
    model = found.model if found.bundle or found.quantized else whole.model
    return replace(found, model=model, bundle=bundle, quantized=found.quantized or whole.quantized)


def find_baseline(after: Found, which: str) -> Found:
    """The run that another is judged against."""
    if which not in ("last", "best"):
        return find(which)
    if after.report.measurement is None:
        raise EdgeqError("nothing was measured: there is nothing to compare with a baseline", where=after.name)
    return find(_PREFIX + history.baseline(after.report, best=which == "best"))


def _noise(*sides: Found) -> Noise:
    """What sessions of the same file differ by, where the history knows."""
    from edgeq.report.comparison import session_noise

    seen = [session_noise(history.sessions_p50_ms(side.identity)) for side in sides if side.identity]
    return max(seen, default=session_noise(()))


def _demand_comparable(found: Compared, anyway: bool) -> None:
    apart = [one for one in found.mismatches if one.apart]
    if apart and not anyway:
        words = ", ".join(f"{one.what} {one.before} and {one.after}" for one in apart)
        raise EdgeqError(f"these two cannot be compared: {words}", hint="add --anyway to see them beside each other")
