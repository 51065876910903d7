"""State of the device at one moment: clock, temperature, throttling, load."""

import math

from . import files, firmware

_CPU_ZONES = ("cpu", "soc", "x86_pkg", "core")
_CPU_CHIPS = ("coretemp", "k10temp", "cpu_thermal")


def read(roots):
    """Plain values for the host's `Conditions`; None where the device does not tell."""
    return {
        "governor": governor(roots),
        "frequency_hz": frequencies_hz(roots),
        "temperature_c": temperature_c(roots),
        "load_1min": load(roots),
        "memory_available_bytes": files.kib_field(roots.proc / "meminfo", "MemAvailable"),
        "throttled_bits": firmware.throttled_bits(roots.vcgencmd),
        "throttle_count": throttle_count(roots),
    }


def governor(roots):
    """The cores' governor; several are joined with a comma."""
    found = {files.text(path) for path in files.children(roots.sys, _cpu("cpufreq/scaling_governor"))} - {None, ""}
    return ",".join(sorted(found)) or None


def frequencies_hz(roots):
    """Current clock of every core that tells it."""
    found = [files.integer(path) for path in files.children(roots.sys, _cpu("cpufreq/scaling_cur_freq"))]
    return [khz * 1000 for khz in found if khz is not None]


def max_clock_hz(roots):
    """Highest clock of any core, or None."""
    found = [files.integer(path) for path in files.children(roots.sys, _cpu("cpufreq/cpuinfo_max_freq"))]
    return max((khz * 1000 for khz in found if khz is not None), default=None)


def temperature_c(roots):
    """The hottest of the processor's sensors, or of all where none is named after it."""
    zones = [(files.text(z / "type") or "", files.integer(z / "temp")) for z in _zones(roots)]
    named = [value for kind, value in zones if any(word in kind.lower() for word in _CPU_ZONES)]
    values = _plausible(named) or _plausible([value for _kind, value in zones] + _chips(roots))
    return max(values, default=None)


def _plausible(values):
    return [value / 1000.0 for value in values if value is not None and -40000 < value < 150000]


def _zones(roots):
    return files.children(roots.sys / "class/thermal", "thermal_zone*")


def _chips(roots):
    chips = files.children(roots.sys / "class/hwmon", "hwmon*")
    chosen = [chip for chip in chips if files.text(chip / "name") in _CPU_CHIPS]
    return [files.integer(path) for chip in chosen for path in files.children(chip, "temp*_input")]


def throttle_count(roots):
    """Times an x86 core or package was throttled since boot, or None."""
    found = [files.integer(path) for path in files.children(roots.sys, _cpu("thermal_throttle/*_throttle_count"))]
    known = [count for count in found if count is not None]
    return sum(known) if known else None


def load(roots):
    """Load average of the last minute, or None."""
    words = (files.text(roots.proc / "loadavg") or "").split()
    try:
        found = float(words[0])
    except (IndexError, ValueError):
        return None
    return found if math.isfinite(found) else None


def _cpu(name):
    return "devices/system/cpu/cpu[0-9]*/" + name
