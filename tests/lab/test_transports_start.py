"""The agent's first seconds: before its text is there, nothing but an alarm ends it."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.errors import RuntimeMissing
from edgeq.lab.transports import _session, local
from edgeq.types import Device


def started(seconds: int) -> subprocess.Popen[bytes]:
    argv = _session.command(sys.executable, seconds)
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_an_agent_whose_text_never_comes_whole_ends_by_itself() -> None:
    """The link was cut while it started, and its end of it stays open."""
    with started(1) as agent:
        assert agent.stdin is not None
        agent.stdin.write(_session.source()[:1000])
        agent.stdin.flush()
        assert agent.wait(timeout=20) == -signal.SIGALRM


def test_an_agent_that_has_its_text_is_not_hurried() -> None:
    with started(1) as agent:
        assert agent.stdin is not None
        assert agent.stdout is not None
        agent.stdin.write(_session.source())
        agent.stdin.flush()
        assert agent.stdout.read(len(_session.MARK)) == _session.MARK
        try:
            agent.wait(timeout=2)
        except subprocess.TimeoutExpired:
            agent.stdin.close()
        assert agent.wait(timeout=20) == 70  # the host hung up


def test_a_python_that_ends_while_a_lot_is_sent_to_it(tmp_path: Path) -> None:
    """As one that is too old does: its pipe is closed when the host hangs up."""
    python = tmp_path / "python3"
    python.write_text("#!/bin/sh\necho 'edgeq: this is Python 3.6' >&2\nexit 69\n")
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    device = Device(name="old", transport="local", python=str(python))
    with local.connect(device) as transport, pytest.raises(RuntimeMissing, match=r"this is Python 3\.6"):
        transport.run(["python3", "-"], timeout_seconds=20, stdin=bytes(1 << 20))
