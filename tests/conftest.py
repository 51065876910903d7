"""Fixtures that every room's tests share."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from edgeq.errors import ToolError
from edgeq.testing import sshd as servers

ROOT = Path(__file__).resolve().parents[1]


def pytest_configure() -> None:
    """Children inherit an ignored Ctrl-C, as processes in the background of a shell without job control have it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models beside the checkout; skips where it is absent."""
    folder = Path(os.environ.get("EDGEQ_SHARED", ROOT.parent / "shared")) / "models"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the real models are not part of the project")
    return folder


@pytest.fixture(scope="session")
def examples() -> Path:
    """The project's own examples."""
    return ROOT / "examples"


@pytest.fixture
def scratch(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only temporary folder that this test knows."""
    folder = tmp_path_factory.mktemp("scratch")
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


class Ran(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> dict[str, Any]:
        """The one JSON document on stdout."""
        found = json.loads(self.out)
        assert found["schema_version"] == 1
        return dict(found)

    @property
    def error(self) -> str:
        """The one `error:` line; a traceback or a second one fails."""
        assert "Traceback" not in self.err, self.err
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert sum(line.startswith("  hint: ") for line in self.err.splitlines()) <= 1
        return lines[0]


@pytest.fixture
def edgeq(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run the command line in this process: `edgeq("plan", model, "-t", target)`."""
    from edgeq.cli import main

    def run(*argv: object) -> Ran:
        capfd.readouterr()
        monkeypatch.setattr(sys, "argv", ["edgeq", *map(str, argv)])
        with pytest.raises(SystemExit) as stop:
            main()
        code = stop.value.code
        captured = capfd.readouterr()
        return Ran(code if isinstance(code, int) else 0 if code is None else 1, captured.out, captured.err)

    return run


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads or writes the user's devices, keys or cache."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in [name for name in os.environ if name.startswith(("EDGEQ_", "XDG_")) and name != "EDGEQ_SHARED"]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)


@pytest.fixture(scope="session")
def sshd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """One server for all tests; skips where there is no sshd."""
    try:
        servers.program()
    except ToolError as error:
        pytest.skip(f"{error.message} ({error.hint})")
    with servers.running(tmp_path_factory.mktemp("sshd")) as server:
        yield server


@pytest.fixture
def sshd(sshd_server: servers.Server, monkeypatch: pytest.MonkeyPatch) -> servers.Server:
    """The server, vouched for in edgeq's known_hosts file, with an empty folder for bundles."""
    own = Path("~/.config/edgeq/known_hosts").expanduser()
    own.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(sshd_server.known_hosts, own)
    monkeypatch.setenv("EDGEQ_KNOWN_HOSTS", str(own))
    shutil.rmtree(sshd_server.folder / "device", ignore_errors=True)
    return sshd_server


FIRST_TOLD = (
    *("foundation", "documents", "report", "targets", "devices", "quantization", "docs", "packaging", "planning"),
    *("evaluation", "datasets", "models", "runtimes", "builders", "converters", "examples"),
    *("cli", "workflow", "contract", "lab", "system"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Quick rooms first and slow tests last, so that the first minute tells most."""
    rooms = {name: place for place, name in enumerate(FIRST_TOLD)}

    def place(item: pytest.Item) -> tuple[bool, int]:
        room = item.path.relative_to(ROOT / "tests").parts[0] if item.path.is_relative_to(ROOT / "tests") else ""
        return item.get_closest_marker("slow") is not None, rooms.get(room, len(rooms))

    items.sort(key=place)
