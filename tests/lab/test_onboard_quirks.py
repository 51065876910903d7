"""Quirks of every kind of power sensor, on /sys trees laid out as drivers lay them out."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.lab import runner
from edgeq.lab.onboard import files, meters, power_battery, power_ina, power_rapl
from edgeq.testing.sysfs import lay


@pytest.fixture
def roots(tmp_path: Path) -> files.Roots:
    return files.Roots(str(tmp_path / "sys"), str(tmp_path / "proc"), str(tmp_path / "no-vcgencmd"))


# --- INA sensors ---


@pytest.mark.parametrize(
    ("chip", "shunt_uohm", "step_mw"),
    [
        ("ina219", 10_000, 20.0),  # 10 µV over 10 mΩ is 1 mA; the power register counts twenty of them at 1 V
        ("ina219", 100_000, 2.0),
        ("ina226", 2_000, 31.25),
        ("ina231", 10_000, 6.25),
        ("ina260", 0, 10.0),
        ("ina226", 0, None),
        ("ina238", 10_000, None),
    ],
)
def test_steps_come_from_the_shunt(roots: files.Roots, chip: str, shunt_uohm: int, step_mw: float | None) -> None:
    values = {"shunt_resistor": shunt_uohm} if shunt_uohm else {}
    lay(roots.sys, "class/hwmon/hwmon0", name=chip, power1_input=1_000_000, **values)
    found = meters.find("hwmon", roots).resolution
    assert found == (pytest.approx(step_mw) if step_mw else None)


def test_an_ina3221_counts_steps_of_current_and_of_voltage(roots: files.Roots) -> None:
    chip = {"in1_input": 5000, "curr1_input": 1000, "shunt1_resistor": 5000}
    lay(roots.sys, "class/hwmon/hwmon0", name="ina3221", **chip)
    source = meters.find("hwmon", roots)
    assert source.resolution == pytest.approx(5.0 * 8 + 1.0 * 8)
    lay(roots.sys, "class/hwmon/hwmon1", name="ina226", power1_input=1, shunt_resistor=2000)
    assert meters.find("hwmon", roots).resolution == pytest.approx(48 + 31.25)
    lay(roots.sys, "class/hwmon/hwmon2", name="ina238", power1_input=1)
    assert meters.find("hwmon", roots).resolution is None


@pytest.mark.parametrize(
    ("chip", "told", "seconds"),
    [
        ("ina226", {"update_interval": 35}, 0.035),
        ("ina226", {"update_interval": 140}, 0.140),
        ("ina226", {}, 0.0352),
        ("ina219", {}, 0.00107),
        ("ina219", {"update_interval": "x"}, 0.00107),
        ("ina3221", {"update_interval": 2112}, 2.112),
        ("ina3221", {"update_interval": -5}, 0.0066),
        ("ina3221", {"update_interval": 10**9}, 0.0066),
    ],
)
def test_the_period_is_what_the_driver_tells(
    roots: files.Roots, chip: str, told: dict[str, object], seconds: float
) -> None:
    values = {"power1_input": 1, "in1_input": 5000, "curr1_input": 1}
    lay(roots.sys, "class/hwmon/hwmon0", name=chip, **values, **told)
    assert meters.find("hwmon", roots).period_s == pytest.approx(seconds)


def test_the_slowest_rail_sets_the_period(roots: files.Roots) -> None:
    lay(roots.sys, "class/hwmon/hwmon0", name="ina219", power1_input=1)
    lay(roots.sys, "class/hwmon/hwmon1", name="ina226", power1_input=1, update_interval=70)
    assert meters.find("hwmon", roots).period_s == pytest.approx(0.07)


def test_a_power_chip_without_a_power_file(roots: files.Roots) -> None:
    lay(roots.sys, "class/hwmon/hwmon0", name="ina226", in0_input=10, in1_input=5000, curr1_input=-200)
    assert meters.find("hwmon", roots).read() == -1000.0


@pytest.mark.parametrize(("order", "number"), [((4, 1, 9), 4), ((0, 10, 2), 0), ((7, 8, 6), 7)])
def test_the_order_in_which_drivers_load_does_not_matter(
    roots: files.Roots, order: tuple[int, int, int], number: int
) -> None:
    for place, (name, values) in zip(
        order,
        (("ina219", {"power1_input": 1_000_000}), ("nvme", {"power1_input": 9}), ("BAT0", {"power1_input": 8})),
        strict=True,
    ):
        lay(roots.sys, f"class/hwmon/hwmon{place}", name=name, **values)
    source = meters.find("hwmon", roots)
    assert (source.describe, source.read()) == ("ina219", 1000.0)
    (roots.sys / f"class/hwmon/hwmon{number}/power1_input").write_text("2000000")
    assert source.read() == 2000.0


# Rails of NVIDIA's boards as their device trees name them: (chip, channel, label, mV, mA).
JETSONS = {
    "orin nano": ([(1, 1, "VDD_IN", 5000, 1200), (1, 2, "VDD_CPU_GPU_CV", 5000, 50), (1, 3, "VDD_SOC", 5000, 3)], 6000),
    "xavier nx": ([(1, 1, "VDD_IN", 5000, 900), (1, 2, "VDD_CPU_GPU_CV", 5000, 30), (1, 3, "VDD_SOC", 5000, 25)], 4500),
    "agx orin": (
        [
            (1, 1, "VDD_GPU_SOC", 19000, 200),
            (1, 2, "VDD_CPU_CV", 19000, 100),
            (1, 3, "VIN_SYS_5V0", 5000, 800),
            (2, 1, "NC", 19000, 0),
            (2, 2, "VDDQ_VDD2_1V8AO", 5000, 300),
        ],
        19 * 300 + 4000,
    ),
    "agx xavier": (
        [(1, 1, "GPU", 19000, 20), (1, 2, "CPU", 19000, 30), (1, 3, "SOC", 19000, 60), (2, 1, "CV", 19000, 0)],
        19 * 110,
    ),
}  # fmt: skip


@pytest.mark.parametrize("board", JETSONS)
def test_a_jetsons_parts_are_not_added_to_their_whole(roots: files.Roots, board: str) -> None:
    rails, milliwatts = JETSONS[board]
    for chip, channel, label, mv, ma in rails:
        values = {f"in{channel}_label": label, f"in{channel}_input": mv, f"curr{channel}_input": ma}
        folder = f"bus/i2c/drivers/ina3221/1-004{chip - 1}/hwmon/hwmon{chip + 2}"
        lay(roots.sys, folder, name="ina3221", **{f"in{channel}_enable": 1}, **values)
    source = meters.find("hwmon", roots)
    assert source.read() == milliwatts
    assert source.includes == ("the board's input" if rails[0][2] == "VDD_IN" else source.includes)


def test_a_jetson_nano_with_its_older_kernel(roots: files.Roots) -> None:
    folder = "bus/i2c/drivers/ina3221x/6-0040/iio:device0"
    names = {"rail_name_0": "POM_5V_IN", "rail_name_1": "POM_5V_GPU", "rail_name_2": "POM_5V_CPU"}
    powers = {"in_power0_input": 2875, "in_power1_input": 120, "in_power2_input": 700}
    place = lay(roots.sys, folder, **names, **powers)
    source = meters.find("hwmon", roots)
    assert (source.describe, source.read(), source.includes) == ("POM_5V_IN", 2875.0, "the board's input")
    (place / "in_power0_input").write_text("garbage")
    source = meters.find("hwmon", roots)
    assert (source.describe, source.read()) == ("POM_5V_GPU + POM_5V_CPU", 820.0)
    assert source.includes.endswith("without POM_5V_IN (no reading)")


def test_a_dead_rail_is_named_in_what_is_included(roots: files.Roots) -> None:
    lay(roots.sys, "class/hwmon/hwmon1", name="ina219", power1_input=5, power1_label="cpu")
    lay(roots.sys, "class/hwmon/hwmon2", name="ina219", power1_input="", power1_label="disk")
    assert meters.find("hwmon", roots).includes == "what flows through this sensor, without ina219 disk (no reading)"


@pytest.mark.parametrize("chip", power_ina.SHUNT_STEPS_UV)
def test_every_chip_with_a_step_is_a_chip(chip: str) -> None:
    assert chip in power_ina.POWER_CHIPS + power_ina.CURRENT_CHIPS


# --- RAPL ---


def test_a_package_of_several_dies_and_the_platform_over_them(roots: files.Roots) -> None:
    zones = {"0": "package-0-die-0", "1": "package-0-die-1", "2": "psys", "0:0": "core", "0:1": "uncore", "1:0": "dram"}
    for number, name in zones.items():
        lay(roots.sys, f"class/powercap/intel-rapl:{number}", name=name, energy_uj=5, max_energy_range_uj=10**9)
    lay(roots.sys, "class/powercap/intel-rapl-mmio:0", name="package-0", energy_uj=5, max_energy_range_uj=10**9)
    source = meters.find("rapl", roots)
    assert source.describe == "package-0-die-0 + package-0-die-1 + dram"
    assert source.includes == "CPU package and memory, not the rest of the board"
    assert source.resolution == pytest.approx(3 * power_rapl.RESOLUTION_MJ)


def test_permission_is_a_reason_with_the_command_that_mends_it(tmp_path: Path) -> None:
    """As a user who is not root, in a process of its own."""
    root = tmp_path / "sys"
    zone = lay(root, "class/powercap/intel-rapl:0", name="package-0", energy_uj=1, max_energy_range_uj=10)
    (zone / "energy_uj").chmod(0o400)
    ours = [folder for folder in tmp_path.parents if "pytest-" in str(folder)]  # one more below pytest-xdist
    for folder in (tmp_path, *ours):
        folder.chmod(folder.stat().st_mode | 0o055)
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from onboard import files, meters\n"
        "try: meters.find('rapl', files.Roots(sys.argv[2]))\n"
        "except meters.Absent as absent: print(absent)\n"
    )
    argv = ["/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable, "-I", "-c", code]
    become = (lambda: (os.setgid(65534), os.setuid(65534))) if os.getuid() == 0 else None
    argv += [str(runner.FOLDER.parent), str(root)]
    done = subprocess.run(argv, capture_output=True, text=True, preexec_fn=become, timeout=60, check=False)
    if "ModuleNotFoundError" in done.stderr or "PermissionError" in done.stderr:
        pytest.skip(f"nobody may not read the checkout here: {done.stderr.splitlines()[-1]}")
    assert "only root may read RAPL's energy_uj" in done.stdout, done.stderr
    assert "sudo chmod a+r /sys/class/powercap/intel-rapl:*/energy_uj" in done.stdout


@given(watts=st.floats(0, 500), gap_s=st.floats(0.001, 0.5), start=st.floats(0, 1))
def test_a_counter_wraps_where_it_must(
    tmp_path_factory: pytest.TempPathFactory, watts: float, gap_s: float, start: float
) -> None:
    """65.5 J at up to 500 W: once in some readings, never twice between two."""
    range_uj = 65_532_610_987
    zone = lay(tmp_path_factory.mktemp("rapl"), "zone", energy_uj=int(start * range_uj) % range_uj)
    (zone / "max_energy_range_uj").write_text(str(range_uj))
    counter, now = power_rapl.Counter(zone), int(start * range_uj) % range_uj
    step = int(watts * gap_s * 1e6) % power_rapl.LEAST_STEP_UJ
    for number in range(1, 20):
        now = (now + step) % range_uj
        (zone / "energy_uj").write_text(str(now))
        assert counter.read_uj() == number * step


def test_a_reset_counter_stays_broken(tmp_path: Path) -> None:
    zone = lay(tmp_path, "zone", energy_uj=200_000_000_000, max_energy_range_uj=262_143_328_850)
    counter = power_rapl.Counter(zone)
    (zone / "energy_uj").write_text("1000")
    for text in ("1000", "2000", "3000"):
        (zone / "energy_uj").write_text(text)
        with pytest.raises(ValueError, match="was reset"):
            counter.read_uj()


# --- batteries ---


def battery(roots: files.Roots, name: str = "battery", **values: object) -> Path:
    return lay(roots.sys, f"class/power_supply/{name}", **{"type": "Battery", "status": "Discharging", **values})


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize(
    ("current", "voltage", "note"),
    [
        (350_000, 3_850_000, "battery"),
        (350, 3_850_000, "battery (current_now taken for mA)"),
        (350_000, 3_850, "battery (voltage_now taken for mV)"),
        (350, 3_850, "battery (current_now taken for mA, voltage_now taken for mV)"),
    ],
)
def test_signs_and_scales_of_phones(roots: files.Roots, sign: int, current: int, voltage: int, note: str) -> None:
    """Positive, negative or unsigned while discharging; micro as the kernel asks, or milli."""
    battery(roots, current_now=sign * current, voltage_now=voltage)
    source = meters.find("battery", roots)
    assert source.read() == pytest.approx(0.35 * 3850)
    assert source.describe == note


def test_the_unit_is_settled_once(roots: files.Roots) -> None:
    """A load that takes the number past the limit does not change it."""
    place = battery(roots, current_now=9_000, voltage_now=4_000_000)
    source = meters.find("battery", roots)
    assert source.read() == pytest.approx(36_000)
    (place / "current_now").write_text("11000")
    assert source.read() == pytest.approx(44_000)


@pytest.mark.parametrize(("told", "milliwatts"), [(8_400_000, 8400.0), (8_400, 8400.0), (-8_400, 8400.0)])
def test_a_power_in_milliwatts(roots: files.Roots, told: int, milliwatts: float) -> None:
    battery(roots, "BAT0", power_now=told)
    assert meters.find("battery", roots).read() == pytest.approx(milliwatts)


def test_a_current_that_turns_is_no_reading(roots: files.Roots) -> None:
    """Some drivers keep the status for a while after the cable went in."""
    place = battery(roots, current_now=-500_000, voltage_now=4_000_000)
    source = meters.find("battery", roots)
    assert source.read() == pytest.approx(2000)
    (place / "current_now").write_text("300000")
    with pytest.raises(ValueError, match="has turned"):
        source.read()


@pytest.mark.parametrize("status", ["Charging", "Full", "Not charging", "Unknown"])
def test_a_battery_that_charges_is_refused_with_what_to_do(roots: files.Roots, status: str) -> None:
    battery(roots, "BAT0", status=status, power_now=9_000_000)
    with pytest.raises(meters.Absent) as caught:
        meters.find("battery", roots)
    assert str(caught.value) == f"battery: the battery is not discharging (BAT0 is {status}); unplug the charger"


@pytest.mark.parametrize("kind", ["Mains", "USB", "USB_PD", "USB_C", "Wireless"])
def test_a_weak_charger_beside_a_draining_battery(roots: files.Roots, kind: str) -> None:
    battery(roots, current_now=500_000, voltage_now=4_000_000)
    charger = lay(roots.sys, "class/power_supply/charger", type=kind, online=1)
    with pytest.raises(meters.Absent, match="charger feeds the device too"):
        meters.find("battery", roots)
    (charger / "online").write_text("0")
    assert meters.find("battery", roots).read() == pytest.approx(2000)


def test_androids_further_names_of_one_battery(roots: files.Roots) -> None:
    for name in ("battery", "bms", "max170xx_battery"):
        battery(roots, name, current_now=500_000, voltage_now=4_000_000)
    source = meters.find("battery", roots)
    assert (source.describe, source.read()) == ("battery", pytest.approx(2000))


def test_a_battery_in_hwmon_too_is_counted_once(roots: files.Roots) -> None:
    battery(roots, "BAT1", current_now=500_000, voltage_now=8_000_000)
    lay(roots.sys, "class/hwmon/hwmon0", name="BAT1", in0_input=8000, curr1_input=500, power1_input=4_000_000)
    assert {name for name, found in meters.survey(roots).items() if found["ok"]} == {"battery"}
    assert meters.find("auto", roots).read() == pytest.approx(4000)


@given(
    current=st.integers(10_000, 20_000_000), voltage=st.integers(2_500_000, 60_000_000), sign=st.sampled_from([1, -1])
)
def test_numbers_in_the_kernels_units_are_taken_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, current: int, voltage: int, sign: int
) -> None:
    root = files.Roots(str(tmp_path_factory.mktemp("bat")))
    battery(root, current_now=sign * current, voltage_now=voltage)
    assert meters.find("battery", root).read() == pytest.approx(current * voltage / 1e9)
    assert power_battery.PERIOD_S >= 1


# --- the PMIC ---


def answering(folder: Path, text: str) -> str:
    program = folder / "vcgencmd"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{text}\nEND\n")
    program.chmod(0o755)
    return str(program)


def test_rails_without_a_partner_or_a_number_are_left_out(tmp_path: Path) -> None:
    """Voltages without currents (EXT5V, BATT), rails in any order, one that is nan."""
    text = "\n".join(
        (
            "  VDD_CORE_V volt(15)=0.90000000V",
            "     EXT5V_V volt(24)=5.15100000V",
            "   1V8_SYS_A current(2)=nanA",
            "  VDD_CORE_A current(7)=2.00000000A",
            "   1V8_SYS_V volt(10)=1.80000000V",
            "      BATT_V volt(25)=nanV",
            "   3V3_SYS_A current(1)=0.10000000A",
            "   3V3_SYS_V volt(9)=3.30000000V",
        )
    )
    source = meters.find("pmic", files.Roots(str(tmp_path), vcgencmd=answering(tmp_path, text)))
    assert source.read() == pytest.approx(1800 + 330)
    assert source.describe == "estimate from 2 PMIC rails"
    assert "without 1V8_SYS (no number)" in source.includes
    assert "not its losses" in source.includes


def test_a_slow_answer_is_an_old_reading(tmp_path: Path) -> None:
    """How long the program takes is how unsure the moment is."""
    program = answering(tmp_path, "  VDD_CORE_V volt(15)=0.9V\n  VDD_CORE_A current(7)=2.0A")
    Path(program).write_text(Path(program).read_text().replace("#!/bin/sh", "#!/bin/sh\nsleep 0.2"))
    source = meters.find("pmic", files.Roots(str(tmp_path), vcgencmd=program))
    assert 0.2 <= source.period_s < 2
