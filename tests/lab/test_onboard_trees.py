"""Conditions, memory and facts of a device, from /proc and /sys trees laid out here, right and wrong ones."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.lab import runner
from edgeq.lab.onboard import conditions, files, firmware, machine, memory, meters

PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))  # before the tests get a home of their own
OLDEST = [path for path in PYTHONS if path.parts[-3].startswith("3.7.")]


def lay(root: Path, tree: dict[str, object]) -> files.Roots:
    """Files with these contents below `root`, and the roots over it: `sys/…` and `proc/…`."""
    for name, content in tree.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else f"{content}\n".encode())
    return files.Roots(str(root / "sys"), str(root / "proc"), str(root / "vcgencmd"))


def program(root: Path, script: str) -> str:
    path = root / "vcgencmd"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


# --- small reads ---


@pytest.mark.parametrize(
    ("content", "number"),
    [(b"12\n", 12), (b"-7", -7), (b" 5 \n", 5), (b"", None), (b"x", None), (b"1.5", None), (b"\xff", None)],
)
def test_integers(tmp_path: Path, content: bytes, number: int | None) -> None:
    (tmp_path / "n").write_bytes(content)
    assert files.integer(tmp_path / "n") == number


def test_what_is_absent_or_a_folder_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent", tmp_path / "absent/deeper"):
        assert files.text(path) is None
        assert files.integer(path) is None
        assert files.fields(path) == {}
    assert files.children(tmp_path / "absent") == []


def test_a_device_tree_string_ends_with_nul(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"Raspberry Pi 5 Model B Rev 1.0\0")
    assert files.text(tmp_path / "model") == "Raspberry Pi 5 Model B Rev 1.0"


def test_an_endless_file_is_not_read_to_its_end() -> None:
    assert len(files.text("/dev/zero") or "") <= files.LIMIT


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("Pss: 12 kB", 12288),
        ("Pss:12 kB", 12288),
        ("Pss:", None),
        ("Pss: kB", None),
        ("Pss: -1 kB", None),
        ("Pss: ² kB", None),
        ("Pss_Anon: 12 kB", None),
        ("Pss 12 kB", None),
    ],
)
def test_fields_in_kib(tmp_path: Path, line: str, found: int | None) -> None:
    (tmp_path / "f").write_text(f"Rss: 99 kB\n{line}\n")
    assert files.kib_field(tmp_path / "f", "Pss") == found


# --- conditions ---

CPU = "sys/devices/system/cpu"


def test_one_governor_on_all_cores_is_named_once(tmp_path: Path) -> None:
    roots = lay(tmp_path, {f"{CPU}/cpu{n}/cpufreq/scaling_governor": "ondemand" for n in range(4)})
    assert conditions.governor(roots) == "ondemand"


def test_folders_beside_the_cores_are_no_cores(tmp_path: Path) -> None:
    tree = {f"{CPU}/{name}/cpufreq/scaling_cur_freq": 1000 for name in ("cpufreq", "cpuidle", "power")}
    assert conditions.frequencies_hz(lay(tmp_path, tree)) == []


def test_clocks_of_big_and_little_cores(tmp_path: Path) -> None:
    clocks = {0: 600_000, 1: 600_000, 4: 2_400_000}
    tree = {f"{CPU}/cpu{n}/cpufreq/scaling_cur_freq": khz for n, khz in clocks.items()}
    tree |= {f"{CPU}/cpu{n}/cpufreq/cpuinfo_max_freq": khz * 2 for n, khz in clocks.items()}
    roots = lay(tmp_path, tree)
    assert conditions.frequencies_hz(roots) == [600_000_000, 600_000_000, 2_400_000_000]
    assert conditions.max_clock_hz(roots) == 4_800_000_000


def zones(**temperatures: object) -> dict[str, object]:
    """Thermal zones by type name and millidegrees."""
    tree: dict[str, object] = {}
    for number, (kind, value) in enumerate(temperatures.items()):
        tree[f"sys/class/thermal/thermal_zone{number}/type"] = kind
        tree[f"sys/class/thermal/thermal_zone{number}/temp"] = value
    return tree


@pytest.mark.parametrize(
    ("tree", "celsius"),
    [
        (zones(cpu_thermal=48_500), 48.5),
        (zones(acpitz=27_800, x86_pkg_temp=61_000), 61.0),
        (zones(soc_thermal=40_000, gpu=80_000), 40.0),
        (zones(battery=30_000, wifi=35_000), 35.0),
        (zones(cpu0=40_000, cpu1=45_000), 45.0),
        (zones(cpu_thermal=-5_000), -5.0),
        (zones(cpu_thermal=""), None),
        (zones(cpu_thermal="", acpitz=30_000), 30.0),
        (zones(cpu_thermal=-274_000), None),
        (zones(cpu_thermal=999_999_999, gpu=50_000), 50.0),
        ({}, None),
    ],
)
def test_the_processors_sensor_goes_first(tmp_path: Path, tree: dict[str, object], celsius: float | None) -> None:
    assert conditions.temperature_c(lay(tmp_path, tree)) == celsius


@pytest.mark.parametrize(("chip", "celsius"), [("coretemp", 55.0), ("k10temp", 55.0), ("nvme", None)])
def test_x86_chips_without_a_zone(tmp_path: Path, chip: str, celsius: float | None) -> None:
    folder = "sys/class/hwmon/hwmon2"
    roots = lay(tmp_path, {f"{folder}/name": chip, f"{folder}/temp1_input": 52_000, f"{folder}/temp2_input": 55_000})
    assert conditions.temperature_c(roots) == celsius


@pytest.mark.parametrize(
    ("text", "value"),
    [("0.52 0.58 0.59 1/977 12345", 0.52), ("", None), ("x", None), ("nan 1 1", None), ("inf 1 1", None)],
)
def test_load(tmp_path: Path, text: str, value: float | None) -> None:
    assert conditions.load(lay(tmp_path, {"proc/loadavg": text})) == value


ANY_FILE = st.one_of(st.binary(max_size=40), st.integers().map(lambda n: str(n).encode()), st.just(b"nan"))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(content=ANY_FILE)
def test_any_content_gives_json_without_a_word(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever a strange kernel says, the event can be written: no exception, no NaN."""
    names = [
        *(f"{CPU}/cpu0/cpufreq/{name}" for name in ("scaling_governor", "scaling_cur_freq", "cpuinfo_max_freq")),
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count",
        *(f"sys/class/thermal/thermal_zone0/{name}" for name in ("type", "temp")),
        *(f"proc/{name}" for name in ("loadavg", "meminfo", "cpuinfo", "self/status", "self/cgroup")),
        "proc/self/smaps_rollup",
        "proc/device-tree/model",
        *(f"sys/class/hwmon/hwmon0/{name}" for name in ("power1_input", "temp1_input")),
        *(f"sys/class/powercap/intel-rapl:0/{name}" for name in ("energy_uj", "max_energy_range_uj")),
        *(f"sys/class/power_supply/BAT0/{name}" for name in ("status", "power_now", "scope")),
    ]
    tree: dict[str, object] = dict.fromkeys(names, content)
    tree |= {"sys/class/hwmon/hwmon0/name": "ina219", "sys/class/powercap/intel-rapl:0/name": "package-0"}
    roots = lay(tmp_path_factory.getbasetemp() / "any", {**tree, "sys/class/power_supply/BAT0/type": "Battery"})
    told = [conditions.read(roots), machine.describe(roots), memory.read(roots), meters.survey(roots)]
    json.dumps(told, allow_nan=False)


