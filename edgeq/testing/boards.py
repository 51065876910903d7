"""A board on a pseudo-terminal: firmware built for this host at its other end, a relay that can spoil the line."""

from __future__ import annotations

import contextlib
import os
import select
import subprocess
import threading
import time
import tty
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any

_IDLE_SECONDS = 0.02
Spoil = Callable[[bytes], bytes]
"""What a relay makes of the bytes that pass."""


def untouched(data: bytes) -> bytes:
    """Bytes as they are."""
    return data


class PtyBoard:
    """A pseudo-terminal whose slave is `port`, and a program that reads and writes its master.

    `up` and `down` change what goes to the board, command by command, and what comes from it, line by line; they run in
    the relay's thread and may call `restart` or `say`. Without a program the board is silent.
    """

    def __init__(self, argv: Sequence[str | Path] = (), *, up: Spoil = untouched, down: Spoil = untouched) -> None:
        self.up, self.down = up, down
        self._argv = [str(word) for word in argv]
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
        self._held = {b"%": b"", b"\n": b""}
        self._child = self._start()
        self._stop, self._wake = os.pipe()
        self._relay = threading.Thread(target=self._run, daemon=True)
        self._relay.start()

    @property
    def url(self) -> str:
        """The address of the device."""
        return f"serial://{self.port}"

    def say(self, data: bytes) -> None:
        """Bytes that come from the board without having been asked for; they may be lost when nobody reads."""
        with contextlib.suppress(OSError):
            if select.select([], [self._master], [], 1.0)[1]:
                os.write(self._master, data)

    def restart(self) -> None:
        """Reset: the program is killed in whatever it does and started again."""
        self._end_child()
        self._child = self._start()

    def unplug(self) -> None:
        """The port goes away, as when a cable is drawn."""
        self._finish()

    def close(self) -> None:
        """End relay and program."""
        self._finish()

    def __enter__(self) -> PtyBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _start(self) -> subprocess.Popen[bytes] | None:
        if not self._argv:
            return None
        return subprocess.Popen(self._argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)

    def _end_child(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def _run(self) -> None:
        while True:
            child = self._child
            output = child.stdout if child is not None else None
            watched: list[Any] = [self._stop, self._master, *([output] if output else [])]
            try:
                ready = select.select(watched, [], [], _IDLE_SECONDS)[0]
                if self._stop in ready:
                    return
                if self._master in ready or not ready:
                    self._to_board(self._whole(b"%", os.read(self._master, 4096) if ready else b""))
                if child is self._child and (output in ready or not ready):
                    self._from_board(self._whole(b"\n", self._read(output) if output in ready else b""))
            except (OSError, ValueError):  # a pipe of a program that has just ended
                time.sleep(0.01)

    def _read(self, output: IO[bytes] | None) -> bytes:
        data = os.read(output.fileno(), 4096) if output else b""
        if not data:
            time.sleep(_IDLE_SECONDS)  # the program has ended: its board is silent
        return data

    def _whole(self, end: bytes, data: bytes) -> bytes:
        """What is whole of all that came; all of it once nothing more comes, or where no end is in sight."""
        whole, found, rest = (self._held[end] + data).rpartition(end)
        if not data or len(rest) > 4096:
            whole, found, rest = whole + found + rest, b"", b""
        self._held[end] = rest
        return whole + found

    def _to_board(self, data: bytes) -> None:
        data = self.up(data) if data else b""
        child = self._child
        if child is not None and child.stdin is not None and data:
            child.stdin.write(data)

    def _from_board(self, data: bytes) -> None:
        rest = memoryview(self.down(data) if data else b"")
        while rest and self._stop not in (ready := select.select([self._stop], [self._master], []))[0]:
            rest = rest[os.write(self._master, rest) :] if ready[1] else rest

    def _finish(self) -> None:
        if self._wake < 0:
            return
        os.write(self._wake, b"x")
        self._relay.join(10)
        self._end_child()
        for handle in (self._master, self._slave, self._stop, self._wake):
            os.close(handle)
        self._wake = -1
