"""The device's end of a transport: does one job, then ends. Sent as text; Python 3.7, standard library only.

Frames both ways: one byte kind, four bytes length, payload. To here: J job, D data, E end of data, B beat.
From here: O output, S standard error, B beat, R result, X refusal. When the host is gone (end of input, or no
beat for SILENCE_SECONDS) the job's processes are killed and its temporary file is removed.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import json
import os
import queue
import re
import shutil
import signal
import stat
import struct
import subprocess
import sys
import tempfile
import threading
import time
from typing import IO, Any, Callable, Iterator

MARK = b"\nedgeq agent 1\n"
BEAT_SECONDS = 2.0
SILENCE_SECONDS = 15.0
GRACE_SECONDS = 1.0
FRAME_BYTES = 32768
LARGEST_FRAME_BYTES = 16 << 20
LEASE_SECONDS = 20.0
RENEW_SECONDS = 4.0
POLL_SECONDS = 0.5
LOCK_SECONDS = 5.0
LEASE_BYTES = 2048


def nothing() -> None:
    """Clean nothing up."""


class Link:
    """The host at the other end of standard input and output."""

    def __init__(self) -> None:
        self.source: Any = sys.stdin.buffer
        self.inbox: queue.Queue[tuple[bytes, bytes]] = queue.Queue()
        self.waiting_since: float | None = None
        self.writing = threading.Lock()
        self.changing = threading.RLock()
        self.cleanup: Callable[[], None] = nothing

    def send(self, kind: bytes, payload: bytes = b"") -> None:
        """Write one frame whole; the host is gone if that fails."""
        rest = memoryview(struct.pack(">cI", kind, len(payload)) + payload)
        with self.writing:
            try:
                while rest:
                    rest = rest[os.write(1, rest) :]
            except OSError:
                self.leave()

    def finish(self, kind: bytes, value: object) -> None:
        """Write the last frame, let the host read it, end."""
        self.send(kind, json.dumps(value).encode())
        with contextlib.suppress(queue.Empty):
            while True:  # the host may still be sending; it hangs up when it has read this
                self.inbox.get(timeout=5)
        self.leave(0)

    def leave(self, status: int = 70) -> None:
        """Undo what is unfinished and end this process, whatever its other threads do."""
        with self.changing:
            with contextlib.suppress(OSError):
                self.cleanup()
            os._exit(status)

    def exactly(self, size: int) -> bytes:
        """Read `size` bytes; time counts as silence only while nothing arrives."""
        data = b""
        while len(data) < size:
            self.waiting_since = time.monotonic()
            piece = self.source.read1(min(size - len(data), FRAME_BYTES))
            self.waiting_since = None
            if not piece:
                self.leave()
            data += piece
        return data

    def receive(self) -> tuple[bytes, bytes]:
        """Next frame that is not a beat."""
        while True:
            kind, size = struct.unpack(">cI", self.exactly(5))
            if size > LARGEST_FRAME_BYTES:
                self.leave()
            payload = self.exactly(size)
            if kind != b"B":
                return kind, payload


def background(function: Callable[..., None], *arguments: Any) -> threading.Thread:
    """Start a thread that does not keep the process alive."""
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def fill_inbox(link: Link) -> None:
    """Read frames for ever."""
    while True:
        link.inbox.put(link.receive())


def beat(link: Link) -> None:
    """Tell the host that this end lives."""
    while True:
        time.sleep(BEAT_SECONDS)
        link.send(b"B")


def watch(link: Link) -> None:
    """End when the host is silent for too long."""
    while True:
        time.sleep(1)
        since = link.waiting_since
        if since is not None and time.monotonic() - since > SILENCE_SECONDS:
            link.leave()


def end_group(child: subprocess.Popen[bytes]) -> None:
    """Ask the child and all that shares its process group to end, and soon after make them."""
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGTERM)
        give_up = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < give_up and not has_ended(child.pid, os.WNOHANG):
            time.sleep(0.02)
    kill_group(child)


def has_ended(pid: int, flags: int = 0) -> bool:
    """Whether a child has ended; it stays a zombie, so that nobody else can get its number."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | flags) is not None


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and all that shares its process group."""
    with contextlib.suppress(OSError):
        os.killpg(child.pid, signal.SIGKILL)


def spawn(link: Link, argv: list[str]) -> subprocess.Popen[bytes]:
    """Start the command in a session of its own; it is killed if this process leaves."""
    with link.changing:
        pipe = subprocess.PIPE
        child = subprocess.Popen(argv, bufsize=0, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        link.cleanup = lambda: end_group(child)
    return child


def pump(link: Link, stream: Any, kind: bytes) -> None:
    """Pass on what the command writes, as it comes."""
    while True:
        data = stream.read(FRAME_BYTES)
        if not data:
            return
        link.send(kind, data)


def feed(link: Link, stream: IO[bytes]) -> None:
    """Pass the host's data to the command's standard input."""
    with contextlib.suppress(OSError), stream:
        while True:
            kind, payload = link.inbox.get()
            if kind == b"E":
                return
            rest = memoryview(payload)
            while rest:
                rest = rest[stream.write(rest) or 0 :]


def run(link: Link, job: dict[str, Any]) -> dict[str, Any]:
    """Run a command; all of its process group has ended when this returns."""
    try:
        child = spawn(link, job["argv"])
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENOTDIR)
        link.send(b"S", ("%s: %s\n" % (job["argv"][0], error.strerror)).encode("utf-8", "replace"))
        return {"status": 127 if missing else 126}
    pumps = [background(pump, link, child.stdout, b"O"), background(pump, link, child.stderr, b"S")]
    background(feed, link, child.stdin)
    has_ended(child.pid)
    kill_group(child)
    for thread in pumps:
        thread.join(2)  # a process that left the group may hold the pipe for ever
    with link.changing:
        link.cleanup = nothing
        return {"status": child.wait()}


def digest(path: str, each: Callable[[bytes], None] = lambda piece: None) -> dict[str, Any]:
    """Size and SHA-256 of a regular file; `each` gets its pieces."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # a FIFO must not block
    with open(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        total, sha = 0, hashlib.sha256()
        while True:
            piece = stream.read(FRAME_BYTES)
            if not piece:
                return {"size": total, "sha256": sha.hexdigest()}
            total += len(piece)
            sha.update(piece)
            each(piece)


def sync_folder(path: str) -> None:
    """Make a rename last; not every file system can."""
    with contextlib.suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def temporary_file(link: Link, path: str) -> tuple[IO[bytes], str]:
    """A new locked file beside `path`, removed if this process leaves."""
    folder, name = os.path.split(path)
    if os.path.isdir(path):
        raise OSError(errno.EISDIR, "it is a folder", path)
    while True:
        with link.changing:
            handle, temporary = tempfile.mkstemp(".part", ".%s." % name[:40], folder or ".")
            link.cleanup = functools.partial(os.unlink, temporary)
        with contextlib.suppress(OSError):  # not every file system can lock; nobody sweeps there then
            fcntl.flock(handle, fcntl.LOCK_EX)
        if os.fstat(handle).st_nlink:
            return open(handle, "wb"), temporary
        os.close(handle)  # swept away before it was locked


def sweep(path: str) -> None:
    """Remove what uploads of this file left that were killed: their temporary files, which nobody has locked."""
    folder, name = os.path.split(path)
    leftover = re.compile(r"\.%s\.[a-z0-9_]{8}\.part" % re.escape(name[:40]))
    for entry in os.listdir(folder or "."):
        if leftover.fullmatch(entry):
            with contextlib.suppress(OSError):
                sweep_one(os.path.join(folder, entry))


def sweep_one(path: str) -> None:
    """Remove one temporary file; raises OSError while somebody writes it."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.unlink(path)
    finally:
        os.close(handle)


def store(link: Link, stream: IO[bytes]) -> str:
    """Write the host's data to disk; returns the SHA-256 that it should have."""
    with stream:
        while True:
            kind, payload = link.inbox.get()
            if kind == b"E":
                stream.flush()
                os.fsync(stream.fileno())
                return payload.decode()
            stream.write(payload)


def put_one(link: Link, path: str, mode: int) -> None:
    """Receive a file; it gets its name when it is whole."""
    folder = os.path.dirname(path) or "."
    try:
        os.makedirs(folder, exist_ok=True)
        sweep(path)
        stream, temporary = temporary_file(link, path)
        held = os.dup(stream.fileno())  # keeps the lock until the file has its name, or another upload sweeps it away
        try:
            expected = store(link, stream)
            if digest(temporary)["sha256"] != expected:
                raise OSError(errno.EIO, "what is on the disk is not what was sent", path)
            os.chmod(temporary, mode)
            with link.changing:
                os.replace(temporary, path)
                link.cleanup = nothing
        finally:
            os.close(held)
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from None
    sync_folder(folder)


def put(link: Link, job: dict[str, Any]) -> dict[str, Any]:
    """Receive files one after the other."""
    for path, mode in job["files"]:
        put_one(link, path, mode)
    return {}


def get(link: Link, job: dict[str, Any]) -> dict[str, Any]:
    """Send a file."""
    return digest(job["path"], lambda piece: link.send(b"O", piece))


def hashes(link: Link, job: dict[str, Any]) -> dict[str, Any]:
    """SHA-256 of the files that can be read, what cannot is left out; and where relative paths start."""
    found = {}
    for path in job["paths"]:
        with contextlib.suppress(OSError):
            found[path] = digest(path)["sha256"]
    return {"hashes": found, "home": os.getcwd()}


def true_path(path: str) -> str:
    """Where a path leads: its folder with links resolved, its last name as it is, exactly one leading slash."""
    name = os.path.basename(path)
    full = os.path.realpath(path)
    if name not in ("", ".", ".."):
        full = os.path.join(os.path.realpath(os.path.dirname(path) or "."), name)
    return "/" + "/".join(part for part in full.split("/") if part)


def check_removable(path: str, inside: list[str]) -> None:
    """Refuse all but what lies strictly inside one of edgeq's own folders, each at least two levels deep.

    An allow-list: `//`, `..` and links lead to places that a list of forbidden names does not foresee.
    """
    real = true_path(path)
    for folder in inside:
        own = true_path(os.path.realpath(folder))
        if own.count("/") >= 2 and real.startswith(own + "/"):
            return
    raise OSError(errno.EPERM, "refused: it is not in a folder of edgeq", path)


def remove(link: Link, job: dict[str, Any]) -> dict[str, Any]:
    """Remove files and trees; nothing is touched unless all of them may be."""
    for path in job["paths"]:
        check_removable(path, job["inside"])
    for path in map(true_path, job["paths"]):
        with contextlib.suppress(FileNotFoundError):
            if os.path.isdir(path) and not os.path.islink(path):
                shutil.rmtree(path)
            else:
                os.unlink(path)
    return {}


def make_folder(link: Link, job: dict[str, Any]) -> dict[str, Any]:
    """Create a folder and its parents."""
    os.makedirs(job["path"], exist_ok=True)
    return {}


def home(link: Link, job: dict[str, Any]) -> dict[str, Any]:
    """Where relative paths start."""
    return {"home": os.getcwd()}


def uptime() -> float:
    """Seconds since the device started, sleep included where the kernel counts it: a clock that nobody sets."""
    clock = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if clock is None else time.clock_gettime(clock)


def lease_path(folder: str) -> str:
    """The lease's file: named after this start of this machine, for a folder on the network may serve several."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as stream:
            boot = re.sub("[^0-9a-f]", "", stream.read(36))[:12]
    except OSError:
        boot = "here"
    return os.path.join(folder, "lease-%s.json" % boot)


def owns(handle: int, path: str) -> bool:
    """Lock an open file; false when somebody else has it, or has removed it since."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        there, mine = os.stat(path, follow_symlinks=False), os.fstat(handle)
    except (BlockingIOError, FileNotFoundError):
        return False
    return (there.st_dev, there.st_ino) == (mine.st_dev, mine.st_ino)


@contextlib.contextmanager
def alone(path: str) -> Iterator[None]:
    """Keep other agents from the lease for a moment; the kernel lets go when this process ends, however it ends."""
    give_up = time.monotonic() + LOCK_SECONDS
    while time.monotonic() < give_up:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            if owns(handle, path):
                try:
                    yield
                finally:
                    os.unlink(path)  # its owner only, so that nobody locks a file that has lost its name
                return
        finally:
            os.close(handle)
        time.sleep(0.01)
    raise OSError(errno.EAGAIN, "another process keeps it locked", path)


def read_lease(path: str) -> dict[str, Any] | None:
    """What the file says; None where there is none, or none that an agent wrote."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENXIO):
            return None
        raise
    with open(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            return None
        try:
            told = json.loads(stream.read(LEASE_BYTES))
        except (ValueError, RecursionError):
            return None
    return told if isinstance(told, dict) else None


def in_force(told: dict[str, Any] | None) -> dict[str, Any] | None:
    """A lease that has not run out by this device's clock; one that lasts longer than any agent's is not believed."""
    try:
        left = float(told["until"]) - uptime() if told else 0.0
    except (KeyError, TypeError, ValueError, OverflowError):
        return None
    return told if 0 < left <= LEASE_SECONDS else None


def write_lease(path: str, mine: dict[str, Any], flags: int) -> None:
    """Write or renew; the same size always, so that one write replaces all of it."""
    text = json.dumps(dict(mine, until=uptime() + LEASE_SECONDS)).encode().ljust(LEASE_BYTES)
    handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | flags, 0o644)
    try:
        if len(text) > LEASE_BYTES or os.write(handle, text) != LEASE_BYTES:
            raise OSError(errno.ENOSPC, "the lease cannot be written", path)
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(handle)


def take(path: str, mine: dict[str, Any]) -> dict[str, Any] | None:
    """Try once; who holds the device, or None when it is ours now."""
    with alone(path + ".lock"):
        holder = in_force(read_lease(path))
        if holder is None:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
            write_lease(path, mine, os.O_CREAT | os.O_EXCL)
        return holder


def renew(path: str, mine: dict[str, Any]) -> bool:
    """Make the lease last longer; false when it is no longer ours."""
    with alone(path + ".lock"):
        found = read_lease(path) or {}
        if found.get("id") != mine["id"]:
            return False
        write_lease(path, mine, 0)
        return True


def give_back(path: str, mine: dict[str, Any]) -> None:
    """End the lease if it is still ours."""
    with alone(path + ".lock"):
        found = read_lease(path) or {}
        if found.get("id") == mine["id"]:
            os.unlink(path)


def acquire(link: Link, path: str, mine: dict[str, Any], wait_seconds: float) -> dict[str, Any] | None:
    """Take the lease, waiting so long at most; None when it is ours, else who has it. The host is told of waiting."""
    give_up, told = time.monotonic() + wait_seconds, [mine["id"]]
    while True:
        holder = in_force(read_lease(path))
        if holder is None:
            with link.changing:
                holder = take(path, mine)
                if holder is None:
                    link.cleanup = functools.partial(give_back, path, mine)
                    return None
        if time.monotonic() >= give_up:
            return holder
        if [holder.get("id")] != told:
            told = [holder.get("id")]
            link.send(b"O", json.dumps(seen(holder)).encode())
        time.sleep(min(POLL_SECONDS, max(0.0, give_up - time.monotonic())))


def seen(holder: dict[str, Any]) -> dict[str, Any]:
    """A holder as the host is told of it, with how long it has had the device."""
    since = holder.get("since")
    return {"holder": holder, "seconds": max(0.0, uptime() - since) if isinstance(since, float) else 0.0}


def lease(link: Link, job: dict[str, Any]) -> dict[str, Any]:
    """Keep the device for one holder until the host says so or is gone."""
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):  # another thread: this one may be renewing
        signal.signal(number, lambda *_: background(link.leave))
    os.makedirs(job["folder"], exist_ok=True)
    path, mine = lease_path(job["folder"]), dict(job["holder"], since=uptime())
    holder = acquire(link, path, mine, job["wait_seconds"])
    if holder is not None:
        return seen(holder)
    link.send(b"O", json.dumps({"home": os.getcwd()}).encode())
    while True:
        try:
            if link.inbox.get(timeout=RENEW_SECONDS)[0] == b"E":
                break
        except queue.Empty:
            with link.changing:
                if not renew(path, mine):
                    link.cleanup = nothing
                    return {"lost": True}
    with link.changing:
        give_back(path, mine)
        link.cleanup = nothing
    return {}


JOBS = {
    "run": run,
    "put": put,
    "get": get,
    "hash": hashes,
    "remove": remove,
    "make_folder": make_folder,
    "home": home,
    "lease": lease,
}


def main() -> None:
    """Take one job and do it."""
    with contextlib.suppress(OSError):
        os.chdir(os.path.expanduser("~"))
    link = Link()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, lambda *_: link.leave())
    background(watch, link)
    os.write(1, MARK)
    job = json.loads(link.receive()[1])
    if job["job"] == "put":
        link.inbox = queue.Queue(32)  # a slow disk slows the sender down, it does not fill the memory
    background(fill_inbox, link)
    background(beat, link)
    try:
        result = JOBS[job["job"]](link, job)
    except (OSError, MemoryError) as error:
        name = errno.errorcode.get(getattr(error, "errno", None) or errno.ENOMEM, "?")
        with link.changing, contextlib.suppress(OSError):
            link.cleanup()
            link.cleanup = nothing
        text = getattr(error, "strerror", None) or str(error)
        link.finish(b"X", {"errno": name, "message": text, "path": getattr(error, "filename", None)})
    else:
        link.finish(b"R", result)


if __name__ == "__main__":
    main()
