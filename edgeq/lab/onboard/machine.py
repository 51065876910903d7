"""What this device is: processor, memory, system, Python."""

import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from . import conditions, files

_ARM_PARTS = {
    "0x41": {
        "0xb76": "ARM1176",
        "0xc05": "Cortex-A5",
        "0xc07": "Cortex-A7",
        "0xc08": "Cortex-A8",
        "0xc09": "Cortex-A9",
        "0xc0f": "Cortex-A15",
        "0xd03": "Cortex-A53",
        "0xd04": "Cortex-A35",
        "0xd05": "Cortex-A55",
        "0xd07": "Cortex-A57",
        "0xd08": "Cortex-A72",
        "0xd09": "Cortex-A73",
        "0xd0a": "Cortex-A75",
        "0xd0b": "Cortex-A76",
        "0xd0c": "Neoverse-N1",
        "0xd0d": "Cortex-A77",
        "0xd40": "Neoverse-V1",
        "0xd41": "Cortex-A78",
        "0xd42": "Cortex-A78AE",
        "0xd44": "Cortex-X1",
        "0xd46": "Cortex-A510",
        "0xd47": "Cortex-A710",
        "0xd49": "Neoverse-N2",
        "0xd4f": "Neoverse-V2",
    }
}


def describe(roots):
    """Facts that do not change while the device runs."""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "libc": " ".join(platform.libc_ver()).strip() or None,
        "kernel": platform.release(),
        "hostname": platform.node(),
        "board": files.text(roots.proc / "device-tree/model"),
        "cpu": cpu(roots),
        "memory_total_bytes": files.kib_field(roots.proc / "meminfo", "MemTotal"),
        "memory_available_bytes": files.kib_field(roots.proc / "meminfo", "MemAvailable"),
        "disk_free_bytes": disk_free_bytes(),
        "pip": pip(),
    }


def cpu(roots):
    """Model, cores, features as the kernel names them, highest clock."""
    info = files.fields(roots.proc / "cpuinfo")
    return {
        "model": info.get("model name") or _arm_core(info) or info.get("Hardware"),
        "cores": os.cpu_count() or 1,
        "features": sorted((info.get("flags") or info.get("Features") or "").split()),
        "max_clock_hz": conditions.max_clock_hz(roots),
    }


def _arm_core(info):
    part = info.get("CPU part", "").lower()
    return _ARM_PARTS.get(info.get("CPU implementer", "").lower(), {}).get(part, part) or None


def disk_free_bytes():
    """Free space where the runner lies, or None."""
    try:
        return shutil.disk_usage(str(Path(__file__).parent)).free
    except OSError:
        return None


def pip():
    """How pip would have to be called here: `venv`, `system`, `managed` (PEP 668) or `none`."""
    import importlib.util

    if importlib.util.find_spec("pip") is None:
        return "none"
    if sys.prefix != sys.base_prefix:
        return "venv"
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    return "managed" if marker.exists() else "system"
