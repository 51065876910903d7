"""Any instrument on the host's side: a program that prints `seconds milliwatts` lines while it is measuring.

`meter: "stream: PROGRAM ARGUMENT ..."` of a device names it; no shell sees it. Its seconds are of its own clock: of all
lines the one that took least time to come here tells how far that is from this host's.
"""

from __future__ import annotations

import math
import shlex
import subprocess
import threading
import time
from collections.abc import Sequence

from edgeq.errors import MeterError
from edgeq.lab.faults import clean
from edgeq.lab.meters import Meter, PowerTrace
from edgeq.lab.runner import USUAL_ROOTS, Roots
from edgeq.lab.transports import Transport
from edgeq.types import Device

SOURCE = "stream"
PREFIX = "stream:"
MOST_READINGS = 100_000
START_SECONDS = 20.0
LONGEST_LINE = 200
_LARGEST_MW = 1e9
_END_SECONDS = 5.0


def connect(device: Device, transport: Transport, *, roots: Roots = USUAL_ROOTS) -> Meter:  # noqa: ARG001 the kind's
    """A meter over the program that the device's `meter` names; raises MeterError."""
    words = (device.meter or "").removeprefix(PREFIX)
    try:
        argv = shlex.split(words)
    except ValueError as error:
        raise MeterError(f"the meter of {device.name} is no command: {error}", where="devices.yaml") from None
    if not (device.meter or "").startswith(PREFIX) or not argv:
        hint = f'meter: "{PREFIX} PROGRAM ARGUMENT ..."'
        raise MeterError(f"{device.name} names no program that prints its power", where="devices.yaml", hint=hint)
    return StreamMeter(argv)


class StreamMeter:
    """Runs the program from `start` to `stop`."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._argv = list(argv)
        self._child: subprocess.Popen[bytes] | None = None
        self._reading: threading.Thread | None = None
        self._lines = Lines()

    def start(self) -> None:
        """Start the program and wait for its first reading."""
        if self._child is not None:
            raise MeterError(f"{self._argv[0]} is already recording")
        self._lines = Lines()
        try:
            self._child = subprocess.Popen(
                self._argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError as error:
            raise MeterError(f"cannot start {self._argv[0]}: {error.strerror}") from None
        self._reading = threading.Thread(target=self._read, args=(self._child,), daemon=True)
        self._reading.start()
        if not self._lines.first.wait(START_SECONDS) or not self._lines.times:
            self._end()
            raise MeterError(self._lines.why or f"{self._argv[0]} gave no reading in {START_SECONDS:.0f} s")

    def stop(self) -> PowerTrace:
        """End the program; its trace in this host's monotonic time."""
        if self._child is None:
            raise MeterError(f"{self._argv[0]} was not started")
        self._end()
        return self._lines.trace(clean(self._argv[0].rsplit("/", 1)[-1], 60))

    def _read(self, child: subprocess.Popen[bytes]) -> None:
        if child.stdout is not None:
            for line in iter(lambda: child.stdout.readline(LONGEST_LINE), b""):  # type: ignore[union-attr]
                self._lines.add(line, time.monotonic())
        self._lines.first.set()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None or self._reading is None:
            return
        child.terminate()
        try:
            child.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        self._reading.join(_END_SECONDS)
        if child.stdout is not None:
            child.stdout.close()


class Lines:
    """Readings in the program's own time; neighbours are merged when they become too many."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.values: list[float] = []
        self.first = threading.Event()
        self.wrong = 0
        self.why = ""
        self._offset = math.inf
        self._merge = 1
        self._part: list[tuple[float, float]] = []

    def add(self, line: bytes, arrived_s: float) -> None:
        """Take one line; what is no reading, goes back in time or is not finite is counted as missing."""
        told = _reading(line)
        if told is None or (self.times and told[0] <= self.times[-1]) or (self._part and told[0] <= self._part[-1][0]):
            self.wrong += 1
            self.why = self.why or f"it printed {clean(line.decode('utf-8', 'replace'), 60)!r}, not: seconds milliwatts"
            return
        self._offset = min(self._offset, arrived_s - told[0])
        self._part.append(told)
        if len(self._part) >= self._merge:
            self.times.append(sum(one[0] for one in self._part) / len(self._part))
            self.values.append(sum(one[1] for one in self._part) / len(self._part))
            self._part = []
            self.first.set()
        if len(self.times) >= MOST_READINGS:
            self._halve()

    def _halve(self) -> None:
        pairs = range(0, len(self.times) - 1, 2)
        self.times = [(self.times[n] + self.times[n + 1]) / 2 for n in pairs]
        self.values = [(self.values[n] + self.values[n + 1]) / 2 for n in pairs]
        self._merge *= 2

    def trace(self, name: str) -> PowerTrace:
        """Times in ns of this host's monotonic clock; raises MeterError where there are no readings."""
        if not self.times:
            raise MeterError(self.why or f"{name} gave no reading")
        gaps = sorted(b - a for a, b in zip(self.times, self.times[1:], strict=False))
        return PowerTrace(
            source=f"{SOURCE} ({name})",
            times_ns=tuple(max(0, int((moment + self._offset) * 1e9)) for moment in self.times),
            values=tuple(self.values),
            missing=self.wrong,
            period_ns=int(gaps[len(gaps) // 2] * 1e9) if gaps else 0,
        )


def _reading(line: bytes) -> tuple[float, float] | None:
    words = line.split()
    try:
        seconds, milliwatts = (float(word) for word in words)
    except ValueError:
        return None
    if not math.isfinite(seconds) or abs(seconds) > 1e12 or not abs(milliwatts) <= _LARGEST_MW:
        return None
    return seconds, milliwatts
