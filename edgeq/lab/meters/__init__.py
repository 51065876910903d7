"""Power meters, one module each: `connect(device, transport, *, roots) -> Meter`.

The device's own sensors are read on the device, by the runner's `sample` verb; the modules here name them.
A meter that is plugged into the host needs only the same two functions; a device names it with a colon
(`meter: "stream: PROGRAM"`), and `lab.hostmeter` lays its trace over the runs.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol, runtime_checkable

from edgeq.errors import MeterError


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerTrace:
    """Readings over time: `times_ns` of one monotonic clock, with mW each, or mJ since the start if `counts`.

    Each is the mean over `period_ns`; `resolution` is one step of the meter, None where nobody tells.
    """

    source: str
    times_ns: tuple[int, ...]
    values: tuple[float, ...]
    counts: bool = False
    missing: int = 0
    period_ns: int = 0
    resolution: float | None = None

    @property
    def seconds(self) -> float:
        """Time from the first to the last reading."""
        return (self.times_ns[-1] - self.times_ns[0]) / 1e9 if self.times_ns else 0.0

    @property
    def energy_mj(self) -> float:
        """Energy from the first to the last reading: a counter's rise, or the sum of trapezoids."""
        if self.counts:
            return self.values[-1] - self.values[0] if self.values else 0.0
        points = zip(self.times_ns, self.values, strict=True)
        return sum((a + b) / 2 * (t2 - t1) / 1e9 for (t1, a), (t2, b) in pairwise(points))

    @property
    def mean_mw(self) -> float:
        """Mean power; raises MeterError when there are no two readings."""
        if self.seconds <= 0:
            raise MeterError(f"{self.source} gave {len(self.values)} readings, a mean needs two")
        return self.energy_mj / self.seconds


@runtime_checkable
class Meter(Protocol):
    """A power meter that is ready."""

    def start(self) -> None:
        """Begin to record; raises MeterError when there is nothing to read."""
        ...

    def stop(self) -> PowerTrace:
        """End the recording and return it; raises MeterError."""
        ...
