"""What a device may say: any JSON is taken whole or refused by name; every end of a runner has its error."""

from __future__ import annotations

import contextlib
import inspect
import json
import signal
import threading
import time
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import errors, store
from edgeq.errors import CommandFailed, EdgeqError, MeterError, RunnerKilled, RuntimeMissing
from edgeq.lab import answers, bench, conditions, faults, findings, probe, runner
from edgeq.lab.answers import State, Times
from edgeq.lab.onboard_meter import OnboardMeter
from edgeq.lab.transports import OUTPUT_LIMIT_BYTES, Completed
from edgeq.testing.transport import FakeTransport, said
from edgeq.types import Device, FileEntry, Manifest, Measurement, RunSettings

PI = Device(name="pi", transport="fake")
STATE: dict[str, Any] = {
    "governor": "performance",
    "frequency_hz": [1_500_000_000],
    "temperature_c": 50.0,
    "load_1min": 0.1,
    "memory_available_bytes": 1 << 30,
    "throttled_bits": 0,
    "throttle_count": None,
}
MACHINE: dict[str, Any] = {
    "python": "3.11.2",
    "machine": "aarch64",
    "libc": None,
    "kernel": "6.6",
    "hostname": "pi",
    "board": None,
    "cpu": {"model": None, "cores": 4, "features": [], "max_clock_hz": None},
    "memory_total_bytes": None,
    "memory_available_bytes": None,
    "disk_free_bytes": None,
    "pip": "managed",
}
SAMPLES_NS = [1_000_000 + 37 * (n * n % 101) for n in range(600)]
BENCH: dict[str, Any] = {
    "event": "result",
    "device": MACHINE,
    "runtime": {"name": "ai_edge_litert"},
    "latency": {
        "load_ns": 1,
        "first_ns": 1,
        "samples_ns": SAMPLES_NS,
        "starts_ns": [n * 1_100_000 for n in range(600)],
        "batch": 1,
        "inferences": 600,
        "stride": 1,
        "warmup": {"seconds": 0.5, "runs": 500, "steady": True, "wander": 0.01},
    },
    "memory": {"peak_rss": 3, "pss": 1, "cgroup_peak": 1, "floor_rss": 1, "model_rss": 2, "model_file": 1},
    "watched": [[0, 1_500_000_000, 50.0, 0, None, 0.1]],
    "beside": {"rounds": [[2_000_000 + n, 1_000_000] for n in range(8)], "batches": [1, 1], "seconds": 1.0},
    "operators": {
        "operators": [{"operator": "CONV", "name": "conv1", "placement": "CPU", "count": 1, "ns": 7}],
        "runs": 30,
        "left_out": 0,
    },
    "energy": {"per_inference_mj": 1.0, "idle_mw": 1.0, "load_mw": 2.0, "source": "hwmon", "samples": 9},
    "parity": {
        "exact": True,
        "max_steps": 0.0,
        "vectors": 4,
        "ok": True,
        "not_finite": 0,
        "tolerance_steps": 1.0,
    },
    "conditions": {"before": STATE, "after": STATE},
    "unavailable": {},
}
PROBE: dict[str, Any] = {
    "event": "result",
    "device": MACHINE,
    "runtimes": {"onnxruntime": {"version": "1", "ok": True, "why": None}},
    "sensors": {"rapl": {"ok": False, "what": "none"}},
    "conditions": STATE,
}
TRACE: dict[str, Any] = {
    "event": "result",
    "source": "hwmon",
    "what": "ina219",
    "counts": False,
    "missing": 0,
    "readings": [[1, 1.0], [2, 1.0]],
}
EVALUATED: dict[str, Any] = {"event": "result", "vectors": 3, "runtime": {}}
GOOD: list[tuple[type[Any], dict[str, Any]]] = [
    (answers.Bench, BENCH),
    (answers.Probe, PROBE),
    (answers.Trace, TRACE),
    (answers.Evaluated, EVALUATED),
]
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
    golden_vectors=4,
    files=(FileEntry(path="model.tflite", sha256="0" * 64, size_bytes=1),),
    tools={},
)


