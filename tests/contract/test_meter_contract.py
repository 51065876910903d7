"""Every meter starts, stops and tells a trace; one suite over all modules of the kind."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq import backends
from edgeq.errors import MeterError
from edgeq.lab.meters import Meter, PowerTrace
from edgeq.lab.runner import Roots
from edgeq.lab.transports import Transport, local
from edgeq.types import Device

HERE = Device(name="here", transport="local")
NAMES = backends.names("lab.meters")
TREES = {
    "hwmon": {"class/hwmon/hwmon2": {"name": "ina219", "power1_input": "1500000"}},
    "battery": {
        "class/power_supply/BAT0": {"type": "Battery", "status": "Discharging", "power_now": "-1500000"},
    },
    "rapl": {
        "class/powercap/intel-rapl:0": {"name": "package-0", "energy_uj": "100", "max_energy_range_uj": "262143328850"}
    },
    "pmic": {},
    "stream": {},
}
CONSTANT_MW = {"hwmon": 1500.0, "battery": 1500.0, "rapl": 0.0, "pmic": 1500.0, "stream": 1500.0}
PRINTS = "import time\nwhile True:\n    print(time.monotonic(), 1500, flush=True)\n    time.sleep(0.02)\n"
VCGENCMD = "#!/bin/sh\necho ' VDD_CORE_A current(7)=1.50000000A'\necho ' VDD_CORE_V volt(15)=1.00000000V'\n"


@pytest.fixture(scope="module")
def transport() -> Iterator[Transport]:
    with local.connect(HERE) as opened:
        yield opened


@pytest.fixture
def roots(tmp_path: Path, name: str) -> Roots:
    for folder, values in TREES[name].items():
        (tmp_path / "sys" / folder).mkdir(parents=True)
        for key, value in values.items():
            (tmp_path / "sys" / folder / key).write_text(value)
    if name == "pmic":
        (tmp_path / "vcgencmd").write_text(VCGENCMD)
        (tmp_path / "vcgencmd").chmod(0o755)
    return Roots(sysfs=str(tmp_path / "sys"), vcgencmd=str(tmp_path / "vcgencmd"))


def connect(name: str, transport: Transport, roots: Roots) -> Meter:
    device = dataclasses.replace(HERE, meter=f'stream: {sys.executable} -c "{PRINTS}"') if name == "stream" else HERE
    meter: Meter = backends.find("lab.meters", name).connect(device, transport, roots=roots)
    return meter


@pytest.mark.parametrize("name", NAMES)
def test_start_stop_trace(name: str, transport: Transport, roots: Roots) -> None:
    meter = connect(name, transport, roots)
    assert isinstance(meter, Meter)
    meter.start()
    time.sleep(0.6)
    trace = meter.stop()
    assert trace.source.startswith(name)
    assert len(trace.times_ns) == len(trace.values) >= 2
    assert list(trace.times_ns) == sorted(trace.times_ns)
    assert trace.mean_mw == pytest.approx(CONSTANT_MW[name])
    assert trace.energy_mj == pytest.approx(CONSTANT_MW[name] * trace.seconds)


@pytest.mark.parametrize("name", NAMES)
def test_misuse_is_a_meter_error(name: str, transport: Transport, roots: Roots) -> None:
    meter = connect(name, transport, roots)
    with pytest.raises(MeterError, match="not started"):
        meter.stop()
    meter.start()
    with pytest.raises(MeterError, match="already"):
        meter.start()
    meter.stop()
    with pytest.raises(MeterError, match="not started"):
        meter.stop()


@pytest.mark.parametrize("name", [name for name in NAMES if name != "stream"])  # tests/lab/test_hostmeter.py
def test_an_absent_source_is_a_meter_error_with_the_reason(
    name: str, transport: Transport, roots: Roots, tmp_path: Path
) -> None:
    meter = connect(name, transport, Roots(sysfs=str(tmp_path / "nothing"), vcgencmd="/nonexistent"))
    with pytest.raises(MeterError, match=name):
        meter.start()


def test_a_trace_integrates_trapezoids_and_counters() -> None:
    second = 10**9
    power = PowerTrace(source="p", times_ns=(0, second, 3 * second), values=(0.0, 100.0, 100.0))
    assert power.energy_mj == 250.0
    assert power.mean_mw == pytest.approx(250 / 3)
    counter = PowerTrace(source="c", times_ns=(0, second, 2 * second), values=(5.0, 7.0, 25.0), counts=True)
    assert counter.energy_mj == 20.0
    assert counter.mean_mw == 10.0


@pytest.mark.parametrize("count", [0, 1])
def test_a_mean_needs_two_readings(count: int) -> None:
    with pytest.raises(MeterError, match="needs two"):
        _ = PowerTrace(source="p", times_ns=(5,) * count, values=(1.0,) * count).mean_mw
