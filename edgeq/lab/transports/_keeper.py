"""Keeps a lease on a device alive from this host, in a thread of its own."""

from __future__ import annotations

import contextlib
import threading

from edgeq.errors import DeviceBusy, DeviceError, TimedOut
from edgeq.lab.transports._session import FAREWELL_SECONDS, Dialogue, answer


class Keeper:
    """Beats over a dialogue whose agent holds the lease, until it is released, lost, or the link is gone."""

    def __init__(self, dialogue: Dialogue) -> None:
        self._dialogue = dialogue
        self._releasing = False
        self._problem: DeviceError | None = None
        self._thread = threading.Thread(target=self._keep, daemon=True, name=f"lease of {dialogue.device.name}")
        self._thread.start()

    def _keep(self) -> None:
        try:
            while (frame := self._dialogue.receive(1.0)) is None or frame[0] != b"R":
                pass
            if answer(frame[1]).get("lost") or not self._releasing:
                name = self._dialogue.device.name
                self._problem = DeviceBusy(f"{name}: the lease was lost, so somebody else may have measured meanwhile")
        except DeviceError as problem:
            self._problem = problem
        except ValueError as problem:  # what a closed stream answers: the dialogue was given up
            self._problem = DeviceError(str(problem))

    def check(self) -> None:
        """Raise what ended the lease before its time."""
        if self._problem is not None:
            raise self._problem

    def blame(self) -> None:
        """Raise TimedOut where the lease's own silence made this host break the connection under other dialogues."""
        self._thread.join(1.0)
        if isinstance(self._problem, TimedOut):
            raise self._problem

    def release(self) -> None:
        """Give the lease back and wait until the device says that it is, as long as it lives."""
        self._releasing = True
        if self._thread.is_alive():
            with contextlib.suppress(DeviceError):  # then the agent there sees the end of its input instead
                self._dialogue.send(b"E")
        self._thread.join(FAREWELL_SECONDS)
