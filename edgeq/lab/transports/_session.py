"""This host's end of a transport: jobs for the agent over any byte pipe that starts a program there."""

from __future__ import annotations

import contextlib
import json
import struct
import threading
import time
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Protocol

from edgeq.errors import (
    Altered,
    CommandFailed,
    DeviceError,
    Disconnected,
    DiskFull,
    NotWritable,
    OutOfMemory,
    RuntimeMissing,
    TimedOut,
)
from edgeq.types import Device

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 10.0
FAREWELL_SECONDS = 4.0
TEXT_SECONDS = 20
"""What the agent's text may take to arrive; only the agent itself notices that the host is gone."""
FRAME_BYTES = 32768
LARGEST_FRAME_BYTES = 1 << 20
PREAMBLE_BYTES = 1 << 16
MARK = b"\nedgeq agent 1\n"
Answer = dict[str, object]

_TOO_OLD = "edgeq: this is Python %d.%d"
_BOOTSTRAP = (
    "import sys;sys.version_info<(3,7) and sys.exit('" + _TOO_OLD + "'%sys.version_info[:2]);"
    "import signal;signal.alarm({seconds});text=sys.stdin.buffer.read({size});signal.alarm(0);"
    "exec(compile(text,'edgeq agent','exec'))"
)
_NO_ENTRY = {"EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "ENAMETOOLONG", "ELOOP"}
_NOT_WRITABLE = {*_NO_ENTRY, "ENOLCK", "EOPNOTSUPP"}
_REFUSALS: tuple[tuple[type[DeviceError], set[str], str | None], ...] = (
    (DiskFull, {"ENOSPC", "EDQUOT"}, "free space there, or set another `folder:` for the device"),
    (NotWritable, _NOT_WRITABLE, "set a writable `folder:` for the device in devices.yaml"),
    (OutOfMemory, {"ENOMEM"}, None),
    (Altered, {"EIO"}, None),
)


class Pipe(Protocol):
    """The standard streams of one program on the device."""

    def read(self, wait_seconds: float) -> bytes | None:
        """What it wrote; None when nothing came in time, b"" at the end. Raises OSError, EOFError."""
        ...

    def write(self, data: bytes) -> None:
        """Write all of it; raises OSError, EOFError when the other end is gone."""
        ...

    def close_input(self) -> None:
        """Tell the program that no more input comes."""
        ...

    def abort(self) -> None:
        """Break the connection so that a blocked read or write in another thread ends."""
        ...

    def close(self) -> tuple[int | None, str]:
        """Let go; the exit status where it is known, and what came on standard error."""
        ...


def source() -> bytes:
    """The agent's program text."""
    return files("edgeq.lab.transports").joinpath("_agent.py").read_bytes()


def command(python: str, seconds: int = TEXT_SECONDS) -> list[str]:
    """The argv that starts the agent; its text follows on standard input, within so many seconds."""
    return [python, "-X", "utf8", "-I", "-S", "-c", _BOOTSTRAP.format(size=len(source()), seconds=seconds)]


@contextlib.contextmanager
def limit(seconds: float, abort: Callable[[], None], message: str) -> Iterator[None]:
    """Abort what the block waits for after `seconds`; raises TimedOut."""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        abort()

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, EOFError) as error:
        if expired.is_set():
            raise TimedOut(message) from error
        raise
    finally:
        timer.cancel()


