"""Power sources of a device by name: INA sensors, Raspberry Pi 5 PMIC, RAPL counters, batteries."""

from .power_battery import battery
from .power_ina import hwmon
from .power_pmic import pmic
from .power_rapl import rapl
from .sources import Absent, Source

__all__ = ["FINDERS", "Absent", "Source", "find", "survey"]

FINDERS = {"hwmon": hwmon, "pmic": pmic, "rapl": rapl, "battery": battery}


def find(name, roots):
    """The named source, or the first that works for `auto`; raises Absent with every reason."""
    reasons = []
    for candidate in FINDERS if name == "auto" else (name,):
        try:
            if candidate not in FINDERS:
                raise Absent("there is no source of that name")
            return FINDERS[candidate](roots)
        except Absent as absent:
            reasons.append("%s: %s" % (candidate, absent))
    raise Absent("; ".join(reasons))


def survey(roots):
    """Name to description or reason of every source."""
    found = {}
    for name, finder in FINDERS.items():
        try:
            found[name] = {"ok": True, "what": finder(roots).describe}
        except Absent as absent:
            found[name] = {"ok": False, "what": str(absent)}
    return found
