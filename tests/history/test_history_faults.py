"""Databases that are old, new, damaged, locked, dead or badly named: one clear line each, and no password in it."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from edgeq import history, store, types
from edgeq.errors import HistoryError
from edgeq.history import database, rows, tables
from edgeq.testing.sshd import descendants

Reports = Callable[..., types.Report]
Edgeq = Callable[..., Any]
SECRET = "s3cr3t-pass"  # noqa: S105


def _with_starts(report: types.Report) -> str:
    assert report.measurement is not None
    return store.to_json(replace(report, measurement=replace(report.measurement, latency_samples_ns=())))


def _old(reports: Reports, monkeypatch: pytest.MonkeyPatch, steps: int) -> list[str]:
    """Runs recorded by an edgeq that knew fewer steps."""
    with monkeypatch.context() as past:
        past.setattr(database, "STEPS", tables.STEPS[:steps])
        with database.opened(write=True) as connection:
            assert connection.execute(sqlalchemy.select(tables.schema.c.version)).scalar() == steps
            kept = []
            for number in range(3):
                row = rows.row_of(reports(number), folder=None, command="run")
                known = {column["name"] for column in sqlalchemy.inspect(connection).get_columns("edgeq_runs")}
                if "starts" not in known:  # they were in the report then
                    row["report"] = _with_starts(reports(number))
                row = {name: value for name, value in row.items() if name in known}
                connection.execute(sqlalchemy.insert(tables.runs).values(row))
                kept.append(str(row["id"]))
    return kept


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize("steps", range(1, len(tables.STEPS)))
def test_an_old_database_is_brought_up_to_date(reports: Reports, monkeypatch: pytest.MonkeyPatch, steps: int) -> None:
    kept = _old(reports, monkeypatch, steps)
    assert {run.id for run in history.find()} == set(kept)
    assert history.get(kept[1])[1] == reports(1)
    assert history.record(reports(1), labels=["nightly"]) == kept[1]
    assert [run.id for run in history.find(label="nightly")] == [kept[1]]


@pytest.mark.usefixtures("database")
def test_tables_are_those_that_the_steps_make(reports: Reports) -> None:
    history.record(reports(1))
    with database.opened() as connection:
        found = sqlalchemy.MetaData()
        found.reflect(connection)
    for name, table in tables.metadata.tables.items():
        made = found.tables[name]
        assert [column.name for column in made.columns] == [column.name for column in table.columns], name
        for column in table.columns:
            assert made.columns[column.name].nullable == column.nullable, column
            assert made.columns[column.name].primary_key == column.primary_key, column


@pytest.mark.usefixtures("database")
def test_a_newer_database_is_refused(reports: Reports) -> None:
    history.record(reports(1))
    with database.opened(write=True) as connection:
        connection.execute(sqlalchemy.update(tables.schema).values(version=99))
    with pytest.raises(HistoryError, match="version 99, and this edgeq knows"):
        history.find()
    with pytest.raises(HistoryError) as refused:
        history.record(reports(2))
    assert refused.value.hint == "pip install --upgrade edgeq"


@pytest.mark.usefixtures("database")
def test_two_programs_may_bring_it_up_to_date_at_once(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    _old(reports, monkeypatch, 1)
    code = "from edgeq import history; print(len(history.find()))"
    ran = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [one.communicate(timeout=60)[0].strip() for one in ran] == ["3"] * 3


@pytest.mark.usefixtures("database")
@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("report", "{", "the stored report is damaged"),
        ("report", "[" * 100_000, "the stored report is damaged"),
        ("report", "{}", "is missing"),
        ("report", '{"measurement": NaN}', "cannot be used as plain data"),
        ("samples", b"no zlib", "samples are damaged"),
        ("samples", b"", "samples are damaged"),
    ],
)
def test_a_damaged_row_is_told_and_the_others_stay(reports: Reports, column: str, value: object, told: str) -> None:
    damaged, sound = history.record(reports(1)), history.record(reports(2))
    with database.opened(write=True) as connection:
        change = sqlalchemy.update(tables.runs).where(tables.runs.c.id == damaged).values({column: value})
        connection.execute(change)
    with pytest.raises(HistoryError, match=told):
        history.get(damaged)
    assert len(history.find()) == 2
    assert history.get(sound)[1] == reports(2)


def test_samples_that_would_unpack_to_gigabytes_are_refused() -> None:
    import zlib

    bomb = zlib.compress(b"\0" * (100 << 20), 9)
    with pytest.raises(HistoryError, match="not whole"):
        rows.unpack(bomb)


def test_a_locked_file_is_told_after_a_while(
    reports: Reports, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edgeq: Edgeq
) -> None:
    monkeypatch.setenv("EDGEQ_DB", f"sqlite:///{tmp_path / 'own.sqlite'}?timeout=0.3")
    history.record(reports(1))
    with sqlite3.connect(tmp_path / "own.sqlite", isolation_level=None) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(HistoryError, match="another program holds it"):
            history.record(reports(2))
        assert len(history.find()) == 1  # readers do not wait for a writer
        other.execute("ROLLBACK")
    assert len({history.record(reports(2)), history.record(reports(1))}) == 2


@pytest.mark.parametrize("content", [b"this is no database" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_told(sqlite: Path, content: bytes, edgeq: Edgeq) -> None:
    sqlite.parent.mkdir()
    sqlite.write_bytes(content)
    ran = edgeq("history")
    assert ran.code == 1
    assert "damaged" in ran.error
    assert f"hint: mv {sqlite} {sqlite}.damaged" in ran.err
    assert sqlite.read_bytes() == content


def test_an_empty_file_becomes_a_database(sqlite: Path, reports: Reports) -> None:
    sqlite.parent.mkdir()
    sqlite.touch()
    history.record(reports(1))
    assert len(history.find()) == 1
    with sqlite3.connect(sqlite) as opened:
        assert opened.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_folder_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reports: Reports
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("EDGEQ_STATE", str(tmp_path / "file" / "state"))
    with pytest.raises(HistoryError.__base__, match="a part of the path is a file"):
        history.record(reports(1))


def test_a_file_in_a_folder_that_cannot_be_written_is_told(tmp_path: Path, reports: Reports) -> None:
    """As a user who is not root: nothing is read-only to root."""
    folder = tmp_path / "state"
    os.environ["EDGEQ_STATE"] = str(folder)
    history.record(reports(1))
    del os.environ["EDGEQ_STATE"]
    if os.getuid() or shutil.which("setpriv") is None:
        pytest.skip("needs root and setpriv")
    for path in [tmp_path, *tmp_path.parents]:
        if str(path).startswith("/tmp/"):
            path.chmod(0o755)
    code = (
        "from edgeq import history; from edgeq.errors import OutputError\n"
        "try: history.find(); print('found')\n"
        "except OutputError as error: print(error.message)"
    )
    argv = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", sys.executable, "-c", code]
    ran = subprocess.run(
        argv, env={**os.environ, "EDGEQ_STATE": str(folder)}, capture_output=True, text=True, timeout=60, check=False
    )
    if "Permission denied" in ran.stderr and "python" in ran.stderr.lower():
        pytest.skip("nobody may not run this Python")
    assert "cannot be" in ran.stdout, ran.stderr
    assert "Traceback" not in ran.stderr


_FULL = """
import resource, sys
from edgeq import history, store, types
from edgeq.errors import OutputError
from pathlib import Path
report = store.read(Path(sys.argv[1]), types.Report)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    history.record(report)
except OutputError as error:
    print(error.message)
