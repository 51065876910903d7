"""Memory of one process that does nothing but hold and run the model, in bytes."""

import resource

from . import bundle as bundles
from . import events, files, interpreters
from .session import Session

_RUNS = 3


def run(folder, settings, roots):
    """The `memory` verb: the floor of a process with the interpreter and the vectors, then the model on top."""
    bundle = bundles.Bundle(folder, settings.get("files"))
    name = settings["interpreter"]
    interpreters.load(name)
    inputs = bundles.arrays(bundle.golden, "input", bundle.inputs)
    floor = files.kib_field(roots.proc / "self/status", "VmRSS")
    session = Session(bundle, name, settings.get("threads") or 1)
    for number in range(_RUNS):
        session.run(inputs, number % max(1, len(inputs[0]) // session.batch))
    values, reasons = read(roots)
    peak = values["peak_rss"]
    values["floor_rss"] = floor
    values["model_rss"] = max(0, peak - floor) if floor is not None else None
    values["model_file"] = bundle.model.stat().st_size
    if floor is None:
        reasons.update(dict.fromkeys(("floor_rss", "model_rss"), "the kernel tells no VmRSS here"))
    events.emit("result", memory=values, unavailable=reasons)


def read(roots):
    """(values, reasons): peak RSS, PSS and the control group's peak; reasons for what is not told."""
    values = {
        "peak_rss": peak_rss_bytes(roots),
        "pss": files.kib_field(roots.proc / "self/smaps_rollup", "Pss"),
        "cgroup_peak": None,
    }
    reasons = {} if values["pss"] is not None else {"pss": "this kernel has no readable smaps_rollup"}
    values["cgroup_peak"], reason = cgroup_peak(roots)
    if reason:
        reasons["cgroup_peak"] = reason
    return values, reasons


def peak_rss_bytes(roots):
    """VmHWM, or what getrusage says (KiB on Linux)."""
    high = files.kib_field(roots.proc / "self/status", "VmHWM")
    return high if high is not None else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def cgroup_peak(roots):
    """(bytes, None) or (None, reason): memory.peak of the process's own v2 control group."""
    for line in (files.text(roots.proc / "self/cgroup") or "").splitlines():
        if line.startswith("0::"):
            return _peak(roots, line[3:].strip("/"))
    return None, "this system has no version 2 control groups"


def _peak(roots, group):
    if not group:
        return None, "the process is in the root control group, which has no peak"
    peak = files.integer(roots.sys / "fs/cgroup" / group / "memory.peak")
    return peak, None if peak is not None else "its control group has no memory.peak (Linux 5.19 and newer)"
