"""Real bundles measured over the local transport with the real interpreters."""

from __future__ import annotations

import json
import os
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import store
from edgeq.errors import (
    Altered,
    BuildError,
    CommandFailed,
    DatasetError,
    IllegalInstruction,
    OutOfMemory,
    RunnerKilled,
    RuntimeMissing,
    TimedOut,
    UsageError,
)
from edgeq.lab import bench, probe, vectors
from edgeq.lab.runner import Roots
from edgeq.lab.transports import Transport, local
from edgeq.testing import models
from edgeq.testing.bundles import make_bundle, write_manifest
from edgeq.types import Device, Manifest, Port, RunSettings

QUICK = RunSettings(runs=10, seconds=0.05, warmup_seconds=0.02, timeout_seconds=60)


@pytest.fixture
def device(tmp_path: Path) -> Iterator[Transport]:
    with local.connect(Device(name="here", transport="local", folder=str(tmp_path))) as transport:
        yield transport


def samples(channels_first: bool = False) -> np.ndarray[Any, Any]:
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 16)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if channels_first else x


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[Path, Manifest]:
    folder = tmp_path / "bundle"
    return folder, make_bundle(models.conv_tflite(tmp_path), folder, [samples()])


@pytest.fixture
def onnx_bundle(tmp_path: Path) -> tuple[Path, Manifest]:
    folder = tmp_path / "bundle"
    return folder, make_bundle(models.conv_onnx(tmp_path), folder, [samples(channels_first=True)])


def device_with(python: Path) -> Transport:
    return local.connect(Device(name="here", transport="local", python=str(python)))


