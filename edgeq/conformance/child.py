"""Call a function on items in a child process, so that a native library that dies ends one item only."""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any, cast

from edgeq.runtimes import _child

_HEADER_BYTES = 8
_LARGEST_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Lost:
    """An item that the child did not survive, and how it ended."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a child may take: seconds for one item (the first one pays for imports too), and bytes of address space."""

    item_s: float = 20.0
    start_s: float = 60.0
    memory_bytes: int = 4 << 30


DEFAULT = Limits()


def run(function: str, items: Iterable[Any], limits: Limits = DEFAULT) -> Iterator[Any]:
    """What `module:function` returns for each picklable item, in order; `Lost` for one that ended the child.

    The child is used again until it dies or hangs. An exception of the function is raised here as RuntimeError: it is a
    bug, not an outcome.
    """
    child: _Child | None = None
    try:
        for item in items:
            child = child or _Child(function, limits)
            answer = child.ask(item)
            if isinstance(answer, Lost):
                child.stop()
                child = None
            yield answer
    finally:
        if child:
            child.stop()


class _Child:
    """A running child; items go to its stdin and answers come from its stdout, each behind its length."""

    def __init__(self, function: str, limits: Limits) -> None:
        self._limits = limits
        self._fresh = True
        self._chatter = tempfile.TemporaryFile()  # noqa: SIM115 - closed in stop()
        self._process = subprocess.Popen(
            _child.module_argv(__name__, function, str(limits.memory_bytes)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._chatter,
            start_new_session=True,
            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )

    def ask(self, item: Any) -> Any:
        """The function's answer for one item, or Lost."""
        deadline = time.monotonic() + self._limits.item_s + (self._limits.start_s if self._fresh else 0)
        self._fresh = False
        try:
            _write(cast(IO[bytes], self._process.stdin), item)
            kind, answer = _read_until(cast(IO[bytes], self._process.stdout).fileno(), deadline)
        except TimeoutError:
            return Lost(f"no answer after {self._limits.item_s:g} s")
        except (EOFError, OSError):
            return Lost(self._ending())
        if kind == "error":
            raise RuntimeError(f"the child failed: {answer}")
        return answer

    def _ending(self) -> str:
        self._kill_later()
        code = self._process.wait()
        self._chatter.seek(0)
        said = _child.last_line(self._chatter.read().decode(errors="replace"))
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"exit code {code}"
        return f"died with {name}" + (f": {said}" if said else "")

    def _kill_later(self) -> None:
        """A child that closed its pipe is dead or about to die; one that is neither is killed."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(5)
            return
        self._process.kill()

    def stop(self) -> None:
        """End the child."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            if stream:
                with contextlib.suppress(OSError):  # what it did not read any more cannot be flushed
                    stream.close()
        self._chatter.close()


def _write(stream: IO[bytes], item: Any) -> None:
    content = pickle.dumps(item)
    stream.write(len(content).to_bytes(_HEADER_BYTES, "little") + content)
    stream.flush()


def _read_until(descriptor: int, deadline: float) -> Any:
    length = int.from_bytes(_exactly(descriptor, _HEADER_BYTES, deadline), "little")
    if length > _LARGEST_BYTES:
        raise EOFError
    return pickle.loads(_exactly(descriptor, length, deadline))  # noqa: S301 - written by our own code in our own child


def _exactly(descriptor: int, count: int, deadline: float) -> bytes:
    parts = b""
    while len(parts) < count:
        ready, _, _ = select.select([descriptor], [], [], max(deadline - time.monotonic(), 0))
        if not ready:
            raise TimeoutError
        part = os.read(descriptor, count - len(parts))
        if not part:
            raise EOFError
        parts += part
    return parts


# --- in the child ----------------------------------------------------------------------------


def _main(name: str, memory_bytes: int) -> None:
    _child.limit_resources(memory_bytes=memory_bytes, cpu_seconds=3600)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # native libraries print to standard output, which carries the answers
    module, _, function = name.partition(":")
    called: Callable[[Any], Any] = getattr(importlib.import_module(module), function)
    while header := sys.stdin.buffer.read(_HEADER_BYTES):
        item = pickle.loads(sys.stdin.buffer.read(int.from_bytes(header, "little")))  # noqa: S301 - from our parent
        try:
            reply = ("answer", called(item))
        except Exception as error:  # noqa: BLE001 - told to the parent, which raises it
            reply = ("error", f"{type(error).__name__}: {error}")
        _write(answers, reply)


if __name__ == "__main__":
    _main(sys.argv[1], int(sys.argv[2]))
