"""The onboard readers of power sensors, on /sys trees laid out here with known values."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.lab.onboard import energy, files, firmware, meters, power_rapl, sampler
from edgeq.testing.sysfs import lay


def vcgencmd(folder: Path, text: str) -> str:
    """A vcgencmd that prints `text`."""
    program = folder / "vcgencmd"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    program.chmod(0o755)
    return str(program)


@pytest.fixture
def roots(tmp_path: Path) -> files.Roots:
    return files.Roots(str(tmp_path), str(tmp_path / "proc"), str(tmp_path / "no-vcgencmd"))


# --- hwmon ---


def test_ina_power_file_is_microwatts(roots: files.Roots) -> None:
    lay(roots.sys, "class/hwmon/hwmon3", name="ina219", power1_input=2_345_000)
    source = meters.find("hwmon", roots)
    assert source.read() == 2345.0
    assert not source.counts


@pytest.mark.parametrize("chip", ["ina219", "ina226", "ina238"])
def test_chips_are_found_by_name_whatever_their_number(roots: files.Roots, chip: str) -> None:
    lay(roots.sys, "class/hwmon/hwmon0", name="cpu_thermal", power1_input=9_000_000)
    lay(roots.sys, "class/hwmon/hwmon7", name=chip, power1_input=1_000_000)
    assert meters.find("hwmon", roots).read() == 1000.0


def test_ina3221_multiplies_voltage_and_signed_current(roots: files.Roots) -> None:
    lay(
        roots.sys,
        "class/hwmon/hwmon1",
        name="ina3221",
        in1_label="5V",
        in1_input=5000,
        curr1_input=400,
        in2_label="back",
        in2_input=5000,
        curr2_input=-100,
    )
    assert meters.find("hwmon", roots).read() == 5000 * 400 / 1000 - 5000 * 100 / 1000


def test_ina3221_leaves_out_disabled_channels_and_shunt_voltages(roots: files.Roots) -> None:
    lay(
        roots.sys,
        "class/hwmon/hwmon1",
        name="ina3221",
        in1_enable=1,
        in1_input=5000,
        curr1_input=100,
        in2_enable=0,
        in2_input=5000,
        curr2_input=900,
        in4_input=77,
        curr4_input=1000,
    )
    assert meters.find("hwmon", roots).read() == 500.0


def test_the_input_rail_is_not_added_to_its_parts(roots: files.Roots) -> None:
    chip = {"in1_label": "VDD_IN", "in1_input": 5000, "curr1_input": 1000}
    part = {"in2_label": "VDD_CPU_GPU_CV", "in2_input": 5000, "curr2_input": 600}
    lay(roots.sys, "class/hwmon/hwmon1", name="ina3221", **chip, **part)
    source = meters.find("hwmon", roots)
    assert source.read() == 5000.0
    assert source.describe == "VDD_IN"


def test_the_same_chip_seen_on_two_paths_counts_once(roots: files.Roots) -> None:
    real = lay(roots.sys, "bus/i2c/drivers/ina3221/1-0040/hwmon/hwmon1", name="ina3221", in1_input=5000, curr1_input=10)
    (roots.sys / "class/hwmon").mkdir(parents=True)
    (roots.sys / "class/hwmon/hwmon1").symlink_to(real)
    assert meters.find("hwmon", roots).read() == 50.0


def test_a_dead_sensor_is_left_out_and_named_when_it_is_the_only_one(roots: files.Roots) -> None:
    dead = lay(roots.sys, "class/hwmon/hwmon1", name="ina226", power1_input="")
    with pytest.raises(meters.Absent, match="no reading: ina226"):
        meters.find("hwmon", roots)
    lay(roots.sys, "class/hwmon/hwmon2", name="ina219", power1_input=3000)
    assert meters.find("hwmon", roots).read() == 3.0
    assert dead.exists()


def test_a_battery_in_hwmon_is_not_an_ina_sensor(roots: files.Roots) -> None:
    lay(roots.sys, "class/hwmon/hwmon0", name="BAT0", power1_input=5_000_000, in0_input=12000, curr1_input=400)
    with pytest.raises(meters.Absent):
        meters.find("hwmon", roots)


# --- batteries ---


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("power", [True, False])
def test_battery_signs_do_not_matter_while_it_discharges(roots: files.Roots, sign: int, power: bool) -> None:
    values = {"power_now": sign * 6_000_000} if power else {"current_now": sign * 500_000, "voltage_now": 12_000_000}
    lay(roots.sys, "class/power_supply/BAT0", type="Battery", status="Discharging", **values)
    lay(roots.sys, "class/hwmon/hwmon0", name="BAT0", power1_input=6_000_000)
    assert meters.find("auto", roots).read() == pytest.approx(6000.0)


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_battery_says_nothing_while_it_does_not_discharge(roots: files.Roots, status: str) -> None:
    lay(roots.sys, "class/power_supply/BAT0", type="Battery", status=status, power_now=6_000_000)
    with pytest.raises(meters.Absent, match="not discharging"):
        meters.find("battery", roots)


def test_battery_that_gets_plugged_in_gives_no_more_readings(roots: files.Roots) -> None:
    folder = lay(roots.sys, "class/power_supply/BAT0", type="Battery", status="Discharging", power_now=6_000_000)
    source = meters.find("battery", roots)
    (folder / "status").write_text("Charging\n")
    with pytest.raises(ValueError, match="stopped"):
        source.read()


def test_a_mouse_and_a_charger_are_not_the_devices_battery(roots: files.Roots) -> None:
    lay(roots.sys, "class/power_supply/mouse", type="Battery", scope="Device", status="Discharging", power_now=1)
    lay(roots.sys, "class/power_supply/AC", type="Mains", online=1)
    with pytest.raises(meters.Absent, match="no battery"):
        meters.find("battery", roots)


# --- RAPL ---


def test_rapl_adds_packages_and_memory_but_not_parts(roots: files.Roots) -> None:
    names = {"0": "package-0", "0:0": "core", "0:1": "dram", "1": "psys"}
    zones = {
        number: lay(
            roots.sys,
            f"class/powercap/intel-rapl:{number}",
            name=name,
            energy_uj=1000,
            max_energy_range_uj=262_143_328_850,
        )
        for number, name in names.items()
    }
    lay(roots.sys, "class/powercap/intel-rapl-mmio:0", name="package-0", energy_uj=1, max_energy_range_uj=2)
    source = meters.find("rapl", roots)
    assert source.counts
    for zone in zones.values():
        (zone / "energy_uj").write_text("6000\n")
    assert source.read() == pytest.approx(10.0)


def test_rapl_wraps(roots: files.Roots) -> None:
    zone = lay(
        roots.sys, "class/powercap/intel-rapl:0", name="package-0", energy_uj=999_000, max_energy_range_uj=1_000_000
    )
    source = meters.find("rapl", roots)
    (zone / "energy_uj").write_text("500\n")
    assert source.read() == pytest.approx(1.5)
    (zone / "energy_uj").write_text("999500\n")
    assert source.read() == pytest.approx(1.5 + 999.0)


@given(steps=st.lists(st.integers(0, 500_000), min_size=1, max_size=30), start=st.integers(0, 999_999))
def test_rapl_counts_every_step_over_any_number_of_wraps(
    tmp_path_factory: pytest.TempPathFactory, steps: list[int], start: int
) -> None:
    zone = lay(tmp_path_factory.mktemp("rapl"), "zone", energy_uj=start, max_energy_range_uj=1_000_000)
    counter, now = power_rapl.Counter(zone), start
    for step in steps:
        now = (now + step) % 1_000_000
        (zone / "energy_uj").write_text(str(now))
        told = counter.read_uj()
    assert told == sum(steps)


def test_rapl_without_a_range_cannot_wrap(roots: files.Roots) -> None:
    zone = lay(roots.sys, "class/powercap/intel-rapl:0", name="package-0", energy_uj=999_000)
    source = meters.find("rapl", roots)
    (zone / "energy_uj").write_text("500\n")
    with pytest.raises(ValueError, match="no range"):
        source.read()


def test_rapl_gives_the_reason_when_it_has_no_reading(roots: files.Roots) -> None:
    zone = lay(roots.sys, "class/powercap/intel-rapl:0", name="package-0", max_energy_range_uj=10)
    (zone / "energy_uj").mkdir()
    with pytest.raises(meters.Absent, match="RAPL gives no reading"):
        meters.find("rapl", roots)


# --- PMIC ---

PI5 = """\
 3V7_WL_SW_A current(0)=0.10000000A
   3V3_SYS_A current(1)=0.20000000A
  VDD_CORE_A current(7)=1.00000000A
 3V7_WL_SW_V volt(8)=3.70000000V
   3V3_SYS_V volt(9)=3.30000000V
  VDD_CORE_V volt(15)=0.90000000V
     EXT5V_V volt(24)=5.15100000V
      BATT_V volt(25)=0.00000000V"""


def test_pmic_pairs_rails_by_name(tmp_path: Path) -> None:
    roots = files.Roots(str(tmp_path), vcgencmd=vcgencmd(tmp_path, PI5))
    source = meters.find("pmic", roots)
    assert source.read() == pytest.approx(370 + 660 + 900)
    assert "estimate" in source.describe
    assert "3 " in source.describe


def test_pmic_rail_that_is_never_a_number_is_left_out(tmp_path: Path) -> None:
    roots = files.Roots(str(tmp_path), vcgencmd=vcgencmd(tmp_path, PI5.replace("1.00000000A", "nanA")))
    assert meters.find("pmic", roots).read() == pytest.approx(370 + 660)


def test_pmic_rail_that_fails_later_spoils_that_reading_only(tmp_path: Path) -> None:
    roots = files.Roots(str(tmp_path), vcgencmd=vcgencmd(tmp_path, PI5))
    source = meters.find("pmic", roots)
    vcgencmd(tmp_path, PI5.replace("0.90000000V", "nanV"))
    with pytest.raises(ValueError, match="rail"):
        source.read()
    vcgencmd(tmp_path, PI5)
    assert math.isfinite(source.read())


def test_pmic_without_firmware_is_absent(roots: files.Roots) -> None:
    with pytest.raises(meters.Absent, match="Raspberry Pi 5"):
        meters.find("pmic", roots)


@pytest.mark.parametrize(("text", "bits"), [("throttled=0x50005", 0x50005), ("throttled=0x0", 0), ("error=1", None)])
def test_throttled_bits(tmp_path: Path, text: str, bits: int | None) -> None:
    assert firmware.throttled_bits(vcgencmd(tmp_path, text)) == bits


# --- all together ---


def test_hwmon_is_preferred_and_every_reason_is_told_when_nothing_works(roots: files.Roots) -> None:
    with pytest.raises(meters.Absent) as caught:
        meters.find("auto", roots)
    assert all(f"{name}: " in str(caught.value) for name in meters.FINDERS)
    lay(roots.sys, "class/power_supply/BAT0", type="Battery", status="Discharging", power_now=6_000_000)
    lay(roots.sys, "class/hwmon/hwmon1", name="ina219", power1_input=1000)
    assert meters.find("auto", roots).name == "hwmon"
    assert {name: found["ok"] for name, found in meters.survey(roots).items()} == {
        "hwmon": True,
        "pmic": False,
        "rapl": False,
        "battery": True,
    }


def test_an_unknown_source_is_refused(roots: files.Roots) -> None:
    with pytest.raises(meters.Absent, match="no source of that name"):
        meters.find("dilithium", roots)


# --- sampling and integrals ---


def readings_of(values: Iterator[float]) -> meters.Source:
    return meters.Source("hwmon", "test", lambda: next(values))


def test_sampler_counts_readings_that_are_missing() -> None:
    def read() -> float:
        raise OSError("dead")

    found, missing = sampler.sample(meters.Source("hwmon", "dead", read), 0.1, lambda _wait: False, rate_hz=1000)
    assert found == []
    assert missing > 0


def test_sampler_stays_within_its_limit() -> None:
    ticks = iter(range(10**9))
    calls = iter(range(10**9))
    source = meters.Source("hwmon", "test", lambda: float(next(ticks)))
    found, _ = sampler.sample(source, 60, lambda _wait: next(calls) >= 2 * sampler.MAX_SAMPLES, rate_hz=1e9)
    assert sampler.MAX_SAMPLES / 2 <= len(found) <= sampler.MAX_SAMPLES
    assert found[-1][1] >= 2 * sampler.MAX_SAMPLES - 4


SECOND = 10**9


def trace(values: list[float], counts: bool = False, period_ns: int = SECOND // 10) -> dict[str, object]:
    return {
        "source": "hwmon",
        "what": "test",
        "counts": counts,
        "readings": [[n * period_ns, value] for n, value in enumerate(values)],
    }


def test_energy_is_the_integral_above_idle() -> None:
    told = trace([1000.0] * 10 + [1000.0] + [3000.0] * 20)
    found = energy.per_inference(told, (0, SECOND), (SECOND + SECOND // 10, 3 * SECOND), 100)
    assert found["idle_mw"] == pytest.approx(1000)
    assert found["load_mw"] == pytest.approx(3000)
    assert found["per_inference_mj"] == pytest.approx(2000 * 1.9 / 100)
    assert found["samples"] == 20
    assert "idle subtracted" in found["source"]


def test_energy_of_a_counter_is_its_rise() -> None:
    values = [n * 50.0 for n in range(11)] + [500.0 + n * 200.0 for n in range(1, 22)]
    found = energy.per_inference(trace(values, counts=True), (0, SECOND), (SECOND, 3 * SECOND), 10)
    assert found["idle_mw"] == pytest.approx(500)
    assert found["load_mw"] == pytest.approx(2000)
    assert found["per_inference_mj"] == pytest.approx(1500 * 2 / 10)


def test_a_shunt_mounted_the_wrong_way_round_is_turned() -> None:
    told = trace([-1000.0] * 11 + [-3000.0] * 20)
    found = energy.per_inference(told, (0, SECOND), (SECOND + SECOND // 10, 3 * SECOND), 1)
    assert found["load_mw"] == pytest.approx(3000)
    assert found["per_inference_mj"] > 0


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([1000.0] * 31, "no more power"),
        ([1000.0] * 11 + [1000.1] * 20, "no more power"),
        ([2000.0] * 11 + [1000.0] * 20, "less power"),
        ([1000.0] * 3, "only"),
    ],
)
def test_energy_that_cannot_be_told_has_a_reason(values: list[float], reason: str) -> None:
    with pytest.raises(energy.Unmeasured, match=reason):
        energy.per_inference(trace(values), (0, SECOND), (SECOND, 3 * SECOND), 10)


def test_energy_of_no_reading_has_a_reason() -> None:
    with pytest.raises(energy.Unmeasured, match="no reading"):
        energy.per_inference(trace([]), (0, 1), (1, 2), 10)


@given(st.lists(st.floats(0, 1e5), min_size=40, max_size=60), st.integers(0, SECOND // 10), st.integers(2, 3))
def test_mean_power_lies_between_the_readings(values: list[float], start: int, seconds: int) -> None:
    mean, count = energy.mean_mw(trace(values), (start, start + seconds * SECOND))
    assert min(values) - 1e-6 <= mean <= max(values) + 1e-6
    assert count >= energy.MIN_READINGS


@given(st.floats(0, 1e6), st.floats(-1e5, 1e5), st.integers(1, SECOND // 10))
def test_a_straight_line_integrates_exactly_at_any_edge(level: float, slope: float, start: int) -> None:
    values = [level + slope * n / 10 for n in range(40)]
    end = start + 2 * SECOND
    mean, _ = energy.mean_mw(trace(values), (start, end))
    assert mean == pytest.approx(level + slope * (start + end) / 2 / SECOND, rel=1e-6, abs=1e-3)