class Dialogue:
    """One job: frames to and from the agent, with signs of life both ways."""

    def __init__(self, pipe: Pipe, device: Device, what: str) -> None:
        self.what = what
        self.pipe = pipe
        self.device = device
        self.buffer = bytearray()
        self.greeted = False
        self.heard = self.beaten = time.monotonic()
        self.silent = f"{device.name} gave no sign of life for {SILENCE_SECONDS:.0f} s: it hangs, or the link is cut"

    def write(self, data: bytes) -> None:
        """Write, giving up when the other end takes nothing for too long; raises TimedOut, Disconnected."""
        try:
            with limit(SILENCE_SECONDS, self.pipe.abort, self.silent):
                self.pipe.write(data)
        except (OSError, EOFError) as error:
            raise self.ended(error) from error
        self.beaten = time.monotonic()

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Write one frame."""
        self.write(struct.pack(">cI", kind, len(payload)) + payload)

    def receive(self, wait_seconds: float) -> tuple[bytes, bytes] | None:
        """Next frame that is not a beat, or None after `wait_seconds` at most; raises what the agent refuses."""
        frame = self.take()
        if frame is None:
            self.fetch(wait_seconds)
            frame = self.take()
        if frame is not None and frame[0] == b"X":
            raise refusal(answer(frame[1]), self.device)
        return None if frame is None or frame[0] == b"B" else frame

    def fetch(self, wait_seconds: float) -> None:
        """Read what has come; raises TimedOut after silence, Disconnected at the end."""
        try:
            data = self.pipe.read(wait_seconds)
        except (OSError, EOFError) as error:
            raise self.ended(error) from error
        now = time.monotonic()
        if data:
            self.buffer += data
            self.heard = now
        elif data is not None:
            raise self.ended(None)
        if now - self.heard > SILENCE_SECONDS:
            self.pipe.abort()
            raise TimedOut(self.silent)
        if now - self.beaten > BEAT_SECONDS:
            self.send(b"B")

    def take(self) -> tuple[bytes, bytes] | None:
        """Cut one frame off the buffer."""
        if not self.greeted and not self.skip_preamble():
            return None
        if len(self.buffer) < 5:
            return None
        kind, size = struct.unpack_from(">cI", self.buffer)
        if size > LARGEST_FRAME_BYTES:
            raise CommandFailed(f"{self.device.name} answers with something else than edgeq's agent")
        if len(self.buffer) < 5 + size:
            return None
        payload = bytes(self.buffer[5 : 5 + size])
        del self.buffer[: 5 + size]
        return kind, payload

    def skip_preamble(self) -> bool:
        """Skip what the login shell's start files print; whether the agent has begun."""
        head, mark, rest = self.buffer.partition(MARK)
        if len(head) > PREAMBLE_BYTES:
            raise CommandFailed(
                f"{self.device.name}: its login shell prints without end", hint="mend ~/.profile or ~/.bashrc there"
            )
        if mark:
            self.greeted, self.buffer = True, rest
        return self.greeted

    def ended(self, cause: BaseException | None) -> DeviceError:
        """Why there is nothing more to read."""
        if cause is not None:
            self.drain()
        status, errors = self.pipe.close()
        if not self.greeted and status is not None and status >= 0:
            return not_started(self.device, status, errors)
        if status == 1 and "Traceback" in errors:
            return CommandFailed(f"{self.device.name}: the agent failed: {last_line(errors)}")
        reason = f": {cause}" if cause and str(cause) else ""
        return Disconnected(f"the connection to {self.device.name} was lost{reason}")

    def drain(self) -> None:
        """Read what the agent said before it hung up; raises its refusal."""
        with contextlib.suppress(OSError, EOFError):
            while data := self.pipe.read(0.5):
                self.buffer += data
        while frame := self.take():
            if frame[0] == b"X":
                raise refusal(answer(frame[1]), self.device)


def last_line(text: str) -> str:
    """The last line that says something, printable."""
    lines = [line for line in text.splitlines() if line.strip()]
    return "".join(c if c.isprintable() else "?" for c in lines[-1][:300]) if lines else "no message"


def not_started(device: Device, status: int, errors: str) -> DeviceError:
    """The error of a device on which the agent did not come up."""
    if status in (126, 127) or "Python" in errors or "python" in errors:
        return RuntimeMissing(
            f"{device.name} has no Python 3.7 or newer called {device.python!r}: {last_line(errors)}",
            hint="sudo apt install python3",
        )
    return CommandFailed(f"{device.name} ran no command (status {status}): {last_line(errors)}")


def answer(payload: bytes) -> Answer:
    """The agent's JSON document; raises CommandFailed for anything else."""
    try:
        value = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise CommandFailed("the device's answer is not JSON") from error
    if not isinstance(value, dict):
        raise CommandFailed("the device's answer is not a JSON object")
    return value


def refusal(told: Answer, device: Device) -> DeviceError:
    """The error for an operation that the device's operating system refused."""
    name, path = str(told.get("errno")), str(told.get("path"))
    message = f"{device.name}: {path}: {told.get('message')}"
    for kind, names, hint in _REFUSALS:
        if name in names:
            return kind(message, hint=hint)
    return CommandFailed(message)


def pieces(data: bytes) -> Iterator[bytes]:
    """Cut data into frames."""
    for start in range(0, len(data), FRAME_BYTES):
        yield data[start : start + FRAME_BYTES]


def farewell(pipe: Pipe) -> None:
    """Hang up and wait until the agent has killed what it started and ended."""
    give_up = time.monotonic() + FAREWELL_SECONDS
    with contextlib.suppress(OSError, EOFError, ValueError):  # ValueError: the pipe was closed on an error before
        pipe.close_input()
        while time.monotonic() < give_up and pipe.read(0.2) != b"":
            pass
