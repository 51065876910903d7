"""The Raspberry Pi 5's power chip, asked through vcgencmd."""

import math
import time

from . import firmware
from .sources import Absent, Source

LEAST_PERIOD_S = 0.02
"""How old a rail's reading can be: the rails are not read at one moment, and the program that asks takes its time."""


def pmic(roots):
    """Rails by name, current times voltage; their sum is an estimate, not the input power."""
    begun = time.monotonic()
    named = firmware.rails(roots.vcgencmd)
    period_s = max(LEAST_PERIOD_S, time.monotonic() - begun)
    working = sorted(name for name, milliwatts in named.items() if math.isfinite(milliwatts))
    if not working:
        raise Absent("vcgencmd pmic_read_adc tells no rail (only a Raspberry Pi 5 has it)")
    left_out = sorted(set(named) - set(working))

    def read():
        now = firmware.rails(roots.vcgencmd)
        total = sum(now.get(name, math.nan) for name in working)
        if not math.isfinite(total):
            raise ValueError("a rail gave no number")
        return total

    includes = "rails behind the power chip: not its losses, USB devices, HATs or the fan"
    if left_out:
        includes += "; without %s (no number)" % ", ".join(left_out)
    return Source("pmic", "estimate from %d PMIC rails" % len(working), read, period_s=period_s, includes=includes)
