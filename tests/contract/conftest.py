"""A real sshd as the device."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.errors import ToolError
from edgeq.testing import sshd as servers


@pytest.fixture(scope="session")
def sshd_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Server]:
    """One server for all tests of this folder; skips where there is no sshd."""
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
