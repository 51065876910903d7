"""Power sources on laid-out trees beyond the usual ones, and the life of the process that samples them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.lab import runner
from edgeq.lab.onboard import files, meters, power_ina, sampler
from edgeq.testing.sysfs import lay

MAIN = runner.FOLDER / "__main__.py"
PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))  # before the tests get a home of their own
RUNNING = [Path(sys.executable), *(path for path in PYTHONS if path.parts[-3].startswith("3.7."))]


@pytest.fixture
def roots(tmp_path: Path) -> files.Roots:
    return files.Roots(str(tmp_path / "sys"), str(tmp_path / "proc"), str(tmp_path / "no-vcgencmd"))


# --- hwmon ---


@pytest.mark.parametrize("name", power_ina.POWER_CHIPS)
def test_every_power_chip_is_known(roots: files.Roots, name: str) -> None:
    lay(roots.sys, "class/hwmon/hwmon5", name=name, power1_input=1_234_000)
    assert meters.find("hwmon", roots).read() == 1234.0


@pytest.mark.parametrize("name", ["ina", "ina21", "ina2191", "INA219", "coretemp", "", "ina219x"])
def test_names_that_only_look_like_it_are_not(roots: files.Roots, name: str) -> None:
    lay(roots.sys, "class/hwmon/hwmon5", name=name, power1_input=1, curr1_input=1, in1_input=1)
    with pytest.raises(meters.Absent, match="no INA sensor"):
        meters.find("hwmon", roots)


def test_several_chips_add_up_and_are_all_named(roots: files.Roots) -> None:
    lay(roots.sys, "class/hwmon/hwmon1", name="ina219", power1_input=1_000_000, power1_label="cpu")
    lay(roots.sys, "class/hwmon/hwmon10", name="ina226", power1_input=2_000_000)
    lay(roots.sys, "class/hwmon/hwmon2", name="ina3221", in1_label="disk", in1_input=5000, curr1_input=-100)
    source = meters.find("hwmon", roots)
    assert source.read() == 1000 + 2000 - 500
    assert sorted(source.describe.split(" + ")) == ["disk", "ina219 cpu", "ina226"]


@pytest.mark.parametrize("label", power_ina.TOTAL_RAILS)
def test_the_rail_of_everything_stands_alone(roots: files.Roots, label: str) -> None:
    chip = {"in1_label": "VDD_GPU", "in1_input": 5000, "curr1_input": 100}
    lay(roots.sys, "class/hwmon/hwmon1", name="ina3221", **chip)
    lay(roots.sys, "class/hwmon/hwmon2", name="ina3221", in3_label=label.lower(), in3_input=19_000, curr3_input=500)
    source = meters.find("hwmon", roots)
    assert (source.read(), source.describe) == (9500.0, label.lower())


def test_rails_within_others_are_left_out(roots: files.Roots) -> None:
    lay(
        roots.sys,
        "class/hwmon/hwmon1",
        name="ina3221",
        in1_label="VDD_GPU_SOC",
        in1_input=5000,
        curr1_input=100,
        in2_label="NC",
        in2_input=0,
        curr2_input=0,
        in3_label="VDDQ_VDD2_1V8AO",
        in3_input=5000,
        curr3_input=20,
    )
    assert meters.find("hwmon", roots).describe == "VDD_GPU_SOC"


def test_a_board_with_contained_rails_only_tells_those(roots: files.Roots) -> None:
    lay(roots.sys, "class/hwmon/hwmon1", name="ina3221", in1_label="NC", in1_input=5000, curr1_input=2)
    assert meters.find("hwmon", roots).read() == 10.0


def test_channels_without_labels_have_numbers(roots: files.Roots) -> None:
    lay(roots.sys, "class/hwmon/hwmon1", name="ina3221", in2_input=5000, curr2_input=2)
    assert meters.find("hwmon", roots).describe == "ina3221 channel 2"


def test_a_total_rail_that_is_dead_does_not_hide_the_others(roots: files.Roots) -> None:
    lay(roots.sys, "class/hwmon/hwmon1", name="ina3221", in1_label="VDD_IN", in1_input="", curr1_input=2)
    lay(roots.sys, "class/hwmon/hwmon2", name="ina219", power1_input=5000)
    assert meters.find("hwmon", roots).describe == "ina219"


@given(st.lists(st.tuples(st.integers(0, 26_000), st.integers(-16_000, 16_000)), min_size=1, max_size=3))
def test_signed_channels_sum(tmp_path_factory: pytest.TempPathFactory, channels: list[tuple[int, int]]) -> None:
    root = tmp_path_factory.mktemp("ina")
    values: dict[str, object] = {"name": "ina3221"}
    for number, (millivolts, milliamperes) in enumerate(channels, 1):
        values |= {f"in{number}_input": millivolts, f"curr{number}_input": milliamperes}
    lay(root, "class/hwmon/hwmon0", **values)
    found = meters.find("hwmon", files.Roots(str(root))).read()
    assert found == pytest.approx(sum(v * a for v, a in channels) / 1000)


def test_a_sensor_that_dies_later_is_a_missing_reading(roots: files.Roots) -> None:
    chip = lay(roots.sys, "class/hwmon/hwmon1", name="ina219", power1_input=5000)
    source = meters.find("hwmon", roots)
    (chip / "power1_input").unlink()
    with pytest.raises(OSError, match="No such file"):
        source.read()
    (chip / "power1_input").write_text("garbage")
    with pytest.raises(ValueError, match="invalid literal"):
        source.read()


# --- RAPL ---


def test_two_packages_and_their_memory_without_their_parts(roots: files.Roots) -> None:
    names = {"0": "package-0", "0:0": "core", "0:1": "uncore", "0:2": "dram", "1": "package-1-die-1", "1:0": "dram"}
    zones = {
        number: lay(roots.sys, f"class/powercap/intel-rapl:{number}", name=name, energy_uj=0, max_energy_range_uj=10**9)
        for number, name in names.items()
    }
    lay(roots.sys, "class/powercap/intel-rapl", enabled=1)
    source = meters.find("rapl", roots)
    assert source.describe == "package-0 + dram + package-1-die-1 + dram"
    for power, zone in enumerate(zones.values()):
        (zone / "energy_uj").write_text(str(10**power * 1000))
    assert source.read() == pytest.approx(1 + 1000 + 10_000 + 100_000)


def test_packages_wrap_each_for_itself(roots: files.Roots) -> None:
    zones = [
        lay(roots.sys, f"class/powercap/intel-rapl:{n}", name=f"package-{n}", energy_uj=900, max_energy_range_uj=1000)
        for n in range(2)
    ]
    source = meters.find("rapl", roots)
    (zones[0] / "energy_uj").write_text("100")
    assert source.read() == pytest.approx(0.2)
    (zones[1] / "energy_uj").write_text("950")
    assert source.read() == pytest.approx(0.25)


def test_only_parts_are_no_package(roots: files.Roots) -> None:
    lay(roots.sys, "class/powercap/intel-rapl:0:0", name="core", energy_uj=1)
    lay(roots.sys, "class/powercap/intel-rapl:1", name="psys", energy_uj=1)
    with pytest.raises(meters.Absent, match="no RAPL package"):
        meters.find("rapl", roots)


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_rapl_for_root_only_is_said_so(roots: files.Roots) -> None:
    zone = lay(roots.sys, "class/powercap/intel-rapl:0", name="package-0", energy_uj=1)
    (zone / "energy_uj").chmod(0)
    with pytest.raises(meters.Absent, match="only root"):
        meters.find("rapl", roots)


# --- batteries ---


def battery(roots: files.Roots, name: str = "BAT0", **values: object) -> Path:
    return lay(roots.sys, f"class/power_supply/{name}", **{"type": "Battery", "status": "Discharging", **values})


@pytest.mark.parametrize(
    ("values", "milliwatts"),
    [
        ({"power_now": 1_500_000}, 1500.0),
        ({"power_now": -1_500_000}, 1500.0),
        ({"current_now": 100_000, "voltage_now": 3_700_000}, 370.0),
        ({"current_now": -100_000, "voltage_now": 3_700_000}, 370.0),
        ({"power_now": 1_500_000, "current_now": 1, "voltage_now": 1}, 1500.0),
        ({"power_now": 0}, 0.0),
    ],
)
def test_power_goes_before_current(roots: files.Roots, values: dict[str, int], milliwatts: float) -> None:
    battery(roots, **values)
    assert meters.find("battery", roots).read() == pytest.approx(milliwatts)


def test_two_batteries_of_which_one_drains(roots: files.Roots) -> None:
    battery(roots, "BAT0", status="Full", power_now=9_000_000)
    battery(roots, "BAT1", power_now=2_000_000)
    source = meters.find("battery", roots)
    assert (source.describe, source.read()) == ("BAT1", 2000.0)
    battery(roots, "BAT0", power_now=1_000_000)
    assert meters.find("battery", roots).read() == 3000.0


@pytest.mark.parametrize("values", [{}, {"current_now": 5}, {"voltage_now": 5}, {"power_now": "x"}])
def test_a_battery_without_numbers(roots: files.Roots, values: dict[str, object]) -> None:
    battery(roots, **values)
    with pytest.raises(meters.Absent, match="neither power nor current"):
        meters.find("battery", roots)


# --- sampling ---


def steady(value: float = 1.0) -> meters.Source:
    return meters.Source("hwmon", "test", lambda: value)


def counted(times: int) -> Any:
    calls = iter(range(10**9))
    return lambda _wait: next(calls) >= times - 1


def test_times_ascend_and_are_of_the_monotonic_clock() -> None:
    before = time.monotonic_ns()
    found, missing = sampler.sample(steady(2.5), 10, counted(200))
    assert missing == 0
    assert len(found) == 200
    times = [at for at, _value in found]
    assert before <= times[0]
    assert times == sorted(times)
    assert times[-1] <= time.monotonic_ns()
    assert {value for _at, value in found} == {2.5}


def test_the_rate_is_kept() -> None:
    start = time.monotonic()

    def ended(wait_seconds: float) -> bool:
        time.sleep(wait_seconds)
        return False

    found, _ = sampler.sample(steady(), 0.5, ended, rate_hz=100)
    assert 0.45 <= time.monotonic() - start < 5
    assert 10 <= len(found) <= 65  # 50 on average, 2 of spread


def test_a_source_that_hung_does_not_catch_up_in_a_burst() -> None:
    """Readings in a burst after a pause would weigh nothing and fill the list."""
    waits: list[float] = []

    def read() -> float:
        time.sleep(0.0 if waits else 0.3)
        return 1.0

    def ended(wait_seconds: float) -> bool:
        waits.append(wait_seconds)
        time.sleep(wait_seconds)
        return len(waits) > 10

    sampler.sample(meters.Source("hwmon", "slow", read), 10, ended, rate_hz=100)
    assert sum(wait > 0.003 for wait in waits[1:]) >= 5


def test_one_bad_reading_among_good_ones_is_counted() -> None:
    values = iter([1.0, None, 3.0])

    def read() -> float:
        value = next(values)
        if value is None:
            raise ValueError("no number")
        return value

    found, missing = sampler.sample(meters.Source("hwmon", "test", read), 10, counted(3))
    assert ([value for _, value in found], missing) == ([1.0, 3.0], 1)


@pytest.fixture
def ina(roots: files.Roots) -> Path:
    return lay(roots.sys, "class/hwmon/hwmon0", name="ina219", power1_input=1_500_000)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def gone(pid: int, seconds: float = 5) -> bool:
    deadline = time.monotonic() + seconds
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(pid)


@pytest.mark.usefixtures("ina")
def test_a_sampling_gives_its_trace_and_ends(roots: files.Roots) -> None:
    sampling = sampler.Sampling("hwmon", roots)
    assert sampling.wait() == {
        "event": "started",
        "source": "hwmon",
        "what": "ina219",
        "counts": False,
    }
    pid = sampling._child.pid
    assert alive(pid)
    time.sleep(0.3)
    told = sampling.stop()
    assert (told["event"], told["source"], told["missing"]) == ("result", "hwmon", 0)
    assert 3 <= len(told["readings"]) <= 60
    assert gone(pid, 0.1)
    sampling.close()


@pytest.mark.usefixtures("ina")
def test_a_sampling_that_is_closed_ends_at_once(roots: files.Roots) -> None:
    sampling = sampler.Sampling("hwmon", roots)
    sampling.close()
    assert sampling._child.returncode == -signal.SIGKILL
    sampling.close()


@pytest.mark.usefixtures("ina")
def test_a_sampler_that_was_killed_gives_no_trace(roots: files.Roots) -> None:
    sampling = sampler.Sampling("hwmon", roots)
    sampling._child.kill()
    sampling._child.wait()
    assert not sampling.stop().get("readings")


def test_a_source_that_is_not_there_is_absent_with_its_reason(roots: files.Roots) -> None:
    with pytest.raises(meters.Absent, match="no INA sensor"):
        sampler.Sampling("hwmon", roots).wait()


@pytest.mark.usefixtures("ina")
def test_a_sampler_keeps_to_its_core(roots: files.Roots) -> None:
    core = max(os.sched_getaffinity(0))
    sampling = sampler.Sampling("hwmon", roots, (core,))
    try:
        sampling.wait()
        assert os.sched_getaffinity(sampling._child.pid) == {core}
    finally:
        sampling.close()
    with pytest.raises(meters.Absent, match="cannot run on cores 4000"):
        sampler.Sampling("hwmon", roots, (4000,)).wait()


@contextlib.contextmanager
def sampling_for(roots: files.Roots, python: Path, *words: str, **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    argv = [str(python), "-I", str(MAIN), "sample", "--sysfs", str(roots.sys), "--vcgencmd", roots.vcgencmd, *words]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **how)
    try:
        yield child
    finally:
        child.kill()
        child.communicate(timeout=10)


@pytest.mark.parametrize("python", RUNNING, ids=str)
@pytest.mark.usefixtures("ina")
def test_a_sampler_dies_with_whoever_held_its_pipe(roots: files.Roots, python: Path) -> None:
    with sampling_for(roots, python, "--until-eof") as child:
        assert child.stdin
        assert child.stdout
        assert json.loads(child.stdout.readline())["event"] == "started"
        time.sleep(0.1)
        assert child.poll() is None
        child.stdin.close()
        assert json.loads(child.stdout.readline())["event"] == "result"
        assert child.wait(5) == 0
        child.stdin = None


@pytest.mark.parametrize("python", RUNNING, ids=str)
@pytest.mark.usefixtures("ina")
def test_a_stop_file_ends_it_and_goes_too(roots: files.Roots, python: Path, tmp_path: Path) -> None:
    with sampling_for(roots, python, "--seconds", "60", env={**os.environ, "TMPDIR": str(tmp_path)}) as child:
        assert child.stdout
        told = json.loads(child.stdout.readline())
        stop = Path(told["stop_file"])
        assert stop.parent.parent == tmp_path
        assert stop.parent.stat().st_mode & 0o077 == 0
        stop.touch()
        lines = child.communicate(timeout=10)[0].splitlines()
    assert json.loads(lines[-1])["event"] == "result"
    assert not stop.parent.exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.usefixtures("ina")
def test_a_signal_takes_its_folder_along(roots: files.Roots, number: signal.Signals, tmp_path: Path) -> None:
    python = Path(sys.executable)
    with sampling_for(roots, python, "--seconds", "60", env={**os.environ, "TMPDIR": str(tmp_path)}) as child:
        assert child.stdout
        stop = Path(json.loads(child.stdout.readline())["stop_file"])
        child.send_signal(number)
        assert child.wait(5) == 128 + number
    assert not stop.parent.exists()


@pytest.mark.usefixtures("ina")
def test_the_runners_own_cores_are_not_the_samplers(roots: files.Roots) -> None:
    """Within the cores that this process may use: others would be refused in a container."""
    from edgeq.lab.onboard import bench

    allowed, unavailable = os.sched_getaffinity(0), {}
    core = min(allowed)
    found, source = bench.start_sampling(roots, {"cpus": [core], "meter": "hwmon"}, allowed, unavailable)
    assert source is not None, unavailable
    try:
        found.wait()
        assert os.sched_getaffinity(found._child.pid) == ((allowed - {core}) or allowed)
    finally:
        found.close()
    alone, source = bench.start_sampling(roots, {"cpus": [core], "meter": "hwmon"}, {core}, unavailable)
    assert source is not None, unavailable
    alone.close()
    looking, source = bench.start_sampling(roots, {"cpus": [], "meter": "pmic"}, allowed, unavailable)
    assert source is None, "no power source, but the state is watched all the same"
    looking.wait()
    assert looking.stop()["watched"]
    assert "pmic_read_adc" in unavailable["energy_mj"]
