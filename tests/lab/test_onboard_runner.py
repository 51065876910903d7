"""The runner as a process: its verbs, its signals, old Pythons, its parity arithmetic."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.lab import runner
from edgeq.lab.onboard import conditions, files, machine, memory, parity, timing
from edgeq.testing import known_answer, models
from edgeq.testing.bundles import make_bundle

MAIN = runner.FOLDER / "__main__.py"
PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))  # before the tests get a home of their own
OLD = [path for path in PYTHONS if path.parts[-3].split(".")[1] in ("7", "8", "13")]


def start(*words: object, python: object = sys.executable, **how: Any) -> subprocess.Popen[bytes]:
    argv = [str(python), "-I", str(MAIN), *map(str, words)]
    return subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)


def ran(*words: object, python: object = sys.executable, **how: Any) -> tuple[int, list[dict[str, Any]]]:
    with start(*words, python=python, **how) as child:
        output, _ = child.communicate(timeout=60)
    return child.returncode, [json.loads(line) for line in output.splitlines()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 16)
    make_bundle(models.conv_tflite(tmp_path), tmp_path / "bundle", [x])
    return tmp_path / "bundle"


def test_known_answer_is_what_its_generator_makes() -> None:
    assert known_answer.TARGET.read_text() == known_answer.source() or _same_values()


def _same_values() -> bool:
    from edgeq.lab.onboard import known_answer as carried

    made = (known_answer.tflite_model(), known_answer.onnx_model(), known_answer.ANSWER.tolist())
    return made == (carried.TFLITE, carried.ONNX, carried.ANSWER)


@pytest.mark.skipif(not OLD, reason="no other Python is installed here (looked in ~/.pyenv)")
@pytest.mark.parametrize("python", OLD, ids=lambda path: path.parts[-3])
def test_other_pythons_without_numpy(python: Path, folder: Path, tmp_path: Path) -> None:
    status, events = ran("probe", "--runtime", "ai_edge_litert", python=python)
    assert status == 0
    assert events[-1]["runtimes"]["ai_edge_litert"]["ok"] is False
    assert events[-1]["device"]["python"].startswith(python.parts[-3].rsplit(".", 1)[0])
    status, events = ran("bench", "--bundle", folder, python=python)
    assert status == 1
    assert events[-1]["kind"] == "runtime-missing"
    chip = tmp_path / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina219")
    (chip / "power1_input").write_text("1500000")
    status, events = ran("sample", "--seconds", 0.2, "--sysfs", tmp_path / "sys", python=python)
    assert status == 0
    assert {value for _, value in events[-1]["readings"]} == {1500.0}


def test_sources_keep_to_python_37() -> None:
    import ast

    for path in runner.files():
        ast.parse(path.read_text(), feature_version=(3, 7))
        assert "import edgeq" not in path.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_signals_end_it_cleanly(folder: Path, number: signal.Signals) -> None:
    settings = json.dumps({"seconds": 60})
    with start("bench", "--bundle", folder, "--settings", settings) as child:
        assert child.stdout
        child.stdout.readline()
        child.send_signal(number)
        _, errors = child.communicate(timeout=10)
    assert child.returncode == 128 + number
    assert b"Traceback" not in errors


def test_a_dead_stdout_ends_it(folder: Path) -> None:
    with start("bench", "--bundle", folder, "--settings", json.dumps({"seconds": 60})) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(10) == 128 + signal.SIGPIPE
        assert b"Traceback" not in child.stderr.read()


def test_evaluate_stopped_in_the_middle_leaves_no_output(folder: Path, tmp_path: Path) -> None:
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 50_000)
    np.savez(tmp_path / "in.npz", input_0=x)
    with start(
        "evaluate", "--bundle", folder, "--inputs", tmp_path / "in.npz", "--outputs", tmp_path / "out.npz"
    ) as child:
        assert child.stdout
        child.stdout.readline()
        child.terminate()
        child.communicate(timeout=10)
    assert child.returncode == 128 + signal.SIGTERM
    assert sorted(path.name for path in tmp_path.glob("*out*")) == []


def test_the_sampler_dies_with_its_parent(folder: Path, tmp_path: Path) -> None:
    """Killed outright, the runner cannot tell its sampler; the pipe between them does."""
    chip = tmp_path / "sys/class/hwmon/hwmon0"
    chip.mkdir(parents=True)
    (chip / "name").write_text("ina219")
    (chip / "power1_input").write_text("1500000")
    words = ["bench", "--bundle", folder, "--settings", json.dumps({"seconds": 60}), "--sysfs", tmp_path / "sys"]
    with start(*words) as child:
        assert child.stdout
        child.stdout.readline()
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        assert children
        child.kill()
        child.communicate(timeout=10)
    deadline = time.monotonic() + 5
    while any(_alive(pid) for pid in children) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(_alive(pid) for pid in children)


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("words", [["bench"], ["dance"], [], ["bench", "--bundle", ".", "--settings", "[1]"]])
def test_wrong_words_are_usage_errors(words: list[str]) -> None:
    assert ran(*words)[0] == 2


def test_a_broken_package_in_the_users_folder_is_named(tmp_path: Path) -> None:
    """`pip install --user` puts packages where -I does not look; the runner does, and finds this one broken."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    package = tmp_path / "lib" / version / "site-packages/tflite_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("__version__ = '2.14.0'\n")
    (package / "interpreter.py").write_text(
        "class Interpreter:\n    def __init__(self, **_):\n        raise SystemError('initialization failed')\n"
    )
    environment = {**os.environ, "PYTHONUSERBASE": str(tmp_path)}
    status, events = ran("probe", "--runtime", "tflite_runtime", env=environment)
    assert status == 0
    found = events[-1]["runtimes"]["tflite_runtime"]
    assert found == {"version": "2.14.0", "ok": False, "why": "SystemError: initialization failed"}


