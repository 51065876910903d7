"""INA current sensors: hwmon's ina2xx and ina3221, and the ina3221x of NVIDIA's older kernels.

hwmon numbers depend on the order in which drivers load, so chips are found by `name`. An ina3221 has no power file:
voltage in mV times current in mA, which is signed. Steps and periods are those of the drivers' default settings.
"""

from . import files
from .sources import Absent, Source, alive, value

SHUNT_STEPS_UV = {"ina219": 10.0, "ina220": 10.0, "ina209": 10.0, "ina3221": 40.0}
POWER_STEPS = {"ina219": 20.0, "ina220": 20.0, "ina209": 20.0, "ina234": 32.0, "ina260": 8.0}
POWER_CHIPS = (
    *("ina209", "ina219", "ina220", "ina226", "ina228", "ina230", "ina231", "ina233", "ina234", "ina237", "ina238"),
    *("ina260", "ina700", "ina780", "sq52206"),
)
_KNOWN_STEPS = ("ina209", "ina219", "ina220", "ina226", "ina230", "ina231", "ina234", "ina260")
_PERIODS_S = {"ina209": 0.00107, "ina219": 0.00107, "ina220": 0.00107, "ina3221": 0.0066}
_USUAL_PERIOD_S = 0.0352
_BUS_STEP_MV = 8.0
CURRENT_CHIPS = ("ina3221",)
TOTAL_RAILS = ("VDD_IN", "POM_5V_IN", "VDD_5V0_SYS", "5V0_IN", "VIN")
CONTAINED_RAILS = ("VDDQ_VDD2_1V8AO", "NC")
"""Jetson AGX Orin counts VDDQ_VDD2_1V8AO within VIN_SYS_5V0; NC is not connected."""


class Rail:
    """One supply: its name, its reader in mW, the step of its readings in mW (None: unknown) and its period in s."""

    def __init__(self, name, read, step_mw=None, period_s=_USUAL_PERIOD_S):
        self.name = name
        self.read = read
        self.step_mw = step_mw
        self.period_s = period_s


def hwmon(roots):
    """The device's INA chips as one source."""
    rails = [rail for chip in _chips(roots) for rail in _rails(chip)] + _older_rails(roots)
    if not rails:
        raise Absent("no INA sensor in %s" % (roots.sys / "class/hwmon"))
    working = [rail for rail in rails if alive(rail.read)]
    if not working:
        raise Absent("its sensors give no reading: %s" % ", ".join(rail.name for rail in rails))
    chosen = _not_twice(working)
    dead = sorted(rail.name for rail in rails if rail not in working and rail.name.upper() not in CONTAINED_RAILS)
    steps = [rail.step_mw for rail in chosen]
    return Source(
        "hwmon",
        " + ".join(rail.name for rail in chosen),
        lambda: sum(rail.read() for rail in chosen),
        period_s=max(rail.period_s for rail in chosen),
        resolution=None if None in steps else sum(steps),
        includes=_includes(chosen) + (", without %s (no reading)" % ", ".join(dead) if dead else ""),
    )


def _includes(chosen):
    if len(chosen) == 1 and chosen[0].name.upper() in TOTAL_RAILS:
        return "the board's input"
    return "what flows through %s" % ("this sensor" if len(chosen) == 1 else "these %d sensors" % len(chosen))


def _chips(roots):
    found = files.children(roots.sys / "class/hwmon", "hwmon*")
    found += files.children(roots.sys / "bus/i2c/drivers/ina3221", "*/hwmon/hwmon*")
    seen = {}
    for chip in found:
        seen.setdefault(str(chip.resolve()), chip)
    return list(seen.values())


def _rails(chip):
    """Rails of one chip: an ina3221 has three, others one."""
    name = files.text(chip / "name")
    if name in POWER_CHIPS:
        label = files.text(chip / "power1_label") or ""
        read = _power_reader(chip) if (chip / "power1_input").exists() else _current_reader(chip, 1)
        return [Rail((name + " " + label).strip(), read, _power_step_mw(chip, name), _period_s(chip, name))]
    if name in CURRENT_CHIPS:
        return [_channel(chip, name, n) for n in (1, 2, 3) if _used(chip, n)]
    return []


def _used(chip, channel):
    return files.text(chip / ("in%d_enable" % channel)) != "0" and (chip / ("curr%d_input" % channel)).exists()


def _channel(chip, name, channel):
    label = files.text(chip / ("in%d_label" % channel)) or "%s channel %d" % (name, channel)
    return Rail(label, _current_reader(chip, channel), _current_step_mw(chip, channel), _period_s(chip, name))


def _power_reader(chip):
    return lambda: value(chip / "power1_input") / 1000.0


def _current_reader(chip, channel):
    voltage, current = chip / ("in%d_input" % channel), chip / ("curr%d_input" % channel)
    return lambda: value(voltage) * value(current) / 1000.0


def _power_step_mw(chip, name):
    """The power register's step: so many times the current's, which is the shunt's voltage step over its resistance."""
    shunt_uohm = files.integer(chip / "shunt_resistor") or (2000 if name == "ina260" else 0)
    if shunt_uohm <= 0 or name not in _KNOWN_STEPS:
        return None
    return POWER_STEPS.get(name, 25.0) * SHUNT_STEPS_UV.get(name, 2.5) / shunt_uohm * 1000.0


def _current_step_mw(chip, channel):
    """Power of one step of current at the present voltage, and of one step of voltage at the present current."""
    shunt_uohm = files.integer(chip / ("shunt%d_resistor" % channel)) or 0
    millivolts = files.integer(chip / ("in%d_input" % channel))
    milliamperes = files.integer(chip / ("curr%d_input" % channel))
    if shunt_uohm <= 0 or millivolts is None or milliamperes is None:
        return None
    step_ma = max(1.0, SHUNT_STEPS_UV["ina3221"] / shunt_uohm * 1000.0)
    return (millivolts * step_ma + abs(milliamperes) * _BUS_STEP_MV) / 1000.0


def _period_s(chip, name):
    told_ms = files.integer(chip / "update_interval")
    return told_ms / 1000.0 if told_ms and 0 < told_ms < 100000 else _PERIODS_S.get(name, _USUAL_PERIOD_S)


def _not_twice(rails):
    """The rail that feeds all others where one is known, else every rail that no other contains."""
    total = [rail for rail in rails if rail.name.upper() in TOTAL_RAILS]
    return total[:1] or [rail for rail in rails if rail.name.upper() not in CONTAINED_RAILS] or rails


def _older_rails(roots):
    """Channels of NVIDIA's ina3221x (Jetson kernels 4.4 and 4.9), which tells mW."""
    return [
        Rail(files.text(device / ("rail_name_%d" % n)) or "ina3221x channel %d" % n, _milliwatts(path))
        for device in files.children(roots.sys / "bus/i2c/drivers/ina3221x", "*/iio:device*")
        for n, path in ((n, device / ("in_power%d_input" % n)) for n in range(3))
        if path.exists()
    ]


def _milliwatts(path):
    return lambda: float(value(path))
