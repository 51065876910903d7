"""The choke point for outside programs: time, memory, output, environment, and nobody left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeq import tools
from edgeq.errors import ToolError
from edgeq.tools import running


def _run(tool: tools.Tool, folder: Path, *words: object, seconds: float = 30, **more: int) -> tools.Finished:
    argv = tools.program(tool, *map(str, words))
    return tools.run(tool, argv, cwd=folder, timeout_seconds=seconds, **more)


def _gone(number: int) -> bool:
    """Whether a process has ended, within two seconds; a zombie has."""
    for _ in range(100):
        try:
            state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        if state == "Z":
            return True
        time.sleep(0.02)
    return False


def test_the_console_script_gets_its_arguments_as_they_are(installed: tools.Tool, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "echo", "a b", "$(touch x)", "; rm y", "'")
    assert done == tools.Finished(stdout="a b $(touch x) ; rm y '\n", stderr="", code=0)
    assert list(tmp_path.iterdir()) == []


def test_how_it_ended_is_told(installed: tools.Tool, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "fail")
    assert (done.code, done.stdout, done.stderr) == (7, "to stdout\n", "bad thing\n")


def test_secrets_and_python_variables_stay_here(
    installed: tools.Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PIP_INDEX_URL", "PYTHONPATH", "SSH_AUTH_SOCK", "LD_PRELOAD"):
        monkeypatch.setenv(name, "/secret")
    told = dict(line.split("=", 1) for line in _run(installed, tmp_path, "environment").stdout.splitlines())
    assert "/secret" not in told.values()
    assert set(told) <= {*running._PASSED_ON, "LC_CTYPE"}
    assert told["PATH"].startswith(f"{installed.python.parent}{os.pathsep}")
    assert told["HOME"] == os.environ["HOME"]


def test_there_is_nothing_to_read(installed: tools.Tool, tmp_path: Path) -> None:
    assert _run(installed, tmp_path, "stdin").stdout == "''\n"


def test_a_module_in_the_working_folder_is_not_taken(installed: tools.Tool, tmp_path: Path) -> None:
    (tmp_path / "subprocess.py").write_text("raise SystemExit('hostile')")
    (tmp_path / "edgeqtiny.py").write_text("raise SystemExit('hostile')")
    assert _run(installed, tmp_path, "echo", "fine").stdout == "fine\n"


def test_a_module_that_is_missing_is_said_with_the_mending_command(installed: tools.Tool, tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="environment of tiny is broken: ModuleNotFoundError") as caught:
        _run(installed, tmp_path, "missing")
    assert caught.value.hint == "edgeq tools install tiny"


def test_a_timeout_ends_grandchildren(installed: tools.Tool, tmp_path: Path) -> None:
    started = time.monotonic()
    with pytest.raises(ToolError, match="tiny does not finish within 2 s"):
        _run(installed, tmp_path, "family", tmp_path / "numbers", seconds=2)
    assert time.monotonic() - started < 20
    numbers = [int(word) for word in (tmp_path / "numbers").read_text().split()]
    assert len(numbers) == 2
    assert all(map(_gone, numbers))


def test_children_that_it_leaves_behind_are_ended(installed: tools.Tool, tmp_path: Path) -> None:
    assert _run(installed, tmp_path, "family", tmp_path / "numbers", "leave").code == 0
    assert all(_gone(int(word)) for word in (tmp_path / "numbers").read_text().split())


def test_a_flood_keeps_its_end_and_does_not_block(installed: tools.Tool, tmp_path: Path) -> None:
    done = _run(installed, tmp_path, "flood", 24)
    assert done.stdout.endswith("xthe end\n")
    assert len(done.stdout) <= running.OUTPUT_LIMIT_BYTES
    assert len(done.stdout) > running.OUTPUT_LIMIT_BYTES // 4


def test_memory_is_bounded(installed: tools.Tool, tmp_path: Path) -> None:
    assert _run(installed, tmp_path, "memory", 1 << 20, memory_bytes=1 << 30).stdout == "had it\n"
    done = _run(installed, tmp_path, "memory", 2 << 30, memory_bytes=1 << 30)
    assert done.code != 0
    assert "MemoryError" in done.stderr


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGKILL, -signal.SIGKILL)])
def test_ctrl_c_and_a_kill_of_edgeq_end_the_tool(
    installed: tools.Tool, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    program = (
        "import sys; from pathlib import Path; from edgeq import tools\n"
        "tool = tools.Tool(name='tiny', version='1.2', python=Path(sys.argv[1]), folder=Path(), console='tiny')\n"
        "argv = tools.program(tool, 'family', sys.argv[2])\n"
        "tools.run(tool, argv, cwd=Path(), timeout_seconds=600)\n"
    )
    note = tmp_path / "numbers"
    argv = [sys.executable, "-c", program, str(installed.python), str(note)]
    with subprocess.Popen(argv, stderr=subprocess.PIPE) as process:
        while not (note.is_file() and len(note.read_text().split()) == 2):
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(number)
        process.communicate(timeout=20)
    assert process.returncode == code
    own, child = map(int, note.read_text().split())
    assert _gone(own)
    if number == signal.SIGINT:
        assert _gone(child)
    else:
        os.kill(child, signal.SIGKILL)  # nobody was left to end it


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    tool = tools.Tool(name="gone", version="1", python=tmp_path / "python", folder=tmp_path)
    with pytest.raises(ToolError):
        tools.run(tool, ["-c", "0"], cwd=tmp_path / "nowhere", timeout_seconds=5)
    with pytest.raises(ToolError, match="no command of its own"):
        tools.program(tool, "x")


@pytest.mark.parametrize(
    ("text", "line"),
    [("", ""), ("\n \n", ""), ("a\nb  c\n\n", "b c"), ("\x1b[31mred", "?[31mred"), ("x" * 999, "x" * 300)],
)
def test_the_last_line(text: str, line: str) -> None:
    assert tools.last_line(text) == line
