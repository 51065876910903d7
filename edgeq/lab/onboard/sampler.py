"""Reads a power source and the device's state at a steady rate, in a process of its own: the runs are not disturbed."""

import json
import os
import random
import select
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from . import events, meters, watching

MAX_SAMPLES = 20000
RATES_HZ = {"hwmon": 50.0, "rapl": 50.0, "pmic": 10.0, "battery": 5.0}
NO_SOURCE = "none"
"""The source of a sampler that only looks at the device's state."""
_START_SECONDS = 30
_END_SECONDS = 15


def sample(source, seconds, ended, rate_hz=None, watch=None):
    """Readings [[ns, value], …] until `seconds` are over or `ended()`, and how many were missing.

    Times are CLOCK_MONOTONIC, which all processes share. When the list is full every second reading goes
    and the rate is halved. `watch` is polled beside the readings.
    """
    readings, missing = [], 0
    period = 1.0 / (rate_hz or RATES_HZ[source.name])
    next_at = time.monotonic()
    deadline = next_at + seconds
    while True:
        begun_ns = time.monotonic_ns()
        try:
            value = source.read()
            readings.append([(begun_ns + time.monotonic_ns()) // 2, round(value, 6)])
        except (OSError, ValueError):
            missing += 1
        if len(readings) >= MAX_SAMPLES:
            readings, period = readings[::2], period * 2
        if watch is not None:
            watch.poll()
        # At random moments no regular load hides between the readings.
        next_at = max(next_at + period * (0.5 + random.random()), time.monotonic())
        if time.monotonic() >= deadline or ended(max(0.0, next_at - time.monotonic())):
            return readings, missing


def look(watch, seconds, ended):
    """Poll `watch` alone until `seconds` are over or `ended()`."""
    deadline = time.monotonic() + seconds
    while True:
        next_at = watch.poll()
        if time.monotonic() >= deadline or ended(max(0.0, next_at - time.monotonic())):
            return


def stdin_ended(wait_seconds):
    """Whether whoever started this process has closed the pipe to it or is gone."""
    ready, _, _ = select.select([0], [], [], wait_seconds)
    return bool(ready) and os.read(0, 4096) == b""


def file_appeared(path, seconds):
    """An `ended` that waits for a file; it also tells progress, so that a dead link is noticed."""
    start = time.monotonic()

    def ended(wait_seconds):
        time.sleep(wait_seconds)
        events.progress("sampling", int(time.monotonic() - start) + 1, int(seconds) + 2)
        return Path(path).exists()

    return ended


def stop_file():
    """A name in a folder of its own; whoever creates that file ends the sampling."""
    return str(Path(tempfile.mkdtemp(prefix="edgeq-sample-")) / "stop")


def forget(path):
    """Remove the folder of `stop_file`."""
    shutil.rmtree(str(Path(path).parent), ignore_errors=True)


class Sampling:
    """A sampler process beside the runs, which starts meanwhile; its readings come when it is stopped."""

    def __init__(self, source, roots, cpus=(), watched=False):
        self._how = (roots, cpus, watched)
        argv = [sys.executable, "-I", str(Path(__file__).with_name("__main__.py")), "sample", "--until-eof"]
        argv += ["--source", source, "--sysfs", str(roots.sys), "--proc", str(roots.proc)]
        argv += ["--vcgencmd", roots.vcgencmd, "--cpus", ",".join(str(cpu) for cpu in cpus)]
        argv += ["--watch"] if watched else []
        self._child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def again(self, source):
        """Another one like this with another source."""
        return Sampling(source, *self._how)

    def wait(self):
        """Until it samples, and what it says of its source; raises Absent, and ends it, where it cannot."""
        if not select.select([self._child.stdout], [], [], _START_SECONDS)[0]:
            self.close()
            raise meters.Absent("the sampler did not start")
        told = self._line()
        if told.get("event") != "started":
            self.close()
            raise meters.Absent(told.get("message", "the sampler did not start"))
        return told

    def _line(self):
        try:
            return json.loads(self._child.stdout.readline() or b"{}")
        except ValueError:
            return {}

    def stop(self):
        """The trace: {source, what, counts, readings, missing}, and `watched` where that was asked for."""
        try:
            self._child.stdin.close()
            if select.select([self._child.stdout], [], [], _END_SECONDS)[0]:
                return self._line()
            return {}
        finally:
            self.close()

    def close(self):
        """End the process if it still runs."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            pipe.close()


def run(name, roots, seconds, ended, announced, watched=False):
    """The `sample` verb: announce, sample, print the trace; `watched` adds the rows of a Watch."""
    watch = watching.Watch(roots) if watched else None
    if name == NO_SOURCE:
        events.emit("started", source=name, what="", counts=False, **announced)
        look(watch or watching.Watch(roots), seconds, ended)
        events.emit("result", source=name, what="", counts=False, readings=[], missing=0, **_rows(watch))
        return
    try:
        source = meters.find(name, roots)
    except meters.Absent as absent:
        raise events.Failure("no-meter", str(absent)) from None
    events.emit("started", source=source.name, what=source.describe, counts=source.counts, **announced)
    readings, missing = sample(source, seconds, ended, watch=watch)
    events.emit("result", readings=readings, missing=missing, **source.about(), **_rows(watch))


def _rows(watch):
    return {"watched": watch.rows} if watch is not None else {}
