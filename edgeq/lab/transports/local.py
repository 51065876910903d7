"""This host as the device: the same agent, started as a child process."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import select
import subprocess
import sys
import tempfile
from typing import IO, cast

from edgeq.errors import RuntimeMissing
from edgeq.lab.transports import CONNECT_SECONDS, Transport
from edgeq.lab.transports._jobs import AgentTransport
from edgeq.types import Device


class ProcessPipe:
    """The standard streams of a child process in a session of its own, so that Ctrl-C does not reach it."""

    def __init__(self, argv: list[str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        try:
            self._child = subprocess.Popen(
                argv,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                start_new_session=True,
            )
        except OSError:
            self._errors.close()
            raise
        self._input = cast(IO[bytes], self._child.stdin)
        self._output = cast(IO[bytes], self._child.stdout)

    def read(self, wait_seconds: float) -> bytes | None:
        """What the child wrote."""
        if not select.select([self._output], [], [], wait_seconds)[0]:
            return None
        return os.read(self._output.fileno(), 1 << 16)

    def write(self, data: bytes) -> None:
        """Write all of it."""
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(self._input.fileno(), rest) :]

    def close_input(self) -> None:
        """End of the child's input."""
        with contextlib.suppress(OSError):
            self._input.close()

    def abort(self) -> None:
        """Kill the child."""
        self._child.kill()

    def close(self) -> tuple[int | None, str]:
        """Wait for the child, which ends by itself once its input does."""
        if self._errors.closed:
            return self._child.returncode, ""
        self.close_input()
        try:
            self._child.wait(4)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._output.close()
        with self._errors:
            self._errors.seek(0)
            return self._child.returncode, self._errors.read(1 << 16).decode("utf-8", "replace")


def connect(device: Device, *, timeout_seconds: float = CONNECT_SECONDS) -> Transport:  # noqa: ARG001
    """This host; `python3` means the interpreter that runs edgeq, so that its runtimes are found."""
    if device.python == "python3":
        device = dataclasses.replace(device, python=sys.executable)

    def open_pipe(argv: list[str]) -> ProcessPipe:
        try:
            return ProcessPipe(argv)
        except OSError as error:
            raise RuntimeMissing(
                f"cannot start {device.python!r} on this host: {error.strerror}", hint="python: python3"
            ) from error

    return AgentTransport(device, open_pipe, lambda: None)
