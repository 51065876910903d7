"""Parity, order of ports, timing and the event lines, with models that are computed here."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.lab import runner
from edgeq.lab.onboard import bench, events, parity, session, timing
from edgeq.lab.onboard.events import Failure

PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))  # before the tests get a home of their own
RUNNING = [Path(sys.executable), *(path for path in PYTHONS if path.parts[-3].startswith("3.7."))]


@pytest.fixture(autouse=True)
def quiet(capsys: pytest.CaptureFixture[str]) -> Callable[[], list[dict[str, Any]]]:
    """The events that a test made."""
    events._state.update(stream=None, shown_ns=0, step=None)
    return lambda: [json.loads(line) for line in capsys.readouterr().out.splitlines()]


class Computed:
    """A session over a Python function of the fed arrays, in the order that `Session` promises."""

    def __init__(self, compute: Callable[..., list[Any]], batch: int = 1, wait_ns: int = 0) -> None:
        self.compute, self.batch, self.wait_ns = compute, batch, wait_ns
        self.fed: list[int] = []
        self.invoked = 0

    def feed(self, arrays: list[Any], number: int) -> None:
        self.fed.append(number)
        self._inputs = [array[number * self.batch : (number + 1) * self.batch] for array in arrays]

    def invoke(self) -> None:
        self.invoked += 1
        end = time.perf_counter_ns() + self.wait_ns
        while time.perf_counter_ns() < end:
            pass

    def run(self, arrays: list[Any], number: int) -> list[Any]:
        self.feed(arrays, number)
        self.invoke()
        return self.compute(*self._inputs)


def port(name: str = "y", dtype: str = "float32") -> dict[str, Any]:
    return {"name": name, "dtype": dtype, "shape": [-1, 3]}


# --- parity over all vectors ---

X = np.arange(24, dtype=np.float32).reshape(8, 3)


@pytest.mark.parametrize("batch", [1, 2, 4, 8])
def test_a_model_equal_to_its_golden_outputs_is_exact(batch: int) -> None:
    told = parity.check(Computed(lambda x: [x * 2], batch), [X], [X * 2], [port()], 1.0)
    assert told == {
        "exact": True,
        "max_steps": 0.0,
        "vectors": 8,
        "ok": True,
        "not_finite": 0,
        "tolerance_steps": 1.0,
    }


def test_float_steps_are_255ths_of_the_golden_range() -> None:
    golden = X.copy()
    golden[5, 1] += np.float32(23 / 255) * 3
    told = parity.check(Computed(lambda x: [x]), [X], [golden], [port()], 1.0)
    assert told["max_steps"] == pytest.approx(3, rel=1e-3)
    assert not told["ok"]
    assert parity.check(Computed(lambda x: [x]), [X], [golden], [port()], 3.1)["ok"]


@pytest.mark.parametrize("value", [0.0, 7.0, -7.0])
def test_golden_outputs_that_are_all_alike_have_a_step_still(value: float) -> None:
    golden = np.full((8, 3), value, np.float32)
    told = parity.check(Computed(lambda x: [np.full_like(x, value) + 1]), [X], [golden], [port()], 1.0)
    assert told["max_steps"] == pytest.approx(255 / (abs(value) or 1.0))


def test_integer_steps_are_stored_values() -> None:
    x = np.arange(24, dtype=np.int8).reshape(8, 3)
    golden = x.copy()
    golden[7, 2] -= 1
    told = parity.check(Computed(lambda v: [v]), [x], [golden], [port(dtype="int8")], 1.0)
    assert (told["exact"], told["max_steps"], told["ok"]) == (False, 1.0, True)
    golden[0, 0] += 2
    assert not parity.check(Computed(lambda v: [v]), [x], [golden], [port(dtype="int8")], 1.0)["ok"]


def test_the_worst_of_several_outputs_is_told() -> None:
    a, b = X, X.astype(np.int32)
    told = parity.check(
        Computed(lambda x: [x, x.astype(np.int32) + 4]), [X], [a, b], [port("a"), port("b", "int32")], 1.0
    )
    assert (told["max_steps"], told["exact"], told["not_finite"]) == (4.0, False, 0)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda x: [x[:, :2]],
        lambda x: [x[0]],
        lambda x: [np.concatenate([x, x])],
        lambda x: [x.astype(np.float64)],
        lambda x: [np.full_like(x, np.nan)],
        lambda x: [np.full_like(x, -np.inf)],
        lambda x: [x[:0]],
    ],
)
def test_an_output_of_another_kind_is_never_ok(wrong: Callable[[Any], list[Any]]) -> None:
    told = parity.check(Computed(wrong), [X], [X], [port()], 1e9)
    assert told["not_finite"] >= 8
    assert (told["ok"], told["exact"]) == (False, False)
    json.dumps(told, allow_nan=False)


def test_nothing_but_nan_in_the_golden_outputs_is_not_ok() -> None:
    golden = np.full((8, 3), np.nan, np.float32)
    told = parity.check(Computed(lambda x: [np.full_like(x, np.nan)]), [X], [golden], [port()], 1.0)
    assert (told["ok"], told["not_finite"]) == (False, 24)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_differences_beyond_any_float_stay_json(dtype: str) -> None:
    limit = np.finfo(dtype).max
    have, want = np.array([limit], dtype), np.array([-limit], dtype)
    steps, exact, _broken = parity.compare(have, want, 1 / 255)
    json.dumps(steps, allow_nan=False)
    assert not exact


def test_float64_limits_are_not_called_equal() -> None:
    """The difference of the two ends is infinite: that is broken, not zero steps."""
    limit = np.finfo(np.float64).max
    golden = np.array([[-limit] * 3] * 8)
    told = parity.check(Computed(lambda x: [np.full(x.shape, limit)]), [X], [golden], [port(dtype="float64")], 1.0)
    assert not told["ok"]
    json.dumps(told, allow_nan=False)


def test_minus_zero_is_no_step_but_not_the_same_bits() -> None:
    zero = np.zeros(3, np.float32)
    assert parity.compare(-zero, zero, 1.0) == (0.0, False, 0)


ENDS = st.sampled_from([0, 1, 2**31, 2**53, 2**53 + 2, 2**62, 2**63 - 1])


@given(ENDS, ENDS, st.sampled_from(["int64", "uint64"]))
def test_wide_integers_do_not_wrap(have: int, want: int, dtype: str) -> None:
    steps, exact, broken = parity.compare(np.array([have], dtype), np.array([want], dtype), 1.0)
    assert steps == pytest.approx(abs(have - want), rel=1e-9, abs=1)
    assert (exact, broken) == (have == want, 0)


@given(st.lists(st.floats(width=32), min_size=1, max_size=12), st.lists(st.floats(width=32), min_size=1, max_size=12))
def test_any_floats_compare_without_a_word(have: list[float], want: list[float]) -> None:
    size = min(len(have), len(want))
    a, b = np.array(have[:size], np.float32), np.array(want[:size], np.float32)
    steps, exact, broken = parity.compare(a, b, 1.0)
    assert steps >= 0
    assert np.isfinite(steps)
    assert broken == int((~np.isfinite(a) | ~np.isfinite(b)).sum())
    assert exact is (a.tobytes() == b.tobytes() and not broken)


# --- order of ports ---


@given(st.permutations(["a", "b", "c", "d"]))
def test_ports_are_found_by_name(names: list[str]) -> None:
    contract = [port(name) for name in "abcd"]
    places = session._order(contract, [(name, "float32") for name in names])
    assert [names[place] for place in places] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("names", [["x", "y"], ["a", "x"], ["a", "a"], ["b:0", "a:0"]])
def test_other_names_go_by_position(names: list[str]) -> None:
    assert session._order([port("a"), port("b")], [(name, "float32") for name in names]) == [0, 1]


def test_two_ports_of_one_name_go_by_position() -> None:
    assert session._order([port("a"), port("a")], [("a", "float32"), ("a", "float32")]) == [0, 1]


@pytest.mark.parametrize("ports", [[], [("a", "float32")] * 2])
def test_another_number_of_ports_is_another_model(ports: list[tuple[str, str]]) -> None:
    with pytest.raises(Failure, match=f"{len(ports)} ports where io.json has 1"):
        session._order([port("a")], ports)


def test_another_dtype_is_another_model_even_by_name() -> None:
    with pytest.raises(Failure, match=r"port b is int8, io\.json says float32"):
        session._order([port("a"), port("b")], [("b", "int8"), ("a", "float32")])


@pytest.mark.parametrize(("counts", "batch", "groups"), [((8,), 1, 8), ((8, 8), 4, 2), ((4,), 4, 1)])
def test_groups_come_out_even(counts: tuple[int, ...], batch: int, groups: int) -> None:
    arrays = [np.zeros((count, 2)) for count in counts]
    assert session.groups(Computed(lambda x: [x], batch), arrays) == groups


@pytest.mark.parametrize(("counts", "batch"), [((8, 7), 1), ((7,), 4), ((), 1), ((3,), 4)])
def test_groups_that_do_not_come_out_even(counts: tuple[int, ...], batch: int) -> None:
    with pytest.raises(Failure) as caught:
        session.groups(Computed(lambda x: [x], batch), [np.zeros((count, 2)) for count in counts])
    assert caught.value.kind == "bad-vectors"


# --- timing ---


def test_a_fast_model_is_timed_in_batches_and_a_slow_one_alone() -> None:
    fast, slow = Computed(lambda x: [x]), Computed(lambda x: [x], wait_ns=300_000)
    assert timing.warm_up(fast, [X], 0.01)[0] > 1
    assert timing.warm_up(slow, [X], 0.01)[0] == 1


def test_the_warm_up_runs_three_times_at_least_and_takes_turns() -> None:
    model = Computed(lambda x: [x])
    timing.warm_up(model, [X], 0.0)
    assert model.fed == [0, 1, 2]


def test_the_first_inference_is_the_first_vector() -> None:
    model = Computed(lambda x: [x], wait_ns=2_000_000)
    assert 2_000_000 <= timing.first_ns(model, [X]) < 200_000_000
    assert (model.fed, model.invoked) == ([0], 1)


@pytest.mark.parametrize(("runs", "batch"), [(1, 1), (10, 1), (10, 7), (30, 3)])
def test_every_run_is_a_sample_of_a_batch(runs: int, batch: int) -> None:
    model = Computed(lambda x: [x], wait_ns=20_000)
    samples, (start_ns, end_ns) = timing.steady(model, [X], batch, runs, 0.0)
    assert samples.total == len(samples.values_ns) == runs
    assert model.invoked == runs * batch
    assert model.fed == [number % 8 for number in range(runs)]
    assert all(value >= 20_000 for value in samples.values_ns)
    assert sum(samples.values_ns) * batch <= end_ns - start_ns


def test_it_runs_its_time_even_when_the_count_is_reached() -> None:
    samples, (start_ns, end_ns) = timing.steady(Computed(lambda x: [x], wait_ns=1_000_000), [X], 1, 1, 0.1)
    assert end_ns - start_ns >= 100_000_000
    assert samples.total > 10


def test_feeding_is_no_part_of_a_sample() -> None:
    model = Computed(lambda x: [x], wait_ns=1_000)
    plain = model.feed

    def slowly(arrays: list[Any], number: int) -> None:
        time.sleep(0.005)
        plain(arrays, number)

    model.feed = slowly  # type: ignore[method-assign]
    samples, _ = timing.steady(model, [X], 1, 5, 0.0)
    assert sorted(samples.values_ns)[2] < 2_000_000


def test_latency_counts_what_was_run() -> None:
    model: Any = Computed(lambda x: [x], wait_ns=10_000)
    model.load_ns = 5
    words = {"runs": 20, "seconds": 0.01, "warmup_seconds": 0.005}
    told, window = bench.measure_latency(model, [X], words, timing.CLOCK)
    assert told["inferences"] >= told["batch"] * 20
    assert len(told["samples_ns"]) * told["batch"] == told["inferences"]
    assert (told["stride"], told["load_ns"]) == (1, 5)
    assert window[0] < window[1] <= time.monotonic_ns()


# --- event lines ---


def test_progress_is_shown_at_its_ends_and_seldom_between(quiet: Callable[[], list[dict[str, Any]]]) -> None:
    for done in range(1001):
        events.progress("runs", done, 1000)
    lines = quiet()
    assert (lines[0]["done"], lines[-1]["done"]) == (0, 1000)
    assert len(lines) < 20
    assert all(line["event"] == "progress" and line["step"] == "runs" for line in lines)


def test_a_new_step_is_always_shown(quiet: Callable[[], list[dict[str, Any]]]) -> None:
    for step in ("a", "b", "a"):
        events.progress(step, 5, 10)
    assert [line["step"] for line in quiet()] == ["a", "b", "a"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_no_event_holds_what_json_has_not(value: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        events.emit("result", value=value)


def test_text_is_one_ascii_line(capsys: pytest.CaptureFixture[str]) -> None:
    events.emit("result", text="a\nb\u2028c\x1b\ud800")
    line = capsys.readouterr().out
    assert line.isascii()
    assert line.count("\n") == 1
    assert json.loads(line)["text"] == "a\nb\u2028c\x1b\ud800"


_STRAY = """\
import os, sys
sys.path.insert(0, sys.argv[1])
import importlib
events = importlib.import_module("onboard.events")
events.open_stream()
print("a native library's print")
os.write(1, b"and its write")
events.emit("result", ok=True)
"""


@pytest.mark.parametrize("python", RUNNING, ids=str)
def test_only_events_reach_stdout(python: Path) -> None:
    argv = [str(python), "-I", "-c", _STRAY, str(runner.FOLDER.parent)]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=30)
    assert json.loads(done.stdout) == {"event": "result", "ok": True}
    assert b"native library" in done.stderr
    assert b"and its write" in done.stderr


_LATE = """\
import sys, time, importlib
sys.path.insert(0, sys.argv[1])
events = importlib.import_module("onboard.events")
events.stop_after(0.2)
try:
    time.sleep(20)
except events.Failure as failure:
    print(failure.kind)
"""


@pytest.mark.parametrize("python", RUNNING, ids=str)
def test_time_is_up_in_old_and_new_pythons(python: Path) -> None:
    start = time.monotonic()
    argv = [str(python), "-I", "-c", _LATE, str(runner.FOLDER.parent)]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=30)
    assert done.stdout == b"timed-out\n"
    assert time.monotonic() - start < 5


# --- cores ---


def test_pinning_nowhere_changes_nothing() -> None:
    before = os.sched_getaffinity(0)
    bench.pin([])
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("cpus", [[100_000], [-1], [2**70], [4095]])
def test_cores_that_are_not_there(cpus: list[int]) -> None:
    before = os.sched_getaffinity(0)
    with contextlib.suppress(OSError), pytest.raises(Failure) as caught:
        bench.pin(cpus)
    assert caught.value.kind == "bad-settings"
    assert os.sched_getaffinity(0) == before
