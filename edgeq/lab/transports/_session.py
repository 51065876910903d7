"""This host's end of a transport: jobs for the agent over any byte pipe that starts a program there."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from types import TracebackType
from typing import Protocol

from edgeq import store
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
    UsageError,
)
from edgeq.lab.transports import FILE_SECONDS, OUTPUT_LIMIT_BYTES, Completed, Sent
from edgeq.types import Device

BEAT_SECONDS = 2.0
SILENCE_SECONDS = 10.0
FAREWELL_SECONDS = 3.0
FRAME_BYTES = 32768
LARGEST_FRAME_BYTES = 1 << 20
PREAMBLE_BYTES = 1 << 16
MARK = b"\nedgeq agent 1\n"
Answer = dict[str, object]

_TOO_OLD = "edgeq: this is Python %d.%d"
_BOOTSTRAP = (
    "import sys;sys.version_info<(3,7) and sys.exit('" + _TOO_OLD + "'%sys.version_info[:2]);"
    "exec(compile(sys.stdin.buffer.read({size}),'edgeq agent','exec'))"
)
_NOT_WRITABLE = {"EACCES", "EPERM", "EROFS", "ENOENT", "ENOTDIR", "EISDIR", "EEXIST", "ENAMETOOLONG", "ELOOP"}
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


def command(python: str) -> list[str]:
    """The argv that starts the agent; its text follows on standard input."""
    return [python, "-X", "utf8", "-I", "-S", "-c", _BOOTSTRAP.format(size=len(source()))]


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

    def __init__(self, pipe: Pipe, device: Device) -> None:
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


def ignore(piece: bytes) -> None:
    """Do nothing with it."""


class Lines:
    """Split a stream into lines for a callback."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self.on_line = on_line
        self.rest = b""

    def add(self, data: bytes, *, last: bool = False) -> None:
        """Call back for each line that is whole, and for the rest at the end."""
        if self.on_line is None:
            return
        *whole, self.rest = (self.rest + data).split(b"\n")
        if last and self.rest:
            whole.append(self.rest)
        for line in whole:
            self.on_line(line.decode("utf-8", "replace"))


