"""Record, find and forget runs."""

from __future__ import annotations

from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from edgeq.errors import HistoryError
from edgeq.history import rows
from edgeq.history.database import opened
from edgeq.history.tables import runs
from edgeq.types import Report, Run

_SHOWN = [runs.c[one.name] for one in fields(Run) if one.name in runs.c]
_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def record(report: Report, *, folder: Path | None, command: str) -> str:
    """Keep one run; the id it has, also where the same measurement was kept before."""
    row = rows.row_of(report, folder=folder, command=command)
    with opened(write=True) as connection:
        new = _INSERT[connection.dialect.name](runs).values(row).on_conflict_do_nothing(index_elements=["natural_key"])
        connection.execute(new)
        kept = select(runs.c.id).where(runs.c.natural_key == row["natural_key"])
        return str(connection.execute(kept).scalar_one())


def find(
    *, model: str | None, target: str | None, device: str | None, hardware: str | None, since: datetime | None,
    limit: int | None,
) -> tuple[Run, ...]:  # fmt: skip
    """Runs that fit all that is told, newest first."""
    wanted = {"model": model, "target": target, "device": device, "hardware": hardware}
    query = select(*_SHOWN).order_by(runs.c.at.desc(), runs.c.id.desc()).limit(limit)
    for name, value in wanted.items():
        query = query if value is None else query.where(runs.c[name] == rows.text(value))
    if since is not None:
        query = query.where(runs.c.at >= since)
    with opened() as connection:
        return tuple(_run(row) for row in connection.execute(query).mappings())


def get(name: str) -> tuple[Run, Report]:
    """The run of an id or of the only id that begins so; raises HistoryError."""
    with opened() as connection:
        identity = _identity(connection, name)
        query = select(*_SHOWN, runs.c.report, runs.c.samples).where(runs.c.id == identity)
        row = connection.execute(query).mappings().one()
    return _run(row), rows.report_of(row["report"], row["samples"], f"run {identity}")


def forget(name: str) -> str:
    """Remove the run of an id or of the only id that begins so; returns its id."""
    with opened(write=True) as connection:
        identity = _identity(connection, name)
        connection.execute(delete(runs).where(runs.c.id == identity))
    return identity


def _identity(connection: Connection, name: str) -> str:
    query = select(runs.c.id).where(runs.c.id.startswith(rows.text(name), autoescape=True)).order_by(runs.c.id).limit(3)
    found = [str(one) for one in connection.execute(query).scalars()]
    if name in found:
        return name
    if not name or not found:
        raise HistoryError(f"no run is called {name[:60]!r}", hint="edgeq history")
    if len(found) > 1:
        raise HistoryError(f"{name!r} may be {' or '.join(found[:2])}", hint=f"edgeq history show {found[0]}")
    return found[0]


def _run(row: Any) -> Run:
    return Run(**{column.name: row[column.name] for column in _SHOWN}, labels=())
