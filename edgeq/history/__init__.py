"""Every run that was measured, kept in a database.

A SQLite file in the state folder, or the PostgreSQL that EDGEQ_DB names. SQLAlchemy is loaded when it is used.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from edgeq.types import Report, Run

__all__ = ["find", "forget", "get", "record"]


def record(report: Report, *, folder: Path | None = None, command: str = "") -> str:
    """Keep one measured report; returns its run's id.

    The same measurement, recorded again, is the run that it was. `folder` is where its stage files lie, `command` what
    measured it. Raises HistoryError, an OutputError, where the database cannot be used.
    """
    from edgeq.history import runs

    return runs.record(report, folder=folder, command=command)


def find(
    *,
    model: str | None = None,
    target: str | None = None,
    device: str | None = None,
    hardware: str | None = None,
    since: datetime | None = None,
    limit: int | None = None,
) -> tuple[Run, ...]:
    """Runs that fit all that is told, newest first; raises HistoryError."""
    from edgeq.history import runs

    return runs.find(model=model, target=target, device=device, hardware=hardware, since=since, limit=limit)


def get(name: str) -> tuple[Run, Report]:
    """A run and its report by its id, or by the start of it that no other has; raises HistoryError."""
    from edgeq.history import runs

    return runs.get(name)


def forget(name: str) -> str:
    """Remove a run, named as for `get`; returns its id; raises HistoryError."""
    from edgeq.history import runs

    return runs.forget(name)