class AgentTransport:
    """A Transport over a way to start programs on a device.

    `open_pipe(argv)` starts one; `shut` closes the connection.
    """

    def __init__(self, device: Device, open_pipe: Callable[[list[str]], Pipe], shut: Callable[[], None]) -> None:
        self.device = device
        self._open_pipe = open_pipe
        self._shut = shut

    @contextlib.contextmanager
    def _dialogue(self, job: Answer) -> Iterator[Dialogue]:
        pipe = self._open_pipe(command(self.device.python))
        dialogue = Dialogue(pipe, self.device)
        try:
            text = json.dumps(job).encode()
            dialogue.write(source() + struct.pack(">cI", b"J", len(text)) + text)
            yield dialogue
        except (TimedOut, Disconnected):
            pipe.close_input()
            raise
        except BaseException:
            farewell(pipe)
            raise
        finally:
            pipe.close()

    def _ask(self, job: Answer, each: Callable[[bytes], None] = ignore) -> Answer:
        with self._dialogue(job) as dialogue:
            return self._result(dialogue, time.monotonic() + FILE_SECONDS, each)

    def _result(self, dialogue: Dialogue, deadline: float, each: Callable[[bytes], None] = ignore) -> Answer:
        while True:
            kind, payload = self._next(dialogue, deadline)
            if kind == b"R":
                return answer(payload)
            each(payload)

    def _next(self, dialogue: Dialogue, deadline: float) -> tuple[bytes, bytes]:
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                farewell(dialogue.pipe)
                raise TimedOut(f"{self.device.name} did not finish in time")
            frame = dialogue.receive(min(left, 1.0))
            if frame is not None:
                return frame

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float,
        stdin: bytes = b"",
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run a command to its end; see Transport."""
        if not argv or any("\0" in word for word in argv):
            raise UsageError("a command needs a name, and no word of it can hold a NUL character")
        deadline = time.monotonic() + timeout_seconds
        outputs = {b"O": bytearray(), b"S": bytearray()}
        lines = Lines(on_line)
        with self._dialogue({"job": "run", "argv": list(argv)}) as dialogue:
            for piece in pieces(stdin):
                dialogue.send(b"D", piece)
            dialogue.send(b"E")
            while True:
                kind, payload = self._next(dialogue, deadline)
                if kind == b"R":
                    break
                outputs.get(kind, bytearray()).extend(payload)
                if sum(map(len, outputs.values())) > output_limit_bytes:
                    raise CommandFailed(f"{self.device.name}: {argv[0]} wrote more than {output_limit_bytes} bytes")
                if kind == b"O":
                    lines.add(payload)
        lines.add(b"", last=True)
        return completed(argv, answer(payload), bytes(outputs[b"O"]), bytes(outputs[b"S"]))

    def put(self, source: Path, destination: str, *, progress: Sent | None = None) -> None:
        """Copy a file there; see Transport."""
        total, done, digest = source.stat().st_size, 0, hashlib.sha256()
        job: Answer = {"job": "put", "path": destination, "mode": 0o755 if source.stat().st_mode & 0o100 else 0o644}
        with source.open("rb") as stream, self._dialogue(job) as dialogue:
            while piece := stream.read(FRAME_BYTES):
                dialogue.send(b"D", piece)
                dialogue.receive(0)
                digest.update(piece)
                done += len(piece)
                if progress:
                    progress(done, max(total, done))
            dialogue.send(b"E", digest.hexdigest().encode())
            self._result(dialogue, time.monotonic() + FILE_SECONDS)

    def get(self, source: str, destination: Path, *, limit_bytes: int) -> None:
        """Copy a file here; see Transport."""
        digest, size = hashlib.sha256(), 0
        with store.replacing(destination) as temporary, temporary.open("wb") as stream:

            def keep(piece: bytes) -> None:
                nonlocal size
                size += len(piece)
                if size > limit_bytes:
                    raise CommandFailed(f"{self.device.name}: {source} is bigger than {limit_bytes} bytes")
                digest.update(piece)
                stream.write(piece)

            try:
                told = self._ask({"job": "get", "path": source}, keep)
            except NotWritable as error:
                raise CommandFailed(error.message) from error
            if told.get("sha256") != digest.hexdigest():
                raise Altered(f"{self.device.name}: {source} changed while it was copied")

    def hash(self, paths: Sequence[str]) -> dict[str, str]:
        """SHA-256 of the files that exist there; see Transport."""
        found = self._ask({"job": "hash", "paths": list(paths)}).get("hashes")
        wanted = set(paths)
        return {k: str(v) for k, v in found.items() if k in wanted} if isinstance(found, dict) else {}

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files and folders; see Transport."""
        self._ask({"job": "remove", "paths": list(paths)})

    def make_folder(self, path: str) -> None:
        """Create a folder and its parents; see Transport."""
        self._ask({"job": "make_folder", "path": path})

    def home(self) -> str:
        """The home folder there; see Transport."""
        return str(self._ask({"job": "home"}).get("home"))

    def close(self) -> None:
        """Close the connection."""
        self._shut()

    def __enter__(self) -> AgentTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def farewell(pipe: Pipe) -> None:
    """Hang up and wait until the agent has killed what it started and ended."""
    give_up = time.monotonic() + FAREWELL_SECONDS
    with contextlib.suppress(OSError, EOFError):
        pipe.close_input()
        while time.monotonic() < give_up and pipe.read(0.2) != b"":
            pass


def completed(argv: Sequence[str], told: Answer, stdout: bytes, stderr: bytes) -> Completed:
    """What a run comes to; a negative status is a signal."""
    status = told.get("status")
    if not isinstance(status, int):
        raise CommandFailed("the device did not tell how the command ended")
    name = signal_name(-status) if status < 0 else None
    code = 128 - status if status < 0 else status
    return Completed(argv=tuple(argv), exit_status=code, signal=name, stdout=stdout, stderr=stderr)


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
