"""A device that answers what a test tells it to."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

from edgeq.errors import CommandFailed
from edgeq.lab.transports import OUTPUT_LIMIT_BYTES, Completed, Sent, Told
from edgeq.types import Device

Answer = Completed | Exception


def said(*events: object, status: int = 0, signal: str | None = None, stderr: bytes = b"") -> Completed:
    """A command that printed these values as JSON lines (bytes as they are) and ended so."""
    lines = [event if isinstance(event, bytes) else json.dumps(event).encode() for event in events]
    stdout = b"".join(line + b"\n" for line in lines)
    return Completed(argv=(), exit_status=status, signal=signal, stdout=stdout, stderr=stderr)


class FakeTransport:
    """Gives the scripted answers one after the other and keeps files in memory.

    `ran` lists every argv. An answer larger than the caller's limit is CommandFailed, as over a real transport.
    """

    def __init__(self, answers: Iterable[Answer] = (), device: Device | None = None) -> None:
        self.device = device or Device(name="fake", transport="fake")
        self.ran: list[tuple[str, ...]] = []
        self.files: dict[str, bytes] = {}
        self.removed: list[str] = []
        self.holders: list[dict[str, object]] = []
        self._answers = list(answers)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float,  # noqa: ARG002 the Protocol's
        stdin: bytes = b"",  # noqa: ARG002 the Protocol's
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        """The next answer; an exception is raised."""
        self.ran.append(tuple(argv))
        if not self._answers:
            raise CommandFailed("the script of this fake device has ended")
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        if len(answer.stdout) > output_limit_bytes:
            raise CommandFailed("too much output")
        for line in answer.stdout.decode("utf-8", "replace").splitlines() if on_line else ():
            on_line(line)  # type: ignore[misc]
        return answer

    def put(self, source: Path, destination: str, *, progress: Sent | None = None) -> None:
        """Keep the file's content."""
        self.files[destination] = source.read_bytes()
        if progress:
            progress(len(self.files[destination]), len(self.files[destination]))

    def put_all(self, files: Sequence[tuple[Path, str]], *, progress: Sent | None = None) -> None:
        """Keep the content of several files."""
        for source, destination in files:
            self.put(source, destination, progress=progress)

    def get(self, source: str, destination: Path, *, limit_bytes: int) -> None:
        """The content kept under that name."""
        content = self.files.get(source)
        if content is None or len(content) > limit_bytes:
            raise CommandFailed(f"{source} is absent or too big")
        destination.write_bytes(content)

    def hash(self, paths: Sequence[str]) -> dict[str, str]:
        """SHA-256 of the files that are kept."""
        import hashlib

        return {path: hashlib.sha256(self.files[path]).hexdigest() for path in paths if path in self.files}

    def remove(self, paths: Sequence[str]) -> None:
        """Forget files and all below folders of these names."""
        self.removed.extend(paths)
        for path in paths:
            self.files = {k: v for k, v in self.files.items() if k != path and not k.startswith(f"{path}/")}

    def make_folder(self, path: str) -> None:
        """Folders need no making here."""

    def home(self) -> str:
        """An invented home."""
        return "/home/fake"

    @contextlib.contextmanager
    def lease(
        self,
        holder: Mapping[str, object],
        *,
        wait_seconds: float,  # noqa: ARG002 the Protocol's
        waiting: Callable[[Told], None],  # noqa: ARG002 the Protocol's
    ) -> Iterator[Callable[[], None]]:
        """Never held by anybody else; `holders` lists who had it."""
        self.holders.append(dict(holder))
        yield lambda: None

    def interrupt(self) -> None:
        """Nothing takes time here."""

    def close(self) -> None:
        """Nothing is open."""

    def __enter__(self) -> FakeTransport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