# --- firmware ---


@pytest.mark.parametrize(
    ("answer", "bits"),
    [
        ("throttled=0x0", 0),
        ("throttled=0xE0008", 0xE0008),
        ("throttled=0xffffffff", 0xFFFFFFFF),
        ("throttled=0x123456789", None),
        ("throttled=5", None),
        ("VCHI initialization failed", None),
        ("", None),
    ],
)
def test_throttled_bits_are_hex(tmp_path: Path, answer: str, bits: int | None) -> None:
    assert firmware.throttled_bits(program(tmp_path, f"echo '{answer}'")) == bits


def test_a_vcgencmd_that_fails_says_nothing(tmp_path: Path) -> None:
    assert firmware.ask(program(tmp_path, "echo throttled=0x1; exit 255"), "get_throttled") is None
    assert firmware.ask(str(tmp_path), "get_throttled") is None
    (tmp_path / "vcgencmd").chmod(0o644)
    assert firmware.ask(str(tmp_path / "vcgencmd"), "get_throttled") is None


def test_a_vcgencmd_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firmware, "TIMEOUT_SECONDS", 0.2)
    assert firmware.ask(program(tmp_path, "exec sleep 30"), "get_throttled") is None


@pytest.mark.parametrize(
    ("lines", "rails"),
    [
        ("A_A current(0)=0.5A\nA_V volt(1)=2.0V", {"A": 1000.0}),
        ("A_A current(0)=0.5A\nB_V volt(1)=2.0V", {}),
        ("A_V volt(1)=2.0V", {}),
        ("A_A current(0)=-0.5A\nA_V volt(1)=2.0V", {"A": -1000.0}),
        ("A_B_A current(0)=1A\nA_B_V volt(1)=1V\nnoise\nC_A current=1A", {"A_B": 1000.0}),
        ("A_A current(x)=1A\nA_V volt(1)=1V", {}),
    ],
)
def test_rails_pair_current_and_voltage(tmp_path: Path, lines: str, rails: dict[str, float]) -> None:
    assert firmware.rails(program(tmp_path, f"cat <<'END'\n{lines}\nEND")) == rails


