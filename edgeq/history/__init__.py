"""Every run that was measured, kept in a database.

A SQLite file in the state folder, or the PostgreSQL that EDGEQ_DB names. SQLAlchemy is loaded when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from edgeq.types import Report, Run

__all__ = ["baseline", "find", "forget", "get", "label", "latency_samples_ns", "record", "sessions_p50_ms"]


def record(
    report: Report, *, folder: Path | None = None, command: str = "", labels: Iterable[str] | None = None
) -> str:
    """Keep one measured report; returns its run's id.

    The same measurement, recorded again, is the run that it was. `folder` is where its stage files lie, `command` what
    measured it, `labels` words of the user's own (default: EDGEQ_LABELS, separated by commas). Raises HistoryError, an
    OutputError, where the database cannot be used.
    """
    from edgeq.history import runs

    told = os.environ.get("EDGEQ_LABELS", "").split(",") if labels is None else labels
    return runs.record(report, folder=folder, command=command, told=told)


def label(name: str, labels: Iterable[str]) -> str:
    """Give the run, named as for `get`, more labels; returns its id; raises HistoryError."""
    from edgeq.history import runs

    return runs.label(name, labels)


def find(
    *,
    model: str | None = None,
    target: str | None = None,
    device: str | None = None,
    hardware: str | None = None,
    label: str | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> tuple[Run, ...]:
    """Runs that fit all that is told, newest first; raises HistoryError."""
    from edgeq.history import runs

    return runs.find(
        model=model, target=target, device=device, hardware=hardware, label=label, since=since, limit=limit
    )


def get(name: str) -> tuple[Run, Report]:
    """A run and its report by its id, or by the start of it that no other has; raises HistoryError."""
    from edgeq.history import runs

    return runs.get(name)


def latency_samples_ns(identities: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Raw latency samples of some runs by their whole ids."""
    from edgeq.history import runs

    return runs.latency_samples_ns(identities)


def baseline(report: Report, *, best: bool = False) -> str:
    """Id of the last run of the same model, target and device before this one, or of the fastest whose verdict held.

    The report's own run is never its baseline. Raises HistoryError where there is none.
    """
    from edgeq.history import runs

    return runs.baseline(report, best=best)


def sessions_p50_ms(identity: str) -> tuple[float, ...]:
    """p50 in ms of all sessions of the file that a run measured, on that device with that runtime."""
    from edgeq.history import runs

    return runs.sessions_p50_ms(identity)


def forget(name: str) -> str:
    """Remove a run, named as for `get`; returns its id; raises HistoryError."""
    from edgeq.history import runs

    return runs.forget(name)
