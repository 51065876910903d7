"""Ways to reach a device, one module each: `connect(device, *, timeout_seconds) -> Transport`.

Relative paths start in the home folder of the device's user. Whatever a transport started ends with it: after a
return, an exception, Ctrl-C or the death of this host's process no process is left there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, runtime_checkable

from edgeq import backends
from edgeq.types import Device

OUTPUT_LIMIT_BYTES = 16 << 20
CONNECT_SECONDS = 10.0
FILE_SECONDS = 300.0
"""How long one step on the device's files may take before it is given up."""
LEASE_SECONDS = 60.0
"""How long a device may take to say whether it is free, beyond what its holder is waited for."""

Sent = Callable[[int, int], None]
"""`sent(done_bytes, total_bytes)`: how far an upload is."""


Told = dict[str, object]
"""What a device says of the lease that is in force there: `holder` and for how many `seconds`. Not to be believed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """A command that ended on the device; killed by a signal its status is 128 + number, as in a shell."""

    argv: tuple[str, ...]
    exit_status: int
    signal: str | None
    stdout: bytes
    stderr: bytes


class Held(Exception):
    """Somebody else holds the device; `told` is what it says of that."""

    def __init__(self, told: Told) -> None:
        super().__init__("somebody else holds the device")
        self.told = told


@runtime_checkable
class Transport(Protocol):
    """An open connection to one device; also a context manager that closes it."""

    device: Device

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float,
        stdin: bytes = b"",
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a command to its end; a status other than 0 is not an error. `on_line` gets stdout line by line.

        A program that cannot be started is status 127 (not found) or 126. Raises TimedOut, Disconnected,
        RuntimeMissing (no Python there), CommandFailed (too much output).
        """
        ...

    def put(self, source: Path, destination: str, *, progress: Sent | None = None) -> None:
        """Copy a file there: temporary name, hashed on the device, renamed. Its folder is made.

        Raises DiskFull, NotWritable, Altered, TimedOut, Disconnected.
        """
        ...

    def put_all(self, files: Sequence[tuple[Path, str]], *, progress: Sent | None = None) -> None:
        """`put` for many files in one go, in this order."""
        ...

    def get(self, source: str, destination: Path, *, limit_bytes: int) -> None:
        """Copy a file here, whole or not at all; raises CommandFailed when it is absent or too big."""
        ...

    def hash(self, paths: Sequence[str]) -> dict[str, str]:
        """SHA-256 of the files that exist there; others are left out."""
        ...

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files and folders with what is in them; what is absent already is fine.

        Only what lies inside the device's `folder` (at least two levels deep) goes; raises NotWritable for the rest.
        """
        ...

    def make_folder(self, path: str) -> None:
        """Create a folder and its parents; raises NotWritable, DiskFull."""
        ...

    def home(self) -> str:
        """The home folder there, absolute."""
        ...

    def lease(
        self, holder: Mapping[str, object], *, wait_seconds: float, waiting: Callable[[Told], None]
    ) -> AbstractContextManager[Callable[[], None]]:
        """Keep the device for `holder`, which has an `id`, while the block runs; it ends with this process, too.

        Waits so long for another holder, of whom `waiting` is told. What the block gets raises DeviceBusy once the
        lease was lost. Raises `Held`, and what `put` raises.
        """
        ...

    def interrupt(self) -> None:
        """End what other threads do here, within a second or so: they see KeyboardInterrupt."""
        ...

    def close(self) -> None:
        """Close the connection; may be called twice."""
        ...

    def __enter__(self) -> Transport: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def connect(device: Device) -> Transport:
    """Connect by the device's own transport; raises Unreachable and its kinds, TimedOut, BackendNotFound."""
    found: Transport = backends.find("lab.transports", device.transport).connect(device)
    return found
