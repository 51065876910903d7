"""Start a module of edgeq in a process of its own, and keep native libraries' chatter off stderr."""

from __future__ import annotations

import contextlib
import os
import resource
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

# The child gets this process's search path: `-m` would put the working folder first, where a hostile
# download may hold a numpy.py.
_START = (
    "import sys; sys.path[:] = sys.argv.pop(1).split('\\n'); "
    "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)"
)
_STDERR = 2
_LOCK = threading.RLock()


def module_argv(module: str, *arguments: str | Path) -> list[str]:
    """The argv that runs a module as a program with this process's interpreter and search path."""
    return [sys.executable, "-c", _START, "\n".join(sys.path), module, *map(str, arguments)]


def limit_resources(*, memory_bytes: int, cpu_seconds: int) -> None:
    """Bound this process's address space and processor time, and forbid core dumps."""
    _lower(resource.RLIMIT_AS, memory_bytes)
    _lower(resource.RLIMIT_CPU, cpu_seconds)
    _lower(resource.RLIMIT_CORE, 0)


def _lower(kind: int, limit: int) -> None:
    _, hard = resource.getrlimit(kind)
    limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
    resource.setrlimit(kind, (limit, hard))


def last_line(text: str) -> str:
    """The last line that says something, at most 300 characters of it."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


@contextlib.contextmanager
def captured_stderr() -> Iterator[list[str]]:
    """Collect what native code writes to file descriptor 2; the list is filled when the block ends."""
    lines: list[str] = []
    with _LOCK, tempfile.TemporaryFile() as stream:
        try:
            saved = os.dup(_STDERR)
        except OSError:  # stderr is closed: there is nothing to keep clean
            yield lines
            return
        os.dup2(stream.fileno(), _STDERR)
        try:
            yield lines
        finally:
            os.dup2(saved, _STDERR)
            os.close(saved)
            stream.seek(0)
            lines.extend(stream.read().decode(errors="replace").splitlines())
