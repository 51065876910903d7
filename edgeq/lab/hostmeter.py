"""Energy by a meter on the host while a bundle runs on the device: the runner's own words say when it runs.

`warm-up 1002/1002` comes right before the runs and `runs 1001/1001` right after them. On their way here both take up
to one round trip; by so much the trace may be out.
"""

from __future__ import annotations

import time
from dataclasses import replace

from edgeq import backends
from edgeq.errors import EdgeqError
from edgeq.lab import bench
from edgeq.lab.meters import Meter, PowerTrace
from edgeq.lab.onboard import energy
from edgeq.lab.transports import Transport
from edgeq.types import Energy, Manifest, Measurement, Progress, RunSettings, silent

ROUND_TRIP_SECONDS = 30.0
IDLE_SECONDS = 1.0
INCLUDES = "what flows through the instrument"


def named(transport: Transport) -> str | None:
    """The host's meter that a device names, if it names one: the word before the colon."""
    word, colon, _rest = (transport.device.meter or "").partition(":")
    return word if colon else None


class Marks:
    """When the runs began and ended, in ns of this host's monotonic clock."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.begun_ns: int | None = None
        self.ended_ns: int | None = None

    def __call__(self, step: str, done: int, total: int) -> None:
        """Pass the progress on."""
        if step == "warm-up" and done == total:
            self.begun_ns, self.ended_ns = time.monotonic_ns(), None
        if step == "runs" and done == total and self.ended_ns is None:
            self.ended_ns = time.monotonic_ns()
        self._progress(step, done, total)


def measure(
    transport: Transport, folder: str, manifest: Manifest, settings: RunSettings, *, progress: Progress = silent
) -> Measurement:
    """`bench.measure` with the energy of the host's meter; where that fails, the reason instead."""
    try:
        meter = _connected(transport)
        meter.start()
    except EdgeqError as error:
        return _without(bench.measure(transport, folder, manifest, settings, progress=progress), error.message)
    marks = Marks(progress)
    try:
        before = _idle(progress)
        late_ns = _round_trip_ns(transport)
        found = bench.measure(transport, folder, manifest, settings, progress=marks)
        time.sleep(energy.SETTLE_SECONDS)
        after = _idle(progress)
    except BaseException:
        _stopped(meter)
        raise
    trace = _stopped(meter)
    if isinstance(trace, str):
        return _without(found, trace)
    return told(found, trace, marks, (before, after), late_ns)


def _connected(transport: Transport) -> Meter:
    module = backends.find("lab.meters", named(transport) or "")
    meter: Meter = module.connect(transport.device, transport)
    return meter


def _stopped(meter: Meter) -> PowerTrace | str:
    try:
        return meter.stop()
    except EdgeqError as error:
        return error.message


def _idle(progress: Progress) -> tuple[int, int]:
    """A second in which nothing is asked of the device."""
    progress("idle power", 0, 1)
    begun_ns = time.monotonic_ns()
    time.sleep(IDLE_SECONDS)
    return begun_ns, time.monotonic_ns()


def _round_trip_ns(transport: Transport) -> int:
    """How long the device takes to answer to nothing: its events come here in less."""
    begun_ns = time.monotonic_ns()
    transport.run(["true"], timeout_seconds=ROUND_TRIP_SECONDS)
    return time.monotonic_ns() - begun_ns


def told(
    found: Measurement,
    trace: PowerTrace,
    marks: Marks,
    idle: tuple[tuple[int, int], tuple[int, int]],
    late_ns: int,
) -> Measurement:
    """The measurement with the energy of this trace, or with the reason why there is none."""
    runs = found.latency_ms.runs if found.latency_ms else 0
    if marks.begun_ns is None or marks.ended_ns is None or not runs:
        return _without(found, "the device did not say when it ran")
    readings = {
        "source": trace.source.split(" ", 1)[0],
        "what": trace.source.partition("(")[2].rstrip(")"),
        "counts": trace.counts,
        "period_ns": trace.period_ns,
        "slack_ns": late_ns,
        "resolution": trace.resolution,
        "includes": INCLUDES,
        "readings": [list(pair) for pair in zip(trace.times_ns, trace.values, strict=True)],
    }
    try:
        drawn = energy.per_inference(readings, idle[0], (marks.begun_ns, marks.ended_ns), runs, idle[1])  # type: ignore[no-untyped-call]
    except energy.Unmeasured as reason:
        return _without(found, str(reason))
    rest = {name: why for name, why in found.unavailable.items() if name != "energy_mj"}
    return replace(found, energy=Energy(**drawn), unavailable=rest)


def _without(found: Measurement, reason: str) -> Measurement:
    return replace(found, energy=None, unavailable={**found.unavailable, "energy_mj": reason})
