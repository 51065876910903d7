"""Time and memory of a program, seen from outside."""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("EDGEQ_SHARED", ROOT.parent / "shared")) / "models"
"""Real models; some rows are left out, and said to be, where they are absent."""

EDGEQ = (sys.executable, "-m", "edgeq")


class Ran(NamedTuple):
    """One run: seconds of wall time and of processors, peak memory of the whole process tree, standard output."""

    seconds: float
    cpu_seconds: float
    peak_rss_bytes: int
    out: str


class Row(NamedTuple):
    """One line of the table: what edgeq takes, what the other side takes, and the bar.

    Without a figure it was not run, and `other_name` is the command that makes it run.
    """

    what: str
    edgeq: float | None
    other: float | None
    unit: str
    bar: str
    holds: bool
    other_name: str = ""

    @property
    def ratio(self) -> float | None:
        """edgeq over the other side."""
        return self.edgeq / self.other if self.other and self.edgeq is not None else None


def not_run(what: str, bar: str, install: str) -> Row:
    """A row for which something is missing here; it misses no bar."""
    return Row(what, None, None, "", bar, True, install)


def run(
    argv: Sequence[object],
    env: Mapping[str, str] | None = None,
    *,
    accepted: Container[int] = (0,),
    limit_s: float | None = None,
) -> Ran:
    """Run a program to its end.

    Raises CalledProcessError with what it said when it ends with a code that is not accepted, TimeoutExpired.
    """
    words = {**os.environ, **(env or {})}
    started, used = time.perf_counter(), _children_cpu_seconds()
    with subprocess.Popen(
        list(map(str, argv)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=words
    ) as process:
        peak, done = [0], threading.Event()
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
        watcher.start()
        try:
            out, err = process.communicate(timeout=limit_s)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            seconds = time.perf_counter() - started
            done.set()
            watcher.join()
    if process.returncode not in accepted:
        sys.stderr.write(err[-2000:])
        raise subprocess.CalledProcessError(process.returncode, process.args, out, err)
    return Ran(seconds, _children_cpu_seconds() - used, peak[0], out)


def _children_cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _watch(pid: int, peak: list[int], done: threading.Event) -> None:
    """The largest sum of resident memory over the tree, 20 times a second; shared pages count twice."""
    while not done.wait(0.05):
        peak[0] = max(peak[0], sum(_rss_bytes(one) for one in _tree(pid)))


def _tree(pid: int) -> list[int]:
    found = [pid]
    for one in found:
        try:
            children = Path(f"/proc/{one}/task/{one}/children").read_text()
        except OSError:
            continue  # it ended meanwhile
        found += map(int, children.split())
    return found


def _rss_bytes(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return 0


def in_turn(one: Callable[[], Ran], other: Callable[[], Ran], repeats: int) -> tuple[list[Ran], list[Ran]]:
    """Both sides alternately, so that what else the host does strikes both."""
    pairs = [(one(), other()) for _ in range(repeats)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def median_seconds(runs: Sequence[Ran]) -> float:
    """Median wall time."""
    return statistics.median(one.seconds for one in runs)


def peak_bytes(runs: Sequence[Ran]) -> int:
    """The worst peak."""
    return max(one.peak_rss_bytes for one in runs)
