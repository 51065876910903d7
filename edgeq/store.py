"""Stage files: one JSON document each, written whole or not at all."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from edgeq import documents
from edgeq.errors import OutputError

T = TypeVar("T")
CHUNK_BYTES = 1 << 20
_REASONS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EISDIR: "it is a folder",
    errno.EEXIST: "a file of that name is in the way",
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write `path` into OutputError."""
    try:
        yield
    except OSError as error:
        reason = _REASONS.get(error.errno or 0, error.strerror or str(error))
        raise OutputError(f"cannot write: {reason}", where=str(path)) from error


def make_folder(path: Path) -> Path:
    """Create a folder and its parents; raises OutputError."""
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def state_folder() -> Path:
    """Where edgeq keeps what it learned on this host: EDGEQ_STATE, else `edgeq` in the user's state folder."""
    if own := os.environ.get("EDGEQ_STATE"):
        return Path(own)
    return Path(os.environ.get("XDG_STATE_HOME") or "~/.local/state").expanduser() / "edgeq"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary name beside `path` that becomes `path` when the block ends well, and is removed otherwise."""
    with part(path) as temporary, writing(path):
        yield temporary
        _finish(temporary, path)


@contextlib.contextmanager
def part(path: Path, *, folder: bool = False) -> Iterator[Path]:
    """A new temporary file or folder beside `path`, removed when the block ends; raises OutputError.

    It is locked meanwhile: one that is not was left by a process that was killed, and is swept away first.
    """
    make_folder(path.parent)
    with writing(path):
        _sweep(path)
        handle, temporary = _locked_part(path, folder)
    try:
        yield temporary
    finally:
        _discard(temporary)
        os.close(handle)


def _locked_part(path: Path, folder: bool) -> tuple[int, Path]:
    while True:
        with contextlib.suppress(FileNotFoundError):
            handle, temporary = _new_part(path, folder)
            with contextlib.suppress(OSError):  # not every file system can lock; nobody sweeps there then
                fcntl.flock(handle, fcntl.LOCK_EX)
            if os.fstat(handle).st_nlink:
                return handle, temporary
            os.close(handle)  # swept away before it was locked


def _new_part(path: Path, folder: bool) -> tuple[int, Path]:
    prefix = f".{path.name[:100]}."
    if not folder:
        handle, name = tempfile.mkstemp(".part", prefix, path.parent)
        return handle, Path(name)
    name = tempfile.mkdtemp(".part", prefix, path.parent)
    return os.open(name, os.O_RDONLY | os.O_CLOEXEC), Path(name)


def _sweep(path: Path) -> None:
    """Remove the temporary files and folders of writers of `path` that were killed: nobody has them locked."""
    leftover = re.compile(rf"\.{re.escape(path.name[:100])}\.[a-z0-9_]{{8}}\.part")
    for entry in path.parent.iterdir():
        if leftover.fullmatch(entry.name):
            with contextlib.suppress(OSError):
                _sweep_one(entry)


def _sweep_one(temporary: Path) -> None:
    handle = os.open(temporary, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _discard(temporary)
    finally:
        os.close(handle)


def _discard(temporary: Path) -> None:
    if temporary.is_dir():
        shutil.rmtree(temporary, ignore_errors=True)
    else:
        temporary.unlink(missing_ok=True)


def _finish(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as stream:
        os.fsync(stream.fileno())
    temporary.chmod(0o666 & ~_umask())
    temporary.replace(path)


_ASKING = threading.Lock()


def _umask() -> int:
    """Asking for it sets it: two threads at once would leave it at 0."""
    with _ASKING:
        mask = os.umask(0o077)
        os.umask(mask)
    return mask


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep a second edgeq from changing `path` meanwhile; the kernel lets the lock go when we end, however we end."""
    make_folder(path.parent)
    with writing(path):
        handle = os.open(path.with_name(f".{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically; raises OutputError."""
    with replacing(path) as temporary:
        temporary.write_bytes(content)


def to_json(value: object) -> str:
    """JSON text of a dataclass or plain value; NaN and infinity are refused (ValueError)."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def write(path: Path, value: object) -> None:
    """Write a stage file atomically; raises OutputError."""
    write_bytes(path, to_json(value).encode())


def read(path: Path, cls: type[T]) -> T:
    """Read a stage file; raises EdgeqError with the file and place."""
    return documents.load_json(path, cls)


def sha256(path: Path) -> str:
    """Hex digest of a file's content, read in pieces."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()
