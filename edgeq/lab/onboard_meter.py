"""A meter over one of the device's own sensors: the runner's `sample` verb in a thread."""

from __future__ import annotations

import threading
from itertools import pairwise

from edgeq.errors import EdgeqError, MeterError
from edgeq.lab import runner
from edgeq.lab.answers import Trace
from edgeq.lab.faults import clean
from edgeq.lab.meters import PowerTrace
from edgeq.lab.probe import carried, carrier
from edgeq.lab.runner import GRACE_SECONDS, Roots
from edgeq.lab.transports import Transport
from edgeq.types import Device

LONGEST_SECONDS = 3600.0
START_SECONDS = 60.0


class OnboardMeter:
    """Samples on the device between `start` and `stop`, an hour at most."""

    def __init__(self, device: Device, transport: Transport, source: str, roots: Roots) -> None:
        self._device = device
        self._transport = transport
        self._source = source
        self._roots = roots
        self._thread: threading.Thread | None = None
        self._started = threading.Event()
        self._stop_file = ""
        self._outcome: PowerTrace | BaseException | None = None

    def start(self) -> None:
        """Begin to sample; raises MeterError when the source cannot be read, DeviceError."""
        if self._thread is not None:
            raise MeterError(f"the {self._source} meter of {self._device.name} is already recording")
        self._started.clear()
        self._outcome, self._stop_file = None, ""
        self._thread = threading.Thread(target=self._record, daemon=True)
        self._thread.start()
        self._started.wait(START_SECONDS)
        if isinstance(self._outcome, BaseException) or not self._stop_file:
            self._thread = None
            raise self._failure()

    def stop(self) -> PowerTrace:
        """End the sampling and return its trace; raises MeterError, DeviceError."""
        if self._thread is None:
            raise MeterError(f"the {self._source} meter of {self._device.name} was not started")
        thread, self._thread = self._thread, None
        touch = "import sys; open(sys.argv[1], 'x').close()"
        self._transport.run([self._device.python, "-I", "-c", touch, self._stop_file], timeout_seconds=START_SECONDS)
        thread.join(START_SECONDS)
        if isinstance(self._outcome, PowerTrace):
            return self._outcome
        raise self._failure()

    def _failure(self) -> BaseException:
        missing = MeterError(f"the {self._source} meter of {self._device.name} does not answer")
        return self._outcome if isinstance(self._outcome, BaseException) else missing

    def _record(self) -> None:
        words = ["sample", "--source", self._source, "--seconds", str(LONGEST_SECONDS), *self._roots.argv()]
        try:
            completed = self._transport.run(
                carried(self._transport, words),
                timeout_seconds=LONGEST_SECONDS + GRACE_SECONDS,
                stdin=carrier(),
                output_limit_bytes=runner.ANSWER_LIMIT_BYTES,
                on_line=self._listen,
            )
            self._outcome = _trace(runner.read(self._device, completed, Trace))
        except EdgeqError as error:
            self._outcome = error
        finally:
            self._started.set()

    def _listen(self, line: str) -> None:
        event = runner.parse(line) if len(line) < 4096 and not self._started.is_set() else {}
        stop_file = event.get("stop_file")
        if event.get("event") == "started" and isinstance(stop_file, str):
            self._stop_file = stop_file
            self._started.set()


def _trace(told: Trace) -> PowerTrace:
    if any(later[0] < earlier[0] for earlier, later in pairwise(told.readings)):
        raise MeterError(f"the readings of {clean(told.source, 50)} go back in time")
    return PowerTrace(
        source=f"{clean(told.source, 50)} ({clean(told.what, 200)})",
        times_ns=tuple(time_ns for time_ns, _value in told.readings),
        values=tuple(value for _time_ns, value in told.readings),
        counts=told.counts,
        missing=told.missing,
        period_ns=told.period_ns,
        resolution=told.resolution,
    )
