"""The `preflight` verb: is this device fit to be measured? Only looks, changes nothing."""

import errno
import os
import shutil
import time
from pathlib import Path

from . import conditions, events, files, interpreters, machine, probe

WATCH_SECONDS = 0.1
BUSY_SHARE = 0.3
"""Of one core, over the time that was watched."""
MOST_BUSY = 5
_TRIPS = ("passive", "hot", "critical")
_MANIFEST_LIMIT = 4 << 20


def run(roots, format_name, folder, manifest_sha256):
    """Emit everything; the interpreter is tried unless this very bundle lies there and its runner will try it."""
    before, begun = ticks(roots), time.monotonic()
    there = deployed(folder, manifest_sha256)
    tried = {} if there else try_interpreters(format_name)
    time.sleep(max(0.0, begun + WATCH_SECONDS - time.monotonic()))
    events.emit(
        "result",
        device=machine.describe(roots),
        deployed=there,
        runtimes=tried,
        conditions=conditions.read(roots),
        disk=disk(folder),
        memory_free_bytes=memory_free_bytes(roots),
        busy=busy(before, ticks(roots), time.monotonic() - begun),
        throttles_at_c=throttles_at_c(roots),
        clock=clock(roots),
        time_s=time.time(),
    )


def deployed(folder, manifest_sha256):
    """Whether this bundle was sent whole: its manifest goes last."""
    import hashlib

    try:
        with (Path(folder) / "manifest.json").open("rb") as stream:
            return hashlib.sha256(stream.read(_MANIFEST_LIMIT)).hexdigest() == manifest_sha256
    except OSError:
        return False


def try_interpreters(format_name):
    """{name: {version, ok, why}} of the interpreters of a format, up to the first that works."""
    tried = {}
    for name in interpreters.FORMATS.get(format_name, ()):
        tried[name] = probe.check(name)
        if tried[name]["ok"]:
            break
    return tried


def disk(folder):
    """Room where the folder is or would be: {free_bytes, free_files, obstacle, present_bytes}."""
    place = Path(folder).absolute()
    present = _size(place)
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        told = os.statvfs(str(place))
    except OSError:
        return {"free_bytes": None, "free_files": None, "obstacle": None, "present_bytes": present}
    return {
        "free_bytes": told.f_bavail * told.f_frsize,
        "free_files": told.f_favail if told.f_files else None,
        "obstacle": obstacle(place, told),
        "present_bytes": present,
    }


def obstacle(place, told):
    """Why nothing can be written below a place, in the system's words, or None."""
    if not place.is_dir():
        return os.strerror(errno.ENOTDIR)
    if told.f_flag & os.ST_RDONLY:
        return os.strerror(errno.EROFS)
    return None if os.access(str(place), os.W_OK | os.X_OK) else os.strerror(errno.EACCES)


def _size(folder):
    """Bytes of the files in a bundle's folder; links are not followed."""
    total = 0
    for where, _folders, names in os.walk(str(folder)):
        for name in names:
            try:
                total += os.lstat(os.path.join(where, name)).st_size  # noqa: PTH118, os.walk gives text
            except OSError:
                continue
    return total


def memory_free_bytes(roots):
    """Least of what the kernel has, what the control groups leave and what this process may take; None if unknown."""
    told = [files.kib_field(roots.proc / "meminfo", "MemAvailable"), _address_space_bytes()]
    told += _group_bytes(roots)
    return min((amount for amount in told if amount is not None), default=None)


def _address_space_bytes():
    import resource

    limits = [resource.getrlimit(kind)[0] for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA)]
    return min((limit for limit in limits if limit != resource.RLIM_INFINITY), default=None)


def _group_bytes(roots):
    """What every version 2 control group above this process leaves of its limit."""
    lines = (files.text(roots.proc / "self/cgroup") or "").splitlines()
    group = next((line[3:].strip("/") for line in lines if line.startswith("0::")), "")
    root = roots.sys / "fs/cgroup"
    found = []
    while group and group != ".":
        limit, used = files.integer(root / group / "memory.max"), files.integer(root / group / "memory.current")
        if limit is not None and used is not None:
            found.append(max(0, limit - used))
        group = str(Path(group).parent)
    return found


def busy(before, after, seconds):
    """Processes that took a good part of a core between two looks, apart from this one and what it came through."""
    own = _own_family(after)
    found = []
    for pid, (name, _parent, spent) in after.items():
        known = pid in before and pid not in own
        share = (spent - before[pid][2]) / os.sysconf("SC_CLK_TCK") / seconds if known else 0.0
        if share >= BUSY_SHARE:
            found.append({"pid": pid, "name": name[:60], "share": round(share, 2)})
    return sorted(found, key=lambda one: -one["share"])[:MOST_BUSY]


def ticks(roots):
    """{pid: (name, parent, clock ticks of processor time)} of every process."""
    found = {}
    for folder in files.children(roots.proc, "[0-9]*"):
        head, _, rest = (files.text(folder / "stat") or "").rpartition(")")
        words = rest.split()
        if len(words) > 12 and head:
            name = head.partition("(")[2]
            found[int(folder.name)] = (name, int(words[1]), int(words[11]) + int(words[12]))
    return found


def _own_family(table):
    """This process and those that it descends from: the transport's."""
    pid, found = os.getpid(), set()
    while pid in table and pid not in found:
        found.add(pid)
        pid = table[pid][1]
    return found


def throttles_at_c(roots):
    """Lowest trip point of the processor's zones from which on the kernel slows it down, or None."""
    found = []
    for zone in files.children(roots.sys / "class/thermal", "thermal_zone*"):
        for kind in files.children(zone, "trip_point_*_type"):
            limit = files.integer(str(kind)[: -len("type")] + "temp")
            if files.text(kind) in _TRIPS and limit is not None and 30000 < limit < 150000:
                found.append(limit / 1000.0)
    return min(found, default=None)


def clock(roots):
    """A core whose clock is capped, and what could set clocks: {capped_hz, max_hz, governors, cpupower}."""
    found = {"capped_hz": None, "max_hz": None, "governors": [], "cpupower": shutil.which("cpupower") is not None}
    for core in files.children(roots.sys, "devices/system/cpu/cpu[0-9]*/cpufreq"):
        capped, most = files.integer(core / "scaling_max_freq"), files.integer(core / "cpuinfo_max_freq")
        if capped is not None and most is not None and capped < most:
            found.update(capped_hz=capped * 1000, max_hz=most * 1000)
        found["governors"] = (files.text(core / "scaling_available_governors") or "").split()[:20]
    return found
