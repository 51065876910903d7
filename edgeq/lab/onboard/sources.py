"""What every power source is made of."""

import math


class Source:
    """One way to read the device's power.

    `read()` returns milliwatts, or millijoules since some moment if `counts`, and raises OSError or ValueError for a
    reading that is missing. The sensor averages over `period_s` and renews its value as often; `resolution` is one
    step of it (mW, or mJ), None where nobody tells; `includes` says whose power it is.
    """

    def __init__(self, name, describe, read, counts=False, period_s=0.0, resolution=None, includes=""):
        self.name = name
        self.describe = describe
        self.read = read
        self.counts = counts
        self.period_s = period_s
        self.resolution = resolution
        self.includes = includes

    def about(self):
        """What a trace says of its source."""
        return {
            "source": self.name,
            "what": self.describe,
            "counts": self.counts,
            "period_ns": int(self.period_s * 1e9),
            "resolution": self.resolution,
            "includes": self.includes,
        }


class Absent(Exception):
    """The device has no such source, or it cannot be read; says why."""


def value(path):
    """The whole number in a file; raises OSError, ValueError."""
    with path.open() as stream:
        return int(stream.read(64))


def alive(read):
    """Whether a reader gives a number now."""
    try:
        return math.isfinite(read())
    except (OSError, ValueError):
        return False