def test_a_crashing_package_is_named_with_its_signal(tmp_path: Path) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    package = tmp_path / "lib" / version / "site-packages/tflite_runtime"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    _, events = ran("probe", "--runtime", "tflite_runtime", env={**os.environ, "PYTHONUSERBASE": str(tmp_path)})
    assert events[-1]["runtimes"]["tflite_runtime"]["why"] == "killed by SIGILL"


# --- parity ---


def test_equal_bits_are_exact() -> None:
    array = np.array([1, -2], np.int8)
    assert parity.compare(array, array.copy(), 1.0) == (0.0, True, 0)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "int32", "int64", "bool"])
def test_integers_count_in_steps(dtype: str) -> None:
    have, want = np.array([0, 1], dtype), np.array([1, 1], dtype)
    assert parity.compare(have, want, 1.0) == (1.0, False, 0)


def test_the_ends_of_a_type_do_not_wrap() -> None:
    for dtype in (np.int8, np.uint8, np.int16):
        limits = np.iinfo(dtype)
        ends = np.array([limits.min], dtype), np.array([limits.max], dtype)
        assert parity.compare(*ends, 1.0)[0] == float(limits.max) - float(limits.min)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_no_number_counts_as_broken(value: float) -> None:
    good = np.array([1.0, 2.0], np.float32)
    assert parity.compare(np.array([value, 2.0], np.float32), good, 1.0) == (0.0, False, 1)
    assert parity.compare(good, np.array([value, 2.0], np.float32), 1.0)[2] == 1


def test_nan_on_both_sides_is_still_broken() -> None:
    array = np.array([np.nan], np.float32)
    assert parity.compare(array, array.copy(), 1.0)[2] == 1


def test_another_shape_or_dtype_is_broken() -> None:
    want = np.zeros((1, 4), np.int8)
    assert parity.compare(np.zeros((1, 5), np.int8), want, 1.0)[2] > 0
    assert parity.compare(np.zeros((1, 4), np.uint8), want, 1.0)[2] > 0


@given(st.lists(st.integers(-128, 127), min_size=1, max_size=20), st.integers(-100, 100))
def test_one_changed_value_is_its_difference(values: list[int], change: int) -> None:
    want = np.array(values, np.int8)
    have = want.copy()
    have[0] = np.clip(values[0] + change, -128, 127)
    steps, exact, broken = parity.compare(have, want, 1.0)
    assert (steps, broken) == (abs(int(have[0]) - values[0]), 0)
    assert exact is (steps == 0)


# --- small readings ---


def test_conditions_of_a_laid_out_tree(tmp_path: Path) -> None:
    for name, text in {
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_governor": "performance\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq": "nonsense\n",
        "sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count": "3\n",
        "sys/devices/system/cpu/cpu0/thermal_throttle/package_throttle_count": "4\n",
        "sys/class/thermal/thermal_zone0/type": "battery\n",
        "sys/class/thermal/thermal_zone0/temp": "90000\n",
        "sys/class/thermal/thermal_zone1/type": "x86_pkg_temp\n",
        "sys/class/thermal/thermal_zone1/temp": "45000\n",
        "proc/loadavg": "0.52 0.58 0.59 1/977 12345\n",
        "proc/meminfo": "MemTotal:  1000 kB\nMemAvailable:     500 kB\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = conditions.read(files.Roots(str(tmp_path / "sys"), str(tmp_path / "proc"), "/nonexistent"))
    assert found == {
        "governor": "performance,schedutil",
        "frequency_hz": [600_000_000],
        "temperature_c": 45.0,
        "load_1min": 0.52,
        "memory_available_bytes": 512_000,
        "throttled_bits": None,
        "throttle_count": 7,
    }


def test_nothing_laid_out_is_none_everywhere(tmp_path: Path) -> None:
    found = conditions.read(files.Roots(str(tmp_path), str(tmp_path), "/nonexistent"))
    assert [value for value in found.values() if value] == []


def test_an_arm_core_is_named_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(
        "processor\t: 0\nFeatures\t: fp asimd asimddp\nCPU implementer\t: 0x41\nCPU part\t: 0xd0b\n"
    )
    found = machine.cpu(files.Roots(str(tmp_path), str(tmp_path)))
    assert found["model"] == "Cortex-A76"
    assert found["features"] == ["asimd", "asimddp", "fp"]


def test_memory_of_a_laid_out_tree(tmp_path: Path) -> None:
    for name, text in {
        "self/status": "VmPeak:\t9 kB\nVmHWM:\t   2048 kB\n",
        "self/smaps_rollup": "55d-7ff ---p 00000000 00:00 0 [rollup]\nRss: 4 kB\nPss:   1024 kB\n",
        "self/cgroup": "0::/user.slice/x.scope\n",
        "fs/cgroup/user.slice/x.scope/memory.peak": "123456\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    values, reasons = memory.read(files.Roots(str(tmp_path), str(tmp_path)))
    assert values == {"peak_rss": 2 << 20, "pss": 1 << 20, "cgroup_peak": 123456}
    assert reasons == {}


@given(st.integers(1, 500), st.integers(2, 20).map(lambda half: 2 * half))
def test_kept_samples_are_spread_evenly(count: int, limit: int) -> None:
    samples = timing.Samples(limit)
    for number in range(count):
        samples.add(number)
    assert len(samples.values_ns) < limit
    assert samples.total == count
    assert samples.values_ns == list(range(0, count, samples.stride))[: len(samples.values_ns)]
    assert samples.values_ns[-1] >= count - samples.stride
