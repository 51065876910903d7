"""What comes of a measurement over a real firmware's own words; and the arithmetic behind it."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import backends, devices, store
from edgeq.codegen import reference
from edgeq.errors import BackendNotFound, BuildError, TimedOut
from edgeq.lab import boards, fleet
from edgeq.lab.answers import MAX_SAMPLES
from edgeq.lab.boards import firmware, measuring, running, serial, vectors
from edgeq.lab.boards.running import Pace, Ran
from edgeq.lab.deploy import load_bundle
from edgeq.report import json as report_json
from edgeq.report import terminal
from edgeq.testing import bundles, models
from edgeq.testing import firmware as made
from edgeq.testing.boards import PtyBoard
from edgeq.types import Bundle, Device, Measurement, Port, RunSettings, silent

QUICK = RunSettings(runs=20, seconds=0.1, warmup_seconds=0.02, timeout_seconds=60.0)
Start = Callable[..., PtyBoard]


def reach(one: PtyBoard) -> boards.Board:
    return boards.connect(devices.load(one.url))


@pytest.fixture(scope="module")
def measured(built: Bundle) -> Measurement:
    with PtyBoard([Path(built.path) / "build" / "protocol"]) as one:
        return measuring.measure(reach(one), built, QUICK)


# --- a measurement ---------------------------------------------------------------------------


def test_parity_is_of_all_vectors(measured: Measurement, built: Bundle) -> None:
    assert measured.parity is not None
    assert measured.parity.ok
    assert measured.parity.exact
    assert measured.parity.max_steps == 0
    assert measured.parity.vectors == built.manifest.golden_vectors
    assert measured.firmware is not None
    assert measured.firmware.differing_bytes == 0


def test_latency_is_the_boards_own(measured: Measurement) -> None:
    latency = measured.latency_ms
    assert latency is not None
    assert latency.runs == measured.batch * len(measured.latency_samples_ns) >= QUICK.runs
    assert 0 < latency.min <= latency.p50 <= latency.p99 <= latency.max
    assert latency.first >= 0
    assert latency.load >= 0
    assert measured.batch > 1  # shorter than 10 ms by far
    assert latency.p50 == pytest.approx(np.median(measured.latency_samples_ns) / 1e6)


def test_who_was_measured(measured: Measurement, built: Bundle) -> None:
    assert measured.device["name"].startswith("serial:///dev/pts/")  # type: ignore[attr-defined]
    assert measured.device["baud"] == serial.DEFAULT_BAUD
    assert measured.device["usb"] is None
    assert measured.runtime["name"] == "aot"
    assert measured.runtime["version"] == built.manifest.tools["edgeq"]
    assert measured.manifest_sha256 == store.sha256(Path(built.path) / "manifest.json")
    assert measured.settings == QUICK


def test_memory(measured: Measurement, built: Bundle) -> None:
    told = measured.firmware
    assert told is not None
    assert measured.memory_bytes.arena == told.arena_bytes == built.manifest.estimates["arena_bytes"]
    assert told.arena_used_bytes is not None
    assert 0 < told.arena_used_bytes <= told.arena_bytes
    assert told.sha256 == json.loads((Path(built.path) / "sizes.json").read_text())["firmware"]


def test_nothing_is_missing_without_a_reason(measured: Measurement) -> None:
    told = measured.firmware
    assert told is not None
    missing = [name for part in (measured.memory_bytes, told) for name, value in dataclasses.asdict(part).items()
               if value is None]  # fmt: skip
    missing += ["energy_mj", "speedup", "governor", "frequency", "temperature", "load_1min", "throttled"]
    missing += ["memory_available_bytes"]
    assert measured.energy is None
    assert measured.speedup is None
    assert set(missing) <= set(measured.unavailable)
    assert all(measured.unavailable.values())


def test_a_firmware_for_another_processor_is_a_warning(measured: Measurement) -> None:
    (warning,) = measured.preflight
    assert warning.subject == "processor"
    assert "armv7e-m" in warning.why


def test_it_survives_its_stage_file(measured: Measurement, tmp_path: Path) -> None:
    store.write(tmp_path / "measurement.json", measured)
    assert store.read(tmp_path / "measurement.json", Measurement) == measured


def test_documents_and_tables(measured: Measurement) -> None:
    document = report_json.measurement(measured)
    told = measured.firmware
    assert told is not None
    assert {"instructions", "text_bytes", "data_bytes", "bss_bytes", "arena_bytes", "stack_bytes"} <= set(document)
    assert document["firmware"] == told.sha256
    assert document["differing_bytes"] == 0
    json.dumps(document, allow_nan=False)
    from rich.console import Console

    console = Console(width=250, record=True, file=io.StringIO())
    console.print(terminal.measurement(measured))
    text = console.export_text()
    assert told.sha256[:12] in text
    assert text.count("the firmware does not tell it") == 1  # one row for all of them
    assert "exact on" in text


def test_endurance(board: Start, built: Bundle) -> None:
    settings = dataclasses.replace(QUICK, sustained_minutes=0.005)
    found = measuring.measure(reach(board()), built, settings)
    assert found.sustained is not None
    assert found.sustained.minutes == 0.005


def test_operators_are_not_timed(board: Start, built: Bundle) -> None:
    found = measuring.measure(reach(board()), built, dataclasses.replace(QUICK, operators=True))
    assert found.operators == ()
    assert "make profile" in found.unavailable["operators"]


def test_progress_is_told(board: Start, built: Bundle) -> None:
    steps: dict[str, list[tuple[int, int]]] = {}

    def heard(step: str, done: int, total: int) -> None:
        steps.setdefault(step, []).append((done, total))

    measuring.measure(reach(board()), built, QUICK, progress=heard)
    assert list(steps) == ["asking the firmware", "golden vectors", "warm-up", "runs"]
    for told in steps.values():
        assert told[-1][0] == told[-1][1]
        assert all(0 <= done <= total for done, total in told)


# --- the other verbs -------------------------------------------------------------------------


def test_deploy_only_looks(board: Start, built: Bundle) -> None:
    done = measuring.deploy(reach(board()), built)
    assert (done.sent, done.sent_bytes) == ((), 0)
    assert done.kept == ("model.tflite",)


def test_probe(board: Start, built: Bundle) -> None:
    found = measuring.probe(reach(board()))
    assert found["firmware"]["output_bytes"] == made.OUTPUTS
    assert found["firmware"]["input_bytes"] == made.INPUTS
    assert found["firmware"]["ticks_per_second"] == 1_000_000
    assert found["device"]["machine"] == found["firmware"]["core"]


def test_any_input_gives_what_the_host_computes(board: Start, built: Bundle) -> None:
    random = np.random.default_rng(3)
    inputs = random.integers(-128, 128, (40, made.INPUTS)).astype(np.int8)
    (found,) = measuring.evaluate(reach(board()), built, [inputs])
    oracle = reference.open(Path(built.path) / "model.tflite")
    expected = np.concatenate([oracle.run([inputs[n : n + 1]])[0] for n in range(len(inputs))])
    assert found.dtype == expected.dtype
    assert np.array_equal(found, expected)


def test_several_boards_at_once(board: Start, built: Bundle) -> None:
    ones = [board() for _ in range(3)]
    units = [devices.load(one.url) for one in ones]

    def work(unit: Device, reached_by: fleet.Reach) -> Measurement:
        with reached_by(unit) as reached:
            assert isinstance(reached, boards.Board)
            return measuring.measure(reached, built, QUICK)

    outcomes = fleet.each(units, work, ended=lambda outcome: None)
    assert [outcome.device for outcome in outcomes] == [one.url for one in ones]
    assert all(outcome.result and outcome.result.parity and outcome.result.parity.exact for outcome in outcomes)


def test_one_silent_board_among_several(board: Start, built: Bundle) -> None:
    units = [devices.load(one.url) for one in (board(), board([]))]
    brief = dataclasses.replace(QUICK, timeout_seconds=1.0)

    def work(unit: Device, reached_by: fleet.Reach) -> Measurement:
        with reached_by(unit) as reached:
            assert isinstance(reached, boards.Board)
            return measuring.measure(reached, built, brief if unit is units[1] else QUICK)

    first, second = fleet.each(units, work, ended=lambda outcome: None)
    assert first.result is not None
    assert isinstance(second.error, TimedOut)


# --- bundles ---------------------------------------------------------------------------------


def test_a_bundle_for_a_computer_is_refused(tmp_path: Path) -> None:
    model = models.conv_tflite(tmp_path)
    bundles.make_bundle(model, tmp_path / "bundle", [np.zeros((2, *models.CONV_SHAPE), np.float32)])
    with pytest.raises(BuildError, match="a board takes one for a microcontroller"):
        firmware.expected(load_bundle(tmp_path / "bundle"))


def test_a_bundle_that_changed_is_refused(tmp_path: Path) -> None:
    found = made.bundle(tmp_path)
    with (tmp_path / "bundle" / "sizes.json").open("a") as sizes:
        sizes.write(" ")
    with pytest.raises(BuildError, match="changed since it was built"):
        firmware.expected(found)


@pytest.mark.parametrize("change", [lambda kept: kept.pop("firmware"), lambda kept: kept.update(inputs_bytes="x")])
def test_a_bundle_of_an_older_edgeq_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    found = made.bundle(tmp_path)
    path = tmp_path / "bundle" / "sizes.json"
    kept = json.loads(path.read_text())
    change(kept)
    path.write_text(json.dumps(kept))
    entries = tuple(
        dataclasses.replace(one, sha256=store.sha256(path), size_bytes=path.stat().st_size)
        if one.path == "sizes.json" else one for one in found.manifest.files
    )  # fmt: skip
    with pytest.raises(BuildError):
        firmware.expected(dataclasses.replace(found, manifest=dataclasses.replace(found.manifest, files=entries)))


def test_how_a_board_gets_its_firmware(built: Bundle) -> None:
    assert built.path in firmware.flashing(built)
    kept = tuple(one for one in built.manifest.files if one.path != firmware.BOARD_SCRIPT)
    other = Bundle(path="/a b", manifest=dataclasses.replace(built.manifest, files=kept))
    assert "'/a b'/model.c" in firmware.flashing(other)
    assert "vendor's" in firmware.flashing(other)


def test_vectors_that_take_too_long_stay_here(board: Start, built: Bundle) -> None:
    size_bytes = made.INPUTS + made.OUTPUTS
    with measuring.met(reach(board()), built, seconds=60) as (talk, wanted, _told):
        for largest_bytes, used in ((0, 1), (size_bytes, 1), (3 * size_bytes + 5, 3)):
            found = vectors.compare(talk, built, wanted, silent, largest_bytes=largest_bytes)
            assert found.parity.vectors == used
            assert found.left_out == built.manifest.golden_vectors - used


def test_boards_are_found_by_name() -> None:
    assert backends.names("lab.boards") == ["serial"]
    assert isinstance(serial.connect(Device(name="tty", transport="serial", host="/dev/tty")), boards.Board)
    assert not boards.speaks(Device(name="x", transport="ssh"))
    with pytest.raises(BackendNotFound):
        boards.connect(Device(name="x", transport="smoke"))


# --- arithmetic ------------------------------------------------------------------------------


def port(dtype: str, *shape: int) -> Port:
    return Port(name="x", shape=shape, dtype=dtype)


@pytest.mark.parametrize(
    ("dtype", "given", "expected", "steps"),
    [
        ("int8", [1, -128, 127], [1, -128, 127], 0),
        ("int8", [127, 0, 0], [-128, 0, 0], 255),
        ("uint8", [0, 200], [200, 199], 200),
        ("int16", [-32768, 5], [32767, 5], 65535),
        ("int32", [2**31 - 1], [-(2**31)], 2**32 - 1),
        ("float32", [0.0, 1.0, 2.0], [0.0, 1.0, 2.0], 0),
        ("float32", [0.0, 1.0, 2.5], [0.0, 1.0, 2.0], 0.5 * 255 / 2),
        ("float32", [np.nan], [1.0], 1e300),
        ("float32", [np.inf, 0.0], [1.0, 0.0], 1e300),
    ],
)
def test_differences_in_steps(dtype: str, given: list[Any], expected: list[Any], steps: float) -> None:
    a, b = np.array(given, dtype), np.array(expected, dtype)
    assert vectors.steps([port(dtype, len(a))], [a.nbytes], a.tobytes(), b.tobytes()) == steps


def test_differences_of_the_worst_port() -> None:
    ports, sizes = [port("int8", 2), port("int16", 1)], [2, 2]
    a = np.array([1, 2], np.int8).tobytes() + np.array([300], "<i2").tobytes()
    b = np.array([4, 2], np.int8).tobytes() + np.array([290], "<i2").tobytes()
    assert vectors.steps(ports, sizes, a, b) == 10


@given(
    st.floats(1e-7, 100),
    st.integers(0, 2**32 - 1),
    st.builds(RunSettings, runs=st.integers(1, 10**6), seconds=st.floats(0, 86_400),
              sustained_minutes=st.none() | st.floats(0.01, 10_080)),
)  # fmt: skip
def test_samples_are_bounded_and_long_enough(seconds: float, ticks: int, settings: RunSettings) -> None:
    batch = Pace(seconds=seconds, ticks=ticks).batch(settings)
    assert 1 <= batch <= 100_000
    if batch < 100_000:
        assert batch * seconds >= running.SAMPLE_SECONDS * 0.999
        assert batch * max(ticks, 1) >= running.SAMPLE_TICKS
        assert settings.runs / batch <= MAX_SAMPLES


@pytest.mark.parametrize(
    ("seconds", "ticks", "rate", "told"),
    [
        (0.02, 1_000, 100_000, 0.01),
        (0.02, 1_000, 0, 0.02),
        (0.02, 0, 1_000_000, 0.02),
        (0.02, 10**9, 1_000_000, 0.02),  # more than passed here: not believed
        (0.0, 0, 0, 1e-7),
    ],
)
def test_the_pace_of_one_inference(seconds: float, ticks: int, rate: int, told: float) -> None:
    assert running.pace(seconds, ticks, rate).seconds == pytest.approx(told)


def ran(ticks: list[int], shares: list[float], batch: int = 1) -> Ran:
    return Ran(batch=batch, ticks=ticks, seconds=1.0, shares=shares)


@pytest.mark.parametrize(
    ("found", "first_seconds", "rate", "word"),
    [
        (ran([1000, 1100], [0.9, 0.95]), 0.1, 1000, None),
        (ran([1000], []), 0.1, 0, "no time"),
        (ran([0, 0], [0.0]), 0.1, 1000, "too coarse"),
        (ran([], []), 0.1, 1000, "too coarse"),
        (ran([1000], [0.9, 1.2]), 0.1, 1000, "more time"),
        (ran([1000], [0.2, 0.1]), 0.1, 1000, "far less"),
        (ran([1000], [0.2, 0.3]), 0.1, 1000, None),  # this host was busy once
        (ran([1000], [0.01], batch=100), 0.1, 1000, None),  # too short to tell apart from what lies around it
        (ran([1000], [0.9]), 10.0, 480_000_000, "counter"),
    ],
)
def test_clocks_that_cannot_be_right(found: Ran, first_seconds: float, rate: int, word: str | None) -> None:
    told = running.untrue(found, first_seconds, rate)
    assert (told is None) == (word is None)
    assert word is None or word in str(told)


def test_ticks_become_nanoseconds() -> None:
    found = running.times(ran([80_000, 160_000], [0.9], batch=10), 8, 800_000, 80_000_000)
    assert found.samples_ns == (100_000, 200_000)
    assert (found.load_ns, found.first_ns) == (100, 10_000_000)
    assert (found.batch, found.inferences, found.stride) == (10, 20, 1)