@pytest.mark.parametrize("word", ["nan", "inf", "1e999", "x", "--"])
def test_a_rail_that_is_no_number_is_not_finite(tmp_path: Path, word: str) -> None:
    told = program(tmp_path, f"echo 'A_A current(0)={word}A'; echo 'A_V volt(1)=1.0V'")
    assert not abs(firmware.rails(told)["A"]) < float("inf")


# --- memory ---


def test_the_high_water_mark_wins_over_getrusage(tmp_path: Path) -> None:
    assert memory.peak_rss_bytes(lay(tmp_path, {"proc/self/status": "VmHWM:\t 7 kB"})) == 7168
    here = memory.peak_rss_bytes(lay(tmp_path, {"proc/self/status": "VmRSS:\t 7 kB"}))
    assert 1 << 22 < here < 1 << 40


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ("0::/", "root control group"),
        ("12:memory:/x\n1:cpu:/x", "no version 2"),
        ("", "no version 2"),
        ("0::/gone", "no memory.peak"),
        ("11:memory:/legacy\n0::/gone", "no memory.peak"),
    ],
)
def test_every_missing_peak_has_a_reason(tmp_path: Path, lines: str, told: str) -> None:
    values, reasons = memory.read(lay(tmp_path, {"proc/self/cgroup": lines}))
    assert values["cgroup_peak"] is None
    assert told in reasons["cgroup_peak"]
    assert "smaps_rollup" in reasons["pss"]
    assert [name for name, value in values.items() if value is None] == sorted(reasons, reverse=True)


@pytest.mark.parametrize("group", ["user.slice/a b.scope", "system.slice/docker-0:1.scope", "a/b/c"])
def test_the_groups_own_peak_is_read(tmp_path: Path, group: str) -> None:
    tree = {"proc/self/cgroup": f"1:name=systemd:/x\n0::/{group}", f"sys/fs/cgroup/{group}/memory.peak": 4096}
    assert memory.cgroup_peak(lay(tmp_path, dict(tree))) == (4096, None)


