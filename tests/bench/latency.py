"""Does the runner's p50 agree with a hand-written loop over the same model and inputs?

Run `python tests/bench/latency.py MODEL.tflite [REPEATS]`; alternates both and compares the medians.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgeq.lab import bench
from edgeq.lab.transports import local
from edgeq.testing.bundles import make_bundle
from edgeq.types import Device, RunSettings

BY_HAND = """
import statistics, sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
model = Interpreter(model_path=sys.argv[1], num_threads=1)
model.allocate_tensors()
place, inputs = model.get_input_details()[0]["index"], np.load(sys.argv[2])["input_0"]
times, end, n = [], time.perf_counter() + 1.5, 0
while time.perf_counter() < end:
    model.set_tensor(place, inputs[n % len(inputs)][None])
    start = time.perf_counter_ns()
    model.invoke()
    times.append(time.perf_counter_ns() - start)
    n += 1
print(statistics.median(times[len(times) // 3 :]) / 1e6)
"""


def main(model: Path, repeats: int) -> None:
    """Print both medians and their ratio."""
    runner, hand = (statistics.median(side) for side in zip(*pairs(model, repeats), strict=True))
    ratio = f"ratio {runner / hand:.3f} ({repeats} repeats)"
    sys.stdout.write(f"runner p50 {runner:.4f} ms, by hand {hand:.4f} ms, {ratio}\n")


def pairs(model: Path, repeats: int) -> list[tuple[float, float]]:
    """Medians of the runner and of the loop by hand in ms, taken in turn."""
    from edgeq.runtimes import litert

    shape = [max(1, size) for size in litert.open(model).inputs[0].shape]
    dtype = litert.open(model).inputs[0].dtype
    inputs = np.random.default_rng(0).uniform(0, 1, (16, *shape[1:])).astype(dtype)
    with tempfile.TemporaryDirectory() as scratch, local.connect(Device(name="here", transport="local")) as device:
        folder = Path(scratch) / "bundle"
        manifest = make_bundle(model, folder, [inputs])
        return [_pair(device, folder, manifest) for _ in range(repeats)]


def _pair(device: object, folder: Path, manifest: object) -> tuple[float, float]:
    measured = bench.measure(device, str(folder), manifest, RunSettings())  # type: ignore[arg-type]
    argv = [sys.executable, "-c", BY_HAND, str(folder / "model.tflite"), str(folder / "golden.npz")]
    hand = subprocess.run(argv, check=True, capture_output=True, text=True)
    return (measured.latency_ms.p50 if measured.latency_ms else float("nan")), float(hand.stdout)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5)
