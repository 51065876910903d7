"""Batteries that feed the device, of Linux and Android.

`current_now` is positive, negative or without sign while discharging, by driver: `status` alone says which way it
flows. Some drivers tell mA and mV where the kernel's rules ask for µA and µV.
"""

from . import files
from .sources import Absent, Source, alive, value

LEAST_POWER_UW, LEAST_CURRENT_UA, LEAST_VOLTAGE_UV = 100000, 10000, 100000
"""Below these a number that feeds a computer is in mW, mA or mV: 0.1 W, 10 mA, 0.1 V are none."""
PERIOD_S = 1.0
"""Fuel gauges renew their values once a second at best; `energy` sees where it is more seldom."""
_CHARGERS = ("Mains", "USB", "Wireless")


def battery(roots):
    """The batteries that discharge, as one source."""
    folder = roots.sys / "class/power_supply"
    found = _own([supply for supply in files.children(folder) if _feeds(supply)])
    if not found:
        raise Absent("no battery in %s" % folder)
    draining = [supply for supply in found if _discharges(supply)]
    if not draining:
        state = ", ".join("%s is %s" % (supply.name, files.text(supply / "status") or "silent") for supply in found)
        raise Absent("the battery is not discharging (%s); unplug the charger" % state)
    plugged = [supply.name for supply in files.children(folder) if _charges(supply)]
    if plugged:
        raise Absent("the battery is not alone: %s feeds the device too; unplug it" % ", ".join(plugged))
    readers = [reader for reader in (_reader(supply) for supply in draining) if reader is not None]
    if not readers:
        raise Absent("the battery tells neither power nor current and voltage")
    return Source(
        "battery",
        " + ".join(name for name, _read in readers),
        lambda: sum(read() for _name, read in readers),
        period_s=PERIOD_S,
        includes="the whole device with its screen and radios",
    )


def _feeds(supply):
    return files.text(supply / "type") == "Battery" and files.text(supply / "scope") != "Device"


def _own(supplies):
    """Android shows its one battery under further names (bms, fuel gauge, charger chip)."""
    return [supply for supply in supplies if supply.name == "battery"] or supplies


def _discharges(supply):
    return files.text(supply / "status") == "Discharging"


def _charges(supply):
    kind = files.text(supply / "type") or ""
    return kind.startswith(_CHARGERS) and (files.integer(supply / "online") or 0) > 0


def _reader(supply):
    """(name, read) with the unit settled once, or None where the battery tells no numbers."""
    if alive(lambda: value(supply / "power_now")):
        return _of_power(supply)
    if alive(lambda: value(supply / "current_now") * value(supply / "voltage_now")):
        return _of_current(supply)
    return None


def _of_power(supply):
    first = value(supply / "power_now")
    scale, note = _unit(first, LEAST_POWER_UW, "power_now taken for mW")

    def read():
        return _same_way(supply, first, value(supply / "power_now")) * scale / 1000.0

    return _named(supply, note), read


def _of_current(supply):
    first = value(supply / "current_now")
    current_scale, current_note = _unit(first, LEAST_CURRENT_UA, "current_now taken for mA")
    voltage_scale, voltage_note = _unit(value(supply / "voltage_now"), LEAST_VOLTAGE_UV, "voltage_now taken for mV")

    def read():
        microamperes = _same_way(supply, first, value(supply / "current_now")) * current_scale
        return microamperes * value(supply / "voltage_now") * voltage_scale / 1e9

    return _named(supply, current_note, voltage_note), read


def _unit(first, least, note):
    """(factor to micro, note): a number too small for what it feeds is in milli."""
    return (1000, note) if 0 < abs(first) < least else (1, "")


def _named(supply, *notes):
    notes = ", ".join(note for note in notes if note)
    return "%s (%s)" % (supply.name, notes) if notes else supply.name


def _same_way(supply, first, now):
    """The amount, as long as the battery discharges and the flow has not turned."""
    if not _discharges(supply):
        raise ValueError("the battery stopped discharging")
    if first * now < 0:
        raise ValueError("the battery's current has turned")
    return abs(now)
