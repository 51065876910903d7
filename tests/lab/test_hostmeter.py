"""Instruments on the host's side: real programs that print readings, recorded streams, runs on a real device."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import MeterError
from edgeq.lab import deploy, hostmeter
from edgeq.lab.meters import PowerTrace, stream
from edgeq.lab.transports import Transport, local
from edgeq.testing import models
from edgeq.testing.bundles import make_bundle
from edgeq.types import Device, Latency, Manifest, Measurement, RunSettings

SECOND = 10**9
PRINT = "import sys, time\nbegun = time.monotonic()\n"
STEADY = PRINT + (
    "while True:\n    t = time.monotonic() - begun\n"
    "    print('%.6f %.3f' % (t + 1000, 1500.0), flush=True)\n    time.sleep(0.005)\n"
)


def program(folder: Path, text: str) -> str:
    """The `meter` of a device whose instrument is this Python program."""
    path = folder / "instrument.py"
    path.write_text(text)
    return f"{stream.PREFIX} {sys.executable} -I '{path}'"


def meter(words: str) -> stream.StreamMeter:
    found = stream.connect(Device(name="pi", transport="local", meter=words), None)  # type: ignore[arg-type]
    assert isinstance(found, stream.StreamMeter)
    return found


# --- the program ---


def test_a_program_is_read_and_ended(tmp_path: Path) -> None:
    found = meter(program(tmp_path, STEADY))
    begun = time.monotonic_ns()
    found.start()
    time.sleep(0.5)
    trace = found.stop()
    ended = time.monotonic_ns()
    assert trace.mean_mw == pytest.approx(1500)
    assert 20 <= len(trace.values) <= 130
    assert begun - SECOND // 10 <= trace.times_ns[0] <= trace.times_ns[-1] <= ended, "in this host's time"
    assert 0.004 * SECOND <= trace.period_ns <= 0.05 * SECOND
    assert trace.source.startswith("stream (python")
    found.start()
    time.sleep(0.2)
    assert found.stop().values


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("print('hello there')", "it printed 'hello there', not: seconds milliwatts"),
        ("print('1 nan'); print('nan 1'); print('1 1e99')", "not: seconds milliwatts"),
        ("pass", "gave no reading"),
        ("raise SystemExit(3)", "gave no reading"),
        ("print('\\x1b[31m 1 2 3')", "not: seconds milliwatts"),
    ],
)
def test_a_program_that_prints_something_else(tmp_path: Path, text: str, why: str) -> None:
    found = meter(program(tmp_path, text))
    with pytest.raises(MeterError) as caught:
        found.start()
    assert why in caught.value.message
    assert caught.value.message.isprintable()


def test_a_program_that_stays_although_it_is_asked_to_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_END_SECONDS", 0.3)
    found = meter(program(tmp_path, "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + STEADY))
    found.start()
    child = found._child
    assert child is not None
    time.sleep(0.1)
    assert found.stop().values
    assert child.returncode == -9


@pytest.mark.parametrize("words", [None, "", "hwmon", "stream:", "stream: 'open", "stream:   "])
def test_no_program(words: str | None) -> None:
    with pytest.raises(MeterError):
        stream.connect(Device(name="pi", transport="local", meter=words), None)  # type: ignore[arg-type]


def test_a_program_that_is_not_there_and_no_shell() -> None:
    with pytest.raises(MeterError, match="cannot start /nonexistent/meter: No such file"):
        meter("stream: /nonexistent/meter").start()
    with pytest.raises(MeterError, match="cannot start echo;reboot"):
        meter("stream: 'echo;reboot' 1 2").start()


# --- recorded streams ---


def test_its_clock_is_laid_over_ours_by_the_line_that_was_fastest() -> None:
    """Arrivals late by 0 to 80 ms, as through a pipe that is emptied now and then."""
    lines = stream.Lines()
    for n in range(500):
        late = 0.080 - (n % 9) * 0.010
        lines.add(b"%.4f %.1f\n" % (n * 0.01 - 5e6, 1000.0 + n), 100 + n * 0.01 + late)
    trace = lines.trace("x")
    assert [ns / 1e9 for ns in trace.times_ns] == pytest.approx([100 + n * 0.01 for n in range(500)], abs=1e-3)
    assert trace.period_ns == pytest.approx(0.01 * SECOND, rel=1e-3)
    assert trace.missing == 0


def test_lines_that_are_no_readings_are_counted() -> None:
    lines = stream.Lines()
    for number, line in enumerate(
        (b"1 10\n", b"2 20\n", b"2 30\n", b"1.5 30\n", b"3\n", b"3 inf\n", b"\xff\n", b"3 40 5\n", b"4 40\n")
    ):
        lines.add(line, 10 + number)
    trace = lines.trace("x")
    assert trace.values == (10.0, 20.0, 40.0)
    assert trace.missing == 6


def test_too_many_readings_are_merged_and_keep_their_energy() -> None:
    lines, count = stream.Lines(), 3 * stream.MOST_READINGS
    for n in range(count):
        lines.add(b"%.5f %d\n" % (n / 1e5, 1000 + n % 7), n / 1e5)
    trace = lines.trace("x")
    assert len(trace.values) <= stream.MOST_READINGS
    assert trace.mean_mw == pytest.approx(1003, rel=1e-4)
    assert trace.seconds == pytest.approx(3, rel=0.01)


@given(st.lists(st.binary(max_size=60), max_size=60))
def test_any_bytes_are_readings_or_a_reason(found: list[bytes]) -> None:
    lines = stream.Lines()
    for number, line in enumerate(found):
        lines.add(line, float(number))
    try:
        trace = lines.trace("x")
    except MeterError as error:
        assert error.message.isprintable()
        return
    assert list(trace.times_ns) == sorted(trace.times_ns)


# --- laid over the runs ---


def a_measurement(runs: int) -> Measurement:
    times = dict.fromkeys(("p50", "p90", "p99", "mean", "std", "min", "max", "first", "load"), 1.0)
    from edgeq.types import Conditions, ConditionsPair, MeasuredMemory

    return Measurement(
        device={}, runtime={}, settings=RunSettings(), latency_ms=Latency(runs=runs, **times), latency_samples_ns=(),
        batch=1, memory_bytes=MeasuredMemory(), energy=None, parity=None, manifest_sha256="",
        conditions=ConditionsPair(before=Conditions(), after=Conditions()), unavailable={"energy_mj": "no sensor"},
    )  # fmt: skip


def recorded(high: tuple[float, float], step_s: float = 0.002) -> PowerTrace:
    """1 W, and 4 W between two moments; each reading the mean over its step."""
    count = int(6 / step_s)
    times = [n * step_s for n in range(count)]
    values = [4000.0 if high[0] <= moment < high[1] else 1000.0 for moment in times]
    return PowerTrace(
        source="stream (x)",
        times_ns=tuple(int(t * 1e9) for t in times),
        values=tuple(values),
        period_ns=int(step_s * 1e9),
    )


def marked(begun: float, ended: float) -> hostmeter.Marks:
    marks = hostmeter.Marks(lambda *_words: None)
    marks.begun_ns, marks.ended_ns = int(begun * 1e9), int(ended * 1e9)
    return marks


IDLES = ((int(0.2e9), int(1.2e9)), (int(4.5e9), int(5.5e9)))


@pytest.mark.parametrize("late_ms", [0, 5, 20, 60, 120])
def test_events_that_come_late_cost_certainty_not_truth(late_ms: int) -> None:
    """The device ran from 2 to 4 s; its words reach the host later, by at most the round trip."""
    late = late_ms / 1e3
    found = hostmeter.told(
        a_measurement(100), recorded((1.5, 4.0)), marked(2 + late, 4 + late), IDLES, int((late + 0.01) * 1e9)
    )
    assert found.energy is not None, found.unavailable
    assert abs(found.energy.per_inference_mj * 100 - 6000) <= (found.energy.uncertainty_mj or 0) * 100
    assert found.energy.uncertainty_mj is not None
    assert found.energy.uncertainty_mj < (0.03 + 0.2 * late) * found.energy.per_inference_mj * 10
    assert "energy_mj" not in found.unavailable
    assert found.energy.includes == hostmeter.INCLUDES


def test_what_cannot_be_told_has_a_reason() -> None:
    trace, whole = recorded((1.5, 4.0)), marked(2, 4)
    silent = hostmeter.told(a_measurement(1), trace, hostmeter.Marks(lambda *_words: None), IDLES, 0)
    assert silent.unavailable["energy_mj"] == "the device did not say when it ran"
    nothing = hostmeter.told(a_measurement(1), recorded((9, 9)), whole, IDLES, 0)
    assert "no more power under load" in nothing.unavailable["energy_mj"]
    short = PowerTrace(source="stream (x)", times_ns=trace.times_ns[:1200], values=trace.values[:1200])
    assert "readings" in hostmeter.told(a_measurement(1), short, whole, IDLES, 0).unavailable["energy_mj"]
    assert all(one.energy is None for one in (silent, nothing))


def test_a_sensor_of_the_device_is_no_meter_of_the_host() -> None:
    for words, name in ((None, None), ("hwmon", None), ("stream: x", "stream"), ("other: x", "other")):
        with local.connect(Device(name="h", transport="local", meter=words)) as transport:
            assert hostmeter.named(transport) == name


# --- a real device and a real program ---

FOLLOWS = PRINT + (
    "from pathlib import Path\n"
    "while True:\n"
    "    busy = Path({flag!r}).exists()\n"
    "    print('%.6f %d' % (time.monotonic() - begun, 5000 if busy else 2000), flush=True)\n"
    "    time.sleep(0.004)\n"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("bundle")
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 16)
    return folder / "b", make_bundle(models.conv_tflite(folder), folder / "b", [x])


def on_device(folder: Path, bundle: tuple[Path, Manifest], words: str) -> Iterator[tuple[Transport, str]]:
    device = Device(name="h", transport="local", python=sys.executable, folder=str(folder / "device"), meter=words)
    with local.connect(device) as transport:
        yield transport, deploy.deploy(deploy.load_bundle(bundle[0]), transport).folder


def test_a_run_is_measured_from_the_host(tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    """The instrument shows 3 W more while the runner says that it runs."""
    flag = tmp_path / "busy"

    def progress(step: str, done: int, total: int) -> None:
        if step == "warm-up":
            flag.touch()
        elif step == "runs" and done == total:
            flag.unlink(missing_ok=True)

    words = program(tmp_path, FOLLOWS.format(flag=str(flag)))
    for transport, folder in on_device(tmp_path, bundle, words):
        settings = RunSettings(seconds=1.5, warmup_seconds=0.2)
        found = hostmeter.measure(transport, folder, bundle[1], settings, progress=progress)
    assert found.energy is not None, found.unavailable
    assert found.latency_ms is not None
    told = found.energy.per_inference_mj * found.latency_ms.runs
    assert abs(told - 3000 * 1.5) <= (found.energy.uncertainty_mj or 0) * found.latency_ms.runs + 0.02 * told
    assert found.energy.idle_mw == pytest.approx(2000, rel=0.02)
    assert found.energy.source.startswith("stream (python")


def test_an_instrument_that_is_not_there_costs_the_energy_alone(tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    for transport, folder in on_device(tmp_path, bundle, "stream: /nonexistent/meter"):
        found = hostmeter.measure(transport, folder, bundle[1], RunSettings(seconds=0.1, warmup_seconds=0.1))
    assert found.latency_ms is not None
    assert found.energy is None
    assert found.unavailable["energy_mj"] == "cannot start /nonexistent/meter: No such file or directory"


def test_an_unknown_meter_costs_the_energy_alone(tmp_path: Path, bundle: tuple[Path, Manifest]) -> None:
    for transport, folder in on_device(tmp_path, bundle, "dilithium: x"):
        found = hostmeter.measure(transport, folder, bundle[1], RunSettings(seconds=0.1, warmup_seconds=0.1))
    assert "no lab.meters is called 'dilithium'" in found.unavailable["energy_mj"]
    assert dataclasses.replace(found, energy=None).latency_ms == found.latency_ms
