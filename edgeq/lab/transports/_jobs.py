"""A Transport made of jobs for the agent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import signal
import struct
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from edgeq import store
from edgeq.errors import Altered, CommandFailed, Disconnected, NotWritable, TimedOut, UsageError
from edgeq.lab.transports import FILE_SECONDS, LEASE_SECONDS, OUTPUT_LIMIT_BYTES, Completed, Held, Sent, Told
from edgeq.lab.transports._keeper import Keeper
from edgeq.lab.transports._session import FRAME_BYTES, Answer, Dialogue, Pipe, answer, command, farewell, pieces, source
from edgeq.types import Device

MOST_HOLDERS = 10_000
"""Of so many holders one after the other is told while a lease is waited for; a device that lies has more."""
LONGEST_PATH = 4096


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
        self._home: str | None = None
        self._interrupted = threading.Event()

    @contextlib.contextmanager
    def _dialogue(self, job: Answer) -> Iterator[Dialogue]:
        pipe = self._open_pipe(command(self.device.python))
        dialogue = Dialogue(pipe, self.device, what(job))
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
            self._check()
            left = deadline - time.monotonic()
            if left <= 0:
                farewell(dialogue.pipe)
                raise TimedOut(f"{self.device.name}: {dialogue.what} did not end in time")
            frame = dialogue.receive(min(left, 1.0))
            if frame is not None:
                return frame

    def _check(self) -> None:
        if self._interrupted.is_set():
            raise KeyboardInterrupt

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
        self.put_all([(source, destination)], progress=progress)

    def put_all(self, files: Sequence[tuple[Path, str]], *, progress: Sent | None = None) -> None:
        """Copy files there, in this order; see Transport."""
        total, done = sum(source.stat().st_size for source, _ in files), 0
        with self._dialogue({"job": "put", "files": [[there, mode(source)] for source, there in files]}) as dialogue:
            for source, _ in files:
                for piece in sent(dialogue, source):
                    self._check()
                    done += len(piece)
                    if progress:
                        progress(done, max(total, done))
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
        told = self._ask({"job": "hash", "paths": list(paths)})
        found, self._home = told.get("hashes"), home_told(told, self.device)
        wanted = set(paths)
        return {k: str(v) for k, v in found.items() if k in wanted} if isinstance(found, dict) else {}

    def remove(self, paths: Sequence[str]) -> None:
        """Remove files and folders; see Transport."""
        self._ask({"job": "remove", "paths": list(paths), "inside": [self.device.folder.removeprefix("~/")]})

    def make_folder(self, path: str) -> None:
        """Create a folder and its parents; see Transport."""
        self._ask({"job": "make_folder", "path": path})

    def home(self) -> str:
        """The home folder there; see Transport."""
        if self._home is None:
            self._home = home_told(self._ask({"job": "home"}), self.device)
        return self._home

    @contextlib.contextmanager
    def lease(
        self, holder: Mapping[str, object], *, wait_seconds: float, waiting: Callable[[Told], None]
    ) -> Iterator[Callable[[], None]]:
        """Keep the device for `holder` while the block runs; see Transport."""
        folder = self.device.folder.removeprefix("~/")
        job: Answer = {"job": "lease", "folder": folder, "holder": dict(holder), "wait_seconds": wait_seconds}
        with self._dialogue(job) as dialogue:
            self._acquire(dialogue, time.monotonic() + wait_seconds + LEASE_SECONDS, waiting)
            keeper = Keeper(dialogue)
            try:
                yield keeper.check
            except Disconnected:
                keeper.blame()
                raise
            finally:
                keeper.release()

    def _acquire(self, dialogue: Dialogue, deadline: float, waiting: Callable[[Told], None]) -> None:
        for _ in range(MOST_HOLDERS):
            kind, payload = self._next(dialogue, deadline)
            told = answer(payload)
            if kind == b"R":
                raise Held(told)
            if "holder" not in told:
                self._home = home_told(told, self.device)  # asked for next by who measures: one program less to start
                return
            waiting(told)
        raise CommandFailed(f"{self.device.name} tells of more than {MOST_HOLDERS} holders of its lease")

    def interrupt(self) -> None:
        """End what other threads do here; see Transport."""
        self._interrupted.set()

    def close(self) -> None:
        """Close the connection."""
        self._shut()

    def __enter__(self) -> AgentTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def home_told(told: Answer, device: Device) -> str:
    """The home folder that a device tells of; raises CommandFailed for what is no absolute path on one line."""
    home = told.get("home")
    if not isinstance(home, str) or not home.startswith("/") or len(home) > LONGEST_PATH or not home.isprintable():
        raise CommandFailed(f"{device.name} does not tell its home folder")
    return home


def what(job: Answer) -> str:
    """A job in a message."""
    argv = job.get("argv")
    if job["job"] == "lease":
        return "the lease"
    return f"the command {argv[0]}" if isinstance(argv, list) else f"{str(job['job']).replace('_', ' ')} of files"


def mode(source: Path) -> int:
    """Permissions of the copy there."""
    return 0o755 if source.stat().st_mode & 0o100 else 0o644


def sent(dialogue: Dialogue, source: Path) -> Iterator[bytes]:
    """Send a file and then its hash; yields each piece after it went."""
    digest = hashlib.sha256()
    with source.open("rb") as stream:
        while piece := stream.read(FRAME_BYTES):
            dialogue.send(b"D", piece)
            dialogue.receive(0)
            digest.update(piece)
            yield piece
    dialogue.send(b"E", digest.hexdigest().encode())


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
