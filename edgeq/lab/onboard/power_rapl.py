"""RAPL: energy counters of x86 packages in µJ, which wrap and which only root may read."""

import time

from . import files
from .sources import Absent, Source, value

PERIOD_S = 0.001
RESOLUTION_MJ = 0.0614
"""Counters advance about every ms in steps of 1/2^14 J or finer (MSR_RAPL_POWER_UNIT)."""
MOST_WATTS, LEAST_STEP_UJ = 5000.0, 10000000
"""No package takes more: a counter that seems to have gone on by more than that was reset, by a suspend for one."""
PERMISSION = "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj"


class Counter:
    """A wrapping energy counter in µJ that becomes one that only grows."""

    def __init__(self, folder):
        self.path = folder / "energy_uj"
        self.range_uj = files.integer(folder / "max_energy_range_uj") or 0
        self.last_uj, self.last_at = value(self.path), time.monotonic()
        self.total_uj = 0
        self.broken = ""

    def read_uj(self):
        """µJ since this object was made, right as long as it is read once per wrap; a reset ends it for good."""
        if self.broken:
            raise ValueError(self.broken)
        now_uj, now = value(self.path), time.monotonic()
        step = now_uj - self.last_uj
        if step < 0:
            step = self._wrapped(step)
        self.last_uj, self.last_at = now_uj, now
        self.total_uj += step
        return self.total_uj

    def _wrapped(self, step):
        if not self.range_uj:
            self.broken = "the counter went back and tells no range"
        elif step + self.range_uj > max(LEAST_STEP_UJ, MOST_WATTS * 1e6 * (time.monotonic() - self.last_at)):
            self.broken = "the counter was reset"
        if self.broken:
            raise ValueError(self.broken)
        return step + self.range_uj


def rapl(roots):
    """Packages and their memory; core and uncore are parts of a package, psys contains it."""
    zones = [zone for zone in files.children(roots.sys / "class/powercap", "intel-rapl:*") if _counted(zone)]
    if not zones:
        raise Absent("no RAPL package in %s" % (roots.sys / "class/powercap"))
    try:
        counters = [Counter(zone) for zone in zones]
    except PermissionError:
        raise Absent("only root may read RAPL's energy_uj; until the next boot: %s" % PERMISSION) from None
    except (OSError, ValueError) as error:
        raise Absent("RAPL gives no reading: %s" % error) from None
    names = [files.text(zone / "name") for zone in zones]
    return Source(
        "rapl",
        " + ".join(names),
        lambda: sum(counter.read_uj() for counter in counters) / 1000.0,
        counts=True,
        period_s=PERIOD_S,
        resolution=RESOLUTION_MJ * len(counters),
        includes="CPU package%s, not the rest of the board" % (" and memory" if "dram" in names else ""),
    )


def _counted(zone):
    name = files.text(zone / "name") or ""
    return name.startswith("package") or name == "dram"
