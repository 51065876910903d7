"""What goes wrong with the time on a device is found on this host: the runner is given another clock."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq import store
from edgeq.lab import bench
from edgeq.lab.transports import Transport, local
from edgeq.testing import models
from edgeq.testing.bundles import make_bundle, with_float
from edgeq.types import Device, Manifest, Measurement, RunSettings

SETTINGS = RunSettings(runs=50, seconds=2.0, warmup_seconds=0.2, timeout_seconds=100)

WARPED = """
# A clock that passes by some 300 microseconds a look, with noise, and what {kind} does to it.
import importlib, math, random, sys
from pathlib import Path
kind, main = sys.argv[1], Path(sys.argv[3])
sys.argv = sys.argv[3:]
sys.path.insert(0, str(main.parent.parent))
runner = importlib.import_module(main.parent.name + ".__main__")
lot = random.Random(1)
state = {"t": 0.0}

def warp(t):
    late = max(0.0, t - 1.0)
    if kind == "step":
        return t + 0.4 * late
    if kind == "speed-up":
        return t - 0.3 * late
    if kind == "spikes":
        return t + 0.006 * math.floor(t / 0.05)
    if kind == "throttling":
        return t + 0.8 * (late - 0.4 * (1 - math.exp(-late / 0.4)))
    if kind == "cold":
        return t + 0.6 * min(t, 0.7)
    return t

def clock():
    state["t"] += 3e-4 * (1 + 0.02 * lot.gauss(0, 1))
    return int(warp(state["t"]) * 1e9)

