"""Record, find and forget runs."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import fields
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from edgeq.errors import HistoryError
from edgeq.history import rows
from edgeq.history.database import opened
from edgeq.history.tables import labels, runs
from edgeq.types import Report, Run

_SHOWN = [runs.c[one.name] for one in fields(Run) if one.name in runs.c]
_PORTION = 500
_SESSIONS = 50
_SAME_SESSION = ("artifact_sha256", "device", "hardware", "runtime", "runtime_version", "threads")
_INSERT: dict[str, Any] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}


def record(report: Report, *, folder: Path | None, command: str, told: Iterable[str]) -> str:
    """Keep one run with its labels; the id it has, also where the same measurement was kept before."""
    row = rows.row_of(report, folder=folder, command=command)
    with opened(write=True) as connection:
        new = _INSERT[connection.dialect.name](runs).values(row).on_conflict_do_nothing(index_elements=["natural_key"])
        connection.execute(new)
        kept = select(runs.c.id).where(runs.c.natural_key == row["natural_key"])
        identity = str(connection.execute(kept).scalar_one())
        _label(connection, identity, told)
    return identity


def label(name: str, told: Iterable[str]) -> str:
    """Give a run more labels; returns its id."""
    with opened(write=True) as connection:
        identity = _identity(connection, name)
        _label(connection, identity, told)
    return identity


def _label(connection: Connection, identity: str, told: Iterable[str]) -> None:
    wanted = [{"run_id": identity, "label": one} for one in dict.fromkeys(map(rows.label, told)) if one]
    if wanted:
        new = _INSERT[connection.dialect.name](labels).on_conflict_do_nothing()
        connection.execute(new, wanted)


def find(
    *, model: str | None, target: str | None, device: str | None, hardware: str | None, label: str | None,
    since: datetime | None, limit: int | None,
) -> tuple[Run, ...]:  # fmt: skip
    """Runs that fit all that is told, newest first."""
    wanted = {"model": model, "target": target, "device": device, "hardware": hardware}
    query = select(*_SHOWN).order_by(runs.c.at.desc(), runs.c.id.desc()).limit(limit)
    for name, value in wanted.items():
        query = query if value is None else query.where(runs.c[name] == rows.text(value))
    if label is not None:
        query = query.where(runs.c.id.in_(select(labels.c.run_id).where(labels.c.label == rows.label(label))))
    if since is not None:
        query = query.where(runs.c.at >= since)
    with opened() as connection:
        found = connection.execute(query).mappings().all()
        given = _labels(connection, [row["id"] for row in found])
    return tuple(_run(row, given) for row in found)


def _labels(connection: Connection, identities: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Labels of some runs."""
    given: dict[str, tuple[str, ...]] = {}
    for asked in _portions(identities):
        query = select(labels).where(labels.c.run_id.in_(asked)).order_by(labels.c.label)
        for identity, one in connection.execute(query):
            given[identity] = (*given.get(identity, ()), one)
    return given


def _portions(identities: Sequence[str]) -> Iterator[Sequence[str]]:
    """A statement takes only so many values."""
    for start in range(0, len(identities), _PORTION):
        yield identities[start : start + _PORTION]


def get(name: str) -> tuple[Run, Report]:
    """The run of an id or of the only id that begins so; raises HistoryError."""
    with opened() as connection:
        identity = _identity(connection, name)
        query = select(*_SHOWN, runs.c.report, runs.c.samples, runs.c.starts).where(runs.c.id == identity)
        row = connection.execute(query).mappings().one()
        given = _labels(connection, [identity])
    return _run(row, given), rows.report_of(row["report"], row["samples"], row["starts"], f"run {identity}")


def latency_samples_ns(identities: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Raw samples of some runs, without their reports."""
    found: dict[str, tuple[int, ...]] = {}
    with opened() as connection:
        for asked in _portions(identities):
            query = select(runs.c.id, runs.c.samples).where(runs.c.id.in_(asked))
            found |= {identity: rows.unpack(packed) for identity, packed in connection.execute(query)}
    return found


def baseline(report: Report, *, best: bool) -> str:
    """Id of the run before this report's, of the same model, target and device: the last, or the fastest that held."""
    own = rows.row_of(report, folder=None, command="")
    same = [runs.c[name] == own[name] for name in ("model", "target", "device", "hardware")]
    query = select(runs.c.id).where(*same, runs.c.natural_key != own["natural_key"], runs.c.p50_ms.is_not(None))
    with opened() as connection:
        kept = select(runs.c.at).where(runs.c.natural_key == own["natural_key"])
        at = connection.execute(kept).scalar()
        earlier = query if at is None else query.where(runs.c.at <= at)
        if best:
            earlier = earlier.where(runs.c.ok).order_by(runs.c.p50_ms)
        found = connection.execute(earlier.order_by(runs.c.at.desc(), runs.c.id.desc()).limit(1)).scalar()
    if found is None:
        words = f"no {'run that held' if best else 'run'} of {own['model']} on {own['device']} was kept before this one"
        raise HistoryError(words, hint=f"edgeq history --model {shlex.quote(own['model'])}")
    return str(found)


def sessions_p50_ms(identity: str) -> tuple[float, ...]:
    """p50 of all sessions of the file that a run measured, on the same device with the same runtime."""
    with opened() as connection:
        one = connection.execute(select(runs).where(runs.c.id == identity)).mappings().one()
        same = [runs.c[name].is_not_distinct_from(one[name]) for name in _SAME_SESSION]
        query = select(runs.c.p50_ms).where(*same, runs.c.artifact_sha256 != "", runs.c.p50_ms > 0)
        return tuple(connection.execute(query.order_by(runs.c.at.desc()).limit(_SESSIONS)).scalars())


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


def _run(row: Any, given: dict[str, tuple[str, ...]]) -> Run:
    return Run(**{column.name: row[column.name] for column in _SHOWN}, labels=given.get(row["id"], ()))
