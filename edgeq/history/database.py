"""The database of runs: a SQLite file of this host, or the PostgreSQL that EDGEQ_DB names.

EDGEQ_DB may hold a password: no message, argument or log shows it.
"""

from __future__ import annotations

import os
import socket
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from sqlalchemy import URL, Connection, Engine, NullPool, create_engine, event, insert, inspect, select, update
from sqlalchemy import make_url as parse_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from edgeq import store
from edgeq.errors import HistoryError
from edgeq.history.tables import STEPS, TYPES, schema

BUSY_SECONDS = 30
"""How long a writer waits for the others; 32 of them take under a second."""
CONNECT_SECONDS = 4
"""For each address of a server's name; localhost has two."""
ANSWER_SECONDS = 30.0
"""A server that says nothing for so long is left: no measurement waits for it."""
_LOCK = 0x65646765_71
_EXAMPLE = "export EDGEQ_DB=postgresql://user:password@host/database"
_SECRETS = ("password", "sslpassword", "passfile")
_DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg", "sqlite": "sqlite"}
_REASONS = (
    ("database is locked", "another program holds it, and did not let go for a while", None),
    ("file is not a database", "it is damaged or no SQLite file", "mv {path} {path}.damaged"),
    ("malformed", "it is damaged", "mv {path} {path}.damaged"),
    ("readonly database", "it cannot be written: no permission", None),
    ("unable to open database file", "it cannot be opened: no permission, or not a file", None),
    ("disk is full", "the disk is full", None),
    ("disk I/O error", "the disk fails", None),
    ("password authentication failed", "the server does not know that user or password", None),
    ("no password supplied", "the server asks for a password", _EXAMPLE),
    ("refused", "no server answers there", None),
    ("translate host name", "no server has that name", None),
    ("resolve host", "no server has that name", None),
    ("timeout", "the server does not answer", None),
    ("server closed the connection", "the server went away or does not answer", None),
    ("No such file or directory", "no server answers there", None),
)
"""What a driver's message says, in our words, and the command that mends it."""


def address() -> URL:
    """Where the runs are kept: EDGEQ_DB, else a file in the state folder; raises HistoryError."""
    told = os.environ.get("EDGEQ_DB")
    if not told:
        return URL.create("sqlite", database=str(store.state_folder() / "history.sqlite"))
    try:
        url = parse_url(told)
    except (ArgumentError, ValueError):  # their words hold parts of the URL
        raise HistoryError("EDGEQ_DB is not the URL of a database", hint=_EXAMPLE) from None
    driver = _DRIVERS.get(url.drivername.removesuffix("+psycopg"))
    if driver is None:
        raise HistoryError("EDGEQ_DB names a database that edgeq does not know", hint=_EXAMPLE)
    if driver == "sqlite" and (not url.database or url.database == ":memory:"):
        raise HistoryError("EDGEQ_DB names no file", hint="export EDGEQ_DB=sqlite:////home/me/history.sqlite")
    return url.set(drivername=driver)


def shown(url: URL) -> str:
    """A database's place without any secret."""
    if url.drivername == "sqlite":
        return str(url.database)
    host = url.host or url.query.get("host") or "localhost"
    port = f":{url.port}" if url.port else ""
    return f"postgresql://{host}{port}/{url.database or ''}"


def masked(words: str, url: URL) -> str:
    """A message without the URL's passwords, however they are written."""
    secrets = [str(url.password or ""), *(str(url.query.get(name, "")) for name in _SECRETS)]
    forms = {
        form
        for secret in secrets
        if secret
        for form in (secret, quote(secret), quote(secret, safe=""), quote_plus(secret))
    }
    for form in sorted(forms, key=len, reverse=True):
        words = words.replace(form, "***")
    return words


@contextmanager
def explained(url: URL) -> Iterator[None]:
    """Turn the database's refusals into HistoryError: one line, no secret."""
    try:
        yield
    except (SQLAlchemyError, sqlite3.Error) as error:
        told = str(getattr(error, "orig", None) or error)
        where = shown(url)
        for sign, reason, hint in _REASONS:
            if sign in told:
                command = hint.format(path=where) if hint else None
                raise HistoryError(f"the run history cannot be used: {reason}", where=where, hint=command) from None
        line = masked(" ".join(told.split())[:300], url)
        raise HistoryError(f"the run history cannot be used: {line}", where=where) from None