sys.exit(runner.main(clock))
"""


def python_with_a_clock(folder: Path, kind: str) -> Path:
    """A `python3` of a device whose `bench` lives in another time."""
    script, program = folder / "warped.py", folder / "python-of-the-device"
    script.write_text(WARPED)
    program.write_text(
        f'#!/bin/sh\ncase "$*" in *"runner/__main__.py bench "*) exec {sys.executable} {script} {kind} "$@" ;; esac\n'
        f'exec {sys.executable} "$@"\n'
    )
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[Path, Manifest]:
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 16)
    folder = tmp_path / "bundle"
    return folder, make_bundle(models.conv_tflite(tmp_path), folder, [x])


def measure(tmp_path: Path, bundle: tuple[Path, Manifest], kind: str, settings: RunSettings = SETTINGS) -> Measurement:
    device = Device(name="here", transport="local", python=str(python_with_a_clock(tmp_path, kind)))
    with local.connect(device) as transport:
        return bench.measure(transport, str(bundle[0]), bundle[1], settings)


def test_a_clean_run_raises_no_alarm(tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    found = measure(tmp_path, bundle, "nothing")
    assert found.steadiness is not None
    assert (found.steadiness.changes, found.steadiness.spikes) == ((), None)
    assert found.warmup is not None
    assert found.warmup.steady
    assert "steady_state" not in found.unavailable
    assert found.latency_ms is not None
    assert found.latency_ms.p50_ci is not None
    assert found.latency_ms.p50_ci[0] == pytest.approx(0.3, rel=0.02)


@pytest.mark.parametrize(("kind", "ratio"), [("step", 1.4), ("speed-up", 0.7)])
def test_a_step_is_found(tmp_path: Path, bundle: tuple[Path, Manifest], kind: str, ratio: float) -> None:
    found = measure(tmp_path, bundle, kind).steadiness
    assert found is not None
    assert [one.kind for one in found.changes] == ["step"]
    assert found.changes[0].ratio == pytest.approx(ratio, rel=0.03)
    assert 0.4 < found.changes[0].at_s < 1.1, "at 1 s of the clock, of which the warm-up took some"


def test_a_spike_train_is_found(tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    found = measure(tmp_path, bundle, "spikes").steadiness
    assert found is not None
    assert found.spikes is not None
    assert found.spikes.period_s == pytest.approx(0.056, rel=0.03)
    assert found.outliers is not None
    assert found.outliers.count >= 8, "some spikes fall between two samples"
    assert not found.changes


def test_throttling_is_found_with_its_time_and_both_figures(tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    settings = RunSettings(runs=50, seconds=0.1, warmup_seconds=0.2, timeout_seconds=100, sustained_minutes=0.06)
    found = measure(tmp_path, bundle, "throttling", settings)
    assert found.steadiness is not None
    assert [one.kind for one in found.steadiness.changes] == ["drift"]
    lasting = found.sustained
    assert lasting is not None
    assert lasting.peak_p50_ms == pytest.approx(0.3, rel=0.03)
    assert lasting.sustained_p50_ms == pytest.approx(0.54, rel=0.06)
    assert lasting.throttled_after_s is not None
    assert 0.3 < lasting.throttled_after_s < 1.6
    assert len(lasting.slices) == 24
    assert lasting.slices[-1].until_s == pytest.approx(3.6, rel=0.05)


def test_a_clock_that_starts_slow_is_waited_for(tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    """The first 0.7 s are slower: a warm-up of 0.2 s goes on until the level has settled, or it is in the runs."""
    found = measure(tmp_path, bundle, "cold")
    assert found.warmup is not None
    assert found.steadiness is not None
    speeds = [one.ratio for one in found.steadiness.changes]
    assert found.warmup.seconds > 0.9 or found.steadiness.begins_s > 0.3 or any(ratio < 1 for ratio in speeds)


@pytest.fixture
def device(tmp_path: Path) -> Transport:
    return local.connect(Device(name="here", transport="local", folder=str(tmp_path)))


QUICK = RunSettings(runs=10, seconds=0.1, warmup_seconds=0.02, timeout_seconds=60)


def test_a_model_is_as_fast_as_itself(device: Transport, tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    folder, _ = bundle
    with device:
        found = bench.measure(device, str(folder), with_float(folder), QUICK)
    assert found.speedup is not None, found.unavailable
    assert found.speedup.ratio == pytest.approx(1.0, abs=0.25)
    assert found.speedup.low is not None
    assert found.speedup.high is not None
    assert found.speedup.low <= found.speedup.ratio <= found.speedup.high
    assert found.speedup.rounds >= 6
    assert "speedup" not in found.unavailable


def test_no_float_is_said(device: Transport, tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    folder, manifest = bundle
    with device:
        without = bench.measure(device, str(folder), manifest, QUICK)
        unwanted = bench.measure(
            device,
            str(folder),
            with_float(folder),
            RunSettings(runs=5, seconds=0.02, warmup_seconds=0.01, compare_float=False),
        )
    assert without.unavailable["speedup"] == "the bundle carries no float model"
    assert unwanted.unavailable["speedup"] == "--no-float was asked for"


def test_a_float_model_that_was_altered_costs_the_speed_up_only(
    device: Transport, tmp_path: Path, bundle: tuple[Path, Manifest]
) -> None:
    folder, _ = bundle
    manifest = with_float(folder)
    with (folder / "float.tflite").open("ab") as stream:
        stream.write(b"x")
    with device:
        found = bench.measure(device, str(folder), manifest, QUICK)
    assert found.latency_ms is not None
    assert found.unavailable["speedup"] == "float.tflite is not the file that was sent"


def test_a_float_model_without_room_costs_the_speed_up_only(
    device: Transport, tmp_path: Path, bundle: tuple[Path, Manifest]
) -> None:
    """A device whose kernel tells little free memory: the second model is not even tried."""
    from edgeq.lab.runner import Roots

    folder, _ = bundle
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 40000 kB\nMemAvailable: 20000 kB\n")
    with device:
        manifest = with_float(folder)
        found = bench.measure(device, str(folder), manifest, QUICK, roots=Roots(proc=str(tmp_path / "proc")))
    assert "19 MiB of memory are free" in found.unavailable["speedup"]
    assert found.unavailable["floor_rss"] == "the kernel tells no VmRSS here"


def test_memory_is_that_of_a_process_of_its_own(device: Transport, bundle: tuple[Path, Manifest]) -> None:
    with device:
        memory = bench.measure(device, str(bundle[0]), bundle[1], QUICK).memory_bytes
    assert memory.peak_rss is not None
    assert memory.floor_rss is not None
    assert memory.model_rss == memory.peak_rss - memory.floor_rss
    assert 0 < memory.model_rss < memory.floor_rss
    assert memory.model_file == (bundle[0] / "model.tflite").stat().st_size


def test_operators_of_onnxruntime(device: Transport, tmp_path: Path) -> None:
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 16)
    folder = tmp_path / "onnx"
    manifest = make_bundle(models.conv_onnx(tmp_path), folder, [np.ascontiguousarray(x.transpose(0, 3, 1, 2))])
    settings = RunSettings(runs=10, seconds=0.1, warmup_seconds=0.02, operators=True)
    with device:
        found = bench.measure(device, str(folder), manifest, settings)
    assert {"Conv", "Gemm"} & {one.operator for one in found.operators} or found.operators
    assert {one.placement for one in found.operators} == {"CPUExecutionProvider"}
    assert sum(one.share for one in found.operators) == pytest.approx(1.0)
    assert [one.ms for one in found.operators] == sorted((one.ms for one in found.operators), reverse=True)
    assert all(one.count == 1 for one in found.operators)
    assert not list(Path.cwd().glob("*trace*.json")), "the profiler's file is gone with its folder"


def test_operators_of_litert_say_why_there_are_none(device: Transport, bundle: tuple[Path, Manifest]) -> None:
    with device:
        asked = RunSettings(runs=5, seconds=0.02, warmup_seconds=0.01, operators=True)
        found = bench.measure(device, str(bundle[0]), bundle[1], asked)
    assert found.operators == ()
    assert found.unavailable["operators"] == "the Python interface of ai_edge_litert has no profiler"


def test_the_state_is_watched_during_the_runs(device: Transport, tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    from edgeq.lab.runner import Roots

    core, zone = (
        tmp_path / "sys" / name for name in ("devices/system/cpu/cpu0/cpufreq", "class/thermal/thermal_zone0")
    )
    for place, values in ((core, {"scaling_cur_freq": "1500000"}), (zone, {"type": "cpu", "temp": "51500"})):
        place.mkdir(parents=True)
        for name, value in values.items():
            (place / name).write_text(value)
    vcgencmd = tmp_path / "vcgencmd"
    vcgencmd.write_text(
        "#!/bin/sh\n"
        f"[ -e {tmp_path}/asked ] && [ $1 = get_throttled ] && echo throttled=0x4 || echo throttled=0x0\n"
        f"touch {tmp_path}/asked\n"
    )
    vcgencmd.chmod(0o755)
    with device:
        found = bench.measure(
            device, str(bundle[0]), bundle[1], RunSettings(runs=10, seconds=0.6, warmup_seconds=0.1),
            roots=Roots(sysfs=str(tmp_path / "sys"), vcgencmd=str(vcgencmd)),
        )  # fmt: skip
    assert len(found.watched) >= 2
    assert {(row.clock_hz, row.temperature_c) for row in found.watched} == {(1_500_000_000, 51.5)}
    assert any(row.throttled for row in found.watched)
    assert found.conditions.throttled is True, "it was so during the runs"
    assert [row.at_s for row in found.watched] == sorted(row.at_s for row in found.watched)


def test_older_measurements_are_still_read(device: Transport, tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    import json

    with device:
        store.write(tmp_path / "m.json", bench.measure(device, str(bundle[0]), bundle[1], QUICK))
    told = json.loads((tmp_path / "m.json").read_text())
    for name in ("sample_starts_ns", "warmup", "steadiness", "sustained", "speedup", "operators", "watched"):
        del told[name]
    for name in ("p50_ci", "p90_ci", "p99_ci"):
        del told["latency_ms"][name]
    for name in ("floor_rss", "model_rss", "model_file"):
        del told["memory_bytes"][name]
    for name in ("sustained_minutes", "compare_float", "operators"):
        del told["settings"][name]
    (tmp_path / "old.json").write_text(json.dumps(told))
    found = store.read(tmp_path / "old.json", Measurement)
    assert found.latency_ms is not None
    assert (found.speedup, found.latency_ms.p50_ci, found.settings.compare_float) == (None, None, True)
