"""Runs to keep, and both kinds of database: a SQLite file, and a real PostgreSQL server that the tests start."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from edgeq import types

PASSWORD = "p@ss/w:rd#1%41 x"  # noqa: S105
NOBODY = 65534
START_SECONDS = 30.0
Reports = Callable[..., types.Report]


def make_report(number: int = 0, **changes: Any) -> types.Report:
    """A report whose measurement no other number has."""
    samples = tuple(4_000_000 + number * 10 + step for step in range(50))
    measured: dict[str, Any] = {
        "device": {"name": "desk-pi", "machine": "aarch64", "board": "Raspberry Pi 4 Model B", "cpu": {"cores": 4}},
        "runtime": {"name": "ai_edge_litert", "version": "2.3.0", "threads": "2"},
        "settings": types.RunSettings(),
        "latency_ms": types.Latency(
            p50=4.0, p90=4.4, p99=6.0, mean=4.1, std=0.2, min=3.9, max=7.0, runs=50, first=9.0, load=3.0
        ),
        "latency_samples_ns": samples,
        "sample_starts_ns": tuple(itertools.accumulate(samples)),
        "batch": 1,
        "memory_bytes": types.MeasuredMemory(peak_rss=60 << 20),
        "energy": types.Energy(per_inference_mj=1.5, idle_mw=1900, load_mw=2400, source="ina219", samples=200),
        "parity": types.Parity(exact=True, max_steps=0, vectors=32, ok=True),
        "conditions": types.ConditionsPair(
            before=types.Conditions(governor="performance", frequency_hz=(1_500_000_000,), temperature_c=50.0),
            after=types.Conditions(temperature_c=55.0),
            throttled=False,
        ),
        "manifest_sha256": f"{number:064x}",
        "unavailable": {"arena": "not told"},
    }
    measurement = types.Measurement(**{**measured, **changes.pop("measured", {})})
    verdict = types.Verdict(
        ok=True, checks=(types.Check(rule="parity", subject="golden vectors", ok=True, needed=0, available=0),)
    )
    content = {"model": "kws", "quantized": None, "bundle": None, "validation": None, "verdict": verdict}
    return types.Report(**{**content, "measurement": measurement, **changes})


@pytest.fixture(scope="session")
def reports() -> Reports:
    """Makes reports: `reports(3)`."""
    return make_report


@dataclass(kw_only=True)
class Server:
    """A running PostgreSQL: where it listens, and the process."""

    folder: Path
    port: int
    programs: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def url(self, database: str, *, user: str = "edgeq", password: str = PASSWORD, socket_folder: bool = False) -> str:
        """The URL as a user would export it."""
        who = f"{user}:{quote(password, safe='')}"
        if socket_folder:
            return f"postgresql://{who}@/{database}?host={self.folder}&port={self.port}"
        return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        """Start the server and wait until it answers."""
        argv = [self.programs / "postgres", "-D", self.folder / "data", "-p", str(self.port), "-k", self.folder,
                "-h", "127.0.0.1", "-c", "fsync=off", "-c", "max_connections=80"]  # fmt: skip
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(_as_nobody(argv), stdout=log, stderr=log, cwd="/")
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                self.ask("SELECT 1")
                return
            except psycopg.OperationalError:
                if self.process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail("PostgreSQL does not start: " + (self.folder / "log").read_text()[-500:])
                time.sleep(0.05)

    def ask(self, sql: str, database: str = "postgres") -> list[Any]:
        """Rows of one statement."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def stop(self, how: int = signal.SIGINT) -> None:
        """End the server; SIGINT cuts its clients off, SIGQUIT is a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(20)
            self.process = None


def _as_nobody(argv: list[object]) -> list[str]:
    """The server refuses to run as root."""
    words = [str(word) for word in argv]
    if os.getuid():
        return words
    return ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *words]


def _programs() -> Path:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    on_path = shutil.which("initdb")
    places = [*reversed(found), *([Path(on_path).parent] if on_path else [])]
    for place in places:
        if (place / "initdb").is_file() and (place / "postgres").is_file():
            return place
    pytest.skip("PostgreSQL's server programs are absent (apt-get install postgresql)")


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextlib.contextmanager
def _running() -> Iterator[Server]:
    programs = _programs()
    if not os.getuid() and shutil.which("setpriv") is None:
        pytest.skip("setpriv is absent: PostgreSQL refuses to run as root")
    with tempfile.TemporaryDirectory(prefix="edgeq-pg-", dir="/tmp") as name:  # a socket's path is short
        folder = Path(name)
        words = folder / "password"
        words.write_text(PASSWORD)
        if not os.getuid():
            os.chown(folder, NOBODY, NOBODY)
            os.chown(words, NOBODY, NOBODY)
        argv = [programs / "initdb", "-D", folder / "data", "-U", "edgeq", "-A", "scram-sha-256", "--pwfile", words,
                "--encoding=UTF8", "--locale=C", "--no-sync"]  # fmt: skip
        subprocess.run(_as_nobody(argv), check=True, capture_output=True, cwd="/", timeout=60)
        server = Server(folder=folder, port=_free_port(), programs=programs)
        try:
            server.start()
            yield server
        finally:
            server.stop(signal.SIGQUIT)


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[Server]:
    """One server for all tests; skips where its programs are absent."""
    with _running() as server:
        yield server


@pytest.fixture
def postgresql(postgresql_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty database on the server, named by EDGEQ_DB."""
    postgresql_server.ask("DROP SCHEMA public CASCADE; CREATE SCHEMA public")
    url = postgresql_server.url("postgres")
    monkeypatch.setenv("EDGEQ_DB", url)
    return url


@pytest.fixture
def sqlite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file in a state folder of its own."""
    monkeypatch.setenv("EDGEQ_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "history.sqlite"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str:
    """Either database, empty."""
    request.getfixturevalue(request.param)
    return str(request.param)
