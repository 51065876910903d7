"""How often is a real run called unsteady that was not, and how often is what is put into one found?

Run `python tests/bench/false_alarms.py [CLEAN_RUNS]`. Half-second runs of real models are recorded on this host, with a
fixed loop of plain Python between the inferences that has nothing to do with the model. A run is clean where this
process had a core for 97 % of the time and that loop's median stayed within 8 % over 20 parts of the run: what slows
the machine slows the loop as well, so that it is an independent witness. Clean runs must raise an alarm in less than
5 % of the cases. Steps, spike trains and throttling curves are then multiplied into the same runs.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from measuring import ROOT, SHARED
from numpy.typing import NDArray

from edgeq.statistics import steady
from edgeq.statistics.steady import Steady

Floats = NDArray[np.float64]
SECONDS = 0.5
CLEAN = 200
LONGEST_S = 1800.0
PERIOD_S = 0.03
LOOP = 1500
_MODELS = ("kws_dscnn/kws_reference_int8.tflite", "ic_resnet8/resnet8_float.tflite", "vww_mobilenetv1/vww_float.tflite")


class Recorded(NamedTuple):
    """Samples in ns, the moments at which they began in s, the loop's times in ns, the share of a core."""

    samples: Floats
    moments: Floats
    witness: Floats
    core: float


def main(wanted: int) -> int:
    """Record, judge, print; 1 where a bar is missed."""
    runs = list(_clean(wanted))
    alarms = [run for run in runs if not steady.find(run.samples, run.moments).ok]
    rate = len(alarms) / max(1, len(runs))
    sys.stdout.write(f"false alarms: {len(alarms)} of {len(runs)} clean runs ({rate:.1%}, at most 5 %)\n")
    holds = rate < 0.05 and len(runs) >= wanted
    for name, (spoil, is_found) in FAULTS.items():
        random = np.random.default_rng(0)
        hits = [is_found(steady.find(spoil(run, random.uniform(0.3, 0.7)), run.moments)) for run in runs]
        share = statistics.mean(hits) if hits else 0.0
        sys.stdout.write(f"{name}: found in {share:.1%} of {len(hits)}\n")
        holds = holds and share >= 0.9
    return 0 if holds else 1


def _clean(wanted: int) -> Iterator[Recorded]:
    models = [path for path in (SHARED / name for name in _MODELS) if path.is_file()]
    models.append(ROOT / "examples" / "digits" / "digits_float.tflite")
    found, tried, give_up = 0, 0, time.monotonic() + LONGEST_S
    while found < wanted and time.monotonic() < give_up:
        run = _record(models[tried % len(models)])
        tried += 1
        if _is_clean(run):
            found += 1
            yield run
    sys.stdout.write(f"recorded: {tried} runs of {SECONDS} s, {found} of them clean\n")


def _is_clean(run: Recorded) -> bool:
    parts = np.array([np.median(part) for part in np.array_split(run.witness, 20)])
    return run.core >= 0.97 and bool(np.abs(parts / np.median(parts) - 1).max() < 0.08)


def _record(model: Path) -> Recorded:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(model), num_threads=1)
    interpreter.allocate_tensors()
    port = interpreter.get_input_details()[0]
    interpreter.set_tensor(port["index"], np.zeros(port["shape"], port["dtype"]))
    warm = _loop(interpreter.invoke, 1, SECONDS / 2)
    batch = max(1, -(-100_000 // int(min(warm.samples))))
    return _loop(interpreter.invoke, batch, SECONDS)


def _loop(invoke: Callable[[], Any], batch: int, seconds: float) -> Recorded:
    samples, moments, witness = [], [], []
    begun, used = time.monotonic(), time.process_time()
    while time.monotonic() - begun < seconds or len(samples) < 50:
        start = time.perf_counter_ns()
        for _ in range(batch):
            invoke()
        samples.append((time.perf_counter_ns() - start) / batch)
        moments.append(start / 1e9)
        start = time.perf_counter_ns()
        for _ in range(LOOP):
            pass
        witness.append(time.perf_counter_ns() - start)
    core = (time.process_time() - used) / (time.monotonic() - begun)
    return Recorded(np.array(samples), np.array(moments), np.array(witness, np.float64), core)


def _step(ratio: float) -> Callable[[Recorded, float], Floats]:
    return lambda run, at: np.asarray(run.samples * np.where(_part(run) > at, ratio, 1.0))


def _throttle(run: Recorded, at: float) -> Floats:
    return np.asarray(run.samples * (1 + 0.6 * (1 - np.exp(-np.maximum(0, _part(run) - at / 2) / 0.25))))


def _spikes(run: Recorded, _at: float) -> Floats:
    """A spike at every beat that takes a tenth of the period."""
    first = np.diff(np.floor(run.moments / PERIOD_S), prepend=-1.0) > 0
    extra = 0.1 * PERIOD_S / np.median(np.diff(run.moments)) * np.median(run.samples)
    return np.asarray(run.samples + extra * first)


def _part(run: Recorded) -> Floats:
    return np.asarray((run.moments - run.moments[0]) / (run.moments[-1] - run.moments[0]))


def _changed(kind: str, is_slower: bool) -> Callable[[Steady], bool]:
    return lambda found: any(one.kind == kind and (one.ratio > 1) == is_slower for one in found.changes)


def _beats(found: Steady) -> bool:
    return found.spikes is not None and abs(found.spikes.period_s / PERIOD_S - 1) < 0.05


FAULTS: dict[str, tuple[Callable[[Recorded, float], Floats], Callable[[Steady], bool]]] = {
    "a step to 1.15 times": (_step(1.15), _changed("step", True)),
    "a step to 1.3 times": (_step(1.3), _changed("step", True)),
    "a step to 0.7 times": (_step(0.7), _changed("step", False)),
    "a spike train": (_spikes, _beats),
    "a throttling curve": (_throttle, _changed("drift", True)),
}

if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else CLEAN))