def python_that(folder: Path, lines: str) -> Path:
    """A `python3` of a device on which starting the runner first does `lines` (the agent starts as ever)."""
    program = folder / "python-of-the-device"
    program.write_text(f'#!/bin/sh\ncase "$*" in *runner/__main__.py*)\n{lines}\n;; esac\nexec {sys.executable} "$@"\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    return program


@pytest.mark.parametrize("made", ["bundle", "onnx_bundle"])
def test_measurement_is_whole(device: Transport, made: str, request: pytest.FixtureRequest) -> None:
    folder, manifest = request.getfixturevalue(made)
    steps: list[tuple[str, int, int]] = []
    found = bench.measure(device, str(folder), manifest, QUICK, progress=lambda *told: steps.append(told))
    assert found.latency_ms is not None
    assert 0 < found.latency_ms.min <= found.latency_ms.p50 <= found.latency_ms.p90 <= found.latency_ms.p99
    assert found.latency_ms.p99 <= found.latency_ms.max
    assert found.latency_ms.first > 0
    assert found.latency_ms.load > 0
    assert found.latency_ms.runs >= QUICK.runs * found.batch
    assert found.batch > 1, "a model of some microseconds is timed in batches"
    assert min(found.latency_samples_ns) * found.batch > 50_000
    assert found.parity is not None
    assert (found.parity.exact, found.parity.max_steps, found.parity.vectors, found.parity.ok) == (True, 0.0, 16, True)
    assert found.memory_bytes.peak_rss is not None
    assert 10 << 20 < found.memory_bytes.peak_rss < 2 << 30
    assert found.device["name"] == "here"
    assert found.runtime["threads"] == "1"
    assert found.manifest_sha256 == store.sha256(folder / "manifest.json")
    assert {"warm-up", "runs", "parity"} <= {step for step, _, _ in steps}
    store.to_json(found)


def test_what_was_not_measured_is_none_with_a_reason(
    device: Transport, bundle: tuple[Path, Manifest], tmp_path: Path
) -> None:
    empty = Roots(sysfs=str(tmp_path / "sys"), vcgencmd="/nonexistent/vcgencmd")
    found = bench.measure(device, str(bundle[0]), bundle[1], QUICK, roots=empty)
    assert found.energy is None
    assert "no INA sensor" in found.unavailable["energy_mj"]
    assert found.memory_bytes.arena is None
    assert found.conditions.throttled is None
    assert {"arena", "governor", "frequency", "temperature", "throttled"} <= set(found.unavailable)


def test_energy_and_conditions_come_from_the_devices_trees(
    device: Transport, bundle: tuple[Path, Manifest], tmp_path: Path
) -> None:
    """A sensor that never changes shows no load: that is a reason, not a zero."""
    sysfs = tmp_path / "sys"
    chip, core, zone = (
        sysfs / name
        for name in ("class/hwmon/hwmon4", "devices/system/cpu/cpu0/cpufreq", "class/thermal/thermal_zone0")
    )
    for place, values in (
        (chip, {"name": "ina219", "power1_input": "2000000"}),
        (core, {"scaling_governor": "ondemand", "scaling_cur_freq": "1500000"}),
        (zone, {"type": "cpu-thermal", "temp": "51500"}),
    ):
        place.mkdir(parents=True)
        for name, value in values.items():
            (place / name).write_text(value)
    vcgencmd = tmp_path / "vcgencmd"
    vcgencmd.write_text("#!/bin/sh\n[ $1 = get_throttled ] && echo throttled=0x50000\n")
    vcgencmd.chmod(0o755)
    roots = Roots(sysfs=str(sysfs), vcgencmd=str(vcgencmd))
    found = bench.measure(device, str(bundle[0]), bundle[1], QUICK.__class__(runs=10, seconds=0.3), roots=roots)
    assert found.energy is None
    assert "no more power under load (2000.0 mW)" in found.unavailable["energy_mj"]
    assert found.conditions.before.governor == "ondemand"
    assert found.conditions.after.frequency_hz == (1_500_000_000,)
    assert found.conditions.after.temperature_c == 51.5
    assert found.conditions.throttled is False, "bits 16 and 18 were set before the runs already"
    assert "governor" not in found.unavailable


SENSOR_UNDER_LOAD = """
# The sensor shows 3 W from the first look at the clock on, and 1 W when nobody has looked at it for a while.
import importlib, sys, threading, time
from pathlib import Path
sensor, main = Path(sys.argv[1]), Path(sys.argv[3])
sys.argv = sys.argv[3:]
sys.path.insert(0, str(main.parent.parent))
runner = importlib.import_module(main.parent.name + ".__main__")
state = {"seen": 0.0, "high": False}

def show(high):
    if state["high"] != high:
        state["high"] = high
        sensor.write_text("3000000" if high else "1000000")

def clock():
    state["seen"] = time.monotonic()
    show(True)
    return time.monotonic_ns()

def fall():
    while True:
        time.sleep(0.02)
        if time.monotonic() - state["seen"] > 0.06:
            show(False)

threading.Thread(target=fall, daemon=True).start()
sys.exit(runner.main(clock))
"""


def test_energy_of_a_sensor_that_rises_under_load(tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    """The sensor shows 1 W at idle and 3 W during the runs."""
    chip = tmp_path / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina226")
    (chip / "power1_input").write_text("1000000")
    (tmp_path / "loaded.py").write_text(SENSOR_UNDER_LOAD)
    loaded = f'exec {sys.executable} {tmp_path}/loaded.py {chip}/power1_input "$@"'
    python = python_that(tmp_path, f'case "$*" in *" bench "*) {loaded} ;; esac')
    settings = RunSettings(runs=10, seconds=1.5, warmup_seconds=0.2, timeout_seconds=60)
    with device_with(python) as transport:
        found = bench.measure(transport, str(bundle[0]), bundle[1], settings, roots=Roots(sysfs=str(tmp_path / "sys")))
    assert found.energy is not None, found.unavailable
    assert found.energy.idle_mw == pytest.approx(1000, rel=0.1)
    assert found.energy.load_mw == pytest.approx(3000, rel=0.1)
    assert found.energy.samples >= 30
    assert found.energy.source == "hwmon (ina226), idle subtracted"
    assert found.latency_ms is not None
    above_mw = found.energy.load_mw - found.energy.idle_mw
    assert found.energy.per_inference_mj == pytest.approx(above_mw * 1.5 / found.latency_ms.runs, rel=0.05)


def test_parity_fails_on_golden_vectors_that_are_not_this_models(
    device: Transport, bundle: tuple[Path, Manifest]
) -> None:
    folder, _ = bundle
    with np.load(folder / "golden.npz") as stored:
        arrays: dict[str, Any] = dict(stored)
    spread = arrays["output_0"].max() - arrays["output_0"].min()
    arrays["output_0"][7, 0] += 10 * spread / 255
    np.savez(folder / "golden.npz", **arrays)
    found = bench.measure(device, str(folder), write_manifest(folder, ".tflite"), QUICK)
    assert found.parity is not None
    assert not found.parity.ok
    assert not found.parity.exact
    assert 5 < found.parity.max_steps <= 10.5


def test_parity_fails_on_nan(device: Transport, bundle: tuple[Path, Manifest]) -> None:
    folder, _ = bundle
    with np.load(folder / "golden.npz") as stored:
        arrays: dict[str, Any] = dict(stored)
    arrays["input_0"][3] = np.nan
    np.savez(folder / "golden.npz", **arrays)
    found = bench.measure(device, str(folder), write_manifest(folder, ".tflite"), QUICK)
    assert found.parity is not None
    assert not found.parity.ok
    assert "NaN" in found.unavailable["parity"]


@pytest.mark.parametrize("name", ["model.tflite", "golden.npz", "io.json"])
def test_a_file_altered_on_the_device_is_noticed(device: Transport, bundle: tuple[Path, Manifest], name: str) -> None:
    folder, manifest = bundle
    with (folder / name).open("ab") as stream:
        stream.write(b" ")
    with pytest.raises(Altered, match=name):
        bench.measure(device, str(folder), manifest, QUICK)
    if name != "model.tflite":
        write_manifest(folder, ".tflite")
        with pytest.raises(Altered, match=name):
            bench.measure(device, str(folder), manifest, QUICK)


def test_a_missing_file_is_altered_too(device: Transport, bundle: tuple[Path, Manifest]) -> None:
    (bundle[0] / "manifest.json").unlink()
    with pytest.raises(Altered, match=r"manifest\.json"):
        bench.measure(device, str(bundle[0]), bundle[1], QUICK)


def test_vectors_that_do_not_fit_the_contract(device: Transport, bundle: tuple[Path, Manifest]) -> None:
    folder, _ = bundle
    np.savez(folder / "golden.npz", input_0=np.zeros((4, 3), np.float32), output_0=np.zeros((4, 4), np.float32))
    with pytest.raises(BuildError, match="the contract says float32"):
        bench.measure(device, str(folder), write_manifest(folder, ".tflite"), QUICK)


def test_cores_that_the_device_has_not(device: Transport, bundle: tuple[Path, Manifest]) -> None:
    with pytest.raises(UsageError, match="cannot run on cores 4000"):
        bench.measure(device, str(bundle[0]), bundle[1], RunSettings(cpus=(4000,)))


def test_pinned_to_one_core(device: Transport, bundle: tuple[Path, Manifest]) -> None:
    core = min(os.sched_getaffinity(0))
    settings = RunSettings(runs=5, seconds=0.02, warmup_seconds=0.01, cpus=(core,), threads=2)
    assert bench.measure(device, str(bundle[0]), bundle[1], settings).runtime["threads"] == "2"


def test_time_that_is_up(device: Transport, bundle: tuple[Path, Manifest]) -> None:
    with pytest.raises(TimedOut, match="time was up"):
        bench.measure(device, str(bundle[0]), bundle[1], RunSettings(seconds=60, timeout_seconds=1.0))


def test_a_model_that_the_interpreter_refuses(device: Transport, tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    folder, _ = bundle
    models.custom_op_tflite(folder, "model.tflite")
    with pytest.raises(CommandFailed, match="EdgeqMystery"):
        bench.measure(device, str(folder), write_manifest(folder, ".tflite"), QUICK)


@pytest.mark.parametrize(
    ("name", "error"), [("KILL", RunnerKilled), ("SEGV", RunnerKilled), ("ILL", IllegalInstruction)]
)
def test_a_runner_ended_by_a_signal(
    bundle: tuple[Path, Manifest], tmp_path: Path, name: str, error: type[Exception]
) -> None:
    python = python_that(tmp_path, f"ulimit -c 0; kill -{name} $$")
    with device_with(python) as transport, pytest.raises(error, match=f"SIG{name}") as caught:
        bench.measure(transport, str(bundle[0]), bundle[1], QUICK)
    assert caught.value.hint  # type: ignore[attr-defined]


def test_too_little_memory(bundle: tuple[Path, Manifest], tmp_path: Path) -> None:
    """Address space for Python and NumPy, not for this model's 400 MB of golden vectors."""
    folder, _ = bundle
    many = np.zeros((240_000, *models.CONV_SHAPE), np.float32)
    np.savez(folder / "golden.npz", input_0=many, output_0=np.zeros((240_000, 4), np.float32))
    with device_with(python_that(tmp_path, "ulimit -v 400000")) as transport, pytest.raises(OutOfMemory):
        bench.measure(transport, str(folder), write_manifest(folder, ".tflite"), QUICK)


def test_a_python_without_any_interpreter(bundle: tuple[Path, Manifest], tmp_path: Path) -> None:
    """`-S` takes the packages away, as on a fresh device."""
    python = python_that(tmp_path, f'shift; exec {sys.executable} -I -S "$@"')
    with device_with(python) as transport, pytest.raises(RuntimeMissing, match="not installed") as caught:
        bench.measure(transport, str(bundle[0]), bundle[1], QUICK)
    assert "pip install" in (caught.value.hint or "")


@pytest.mark.parametrize("made", ["bundle", "onnx_bundle"])
def test_evaluate_gives_what_the_host_gives(
    device: Transport, made: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    folder, manifest = request.getfixturevalue(made)
    with np.load(folder / "golden.npz") as stored:
        inputs, wanted = stored["input_0"], stored["output_0"]
    work = tmp_path / "work"
    work.mkdir()
    steps: list[tuple[str, int, int]] = []
    found = bench.evaluate(device, str(folder), manifest, [inputs], work, lambda *told: steps.append(told))
    assert np.array_equal(found[0], wanted)
    assert steps[-1] == ("evaluate on the device", 16, 16)
    assert list((folder / ".evaluate").iterdir()) == [], "nothing stays on the device"


def test_evaluate_in_chunks_is_the_same(
    device: Transport, bundle: tuple[Path, Manifest], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, manifest = bundle
    monkeypatch.setattr(vectors, "CHUNK_BYTES", 7 * 1744)
    with np.load(folder / "golden.npz") as stored:
        inputs, wanted = stored["input_0"], stored["output_0"]
    starts: list[int] = []
    found = bench.evaluate(device, str(folder), manifest, [inputs], tmp_path, lambda _s, done, _t: starts.append(done))
    assert starts == [0, 7, 14, 16]
    assert np.array_equal(found[0], wanted)


def test_evaluate_refuses_inputs_that_do_not_fit(
    device: Transport, bundle: tuple[Path, Manifest], tmp_path: Path
) -> None:
    folder, manifest = bundle
    for wrong in (samples().astype(np.float64), samples()[:, :5], np.zeros((0, *models.CONV_SHAPE), np.float32)):
        with pytest.raises(DatasetError):
            bench.evaluate(device, str(folder), manifest, [wrong], tmp_path)


def test_evaluate_checks_the_contract_before_it_trusts_it(
    device: Transport, bundle: tuple[Path, Manifest], tmp_path: Path
) -> None:
    folder, manifest = bundle
    (folder / "io.json").write_text(json.dumps({"inputs": [], "outputs": []}))
    with pytest.raises(Altered, match=r"io\.json"):
        bench.evaluate(device, str(folder), manifest, [samples()], tmp_path)


def test_a_fixed_batch_is_filled_up_and_cut_again(tmp_path: Path) -> None:
    port = Port(name="x", shape=(4, 2), dtype="int8")
    contract = vectors.Contract(inputs=(port,), outputs=(Port(name="y", shape=(4, 3), dtype="int8"),))
    data = np.arange(20, dtype=np.int8).reshape(10, 2)
    results = vectors.Results(contract, 10, tmp_path)
    for start, stop in ((0, 8), (8, 10)):
        sent = vectors.write_inputs(contract, [data], start, stop, tmp_path / "in.npz")
        assert sent % 4 == 0
        with np.load(tmp_path / "in.npz") as stored:
            tripled = np.repeat(stored["input_0"][:, :1], 3, axis=1)
        np.savez(tmp_path / "out.npz", output_0=tripled)
        results.add(vectors.read_outputs(contract, tmp_path / "out.npz", sent), start, stop)
    assert np.array_equal(results.arrays[0], np.repeat(data[:, :1], 3, axis=1))


def test_probe_tells_what_really_runs_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv("TMPDIR", str(scratch))
    with local.connect(Device(name="here", transport="local")) as transport:
        found: Any = probe.probe(transport)
    assert found["runtimes"]["ai_edge_litert"]["ok"] is True
    assert found["runtimes"]["onnxruntime"]["version"]
    assert found["device"]["memory_total_bytes"] > 1 << 28
    assert found["device"]["cpu"]["cores"] == os.cpu_count()
    assert set(found["sensors"]) == {"hwmon", "pmic", "rapl", "battery"}
    assert list(scratch.glob("edgeq-runner-*")) == []
    json.dumps(found)
