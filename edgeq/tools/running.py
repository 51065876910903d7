"""The one choke point for outside programs: no shell, no secrets, bounded time, memory and output."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from edgeq.errors import ToolError

if TYPE_CHECKING:
    from edgeq.tools.environments import Tool

OUTPUT_LIMIT_BYTES = 8 << 20
MEMORY_BYTES = 32 << 30  # of address space: TensorFlow reserves far more than it uses
_PIECE_BYTES = 1 << 16
_POLL_SECONDS = 0.01
_LINE_LENGTH = 300
_PASSED_ON = ("HOME", "LANG", "LC_ALL", "LC_CTYPE", "PATH", "TEMP", "TMP", "TMPDIR", "TZ", "USER")
_BROKEN = ("ModuleNotFoundError:", "ImportError:")
# Sets the limits in the child, so that they hold for its children too, then becomes the program. PR_SET_PDEATHSIG (1)
# ends it when edgeq is killed; it survives exec.
_START = """
import ctypes, os, resource, signal, sys
parent, memory = int(sys.argv[1]), int(sys.argv[2])
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != parent:
    sys.exit(1)
for kind, limit in ((resource.RLIMIT_AS, memory), (resource.RLIMIT_CORE, 0)):
    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))
os.execv(sys.argv[3], sys.argv[3:])
"""
# Starts a console script by its name: the scripts' own files name the interpreter by a path.
_PROGRAM = (
    "import sys; from importlib.metadata import entry_points; sys.argv[0] = sys.argv.pop(1); "
    "sys.exit(next(iter(entry_points(group='console_scripts', name=sys.argv[0]))).load()())"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished:
    """How a program ended; of long output the end is kept. `code` is negative for a signal."""

    stdout: str
    stderr: str
    code: int


def program(tool: Tool, *arguments: str | Path) -> list[str]:
    """The argv for `run` that starts the tool's console script; raises ToolError where it has none."""
    if tool.console is None:
        raise ToolError(f"{tool.name} has no command of its own")
    return ["-c", _PROGRAM, tool.console, *map(str, arguments)]


def run(
    tool: Tool,
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    timeout_seconds: float,
    memory_bytes: int = MEMORY_BYTES,
    extra: Mapping[str, str] | None = None,
) -> Finished:
    """Run the tool's Python with `argv` (`-c`, `-m` or a script first, or what `program` gives).

    The interpreter is isolated from the working folder and from PYTHON variables. `extra` adds to the environment.
    Raises ToolError when it does not finish in time, and when a package that it needs is missing.
    """
    done = start(
        [tool.python, "-I", *argv],
        cwd=cwd,
        timeout_seconds=timeout_seconds,
        memory_bytes=memory_bytes,
        environment=surroundings(tool.python.parent) | dict(extra or {}),
        name=tool.name,
    )
    last = last_line(done.stderr)
    if done.code > 0 and last.startswith(_BROKEN):
        raise ToolError(
            f"the environment of {tool.name} is broken: {last}",
            where=str(tool.folder),
            hint=f"edgeq tools install {tool.name}",
        )
    return done


def start(
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    timeout_seconds: float,
    environment: Mapping[str, str],
    name: str,
    memory_bytes: int = MEMORY_BYTES,
) -> Finished:
    """Run a Python interpreter in a process group of its own, which is gone when this returns or raises."""
    interpreter = str(argv[0])
    command = [interpreter, "-I", "-c", _START, str(os.getpid()), str(memory_bytes), interpreter, *map(str, argv[1:])]
    try:
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise ToolError(f"{name} cannot be started: {error.strerror or error}", where=interpreter) from error
    tails = [_Tail(stream) for stream in (process.stdout, process.stderr) if stream is not None]
    with _ended(process):
        if not _wait(process.pid, time.monotonic() + timeout_seconds):
            raise ToolError(f"{name} does not finish within {timeout_seconds:g} s")
    stdout, stderr = (tail.text() for tail in tails)
    return Finished(stdout=stdout, stderr=stderr, code=process.returncode)


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the whole group, however the block ends, before the leader's number is given back."""
    try:
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(number: int, deadline: float) -> bool:
    """Wait until a process has ended, leaving it to be reaped; False when the time is up."""
    while os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_SECONDS)
    return True


class _Tail:
    """Reads a pipe to its end and keeps the last `OUTPUT_LIMIT_BYTES` of it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._pieces: deque[bytes] = deque(maxlen=OUTPUT_LIMIT_BYTES // _PIECE_BYTES)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with self._stream:
            while piece := os.read(self._stream.fileno(), _PIECE_BYTES):
                if self._pieces and len(self._pieces[-1]) + len(piece) <= _PIECE_BYTES:
                    piece = self._pieces.pop() + piece
                self._pieces.append(piece)

    def text(self) -> str:
        """What came; a process that left the group may hold the pipe open, so the wait is short."""
        self._thread.join(timeout=2)
        return b"".join(list(self._pieces)).decode(errors="replace")


def surroundings(first: Path | None = None, also: Sequence[str] = ()) -> dict[str, str]:
    """Environment for an outside program: nothing of edgeq's that may hold a secret; `first` leads its PATH."""
    found = {name: os.environ[name] for name in (*_PASSED_ON, *also) if name in os.environ}
    path = found.get("PATH", os.defpath)
    return found | {"PATH": f"{first}{os.pathsep}{path}" if first else path}


def last_line(text: str) -> str:
    """The last line that says something, without control characters, at most 300 characters of it."""
    lines = [" ".join(line.split()) for line in text.splitlines() if line.strip()]
    return "".join(sign if sign.isprintable() else "?" for sign in lines[-1])[:_LINE_LENGTH] if lines else ""
