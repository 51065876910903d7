"""Power sources of a Linux device: INA sensors, Raspberry Pi 5 PMIC, RAPL counters, batteries.

A source is a name, a description, and `read()`, which returns milliwatts (`counts` False) or millijoules since
some moment (`counts` True), and raises OSError or ValueError for a reading that is missing.
"""

import math

from . import files, firmware

POWER_CHIPS = (
    *("ina209", "ina219", "ina220", "ina226", "ina228", "ina230", "ina231", "ina233", "ina234", "ina237", "ina238"),
    *("ina260", "ina700", "ina780", "sq52206"),
)
CURRENT_CHIPS = ("ina3221",)
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VDD_5V0_SYS", "5V0_IN", "VIN")
CONTAINED_RAILS = ("VDDQ_VDD2_1V8AO", "NC")
"""Jetson AGX Orin counts VDDQ_VDD2_1V8AO within VIN_SYS_5V0; NC is not connected."""


class Source:
    """One way to read the device's power."""

    def __init__(self, name, describe, read, counts=False):
        self.name = name
        self.describe = describe
        self.read = read
        self.counts = counts


class Absent(Exception):
    """The device has no such source, or it cannot be read; says why."""


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


# --- INA sensors ----------------------------------------------------------------------------


def hwmon(roots):
    """INA chips, found by the driver's name: hwmon numbers depend on the order of loading."""
    rails = [rail for chip in _chips(roots) for rail in _rails(chip)]
    if not rails:
        raise Absent("no INA sensor in %s" % (roots.sys / "class/hwmon"))
    alive = [rail for rail in rails if _alive(rail[1])]
    if not alive:
        raise Absent("its sensors give no reading: %s" % ", ".join(name for name, _read in rails))
    chosen = _not_twice(alive)
    label = " + ".join(name for name, _read in chosen)
    return Source("hwmon", label, lambda: sum(read() for _name, read in chosen))


def _chips(roots):
    found = files.children(roots.sys / "class/hwmon", "hwmon*")
    found += files.children(roots.sys / "bus/i2c/drivers/ina3221", "*/hwmon/hwmon*")
    seen = {}
    for chip in found:
        seen.setdefault(str(chip.resolve()), chip)
    return list(seen.values())


def _rails(chip):
    """(name, read) of each rail of a chip; an ina3221 has a current and a bus voltage each, others a power."""
    name = files.text(chip / "name")
    if name in POWER_CHIPS:
        label = files.text(chip / "power1_label") or ""
        return [((name + " " + label).strip(), _power_reader(chip))]
    if name in CURRENT_CHIPS:
        return [
            (files.text(chip / ("in%d_label" % n)) or "%s channel %d" % (name, n), _current_reader(chip, n))
            for n in (1, 2, 3)
            if files.text(chip / ("in%d_enable" % n)) != "0" and (chip / ("curr%d_input" % n)).exists()
        ]
    return []


def _power_reader(chip):
    return lambda: _value(chip / "power1_input") / 1000.0


def _current_reader(chip, channel):
    voltage, current = chip / ("in%d_input" % channel), chip / ("curr%d_input" % channel)
    return lambda: _value(voltage) * _value(current) / 1000.0


def _not_twice(rails):
    """The rail that feeds all others where one is known, else every rail that no other contains."""
    total = [rail for rail in rails if rail[0].upper() in TOTAL_RAILS]
    return total[:1] or [rail for rail in rails if rail[0].upper() not in CONTAINED_RAILS] or rails


def _alive(read):
    try:
        return math.isfinite(read())
    except (OSError, ValueError):
        return False


def _value(path):
    with path.open() as stream:
        return int(stream.read(64))


# --- Raspberry Pi 5 PMIC --------------------------------------------------------------------


def pmic(roots):
    """Rails of the Pi 5's power chip; their sum is an estimate, not the input power."""
    named = firmware.rails(roots.vcgencmd)
    alive = sorted(name for name, milliwatts in named.items() if math.isfinite(milliwatts))
    if not alive:
        raise Absent("vcgencmd pmic_read_adc tells no rail (only a Raspberry Pi 5 has it)")

    def read():
        now = firmware.rails(roots.vcgencmd)
        total = sum(now.get(name, math.nan) for name in alive)
        if not math.isfinite(total):
            raise ValueError("a rail gave no number")
        return total

    return Source("pmic", "estimate from %d PMIC rails" % len(alive), read)


# --- RAPL -----------------------------------------------------------------------------------


class Counter:
    """A wrapping energy counter in µJ that becomes one that only grows."""

    def __init__(self, folder):
        self.path = folder / "energy_uj"
        self.range_uj = files.integer(folder / "max_energy_range_uj") or 0
        self.last_uj = _value(self.path)
        self.total_uj = 0

    def read_uj(self):
        """µJ since this object was made, right as long as it is read once per wrap."""
        now_uj = _value(self.path)
        step = now_uj - self.last_uj
        if step < 0:
            if not self.range_uj:
                raise ValueError("the counter went back and tells no range")
            step += self.range_uj
        self.last_uj = now_uj
        self.total_uj += step
        return self.total_uj


def rapl(roots):
    """Packages and their memory; core, uncore and psys are parts or wholes of these."""
    zones = [zone for zone in files.children(roots.sys / "class/powercap", "intel-rapl:*") if _counted(zone)]
    if not zones:
        raise Absent("no RAPL package in %s" % (roots.sys / "class/powercap"))
    try:
        counters = [Counter(zone) for zone in zones]
    except PermissionError:
        raise Absent("only root may read RAPL's energy_uj") from None
    except (OSError, ValueError) as error:
        raise Absent("RAPL gives no reading: %s" % error) from None
    label = " + ".join(files.text(zone / "name") for zone in zones)
    return Source("rapl", label, lambda: sum(counter.read_uj() for counter in counters) / 1000.0, counts=True)


def _counted(zone):
    name = files.text(zone / "name") or ""
    return name.startswith("package") or name == "dram"


# --- batteries ------------------------------------------------------------------------------


def battery(roots):
    """A battery that feeds the device. Drivers disagree about the sign, so only discharging counts."""
    found = [supply for supply in files.children(roots.sys / "class/power_supply") if _feeds(supply)]
    if not found:
        raise Absent("no battery in %s" % (roots.sys / "class/power_supply"))
    draining = [supply for supply in found if files.text(supply / "status") == "Discharging"]
    if not draining:
        raise Absent("the battery is not discharging: its current says nothing of what the device takes")
    alive = [supply for supply in draining if _alive(lambda supply=supply: _drain_mw(supply))]
    if not alive:
        raise Absent("the battery tells neither power nor current and voltage")
    label = " + ".join(supply.name for supply in alive)
    return Source("battery", label, lambda: sum(_drain_mw(supply) for supply in alive))


def _feeds(supply):
    return files.text(supply / "type") == "Battery" and files.text(supply / "scope") != "Device"


def _drain_mw(supply):
    if files.text(supply / "status") != "Discharging":
        raise ValueError("the battery stopped discharging")
    if (supply / "power_now").exists():
        return abs(_value(supply / "power_now")) / 1000.0
    return abs(_value(supply / "current_now")) * _value(supply / "voltage_now") / 1e9


FINDERS = {"hwmon": hwmon, "pmic": pmic, "rapl": rapl, "battery": battery}
