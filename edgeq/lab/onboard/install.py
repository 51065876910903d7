"""The verbs `facts` and `install`: which wheels run here, and a private runtime made of wheels that were sent.

A runtime gets its name by a rename after an interpreter was built in it: a half one is never in use. Nothing of the
device's own Python is touched.
"""

import contextlib
import errno
import fcntl
import json
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path

from . import events, machine, private, probe, ready, wheels

_PART = ".installing-"
_OLD = ".removing-"
_LOCK = ".lock"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def facts(roots):
    """Emit what decides which wheels run here."""
    here = str(private.place())
    events.emit(
        "result",
        device=machine.describe(roots),
        implementation=sys.implementation.name,
        version=[sys.version_info[0], sys.version_info[1], sys.version_info[2]],
        abi=private.abi(),
        libc=libc(),
        disk=ready.disk(here),
        folder=here,
    )


def libc():
    """`glibc 2.36` as the C library itself says it; other libraries know no such question."""
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or ""
    except (ValueError, OSError):
        return " ".join(platform.libc_ver())


def run(settings):
    """Unpack, prove, rename, and emit whether the interpreter works.

    `settings`: name {interpreter}, format, digest, wheels [{path, sha256}], limit_bytes, about.
    """
    place = private.place()
    name, model_format = settings["name"], settings["format"]
    target = place / ("%s-%s" % (model_format, settings["digest"]))
    try:
        place.mkdir(parents=True, exist_ok=True)
        sweep(place)
        with scratch(place) as part:
            answer = fill(part, name, settings)
            if answer["ok"]:
                put_in_use(part, target, settings)
    except OSError as error:
        raise _failure(error) from None
    events.emit("result", folder=str(target) if answer["ok"] else None, interpreter=answer)


def fill(part, name, settings):
    """Unpack all wheels and build an interpreter with exactly this folder; {version, ok, why}."""
    budget = wheels.Budget(settings["limit_bytes"])
    for wheel in settings["wheels"]:
        wheels.check(wheel["path"], wheel["sha256"])
        wheels.unpack(wheel["path"], part, budget)
    events.progress("try", 0, 1)
    if not (part / name).is_dir():
        return {"version": None, "ok": False, "why": "%s is not in these wheels" % name}
    answer = probe.ask(name, ["--only", str(part)])
    events.progress("try", 1, 1)
    return answer


def put_in_use(part, target, settings):
    """Give the folder its name; what had that name, and older runtimes of the format, go."""
    marker = {"format": settings["format"], "name": settings["name"], "about": settings.get("about", {})}
    (part / private.MARKER).write_text(json.dumps(marker), encoding="utf-8")
    (part / _LOCK).unlink()
    os.sync()  # a power cut must not leave a folder with its name and empty files
    with _signals_later():
        if target.exists():
            target.rename(target.with_name("%s%d-%s" % (_OLD, os.getpid(), target.name)))
        part.rename(target)
    for old in list(target.parent.glob(settings["format"] + "-*")) + list(target.parent.glob(_OLD + "*")):
        if old != target:
            shutil.rmtree(str(old), ignore_errors=True)


@contextlib.contextmanager
def _signals_later():
    """Between two renames nothing stops this process but a kill."""
    import signal

    numbers = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers)


@contextlib.contextmanager
def scratch(place):
    """A folder that is this process's while it holds the lock in it; removed at the end unless it was renamed."""
    part, lock = _locked(place)
    try:
        yield part
    finally:
        lock.close()
        shutil.rmtree(str(part), ignore_errors=True)


def _locked(place):
    while True:
        part = Path(tempfile.mkdtemp(prefix=_PART, dir=str(place)))
        lock = (part / _LOCK).open("wb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        if os.fstat(lock.fileno()).st_nlink:
            return part, lock
        lock.close()  # swept away before it was locked


def sweep(place):
    """Remove what installs left that were killed: nobody holds the lock in it."""
    for leftover in list(place.glob(_PART + "*")):
        try:
            with (leftover / _LOCK).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(str(leftover), ignore_errors=True)
        except FileNotFoundError:
            if _age_seconds(leftover) > 60:  # made by a process that was killed before it could lock
                shutil.rmtree(str(leftover), ignore_errors=True)
        except OSError:
            continue


def _age_seconds(path):
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0


def _failure(error):
    full = error.errno in _FULL
    kind = "disk-full" if full else "not-writable"
    where = error.filename or private.place()
    return events.Failure(kind, "%s: %s" % (error.strerror or error, str(where)[-200:]))
