"""Memory of this process in bytes."""

import resource

from . import files


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