@contextmanager
def opened(*, write: bool = False) -> Iterator[Connection]:
    """A transaction in the database of runs, whose tables are made or brought up to date first; raises HistoryError."""
    url = address()
    with explained(url):
        if url.drivername == "sqlite":
            _create_file(url, Path(str(url.database)))
        engine = _engine(url)
        _update(engine, url)
        with transaction(engine, write=write) as connection:
            yield connection


@contextmanager
def transaction(engine: Engine, *, write: bool) -> Iterator[Connection]:
    """All or nothing; a writer takes SQLite's lock at once, so that no reader has to become one."""
    with engine.connect() as connection:
        connection.info["begin"] = "BEGIN IMMEDIATE" if write else "BEGIN"
        with _answered(connection), connection.begin():
            yield connection


@contextmanager
def _answered(connection: Connection) -> Iterator[None]:
    """Hang up on a server that does not answer in time; the driver itself would wait for ever."""
    if connection.dialect.name == "sqlite":
        yield
        return
    driver: Any = connection.connection.dbapi_connection
    timer = threading.Timer(ANSWER_SECONDS, _hang_up, [driver.fileno()])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _hang_up(descriptor: int) -> None:
    with suppress(OSError), socket.socket(fileno=os.dup(descriptor)) as line:
        line.shutdown(socket.SHUT_RDWR)


def _engine(url: URL) -> Engine:
    """An engine whose connections live as long as they are used."""
    if url.drivername == "sqlite":
        settings: dict[str, Any] = {} if "timeout" in url.query else {"timeout": BUSY_SECONDS}
        engine = create_engine(url, poolclass=NullPool, hide_parameters=True, connect_args=settings)
        event.listen(engine, "connect", _sqlite_connected)
        event.listen(engine, "begin", _sqlite_begins)
        return engine
    settings = {"application_name": "edgeq", "client_encoding": "utf8", "connect_timeout": CONNECT_SECONDS}
    settings = {key: value for key, value in settings.items() if key not in url.query}
    try:
        return create_engine(
            url, poolclass=NullPool, hide_parameters=True, connect_args=settings, use_native_hstore=False
        )
    except ImportError:
        hint = "pip install 'edgeq[postgresql]'"
        raise HistoryError("psycopg, the driver for PostgreSQL, is not installed", hint=hint) from None


def _sqlite_connected(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # the driver begins no transaction of its own: we do
    connection.execute("PRAGMA foreign_keys=ON")


def _sqlite_begins(connection: Connection) -> None:
    connection.exec_driver_sql(connection.info.get("begin", "BEGIN"))


def _create_file(url: URL, path: Path) -> None:
    """A new file appears whole, in write-ahead mode and with its tables: the mode cannot be changed under readers."""
    if path.is_file() and path.stat().st_size:
        return
    with store.locked(path):
        if path.is_file() and path.stat().st_size:
            return
        with store.replacing(path) as temporary:
            _create(_engine(url.set(database=str(temporary))), url, temporary)


def _create(engine: Engine, url: URL, path: Path) -> None:
    """Tables first: a file in write-ahead mode may have its content in another one."""
    try:
        _update(engine, url)
        with engine.connect() as connection:
            driver: Any = connection.connection.dbapi_connection
            driver.execute("PRAGMA journal_mode=WAL")
    finally:
        for ending in ("-journal", "-wal", "-shm"):
            path.with_name(path.name + ending).unlink(missing_ok=True)


def _update(engine: Engine, url: URL) -> None:
    """Do the steps that the database has not seen; two programs may come here at once."""
    with transaction(engine, write=False) as connection:
        if _version(connection, url) == len(STEPS):
            return
    with transaction(engine, write=True) as connection:
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK})")
        seen = _version(connection, url)
        schema.create(connection, checkfirst=True)
        for statement in (one for step in STEPS[seen:] for one in step):
            connection.exec_driver_sql(statement.format(**TYPES[engine.dialect.name]))
        known = connection.execute(update(schema).values(version=len(STEPS))).rowcount
        if not known:
            connection.execute(insert(schema).values(version=len(STEPS)))


def _version(connection: Connection, url: URL) -> int:
    """How many of the steps a database has seen; raises HistoryError where a newer edgeq did more."""
    if not inspect(connection).has_table(schema.name):
        return 0
    seen = connection.execute(select(schema.c.version)).scalar() or 0
    if seen > len(STEPS):
        words = f"the run history has version {seen}, and this edgeq knows {len(STEPS)}: a newer edgeq wrote it"
        raise HistoryError(words, where=shown(url), hint="pip install --upgrade edgeq")
    return seen
