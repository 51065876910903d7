"""The real sampler process over a /sys tree that another process changes all the time, on a course it writes down.

What it wrote and when is the truth: the energy that the runner tells has to lie within its own uncertainty of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from edgeq.lab.onboard import energy, files, sampler

SECONDS = 5.0
LONG_GAP_PERIODS = 2.0
"""The sampler waits 1.5 periods at most: longer gaps are a machine without time to read."""
IDLE, LOAD, AFTER = (0.3, 1.3), (1.8, 3.3), (3.7, 4.7)
WRITER = """
import json, math, os, random, sys, time
sys.path.insert(0, sys.argv[4])
kind, shape, folder = sys.argv[1:4]
random.seed(7)
begun = time.monotonic()
log, joules, last, last_mw = [], 0.0, begun, 0.0

def power(t):
    base = 2000 + 10 * t
    if not 1.5 <= t < 3.35:
        return base
    x = (t - 1.5) / 1.85
    rise = {"steps": 1500 if t < 2.4 else 2500, "ramp": 1000 + 1500 * x,
            "bursts": 4000 if (t / 0.013) % 1 < 0.6 else 0, "noise": 2000 + random.gauss(0, 100)}[shape]
    return base + rise

def put(name, number):
    path = os.path.join(folder, name)
    with open(path + ".new", "w") as stream:
        stream.write("%d\\n" % number)
    os.replace(path + ".new", path)

def show(mw):
    if kind == "ina219":
        mw = round(mw / 2) * 2
        put("power1_input", mw * 1000)
    elif kind == "ina3221":
        ma = round(mw / 5)
        mw = ma * 5
        put("curr1_input", -ma)
    elif kind == "pmic":
        put("amperes", round(mw * 1000 / 5))
    else:
        put("energy_uj", int(joules * 1e6 + 8e6) % 12_000_000)
    return mw

print("ready", flush=True)
while time.monotonic() - begun < float(sys.argv[5]):
    now = time.monotonic()
    joules += last_mw * (now - last) / 1000
    mw = power(now - begun)
    if kind == "rapl":
        last, last_mw = now, mw
        log.append([time.monotonic_ns(), mw])
        show(mw)
    else:
        before = time.monotonic_ns()
        shown = show(mw)
        log.append([(before + time.monotonic_ns()) // 2, shown])
    time.sleep(random.uniform(0.0005, 0.0025))
print(json.dumps({"begun_ns": int(begun * 1e9), "log": log}), flush=True)
"""


@dataclass(frozen=True)
class Kind:
    """A source, the folder its writer changes, and what lies in it."""

    source: str
    folder: str
    files: dict[str, object]


KINDS = {
    "ina219": Kind(
        "hwmon", "class/hwmon/hwmon2", {"name": "ina219", "power1_input": 2_000_000, "shunt_resistor": 100_000}
    ),
    "ina3221": Kind(
        "hwmon",
        "class/hwmon/hwmon9",
        {"name": "ina3221", "in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": -400, "update_interval": 2},
    ),
    "rapl": Kind(
        "rapl",
        "class/powercap/intel-rapl:0",
        {"name": "package-0", "energy_uj": 8_000_000, "max_energy_range_uj": 12_000_000},
    ),
    "pmic": Kind("pmic", "pmic", {"amperes": 400_000}),
}
PMIC = """#!/bin/sh
read now < {folder}/amperes
echo "  VDD_CORE_A current(7)=$((now / 1000000)).$(printf %06d $((now % 1000000)))A"
echo "  VDD_CORE_V volt(15)=5.00000000V"
echo "  DDR_VDD2_A current(8)=nanA"
echo "  DDR_VDD2_V volt(16)=1.10000000V"
"""
CASES = [
    *(("ina219", shape) for shape in ("steps", "ramp", "bursts", "noise")),
    ("ina3221", "steps"),
    ("rapl", "ramp"),
    ("rapl", "bursts"),
    ("pmic", "steps"),
]


def lay(root: Path, kind: str) -> files.Roots:
    told = KINDS[kind]
    folder = root / told.folder
    folder.mkdir(parents=True)
    for name, value in told.files.items():
        (folder / name).write_text(f"{value}\n")
    program = root / "vcgencmd"
    program.write_text(PMIC.format(folder=folder))
    program.chmod(0o755)
    return files.Roots(str(root), str(root / "proc"), str(program))


def truth_mj(log: Sequence[tuple[int, float]], window: tuple[int, int]) -> float:
    """Integral of the steps that were written."""
    times = [ns for ns, _mw in log]
    first, last = bisect_right(times, window[0]), bisect_right(times, window[1])
    moments = [window[0], *times[first:last], window[1]]
    values = [log[n][1] for n in range(first - 1, last)]
    return sum(mw * (b - a) / 1e9 for mw, a, b in zip(values, moments, moments[1:], strict=False))


def observed(root: Path, kind: str, shape: str) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """(what the runner tells of the energy, what the writer wrote); None where the sampler did not get to read."""
    roots = lay(root, kind)
    argv = [sys.executable, "-c", WRITER, kind, shape, str(root / KINDS[kind].folder), str(root), str(SECONDS)]
    sampling = sampler.Sampling(KINDS[kind].source, roots)
    sampling.wait()
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as writer:
        try:
            assert writer.stdout
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(SECONDS)
            trace = sampling.stop()
            written = json.loads(writer.stdout.readline())
        finally:
            writer.kill()
            sampling.close()
    begun = written["begun_ns"]
    windows = [(begun + int(start * 1e9), begun + int(end * 1e9)) for start, end in (IDLE, LOAD, AFTER)]
    longest = longest_gap_ns(trace["readings"], windows[1])
    written["windows"] = windows
    written["starved"] = longest > LONG_GAP_PERIODS * 1e9 / sampler.RATES_HZ[KINDS[kind].source]
    try:
        return energy.per_inference(trace, windows[0], windows[1], 50, windows[2]), written
    except energy.Unmeasured:
        assert written["starved"], "a machine with time to read gives an energy"
        return None, written


def longest_gap_ns(readings: Sequence[Sequence[float]], window: tuple[int, int]) -> float:
    """Between neighbours from half a second before to half a second after a window."""
    near = [ns for ns, _value in readings if window[0] - 5e8 <= ns <= window[1] + 5e8]
    return max((b - a for a, b in pairwise(near)), default=1e18)


@pytest.mark.slow
def test_what_is_told_holds_for_every_sensor_and_course(tmp_path: Path) -> None:
    """All at once: eight writers and eight samplers disturb one another as a busy board would."""
    with ThreadPoolExecutor(len(CASES)) as pool:
        found = list(pool.map(lambda n: observed(tmp_path / str(n), *CASES[n]), range(len(CASES))))
    for case, (told, written) in zip(CASES, found, strict=True):
        if told is None:
            continue
        log, (idle, load, after) = written["log"], written["windows"]
        seconds = (load[1] - load[0]) / 1e9
        middle = [truth_mj(log, one) / ((one[1] - one[0]) / 1e9) for one in (idle, after)]
        share = (sum(load) - sum(idle)) / (sum(after) - sum(idle))
        truth = truth_mj(log, load) - (middle[0] + share * (middle[1] - middle[0])) * seconds
        assert abs(told["per_inference_mj"] * 50 - truth) <= told["uncertainty_mj"] * 50, case
        wide = 1.0 if written["starved"] or case[0] == "pmic" else 0.6  # its program starts slowly on a busy machine
        assert told["uncertainty_mj"] < wide * told["per_inference_mj"], case
        assert told["includes"]