"""


@pytest.mark.parametrize(("before", "limit_bytes"), [(0, 1000), (0, 8192), (10, 3000)])
def test_a_disk_that_takes_no_more_is_told_and_nothing_is_lost(
    sqlite: Path, tmp_path: Path, reports: Reports, before: int, limit_bytes: int
) -> None:
    """By a limit on the size of files: at the new file, its tables, a row."""
    for number in range(before):
        history.record(reports(number))
    store.write(tmp_path / "report.json", reports(99))
    argv = [sys.executable, "-c", _FULL, str(tmp_path / "report.json"), str(limit_bytes)]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "disk" in ran.stdout or "cannot write" in ran.stdout, ran.stdout
    assert len(history.find()) == before
    history.record(reports(99))
    assert len(history.find()) == before + 1
    assert sorted(path.name for path in sqlite.parent.iterdir()) == [".history.sqlite.lock", "history.sqlite"]


@pytest.mark.parametrize(
    ("url", "told"),
    [
        (f"nonsense {SECRET}", "not the URL of a database"),
        (f"postgresql://me:{SECRET}@host:{SECRET}/db", "not the URL of a database"),
        (f"mysql://me:{SECRET}@host/db", "a database that edgeq does not know"),
        (f"postgresql+psycopg2://me:{SECRET}@host/db", "a database that edgeq does not know"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_bad_url_is_told_without_the_password(
    monkeypatch: pytest.MonkeyPatch, edgeq: Edgeq, url: str, told: str
) -> None:
    monkeypatch.setenv("EDGEQ_DB", url)
    ran = edgeq("history", "--json")
    assert ran.code == 1
    assert told in ran.error
    assert SECRET not in ran.err + ran.out


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port where connections are taken and nothing is ever said."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def _ended_within(seconds: float, edgeq: Edgeq) -> Any:
    began = time.monotonic()
    ran = edgeq("history")
    assert time.monotonic() - began < seconds
    assert ran.code == 1
    assert SECRET not in ran.err + ran.out
    return ran


def test_a_server_that_is_not_there_is_told_soon(monkeypatch: pytest.MonkeyPatch, edgeq: Edgeq) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setenv("EDGEQ_DB", f"postgresql://me:{SECRET}@localhost:{port}/runs")
    ran = _ended_within(10, edgeq)
    assert "no server answers there" in ran.error
    assert f"--> postgresql://localhost:{port}/runs" in ran.err


def test_a_server_that_says_nothing_is_told_soon(
    monkeypatch: pytest.MonkeyPatch, edgeq: Edgeq, silent_server: int
) -> None:
    monkeypatch.setenv("EDGEQ_DB", f"postgresql://me:{SECRET}@127.0.0.1:{silent_server}/runs")
    assert "does not answer" in _ended_within(10, edgeq).error


def test_a_name_that_no_server_has_is_told_soon(monkeypatch: pytest.MonkeyPatch, edgeq: Edgeq) -> None:
    monkeypatch.setenv("EDGEQ_DB", f"postgresql://me:{SECRET}@no-such-host.invalid/runs")
    assert "no server has that name" in _ended_within(10, edgeq).error


def test_an_option_that_there_is_not_is_told_without_the_password(
    monkeypatch: pytest.MonkeyPatch, edgeq: Edgeq
) -> None:
    monkeypatch.setenv("EDGEQ_DB", f"postgresql://me@127.0.0.1/runs?password={SECRET}&nonsense={SECRET}")
    assert "nonsense" in _ended_within(10, edgeq).error


def test_a_driver_that_is_absent_is_told_with_the_command(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['psycopg'] = None; sys.argv = ['edgeq', 'history']; from edgeq.cli import main; main()"
    )
    env = {**os.environ, "EDGEQ_DB": f"postgresql://me:{SECRET}@127.0.0.1/runs"}
    ran = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 1
    assert "psycopg, the driver for PostgreSQL, is not installed" in ran.stderr
    assert "hint: pip install 'edgeq[postgresql]'" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert SECRET not in ran.stderr


def test_a_wrong_password_is_told_and_not_shown(
    monkeypatch: pytest.MonkeyPatch, edgeq: Edgeq, postgresql_server: Any
) -> None:
    monkeypatch.setenv("EDGEQ_DB", postgresql_server.url("postgres", password=SECRET))
    ran = _ended_within(10, edgeq)
    assert "does not know that user or password" in ran.error
    assert "edgeq@" not in ran.err


def test_a_database_that_there_is_not_is_told(
    monkeypatch: pytest.MonkeyPatch, edgeq: Edgeq, postgresql_server: Any
) -> None:
    monkeypatch.setenv("EDGEQ_DB", postgresql_server.url("absent"))
    assert 'database "absent" does not exist' in _ended_within(10, edgeq).error


def test_a_user_who_may_make_no_tables_is_told(
    monkeypatch: pytest.MonkeyPatch, edgeq: Edgeq, postgresql_server: Any, postgresql: str
) -> None:
    words = "x-guest-x"
    postgresql_server.ask(
        f"GRANT USAGE ON SCHEMA public TO public; DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN PASSWORD '{words}'"
    )
    monkeypatch.setenv("EDGEQ_DB", postgresql_server.url("postgres", user="guest", password=words))
    ran = _ended_within(10, edgeq)
    assert "permission denied" in ran.error
    assert words not in ran.err


def test_a_socket_s_folder_and_short_schemes_work(
    monkeypatch: pytest.MonkeyPatch, postgresql_server: Any, postgresql: str, reports: Reports
) -> None:
    history.record(reports(1))
    by_socket = postgresql_server.url("postgres", socket_folder=True)
    for url in (by_socket, postgresql.replace("postgresql", "postgres", 1), postgresql.replace(":", "+psycopg:", 1)):
        monkeypatch.setenv("EDGEQ_DB", url)
        assert len(history.find()) == 1


def test_a_server_that_dies_is_told_and_nothing_is_lost(
    postgresql: str, postgresql_server: Any, reports: Reports, edgeq: Edgeq
) -> None:
    kept = [history.record(reports(number)) for number in range(3)]
    with pytest.raises(HistoryError) as died, database.opened(write=True) as connection:
        connection.execute(sqlalchemy.delete(tables.runs))
        postgresql_server.stop(signal.SIGQUIT)
        connection.execute(sqlalchemy.select(tables.runs.c.id)).all()
    assert "Traceback" not in died.value.message
    assert "no server answers there" in _ended_within(10, edgeq).error
    postgresql_server.start()
    assert [run.id for run in history.find()] == kept[::-1]
    assert history.record(reports(3)) not in kept


def test_a_server_that_freezes_is_left(
    monkeypatch: pytest.MonkeyPatch, postgresql: str, postgresql_server: Any, reports: Reports
) -> None:
    kept = history.record(reports(1))
    monkeypatch.setattr(database, "ANSWER_SECONDS", 2.0)
    frozen: list[int] = []
    try:
        with pytest.raises(HistoryError, match="does not answer"), database.opened(write=True) as connection:
            frozen = [postgresql_server.process.pid, *descendants(postgresql_server.process.pid)]
            for pid in frozen:
                os.kill(pid, signal.SIGSTOP)
            connection.execute(sqlalchemy.delete(tables.runs))
        with pytest.raises(HistoryError, match="does not answer"):
            history.record(reports(2))
    finally:
        for pid in frozen:
            os.kill(pid, signal.SIGCONT)
    assert [run.id for run in history.find()] == [kept]
