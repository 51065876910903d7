"""Runs that were kept: listed, shown, plotted, written out, forgotten."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from pathlib import Path

from edgeq import store
from edgeq.errors import OutputError, UsageError
from edgeq.types import Run

STAGES = ("quantized", "measurement", "validation")
_UNITS = {"m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def since(words: str) -> datetime:
    """The moment that `7d`, `12h`, `2026-11-01` or `2026-11-01T08:30` stands for; raises UsageError."""
    ago = re.fullmatch(r"(\d{1,6})([mhdw])", words)
    try:
        if ago:
            return datetime.now(timezone.utc) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = datetime.fromisoformat(re.sub("Z$", "+00:00", words))
        return (found if found.tzinfo else found.astimezone()).astimezone(timezone.utc)
    except (ValueError, OverflowError) as problem:
        raise UsageError(f"{words[:40]!r} is no time", hint="write --since 7d or --since 2026-11-01") from problem


def export(name: str, folder: Path) -> tuple[Run, list[Path]]:
    """Write a run's stage files into a folder that has none, each whole; returns the run and the files."""
    from edgeq import history

    run, report = history.get(name)
    there = [path for path in (folder / f"{stage}.json" for stage in (*STAGES, "report")) if path.exists()]
    if there:
        raise OutputError("a stage file is there already", where=str(there[0]), hint="name a new folder")
    parts = {stage: getattr(report, stage) for stage in STAGES}
    written = []
    for stage, content in {**parts, "report": report}.items():
        if content is not None:
            store.write(folder / f"{stage}.json", content)
            written.append(folder / f"{stage}.json")
    return run, written


def plotted(runs: tuple[Run, ...]) -> list[tuple[Run, tuple[int, ...]]]:
    """The runs that have a latency, with their raw samples in ns, oldest first."""
    from edgeq import history

    measured = [run for run in reversed(runs) if run.p50_ms is not None]
    samples = history.latency_samples_ns([run.id for run in measured])
    return [(run, samples[run.id]) for run in measured if samples.get(run.id)]
