"""Rows about time: what edgeq adds to a measurement, and whether its figures are those of a loop by hand."""

from __future__ import annotations

import contextlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from measuring import EDGEQ, ROOT, SHARED, Row, run

from edgeq.errors import ToolError
from edgeq.lab import bench
from edgeq.lab.transports import local
from edgeq.statistics import comparing
from edgeq.testing import models, sshd
from edgeq.testing.bundles import make_bundle
from edgeq.types import Device, Manifest, RunSettings

OVERHEAD_S = 2.0
FIXED_MS = 0.5
"""Short beside the scheduler's slices, so that a busy host preempts few of them."""

FIXED = """
# The runner, or a loop by hand, over an interpreter whose inference takes exactly {milliseconds} ms.
import importlib, statistics, sys, time
from pathlib import Path
by_hand = sys.argv[1] == "by-hand"
main = Path(sys.argv[2] if by_hand else sys.argv[3])
sys.path.insert(0, str(main.parent.parent))
runner = importlib.import_module(main.parent.name + ".__main__")
interpreters = importlib.import_module(main.parent.name + ".interpreters")

class Fixed(interpreters.Tflite):
    def __init__(self, *words):
        super().__init__(*words)
        real = self.invoke
        def invoke():
            end = time.perf_counter_ns() + int({milliseconds} * 1e6)
            real()
            while time.perf_counter_ns() < end:
                pass
        self.invoke = invoke

interpreters.Tflite = Fixed
if by_hand:
    model = interpreters.build("ai_edge_litert", sys.argv[3], 1)
    times, end = [], time.perf_counter() + 1.0
    while time.perf_counter() < end:
        start = time.perf_counter_ns()
        model.invoke()
        times.append(time.perf_counter_ns() - start)
    print(statistics.median(times) / 1e6)
else:
    sys.argv = sys.argv[3:]
    sys.exit(runner.main())
"""


def rows(scratch: Path) -> Iterator[Row]:
    """Overhead, fixed time, the watcher's cost, INT8 with and without the float model."""
    bundle = _bundle(scratch)
    yield from _overheads(bundle, scratch)
    yield _fixed(scratch)
    yield _watched(scratch)
    yield _beside(scratch)


def _bundle(scratch: Path) -> Path:
    example, out = ROOT / "examples" / "digits", scratch / "overhead"
    import platform

    words = ("-t", f"generic-linux-{platform.machine()}", "--data", example / "dataset.yaml", "-o", out, "-q")
    run([*EDGEQ, "build", example / "digits_float.tflite", *words])
    return out / "bundle"


def _overheads(bundle: Path, scratch: Path) -> Iterator[Row]:
    """Wall time of the whole command less the time in which models ran."""
    home = {"HOME": str(scratch / "overhead-home")}
    Path(home["HOME"]).mkdir()
    yield _overhead("edgeq profile, local:", bundle, "local:", home)
    own_home = [f"SetEnv HOME={scratch}"]  # this host's login files are no device's
    with contextlib.suppress(ToolError), sshd.running(scratch / "sshd", options=own_home) as server:
        shutil.copy(server.known_hosts, scratch / "known_hosts")
        words = {"address": server.url, "identity": server.key, "folder": scratch / "device", "python": sys.executable}
        lines = "".join(f"    {name}: {value}\n" for name, value in words.items())
        (scratch / "devices.yaml").write_text(f"devices:\n  loop:\n{lines}")
        env = {**home, "EDGEQ_KNOWN_HOSTS": str(scratch / "known_hosts")}
        env["EDGEQ_DEVICES"] = str(scratch / "devices.yaml")
        yield _overhead("edgeq profile, sshd on loopback", bundle, "loop", env)


def _overhead(what: str, bundle: Path, device: str, env: dict[str, str]) -> Row:
    argv = [*EDGEQ, "profile", bundle, "-d", device, "--json", "-q"]
    run(argv, env, accepted=(0, 3))  # the bundle is sent, disk caches are warm
    found = [_beyond(argv, env) for _ in range(5)]
    wall, cpu = (statistics.median(side) for side in zip(*found, strict=True))
    told = "seconds of processors; both beyond the inferences"
    return Row(what, wall, cpu, "s", f"< {OVERHEAD_S:g} s", wall < OVERHEAD_S, told)


def _beyond(argv: list[object], env: dict[str, str]) -> tuple[float, float]:
    """Seconds of wall time and of processors."""
    ran = run(argv, env, accepted=(0, 3))
    told = json.loads(ran.out)
    measured = told["warmup"]["seconds"] + max(told["settings"]["seconds"], 0.0)
    measured += told["speedup"]["seconds"] if told["speedup"] else 0.0
    return ran.seconds - measured, ran.cpu_seconds - measured


