"""Devices that answer wrongly on purpose: nothing but an EdgeqError may come of it."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import store
from edgeq.errors import (
    Altered,
    CommandFailed,
    DiskFull,
    EdgeqError,
    IllegalInstruction,
    MeterError,
    OutOfMemory,
    RunnerKilled,
    RuntimeMissing,
    TimedOut,
)
from edgeq.lab import bench, conditions, faults, findings, probe, runner, vectors
from edgeq.lab.answers import State, Times
from edgeq.testing.transport import FakeTransport, said
from edgeq.types import Device, FileEntry, Manifest, Measurement, Port, RunSettings

STATE = {
    "governor": "performance",
    "frequency_hz": [1_500_000_000],
    "temperature_c": 50.0,
    "load_1min": 0.1,
    "memory_available_bytes": 1 << 30,
    "throttled_bits": 0,
    "throttle_count": None,
}
MACHINE = {
    "python": "3.11.2",
    "machine": "aarch64",
    "libc": "glibc 2.36",
    "kernel": "6.6",
    "hostname": "pi",
    "board": "Raspberry Pi 4",
    "cpu": {"model": "Cortex-A72", "cores": 4, "features": ["asimd"], "max_clock_hz": 1_800_000_000},
    "memory_total_bytes": 1 << 32,
    "memory_available_bytes": 1 << 31,
    "disk_free_bytes": 1 << 33,
    "pip": "managed",
}
GOOD: dict[str, Any] = {
    "event": "result",
    "device": MACHINE,
    "runtime": {"name": "ai_edge_litert", "version": "2.3.0", "threads": "1"},
    "latency": {
        "load_ns": 10**6,
        "first_ns": 10**7,
        "samples_ns": [n * 10**6 for n in range(1, 102)],
        "batch": 1,
        "inferences": 101,
        "stride": 1,
    },
    "memory": {"peak_rss": 1 << 25, "pss": 1 << 24, "cgroup_peak": None},
    "energy": {"per_inference_mj": 2.5, "idle_mw": 1800.0, "load_mw": 4300.0, "source": "hwmon", "samples": 50},
    "parity": {
        "exact": False,
        "max_steps": 1.0,
        "vectors": 16,
        "ok": True,
        "not_finite": 0,
        "tolerance_steps": 1.0,
    },
    "conditions": {"before": STATE, "after": STATE},
    "unavailable": {"arena": "not told", "cgroup_peak": "root group"},
}
MANIFEST = Manifest(
    name="m",
    target="t",
    runtime="litert",
    runtime_versions="",
    format="tflite",
    scheme="s",
    model="model.tflite",
    entry_point="runner/__main__.py",
    golden="golden.npz",
    golden_vectors=16,
    files=(FileEntry(path="model.tflite", sha256="0" * 64, size_bytes=1),),
    tools={},
)


def changed(path: str, value: object) -> dict[str, Any]:
    """The good answer with one value replaced; `a.b` is a key path."""
    copy: dict[str, Any] = json.loads(json.dumps(GOOD))
    *folders, last = path.split(".")
    place = copy
    for step in folders:
        place = place[step]
    place[last] = value
    return copy


def measured(answer: object, **ended: Any) -> Measurement:
    return bench.measure(FakeTransport([said(answer, **ended)]), "/f", MANIFEST, RunSettings())


def test_a_good_answer_becomes_a_measurement() -> None:
    found = measured(GOOD)
    assert found.latency_ms is not None
    assert (found.latency_ms.p50, found.latency_ms.p90, found.latency_ms.p99) == (51.0, 91.0, 100.0)
    assert (found.latency_ms.min, found.latency_ms.max, found.latency_ms.mean) == (1.0, 101.0, 51.0)
    assert (found.latency_ms.first, found.latency_ms.load, found.latency_ms.runs) == (10.0, 1.0, 101)
    assert found.energy is not None
    assert found.energy.per_inference_mj == 2.5
    assert found.parity is not None
    assert found.parity.ok
    assert found.unavailable.pop("steady_state").startswith("the bundle's runner is older")
    ramp = [found.unavailable.pop(name) for name in ("p50_ci", "p90_ci", "p99_ci")]
    assert all(reason.startswith("101 samples do not bound it") for reason in ramp), "a level that never stays"
    later = ("floor_rss", "model_rss", "model_file", "speedup")
    assert all("does not say why" in found.unavailable.pop(name) for name in later), (
        "an older runner knows none of them"
    )
    assert found.unavailable == {"arena": "not told", "cgroup_peak": "root group"}


def test_the_call_names_bundle_settings_and_hashes() -> None:
    transport = FakeTransport(
        [said(GOOD)], Device(name="pi", transport="ssh", python="/opt/py/bin/python", meter="pmic")
    )
    bench.measure(transport, "/f", MANIFEST, RunSettings(threads=3, cpus=(1, 2)))
    argv = transport.ran[0]
    assert argv[:6] == ("/opt/py/bin/python", "-I", "/f/runner/__main__.py", "bench", "--bundle", "/f")
    told = json.loads(argv[argv.index("--settings") + 1])
    assert (told["threads"], told["cpus"], told["meter"]) == (3, [1, 2], "pmic")
    assert told["files"] == {"model.tflite": "0" * 64}


def test_samples_that_were_thinned_out_are_said_to_be() -> None:
    thinned = changed("latency.stride", 4)
    thinned["latency"]["inferences"] = 404
    assert "every 4th" in measured(thinned).unavailable["latency_samples"]


@pytest.mark.parametrize(("steps", "bad", "ok"), [(0.0, 0, True), (1.0, 0, True), (1.01, 0, False), (0.0, 1, False)])
def test_the_host_judges_parity_itself(steps: float, bad: int, ok: bool) -> None:
    answer = changed("parity.max_steps", steps)
    answer["parity"].update(ok=True, not_finite=bad)
    found = measured(answer).parity
    assert found is not None
    assert found.ok is ok


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("latency.samples_ns", []),
        ("latency.samples_ns", [-1]),
        ("latency.samples_ns", [0]),
        ("latency.samples_ns", [1.5]),
        ("latency.samples_ns", ["1"]),
        ("latency.samples_ns", [True]),
        ("latency.samples_ns", [10**30]),
        ("latency.samples_ns", list(range(1, 20_003))),
        ("latency.samples_ns", {"a": 1}),
        ("latency.batch", 0),
        ("latency.load_ns", -5),
        ("latency.first_ns", None),
        ("latency.inferences", 0),
        ("memory.peak_rss", -1),
        ("memory.peak_rss", "lots"),
        ("energy.per_inference_mj", 0),
        ("energy.per_inference_mj", -1.0),
        ("energy.per_inference_mj", 1e300),
        ("energy.samples", -1),
        ("parity.vectors", 3),
        ("parity.max_steps", -1.0),
        ("parity.exact", True),
        ("parity", None),
        ("conditions.after.temperature_c", 1e9),
        ("conditions.before.throttled_bits", -1),
        ("device.cpu.cores", 0),
        ("device", []),
        ("runtime", {str(n): "x" for n in range(100)}),
        ("extra", 1),
        ("unavailable", {"energy_mj": 3}),
        ("device.kernel", "x" * 5000),
        ("device.kernel", "\ud800"),
    ],
)
def test_values_that_cannot_be_are_refused(path: str, value: object) -> None:
    with pytest.raises(CommandFailed):
        measured(changed(path, value))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"NaN",
        b'"result"',
        b"[" * 100_000,
        b'{"event": "result", "a": ' + b"[" * 100_000,
        b"\xff\xfe\x00",
        b'{"event":"result"}',
        b'{"event":"result","latency":NaN}',
        json.dumps(GOOD).replace("1800.0", "NaN").encode(),
        json.dumps(GOOD).replace("1800.0", "Infinity").encode(),
        json.dumps(GOOD).replace("1800.0", "1e999").encode(),
        json.dumps(GOOD).replace("33554432", "9" * 5000).encode(),
        json.dumps(GOOD).encode() + b"\nand then something else",
    ],
)
def test_lines_that_are_no_answer_are_refused(line: bytes) -> None:
    with pytest.raises(CommandFailed):
        measured(line)


def test_an_answer_too_large_is_refused() -> None:
    with pytest.raises(CommandFailed, match="too much"):
        measured(b"x" * (runner.ANSWER_LIMIT_BYTES + 1))


@given(st.binary(max_size=300), st.integers(0, 255), st.sampled_from([None, "SIGKILL", "SIGILL", "signal 40"]))
def test_any_bytes_at_all_are_an_error(output: bytes, status: int, signal: str | None) -> None:
    with pytest.raises(EdgeqError):
        measured(output, status=status, signal=signal, stderr=output)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
PATHS = [*GOOD, *(f"{a}.{b}" for a in GOOD if isinstance(GOOD[a], dict) for b in GOOD[a])]


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(PATHS), JSON)
def test_any_value_in_any_place_is_taken_whole_or_refused(path: str, value: object) -> None:
    with contextlib.suppress(EdgeqError):
        store.to_json(measured(changed(path, value)))


# --- what errors come of what ends ---


@pytest.mark.parametrize(
    ("signal", "status", "error"),
    [
        ("SIGKILL", 137, RunnerKilled),
        ("SIGSEGV", 139, RunnerKilled),
        ("SIGILL", 132, IllegalInstruction),
        (None, 132, IllegalInstruction),
        (None, 137, RunnerKilled),
        (None, 127, RuntimeMissing),
        (None, 126, RuntimeMissing),
        (None, 1, CommandFailed),
        (None, 0, CommandFailed),
    ],
)
def test_ends_without_a_word(signal: str | None, status: int, error: type[Exception]) -> None:
    with pytest.raises(error):
        measured(b"", status=status, signal=signal)


def test_the_watchdogs_end_is_a_timeout() -> None:
    with pytest.raises(TimedOut):
        measured(b"", status=1, stderr=b"noise\nTimeout (0:00:05)!\nThread 0x1 (most recent call first):\n")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("altered", Altered),
        ("out-of-memory", OutOfMemory),
        ("timed-out", TimedOut),
        ("disk-full", DiskFull),
        ("no-meter", MeterError),
        ("runtime-missing", RuntimeMissing),
        ("model-failed", CommandFailed),
        ("invented", CommandFailed),
    ],
)
def test_kinds_become_errors(kind: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="fake: because"):
        measured({"event": "error", "kind": kind, "message": "because"}, status=1)


@pytest.mark.parametrize(
    ("machine", "python", "pip", "format_", "words"),
    [
        ("aarch64", "3.11.2", "venv", "tflite", "python3 -m pip install ai-edge-litert"),
        ("x86_64", "3.10.0", "system", "tflite", "python3 -m pip install ai-edge-litert"),
        ("armv7l", "3.11.2", "system", "tflite", "python3 -m pip install tflite-runtime 'numpy<2'"),
        ("aarch64", "3.9.2", "system", "tflite", "python3 -m pip install tflite-runtime 'numpy<2'"),
        ("aarch64", "3.11.2", "managed", "onnx", "python3 -m pip install --break-system-packages onnxruntime"),
        ("aarch64", "3.11.2", "none", "onnx", "sudo apt-get install -y python3-pip && python3 -m pip install "),
        ("; rm -rf /", "$(evil)", "`evil`", "x", "python3 -m pip install tflite-runtime 'numpy<2'"),
    ],
)
def test_the_hint_installs_what_fits_that_machine(
    machine: str, python: str, pip: str, format_: str, words: str
) -> None:
    where = {"machine": machine, "python": python, "pip": pip}
    event = {"event": "error", "kind": "runtime-missing", "message": "m", "device": where, "format": format_}
    with pytest.raises(RuntimeMissing) as caught:
        measured(event, status=1)
    assert caught.value.hint is not None
    assert words in caught.value.hint
    assert "evil" not in caught.value.hint
    assert "rm -rf" not in caught.value.hint


@given(st.text(max_size=3000))
def test_nothing_the_device_says_reaches_the_terminal_raw(text: str) -> None:
    line = faults.clean(text)
    assert line.isprintable()
    assert len(line) <= 500


def test_messages_cannot_move_the_cursor() -> None:
    with pytest.raises(CommandFailed) as caught:
        measured({"event": "error", "kind": "x", "message": "a\x1b[2Jb\n\u202ec"}, status=1)
    assert caught.value.message == "fake: a [2Jb c"


# --- progress ---


def test_only_progress_that_makes_sense_is_shown() -> None:
    lines: list[object] = [
        {"event": "progress", "step": "runs", "done": 1, "total": 2},
        {"event": "progress", "step": "runs", "done": 3, "total": 2},
        {"event": "progress", "step": "runs", "done": -1, "total": 2},
        {"event": "progress", "step": "runs", "done": True, "total": 2},
        {"event": "progress", "step": 7, "done": 1, "total": 2},
        {"event": "progress", "step": "x" * 2000, "done": 1, "total": 2},
        {"event": "progress", "step": "\x1b[31mred", "done": 2, "total": 2},
        b'{"progress"',
        GOOD,
    ]
    shown: list[tuple[str, int, int]] = []
    transport = FakeTransport([said(*lines)])
    bench.measure(transport, "/f", MANIFEST, RunSettings(), progress=lambda *told: shown.append(told))
    assert shown == [("runs", 1, 2), ("[31mred", 2, 2)]


# --- outputs that are sent back ---

CONTRACT = vectors.Contract(
    inputs=(Port(name="x", shape=(1, 2), dtype="int8"),), outputs=(Port(name="y", shape=(1, 3), dtype="int8"),)
)


def archive(folder: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(folder / "out.npz", "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return folder / "out.npz"


def npy(array: np.ndarray[Any, Any], **how: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **how)
    return stream.getvalue()


def header(shape: str, descr: str = "|i1") -> bytes:
    text = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


RIGHT = np.arange(15, dtype=np.int8).reshape(5, 3)


def test_outputs_come_back(tmp_path: Path) -> None:
    found = vectors.read_outputs(CONTRACT, archive(tmp_path, {"output_0.npy": npy(RIGHT)}), 5)
    assert np.array_equal(found[0], RIGHT)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"output_1.npy": npy(RIGHT)},
        {"output_0.npy": npy(RIGHT), "../../evil.npy": npy(RIGHT)},
        {"output_0.npy": npy(RIGHT[:4])},
        {"output_0.npy": npy(RIGHT.astype(np.int16))},
        {"output_0.npy": npy(np.asfortranarray(RIGHT))},
        {"output_0.npy": npy(RIGHT, version=(2, 0))},
        {"output_0.npy": npy(np.array([[{}] * 3] * 5), allow_pickle=True)},
        {"output_0.npy": header("(5, 3)")},
        {"output_0.npy": header("(10000000000, 10000000000)")},
        {"output_0.npy": header("(5, 3)", "|O")},
        {"output_0.npy": header("(5, 3)", "[(")},
        {"output_0.npy": header("__import__('os').abort()")},
        {"output_0.npy": npy(RIGHT)[:-1]},
        {"output_0.npy": b""},
    ],
)
def test_outputs_of_another_kind_are_refused(tmp_path: Path, members: dict[str, bytes]) -> None:
    with pytest.raises(CommandFailed):
        vectors.read_outputs(CONTRACT, archive(tmp_path, members), 5)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    bomb = archive(tmp_path, {"output_0.npy": header("(5, 3)") + bytes(10 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(CommandFailed, match="compressed"):
        vectors.read_outputs(CONTRACT, bomb, 5)


@given(st.binary(max_size=200))
def test_any_file_at_all_is_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.npz"
    path.write_bytes(content)
    with pytest.raises(CommandFailed):
        vectors.read_outputs(CONTRACT, path, 5)


@given(st.data())
def test_any_flipped_byte_is_read_right_or_refused(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    folder = tmp_path_factory.getbasetemp()
    content = bytearray(archive(folder, {"output_0.npy": npy(RIGHT)}).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    (folder / "out.npz").write_bytes(content)
    try:
        found = vectors.read_outputs(CONTRACT, folder / "out.npz", 5)
    except CommandFailed:
        return
    assert np.array_equal(found[0], RIGHT)


# --- probe and conditions ---


def test_probe_passes_on_what_it_checked() -> None:
    answer = {
        "event": "result",
        "device": MACHINE,
        "runtimes": {"ai_edge_litert": {"version": None, "ok": False, "why": "killed by SIGILL\x1b[0m"}},
        "sensors": {"hwmon": {"ok": False, "what": "none"}},
        "conditions": STATE,
    }
    found: Any = probe.probe(FakeTransport([said(answer)]))
    assert found["runtimes"]["ai_edge_litert"]["why"] == "killed by SIGILL [0m"
    assert found["device"]["cpu"]["features"] == ["asimd"]
    with pytest.raises(CommandFailed):
        probe.probe(FakeTransport([said({**answer, "runtimes": {"x": {"ok": "yes"}}})]))


def state(bits: int | None = None, count: int | None = None) -> State:
    return State(**{**STATE, "frequency_hz": (), "throttled_bits": bits, "throttle_count": count})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after", "throttled"),
    [
        (state(), state(), None),
        (state(0), state(0), False),
        (state(0x50000), state(0x50000), False),
        (state(0x50000), state(0xD0000), True),
        (state(0), state(0x4), True),
        (state(0x50005), state(0x50000), True),
        (state(count=7), state(count=7), False),
        (state(count=7), state(count=8), True),
        (state(0, 7), state(0, 8), True),
        (state(0), state(), None),
    ],
)
def test_throttling_during_the_runs(before: State, after: State, throttled: bool | None) -> None:
    found = conditions.pair(before, after)
    assert found.throttled is throttled
    assert ("throttled" in conditions.unavailable(found)) is (throttled is None)


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=200))
def test_statistics_are_ordered(samples: list[int]) -> None:
    times = Times(load_ns=1, first_ns=1, samples_ns=tuple(samples), batch=1, inferences=len(samples), stride=1)
    found, _reasons = findings.latency(times)
    assert found.min <= found.p50 <= found.p90 <= found.p99 <= found.max
    assert found.min * (1 - 1e-9) <= found.mean <= found.max * (1 + 1e-9)
    assert found.p50 == pytest.approx(float(np.median(samples)) / 1e6)