def changed(whole: dict[str, Any], path: Sequence[str], value: object) -> dict[str, Any]:
    """A copy with one value replaced or added."""
    copy: dict[str, Any] = json.loads(json.dumps(whole))
    place = copy
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return copy


OPTIONAL = {
    *(("latency", name) for name in ("starts_ns", "warmup")),
    *(("memory", name) for name in ("floor_rss", "model_rss", "model_file")),
    *((name,) for name in ("watched", "beside", "operators")),
}
"""What runners of older bundles do not tell."""


def without(whole: dict[str, Any], path: Sequence[str]) -> dict[str, Any]:
    copy = changed(whole, path, None)
    place = copy
    for step in path[:-1]:
        place = place[step]
    del place[path[-1]]
    return copy


def places(whole: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key path of nested objects."""
    found = []
    for key, value in whole.items():
        found.append((*prefix, key))
        found += places(value, (*prefix, key)) if isinstance(value, dict) else []
    return found


def read(answer: type[Any], *events: object, **ended: Any) -> Any:
    return runner.read(PI, said(*events, **ended), answer)


def measured(answer: object) -> Measurement:
    return bench.measure(FakeTransport([said(answer)]), "/f", MANIFEST, RunSettings())


FREE = ("runtime", "runtimes", "sensors", "unavailable")
EACH = [(answer, whole, path) for answer, whole in GOOD for path in places(whole) if path[0] not in FREE]


@pytest.mark.parametrize(("answer", "whole"), GOOD)
def test_good_answers_are_taken(answer: type[Any], whole: dict[str, Any]) -> None:
    assert type(read(answer, whole)) is answer


@pytest.mark.parametrize(("answer", "whole", "path"), EACH)
def test_a_key_that_is_missing_is_named(answer: type[Any], whole: dict[str, Any], path: tuple[str, ...]) -> None:
    if path in OPTIONAL:
        assert type(read(answer, without(whole, path))) is answer
        return
    with pytest.raises(CommandFailed) as caught:
        read(answer, without(whole, path))
    if path != ("event",):
        assert path[-1] in caught.value.message


@pytest.mark.parametrize(("answer", "whole", "path"), EACH)
@pytest.mark.parametrize("value", [{"a": {}}, [[[]]], "x" * 3000, -(10**400), 10**400, -1.5])
def test_a_value_that_cannot_be_is_refused(
    answer: type[Any], whole: dict[str, Any], path: tuple[str, ...], value: object
) -> None:
    negative = {"idle_mw", "load_mw", "temperature_c"}
    if value == -1.5 and path[-1] in negative:
        return
    with pytest.raises(CommandFailed):
        read(answer, changed(whole, path, value))


@pytest.mark.parametrize(("answer", "whole", "path"), EACH)
def test_a_key_too_many_is_refused(answer: type[Any], whole: dict[str, Any], path: tuple[str, ...]) -> None:
    with pytest.raises(CommandFailed):
        read(answer, changed(whole, (*path[:-1], "extra"), 1))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(GOOD), JSON)
def test_any_document_is_refused(good: tuple[type[Any], dict[str, Any]], document: Any) -> None:
    with pytest.raises(EdgeqError):
        read(good[0], document)
    if isinstance(document, dict):
        with pytest.raises(EdgeqError):
            read(good[0], {**document, "event": "result"})


@settings(max_examples=250, deadline=None)
@given(st.sampled_from(EACH), JSON)
def test_any_value_anywhere_is_taken_or_refused(place: tuple[type[Any], dict[str, Any], Any], value: object) -> None:
    answer, whole, path = place
    with contextlib.suppress(CommandFailed):
        assert type(read(answer, changed(whole, path, value))) is answer


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5), st.integers(1, 127))
def test_any_error_event_is_an_error(fields: dict[str, Any], status: int) -> None:
    with pytest.raises(EdgeqError) as caught:
        read(answers.Bench, {**fields, "event": "error"}, status=status)
    assert caught.value.message.isprintable()


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200), st.text(max_size=200), st.dictionaries(st.text(max_size=5), st.text(), max_size=3))
def test_any_words_of_an_error_event_are_one_line(kind: str, message: str, reasons: dict[str, str]) -> None:
    told = {"event": "error", "kind": kind, "message": message, "reasons": reasons}
    with pytest.raises(EdgeqError) as caught:
        read(answers.Bench, told, status=1)
    assert caught.value.message.isprintable()


# --- reasons ---


def test_whatever_is_missing_has_a_reason_even_if_the_device_gives_none() -> None:
    bare = changed(BENCH, ("energy",), None)
    bare["memory"] = dict.fromkeys(BENCH["memory"])
    bare["beside"] = None
    empty = {**dict.fromkeys(STATE), "frequency_hz": []}
    bare["conditions"] = {"before": empty, "after": empty}
    found = measured(bare)
    assert found.energy is None
    quantities = {"energy_mj", "arena", "peak_rss", "pss", "cgroup_peak", "floor_rss", "model_rss", "model_file"}
    quantities |= {"speedup"}
    quantities |= {"governor", "frequency", "temperature", "load_1min", "memory_available_bytes", "throttled"}
    assert set(found.unavailable) == quantities
    assert all(len(reason) > 10 for reason in found.unavailable.values())
    assert not any(char in store.to_json(found) for char in ("NaN", "Infinity"))


@pytest.mark.parametrize("end", ["before", "after"])
@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("governor", "governor"),
        ("frequency_hz", "frequency"),
        ("temperature_c", "temperature"),
        ("load_1min", "load_1min"),
        ("memory_available_bytes", "memory_available_bytes"),
        ("throttled_bits", "throttled"),
    ],
)
def test_missing_at_one_end_is_missing(end: str, key: str, name: str) -> None:
    value: object = [] if key == "frequency_hz" else None
    found = measured(changed(BENCH, ("conditions", end, key), value))
    assert set(found.unavailable) == {"arena", name}


def test_the_devices_own_reason_goes_first_and_is_cleaned() -> None:
    told = changed(changed(BENCH, ("energy",), None), ("unavailable",), {"energy_mj": "no \x1b[31msensor\n", "x": "y"})
    assert measured(told).unavailable["energy_mj"] == "no [31msensor"
    blank = changed(told, ("unavailable",), {"energy_mj": " \n\t"})
    assert "does not say why" in measured(blank).unavailable["energy_mj"]


def test_a_reason_for_what_was_measured_is_not_kept() -> None:
    told = changed(BENCH, ("unavailable",), {"energy_mj": "x", "pss": "x", "latency_ms": "x", "arena": "x"})
    assert measured(told).unavailable == {"arena": "x"}


def test_a_full_answer_lacks_the_arena_only() -> None:
    assert set(measured(BENCH).unavailable) == {"arena"}


def test_names_of_runtimes_and_governors_are_cleaned() -> None:
    told = changed(BENCH, ("runtime",), {"na\x1bme": "v\n1" * 100})
    told["conditions"]["after"]["governor"] = "\x1b]0;x\x07" * 50
    found = measured(told)
    assert all(key.isprintable() and value.isprintable() for key, value in found.runtime.items())
    assert len(next(iter(found.runtime.values()))) <= 100
    assert found.conditions.after.governor is not None
    assert found.conditions.after.governor.isprintable()


# --- statistics ---


@settings(deadline=None)
@given(st.lists(st.integers(1, 10**15), min_size=1, max_size=300))
def test_percentiles_are_numpys(samples: list[int]) -> None:
    times = Times(load_ns=5, first_ns=7, samples_ns=tuple(samples), batch=1, inferences=len(samples), stride=1)
    found, reasons = findings.latency(times)
    for name in ("p50_ci", "p90_ci", "p99_ci"):
        ends = getattr(found, name)
        assert (ends is None) == (name in reasons)
        assert ends is None or found.min <= ends[0] <= getattr(found, name[:3]) <= ends[1] <= found.max
    for percent, value in ((50, found.p50), (90, found.p90), (99, found.p99)):
        assert value == pytest.approx(float(np.percentile(samples, percent)) / 1e6, rel=1e-9)
    assert found.std == pytest.approx(float(np.std(np.array(samples, np.float64))) / 1e6, rel=1e-9, abs=1e-9)
    assert (found.min, found.max) == (min(samples) / 1e6, max(samples) / 1e6)
    assert (found.load, found.first, found.runs) == (5e-6, 7e-6, len(samples))


@pytest.mark.parametrize(
    ("samples", "p50", "p90", "p99"),
    [
        ([1_000_000], 1.0, 1.0, 1.0),
        ([1_000_000, 3_000_000], 2.0, 2.8, 2.98),
        ([5_000_000] * 99 + [105_000_000], 5.0, 5.0, 6.0),
        ([1, *range(1_000_000, 10_000_001, 1_000_000)], 5.0, 9.0, 9.9),
    ],
)
def test_percentiles_by_hand(samples: list[int], p50: float, p90: float, p99: float) -> None:
    times = Times(load_ns=1, first_ns=1, samples_ns=tuple(samples), batch=1, inferences=1, stride=1)
    found, _reasons = findings.latency(times)
    assert (found.p50, found.p90, found.p99) == (pytest.approx(p50), pytest.approx(p90), pytest.approx(p99))


# --- faults ---


def sources() -> str:
    return "\n".join(path.read_text() for path in runner.files())


def test_every_kind_that_the_runner_says_is_known() -> None:
    import ast

    said_kinds = set()
    for path in runner.files():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in (
                "Failure",
                "_failed",
            ):
                first = node.args[0]
                values = [first.body, first.orelse] if isinstance(first, ast.IfExp) else [first]
                said_kinds |= {value.value for value in values if isinstance(value, ast.Constant)}
    assert len(said_kinds) >= 8
    assert said_kinds - set(faults.KINDS) - {"runtime-missing"} == set()
    unsaid = set(faults.KINDS) - said_kinds
    assert all(f'"{kind}"' in sources() for kind in unsaid), unsaid


@pytest.mark.parametrize(("kind", "expected"), faults.KINDS.items())
def test_each_kind_has_its_error_and_its_hint(kind: str, expected: tuple[type[EdgeqError], str | None]) -> None:
    with pytest.raises(expected[0], match=r"^pi: why$") as caught:
        read(answers.Bench, {"event": "error", "kind": kind, "message": "why"}, status=1)
    assert type(caught.value) is expected[0]
    assert caught.value.hint == (expected[1] and expected[1].format(device="pi"))
    assert "{" not in (caught.value.hint or "")


NAMED = [name for name in dir(signal) if name.startswith("SIG") and not name.startswith(("SIG_", "SIGRT"))]


@pytest.mark.parametrize("name", NAMED)
def test_each_signal_has_its_error_both_as_a_name_and_as_a_status(name: str) -> None:
    number = int(getattr(signal, name))
    canonical = signal.Signals(number).name
    wanted = errors.IllegalInstruction if canonical == "SIGILL" else RunnerKilled
    for ended in ({"signal": canonical, "status": 128 + number}, {"status": 128 + number}):
        with pytest.raises(wanted, match=canonical) as caught:
            read(answers.Bench, b"", **ended)
        assert type(caught.value) is wanted


@pytest.mark.parametrize("status", [160, 200, 255, 128, 1, 2, 125])
def test_other_statuses_are_failed_commands(status: int) -> None:
    with pytest.raises(CommandFailed, match=f"status {status}: boom"):
        read(answers.Bench, b"", status=status, stderr=b"Traceback\n  x\nboom\n")


def test_rare_signals_are_told_by_name_or_number() -> None:
    with pytest.raises(RunnerKilled, match=r"signal 31|SIGSYS"):
        read(answers.Bench, b"", status=159)
    with pytest.raises(RunnerKilled, match=r"signal 16|SIGSTKFLT"):
        read(answers.Bench, b"", status=144)


def test_a_signals_name_cannot_move_the_cursor() -> None:
    with pytest.raises(RunnerKilled) as caught:
        read(answers.Bench, b"", status=137, signal="\x1b[2J" * 50)
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 120


@pytest.mark.parametrize("status", [126, 127])
def test_a_python_that_is_not_there(status: int) -> None:
    with pytest.raises(RuntimeMissing, match="cannot start python3: not found") as caught:
        read(answers.Bench, b"", status=status, stderr=b"not found\n")
    assert caught.value.hint is not None


@pytest.mark.parametrize(
    ("stdout", "stderr", "told"),
    [
        (b"", b"", "it said nothing"),
        (b"", b"\n \n", "it said nothing"),
        (b"out", b"", "out"),
        (b"out", b"err", "err"),
        (b"", b"x" * 10_000, "x" * 299 + "…"),
        (b"", b"a\nb\x1b[0m\xff", "b [0m�"),
    ],
)
def test_the_last_words_are_quoted(stdout: bytes, stderr: bytes, told: str) -> None:
    with pytest.raises(CommandFailed) as caught:
        read(answers.Bench, stdout, status=3, stderr=stderr)
    assert caught.value.message.endswith(f": {told}")


def test_an_error_event_goes_before_the_status() -> None:
    event = {"event": "error", "kind": "timed-out", "message": "late"}
    for ended in ({"status": 0}, {"status": 1}, {"status": 137, "signal": "SIGKILL"}):
        with pytest.raises(errors.TimedOut):
            read(answers.Bench, event, **ended)


def test_a_result_of_a_runner_that_failed_is_not_taken() -> None:
    for status in (1, 137):
        with pytest.raises(EdgeqError):
            read(answers.Evaluated, EVALUATED, status=status)


def test_only_the_last_line_is_the_answer() -> None:
    assert read(answers.Evaluated, {"event": "progress"}, b"noise", EVALUATED).vectors == 3
    with pytest.raises(CommandFailed):
        read(answers.Evaluated, EVALUATED, {"event": "progress"})


@given(st.text(max_size=1200))
def test_no_line_can_break_the_progress(line: str) -> None:
    shown: list[Any] = []
    runner.show(line, lambda *told: shown.append(told))
    runner.show('"progress"' + line, lambda *told: shown.append(told))
    assert shown == []


@given(JSON, JSON, JSON)
def test_progress_is_text_and_two_counts(step: Any, done: Any, total: Any) -> None:
    shown: list[tuple[str, int, int]] = []
    line = json.dumps({"event": "progress", "step": step, "done": done, "total": total})
    runner.show(line, lambda *told: shown.append(told))
    for text, first, last in shown:
        assert text.isprintable()
        assert 0 <= first <= last


# --- conditions ---


def state(**changes: Any) -> State:
    return State(**{**STATE, "frequency_hz": (1,), **changes})


@pytest.mark.parametrize("bit", range(4))
def test_each_bit_of_now_is_throttling_at_either_end(bit: int) -> None:
    hot, cold = state(throttled_bits=1 << bit), state(throttled_bits=0)
    assert conditions.conditions(hot).throttled is True
    assert conditions.pair(hot, cold).throttled is conditions.pair(cold, hot).throttled is True


@pytest.mark.parametrize("bit", range(16, 20))
def test_each_bit_since_boot_counts_when_it_is_new(bit: int) -> None:
    marked, clean = state(throttled_bits=1 << bit), state(throttled_bits=0)
    assert conditions.conditions(marked).throttled is False
    assert conditions.pair(clean, marked).throttled is True
    assert conditions.pair(marked, marked).throttled is False
    assert conditions.pair(marked, clean).throttled is False


@pytest.mark.parametrize("bit", [*range(4, 16), *range(20, 32)])
def test_other_bits_say_nothing(bit: int) -> None:
    assert conditions.pair(state(throttled_bits=0), state(throttled_bits=1 << bit)).throttled is False


def test_a_counter_that_restarts_is_no_throttling() -> None:
    told = {"throttled_bits": None}
    assert conditions.pair(state(throttle_count=9, **told), state(throttle_count=2, **told)).throttled is False


# --- probe ---


def test_a_probe_is_printable_and_nothing_of_it_is_lost() -> None:
    found: Any = probe.probe(FakeTransport([said(changed(PROBE, ("device", "hostname"), "a\x1b[2Jb"))]))
    assert found["device"]["hostname"] == "a [2Jb"
    assert set(found) == set(PROBE) - {"event"}
    assert found["runtimes"] == PROBE["runtimes"]


def test_a_carrier_is_one_program_with_every_file_of_the_runner() -> None:
    compile(probe.carrier(), "carrier", "exec")
    transport = FakeTransport([said(PROBE)], Device(name="d", transport="fake", python="/opt/python"))
    probe.probe(transport, roots=runner.Roots(sysfs="/x"))
    assert transport.ran == [("/opt/python", "-I", "-", "probe", "--sysfs", "/x", "--own", transport.device.folder)]


@pytest.mark.parametrize(("given_roots", "words"), [({}, []), ({"proc": "/p"}, ["--proc", "/p"])])
def test_usual_roots_are_not_told(given_roots: dict[str, str], words: list[str]) -> None:
    assert runner.Roots(**given_roots).argv() == words


# --- a meter over a device that misbehaves ---


class Scripted(FakeTransport):
    """The sampling says `lines`, waits for the stop command if it is to, and ends with `last`."""

    def __init__(self, lines: Sequence[object], last: Completed | Exception, *, waits: bool = True) -> None:
        super().__init__()
        self.lines, self.last, self.waits = lines, last, waits
        self.touched = threading.Event()

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_seconds: float,  # noqa: ARG002 the Protocol's
        stdin: bytes = b"",
        output_limit_bytes: int = OUTPUT_LIMIT_BYTES,  # noqa: ARG002 the Protocol's
        on_line: Callable[[str], None] | None = None,
    ) -> Completed:
        self.ran.append(tuple(argv))
        if not stdin:
            self.touched.set()
            return said()
        for line in self.lines if on_line else ():
            on_line(line if isinstance(line, str) else json.dumps(line))  # type: ignore[misc]
        if self.waits:
            self.touched.wait(10)
        self.touched.clear()
        if isinstance(self.last, Exception):
            raise self.last
        return self.last


STARTED = {"event": "started", "source": "hwmon", "what": "ina219", "counts": False, "stop_file": "/tmp/x/stop"}


def meter(lines: Sequence[object], last: Completed | Exception, *, waits: bool = True) -> OnboardMeter:
    return OnboardMeter(PI, Scripted(lines, last, waits=waits), "hwmon", runner.USUAL_ROOTS)


def test_a_meter_can_be_used_again() -> None:
    found = meter([STARTED], said(TRACE))
    for _ in range(3):
        found.start()
        trace = found.stop()
        assert (trace.source, trace.times_ns, trace.values) == ("hwmon (ina219)", (1, 2), (1.0, 1.0))


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["noise", "{", "[]"],
        [{"event": "started"}],
        [{**STARTED, "stop_file": 5}],
        [{**STARTED, "event": "progress"}],
        [{**STARTED, "what": "x" * 5000}],
    ],
)
def test_a_sampling_that_never_says_started_is_a_meter_error(lines: list[object]) -> None:
    with pytest.raises(MeterError, match="does not answer"):
        meter(lines, said(TRACE), waits=False).start()


def test_a_second_start_does_not_live_on_the_firsts_words() -> None:
    transport = Scripted([STARTED], said(TRACE))
    found = OnboardMeter(PI, transport, "hwmon", runner.USUAL_ROOTS)
    found.start()
    found.stop()
    transport.lines, transport.waits = [], False
    with pytest.raises(MeterError, match="does not answer"):
        found.start()


@pytest.mark.parametrize(
    ("last", "wanted"),
    [
        (errors.Disconnected("gone"), errors.Disconnected),
        (errors.TimedOut("late"), errors.TimedOut),
        (said({"event": "error", "kind": "no-meter", "message": "hwmon: none"}, status=1), MeterError),
        (said(b"", status=137, signal="SIGKILL"), RunnerKilled),
        (said(b"nonsense"), CommandFailed),
        (said(changed(TRACE, ("readings",), [[1]])), CommandFailed),
        (said(changed(TRACE, ("readings",), [[1, None]])), CommandFailed),
        (said(changed(TRACE, ("readings",), [[-1, 1.0]])), CommandFailed),
        (said(changed(TRACE, ("readings",), [[1, 1e300]])), CommandFailed),
        (said(changed(TRACE, ("readings",), [[5, 1.0], [4, 1.0]])), MeterError),
    ],
)
def test_what_goes_wrong_is_told_at_start_or_at_stop(last: Any, wanted: type[EdgeqError]) -> None:
    early = meter([], last, waits=False)
    with pytest.raises(wanted):
        early.start()
    late = meter([STARTED], last)
    late.start()
    with pytest.raises(wanted):
        late.stop()
    with pytest.raises(MeterError, match="not started"):
        late.stop()


def test_what_the_source_is_called_is_cleaned() -> None:
    found = meter([STARTED], said(changed(TRACE, ("what",), "\x1b[2J" * 100)))
    found.start()
    assert found.stop().source.isprintable()


def test_the_stop_file_is_an_argument_never_a_program() -> None:
    transport = Scripted([{**STARTED, "stop_file": "'; import os; os.system('x') #"}], said(TRACE))
    found = OnboardMeter(PI, transport, "hwmon", runner.USUAL_ROOTS)
    found.start()
    found.stop()
    assert transport.ran[-1][:3] == ("python3", "-I", "-c")
    assert "os.system" not in transport.ran[-1][3]
    assert transport.ran[-1][4].startswith("'; import os")


HOSTS = {"stream"}
"""Meters that are plugged into the host."""


def test_every_module_of_meters_is_its_sources_name() -> None:
    from edgeq import backends
    from edgeq.lab.onboard import meters as onboard

    for name in backends.names("lab.meters"):
        module: types.ModuleType = backends.find("lab.meters", name)  # type: ignore[assignment]
        assert name == module.SOURCE
        assert name in onboard.FINDERS or name in HOSTS
        assert list(inspect.signature(module.connect).parameters) == ["device", "transport", "roots"]
    assert set(backends.names("lab.meters")) == set(onboard.FINDERS) | HOSTS


def test_reading_a_long_answer_takes_no_time(tmp_path: Path) -> None:
    """20,000 samples is the most that a runner keeps; the host must not mind them."""
    told = changed(BENCH, ("latency", "samples_ns"), list(range(1, answers.MAX_SAMPLES + 1)))
    told["latency"]["starts_ns"] = [n * answers.MAX_SAMPLES for n in range(answers.MAX_SAMPLES)]
    told["latency"]["inferences"] = answers.MAX_SAMPLES
    start = time.perf_counter()
    store.write(tmp_path / "measurement.json", measured(told))
    assert time.perf_counter() - start < 5
