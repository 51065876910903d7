"""Boards that run the model themselves and speak in lines of bytes, one module for each way to reach them.

`connect(device) -> Board`. No program can be started on such a board and no file be sent: it runs the firmware that
it was flashed with, which answers questions (`conversation`) that this host measures by (`measuring`).
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from edgeq import backends
from edgeq.types import Device, Progress, silent

HELPERS = ("conversation", "firmware", "lines", "measuring", "running", "vectors")


@runtime_checkable
class Stream(Protocol):
    """Bytes to and from a board, open and ours alone."""

    name: str
    """As messages name it, such as `/dev/ttyACM0`."""
    byte_seconds: float
    """How long one byte takes at least; 0.0 where that is nothing to count with."""

    def read(self, wait_seconds: float) -> bytes:
        """What has come, at most some KiB; empty when nothing came in that time. Raises Disconnected."""
        ...

    def write(self, data: bytes) -> None:
        """Send all of it; raises Disconnected, TimedOut where the other end does not take it."""
        ...


@runtime_checkable
class Board(Protocol):
    """A board that could be spoken with."""

    device: Device

    def opened(self, *, wait_seconds: float = 0.0, progress: Progress = silent) -> AbstractContextManager[Stream]:
        """Its stream, for this process alone while the block runs.

        Waits so long for others who have it; raises DeviceBusy, Unreachable.
        """
        ...

    def facts(self) -> dict[str, object]:
        """What this host knows of it without asking it: names, numbers, nothing that is guessed."""
        ...

    def interrupt(self) -> None:
        """End what other threads do with it, within a second or so: they see KeyboardInterrupt."""
        ...

    def close(self) -> None:
        """Let go of it; may be called twice."""
        ...


def speaks(device: Device) -> bool:
    """Whether a device is a board, to be spoken with; the others are reached by a transport."""
    return device.transport in backends.names("lab.boards")


def connect(device: Device) -> Board:
    """The board of a device; raises Unreachable where nothing is there that could be opened."""
    found: Board = backends.find("lab.boards", device.transport).connect(device)
    return found