def test_an_unlimited_peak_is_no_number(tmp_path: Path) -> None:
    roots = lay(tmp_path, {"proc/self/cgroup": "0::/x", "sys/fs/cgroup/x/memory.peak": "max"})
    assert memory.cgroup_peak(roots)[0] is None


# --- machine ---


@pytest.mark.parametrize(
    ("lines", "model"),
    [
        ("model name\t: Intel(R) N100\nflags\t: fpu avx2", "Intel(R) N100"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xD08", "Cortex-A72"),
        ("CPU implementer\t: 0x41\nCPU part\t: 0xfff", "0xfff"),
        ("CPU implementer\t: 0x51\nCPU part\t: 0x804", "0x804"),
        ("Hardware\t: BCM2835", "BCM2835"),
        ("", None),
    ],
)
def test_processor_names(tmp_path: Path, lines: str, model: str | None) -> None:
    found: Any = machine.cpu(lay(tmp_path, {"proc/cpuinfo": lines}))
    assert found["model"] == model
    assert found["cores"] >= 1


def test_facts_of_a_raspberry(tmp_path: Path) -> None:
    tree = {
        "proc/device-tree/model": b"Raspberry Pi 4 Model B Rev 1.5\0",
        "proc/meminfo": "MemTotal:        3884396 kB\nMemAvailable:    3421288 kB",
        "proc/cpuinfo": "Features\t: half thumb neon vfpv4\nCPU implementer\t: 0x41\nCPU part\t: 0xd08",
        f"{CPU}/cpu0/cpufreq/cpuinfo_max_freq": 1_800_000,
    }
    found: Any = machine.describe(lay(tmp_path, dict(tree)))
    assert found["board"] == "Raspberry Pi 4 Model B Rev 1.5"
    assert found["memory_total_bytes"] == 3884396 * 1024
    assert found["cpu"]["features"] == ["half", "neon", "thumb", "vfpv4"]
    assert found["cpu"]["max_clock_hz"] == 1_800_000_000
    assert found["pip"] in ("venv", "system", "managed", "none")
    assert found["disk_free_bytes"] > 0


# --- the same in Python 3.7 ---


@pytest.mark.skipif(not OLDEST, reason="no Python 3.7 is installed here (looked in ~/.pyenv)")
def test_python_37_reads_the_same(tmp_path: Path) -> None:
    supply = "sys/class/power_supply/BAT0"
    tree: dict[str, object] = {
        **zones(cpu_thermal=48_500),
        f"{CPU}/cpu0/cpufreq/scaling_governor": "ondemand",
        f"{CPU}/cpu0/thermal_throttle/core_throttle_count": 3,
        "proc/loadavg": "0.5 1 1",
        "proc/meminfo": "MemTotal: 8 kB\nMemAvailable: 4 kB",
        "proc/cpuinfo": "CPU implementer\t: 0x41\nCPU part\t: 0xd0b",
        f"{supply}/type": "Battery",
        f"{supply}/status": "Discharging",
        f"{supply}/power_now": -2_000_000,
        "sys/class/powercap/intel-rapl:0/name": "package-0",
        "sys/class/powercap/intel-rapl:0/energy_uj": 5,
    }
    roots = lay(tmp_path, tree)
    told = program(tmp_path, "[ $1 = get_throttled ] && echo throttled=0x50005")
    words = ["probe", "--runtime", "onnxruntime", "--sysfs", str(roots.sys), "--proc", str(roots.proc)]
    argv = [str(OLDEST[0]), "-I", str(runner.FOLDER / "__main__.py"), *words, "--vcgencmd", told]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=60)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["conditions"] == conditions.read(roots)
    assert answer["sensors"] == meters.survey(roots)
    assert answer["device"]["cpu"] == machine.cpu(roots)
    assert answer["device"]["python"].startswith("3.7.")