def _fixed(scratch: Path) -> Row:
    folder = scratch / "fixed"
    folder.mkdir()
    script, program = folder / "fixed.py", folder / "python"
    script.write_text(FIXED.format(milliseconds=FIXED_MS))
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *"runner/__main__.py bench "*) exec {sys.executable} {script} runner "$@" ;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    program.chmod(0o755)
    bundle, manifest = _tiny(folder)
    with local.connect(Device(name="here", transport="local", python=str(program))) as device:
        pairs = [(_p50(device, bundle, manifest), _by_hand(script, bundle)) for _ in range(5)]
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    holds = 0.98 <= ours / theirs <= 1.02
    return Row(f"p50 of a workload of {FIXED_MS:g} ms", ours, theirs, "ms", "within 2 %", holds, "a loop by hand")


def _tiny(folder: Path) -> tuple[Path, Manifest]:
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 16)
    return folder / "bundle", make_bundle(models.conv_tflite(folder), folder / "bundle", [x])


def _p50(device: object, bundle: Path, manifest: Manifest, settings: RunSettings | None = None) -> float:
    found = bench.measure(device, str(bundle), manifest, settings or RunSettings())  # type: ignore[arg-type]
    return found.latency_ms.p50 if found.latency_ms else float("nan")


def _by_hand(script: Path, bundle: Path) -> float:
    argv = [
        sys.executable,
        str(script),
        "by-hand",
        str(bundle / "runner" / "__main__.py"),
        str(bundle / "model.tflite"),
    ]
    return float(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)


WATCHED = """
# Blocks of the same inferences with and without the sampler's process beside them, in turn.
import json, random, sys
from pathlib import Path
main = Path(sys.argv[1])
sys.path.insert(0, str(main.parent.parent))
import importlib, os
package = main.parent.name
files, interpreters, sampler, timing = (
    importlib.import_module(package + "." + name) for name in ("files", "interpreters", "sampler", "timing")
)
cores = sorted(os.sched_getaffinity(0))
os.sched_setaffinity(0, cores[:1])
model = interpreters.build("ai_edge_litert", sys.argv[2], 1)
pairs, lot = [], random.Random(0)
def block():
    times = sorted(timing.timed_ns(model, 1)[1] for _ in range(max(3, int(0.25e9 / once))))
    return times[len(times) // 2]
timing.timed_ns(model, 20)
once = max(1, timing.timed_ns(model, 20)[1] // 20)
for _ in range(16):
    found = {}
    for watched in lot.sample((True, False), 2):
        beside = sampler.Sampling(sampler.NO_SOURCE, files.Roots(), cores[1:], watched=True) if watched else None
        if beside:
            beside.wait()
        found[watched] = block()
        if beside:
            beside.stop()
    pairs.append([found[True], found[False]])
print(json.dumps(pairs))
"""


def _watched(_scratch: Path) -> Row:
    """What reading the device's state during the runs costs them."""
    model = _model()
    runner = ROOT / "edgeq" / "lab" / "onboard" / "__main__.py"
    argv = [sys.executable, "-c", WATCHED, str(runner), str(model)]
    pairs = json.loads(subprocess.run(argv, check=True, capture_output=True, text=True).stdout)
    found = comparing.paired(*zip(*pairs, strict=True))
    ours, theirs = (statistics.median(side) / 1e6 for side in zip(*pairs, strict=True))
    sys.stderr.write(f"  watched over not watched: {found.value:.4f} ({found.low:.4f} to {found.high:.4f})\n")
    told = f"not watched; the ratio is {found.value:.4f} ({found.low:.4f} to {found.high:.4f})"
    return Row(f"p50 of {model.stem}, watched", ours, theirs, "ms", "<= 1.01 x", found.low <= 1.01, told)


def _model() -> Path:
    model = SHARED / "kws_dscnn" / "kws_reference_int8.tflite"
    return model if model.is_file() else ROOT / "examples" / "digits" / "digits_float.tflite"


def _beside(scratch: Path) -> Row:
    """INT8's own p50 where the float model is measured as well, and where it is not."""
    bundle = scratch / "overhead" / "bundle"
    manifest = bench.documents.load_json(bundle / "manifest.json", Manifest)
    with local.connect(Device(name="here", transport="local")) as device, tempfile.TemporaryDirectory():
        pairs = [
            tuple(_p50(device, bundle, manifest, RunSettings(compare_float=both)) for both in (True, False))
            for _ in range(8)
        ]
    found = comparing.paired(*zip(*pairs, strict=True))
    ours, theirs = (statistics.median(side) for side in zip(*pairs, strict=True))
    told = f"without it; the ratio is {found.value:.4f} ({found.low:.4f} to {found.high:.4f})"
    holds = found.low <= 1 <= found.high or abs(found.value - 1) < 0.02
    return Row("p50 of INT8, float model measured too", ours, theirs, "ms", "no difference", holds, told)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(prefix="edgeq-bench-") as folder:
        for row in rows(Path(folder)):
            sys.stdout.write(f"{row}\n")
