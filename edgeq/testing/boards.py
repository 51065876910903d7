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

Spoil = Callable[[bytes], bytes]
"""What a relay makes of the bytes that pass."""


def untouched(data: bytes) -> bytes:
    """Bytes as they are."""
    return data


class PtyBoard:
    """A pseudo-terminal whose slave is `port`, and a program that reads and writes its master.

    `up` and `down` change what goes to the board and what comes from it; they run in the relay's thread and may call
    `restart` or `say`. Without a program the board is silent.
    """

    def __init__(self, argv: Sequence[str | Path] = (), *, up: Spoil = untouched, down: Spoil = untouched) -> None:
        self.up, self.down = up, down
        self._argv = [str(word) for word in argv]
        self._master, self._slave = os.openpty()
        tty.setraw(self._slave)
        os.set_blocking(self._master, False)
        self.port = os.ttyname(self._slave)
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
            output = child.stdout.fileno() if child is not None and child.stdout is not None else None
            readable = [self._stop, self._master] + ([output] if output is not None else [])
            try:
                ready = select.select(readable, [], [], 0.05)[0]
                if self._stop in ready:
                    return
                if self._master in ready:
                    self._to_board(os.read(self._master, 4096))
                if output in ready and child is self._child and output is not None:
                    self._from_board(os.read(output, 4096))
            except (OSError, ValueError):  # a pipe of a program that has just ended
                time.sleep(0.01)

    def _to_board(self, data: bytes) -> None:
        data = self.up(data)
        child = self._child
        if child is not None and child.stdin is not None and data:
            child.stdin.write(data)

    def _from_board(self, data: bytes) -> None:
        if not data:
            time.sleep(0.01)  # the program has ended: its board is silent
            return
        rest = memoryview(self.down(data))
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
