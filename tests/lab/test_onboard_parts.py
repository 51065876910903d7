"""Pieces of the runner that watch, wait, interleave and ask other processes; hostile answers to what they tell."""

from __future__ import annotations

import itertools
import json
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import CommandFailed
from edgeq.lab import findings
from edgeq.lab.answers import Beside, OperatorRow, Operators, Times, Warmth
from edgeq.lab.onboard import beside, files, operators, parts, sampler, timing, warming, watching
from edgeq.testing import models as tiny
from edgeq.testing.bundles import make_bundle, with_float

X = np.zeros((8, 4), np.float32)


class Paced:
    """A session whose inference takes what `pace` says of its number, by a clock of its own."""

    batch = 1

    def __init__(self, pace: Callable[[int], float]) -> None:
        self.pace, self.now_ns, self.ran = pace, 0, 0

    def feed(self, arrays: list[Any], number: int) -> None:
        """Take no time."""

    def invoke(self) -> None:
        self.now_ns += int(1e6 * self.pace(self.ran))
        self.ran += 1

    def clock(self) -> int:
        return self.now_ns


def lot() -> random.Random:
    return random.Random(0)  # noqa: S311 an order, no secret


# --- warm-up ---


def test_a_level_that_is_steady_ends_the_warm_up_in_time() -> None:
    session = Paced(lambda _n: 1.0)
    batch, found = timing.warm_up(session, [X], 0.5, session.clock)
    assert batch == 1
    assert found["steady"]
    assert 0.5 <= found["seconds"] < 0.52
    assert found["wander"] == pytest.approx(0.0)


def test_a_level_that_falls_is_waited_for() -> None:
    """From 5 ms down to 1 ms with a time constant of 400 inferences."""
    session = Paced(lambda n: 1.0 + 4.0 * np.exp(-n / 400))
    _batch, found = timing.warm_up(session, [X], 0.5, session.clock)
    assert found["steady"]
    assert 1.0 < found["seconds"] < 5.0
    assert session.pace(session.ran) < 1.3


def test_a_level_that_never_settles_ends_it_after_ten_times_as_long_and_says_so() -> None:
    session = Paced(lambda n: 1.05**n)
    _batch, found = timing.warm_up(session, [X], 0.2, session.clock)
    assert not found["steady"]
    assert 2.0 <= found["seconds"] < 2.3
    assert found["wander"] > 0.05
    told = findings.unsteady(findings.warmup(times(warmup=Warmth(**found))))
    assert told.startswith("not reached in 2")
    assert "the level still moved by" in told


def test_preempted_inferences_do_not_hold_up_the_warm_up() -> None:
    dice = lot()
    session = Paced(lambda _n: 1.0 if dice.random() < 0.6 else 8.0)
    assert timing.warm_up(session, [X], 0.5, session.clock)[1]["steady"]


def test_no_warm_up_is_three_runs_and_says_that_nothing_can_be_told() -> None:
    session = Paced(lambda _n: 1.0)
    found = timing.warm_up(session, [X], 0.0, session.clock)[1]
    assert (found["runs"], found["steady"], found["wander"]) == (3, False, None)


@given(st.lists(st.floats(1e-3, 1e3), min_size=3, max_size=60), st.floats(0.001, 1))
@settings(deadline=None, max_examples=50)
def test_any_pace_ends_the_warm_up(pace: list[float], seconds: float) -> None:
    session = Paced(lambda n: pace[n % len(pace)])
    _batch, found = timing.warm_up(session, [X], seconds, session.clock)
    assert found["seconds"] >= seconds
    assert found["seconds"] <= 10 * seconds + 3 * max(pace) / 1e3 + 1e-6


def test_levels_do_not_grow_with_time() -> None:
    levels = warming.Levels(0.1)
    for n in range(100_000):
        levels.add(n * 1e-3, 1.0 + n % 7)
    assert len(levels._levels) <= 3
    assert len(levels._values) < 50


# --- samples ---


def test_samples_carry_their_moments_through_thinning() -> None:
    samples = timing.Samples(limit=100)
    for n in range(1000):
        samples.add(n, 5_000 + 10 * n)
    assert samples.starts_ns == [10 * value for value in samples.values_ns]
    assert samples.starts_ns[0] == 0
    assert len(samples.values_ns) < 100
    assert samples.values_ns == list(range(0, 1000, samples.stride))


# --- float beside INT8 ---


def test_the_ratio_of_two_paces_is_found_whatever_both_suffer() -> None:
    """A device that slows down for a while, both models on one clock."""
    slow, fast = Paced(lambda _n: 2.0), Paced(lambda _n: 1.0)
    shared = {"ns": 0}

    def run(session: Paced, took: float) -> None:
        shared["ns"] += int(1e6 * took * (3.0 if 10**9 < shared["ns"] < 2 * 10**9 else 1.0))
        session.ran += 1

    slow.invoke = lambda: run(slow, 2.0)  # type: ignore[method-assign]
    fast.invoke = lambda: run(fast, 1.0)  # type: ignore[method-assign]
    rounds = beside.interleave([(slow, [X]), (fast, [X])], [1, 1], 3.0, lambda: shared["ns"], lot())
    assert len(rounds) >= 10
    found = findings.speedup(Beside(rounds=tuple(map(tuple, rounds)), batches=(1, 1), seconds=3.0))
    assert found.ratio == pytest.approx(2.0)
    assert found.low is not None
    assert found.low <= 2.0 <= (found.high or 0)
    assert (found.float_p50_ms, found.quantized_p50_ms) == (pytest.approx(2.0), pytest.approx(1.0))


def test_slow_models_get_six_rounds_whatever_that_takes() -> None:
    session = Paced(lambda _n: 400.0)
    rounds = beside.interleave([(session, [X]), (session, [X])], [1, 1], 0.1, session.clock, lot())
    assert len(rounds) == 6


def test_the_order_within_rounds_is_drawn_by_lot() -> None:
    order: list[str] = []

    class Named(Paced):
        def __init__(self, name: str) -> None:
            super().__init__(lambda _n: 1.0)
            self.name = name

        def feed(self, arrays: list[Any], number: int) -> None:  # noqa: ARG002 the session's
            order.append(self.name)

    ticks = itertools.count(step=1_000_000)
    pairs = [(Named("float"), [X]), (Named("int8"), [X])]
    beside.interleave(pairs, [1, 1], 0.5, lambda: next(ticks), lot())
    blocks = [name for name, _ in itertools.groupby(order)]
    both = {tuple(blocks[n : n + 2]) for n in range(0, len(blocks) - 1, 2)}
    assert len(order) > 20
    assert {"float", "int8"} == set(order)
    assert len(both) > 1 or len(blocks) < len(order)


@pytest.mark.parametrize(
    ("port", "stored", "wanted"),
    [
        ({"scale": 0.5, "zero_point": -10}, np.array([-10, 0, 10], np.int8), [0.0, 5.0, 10.0]),
        ({"scale": 0.5, "zero_point": None}, np.array([4], np.uint8), [2.0]),
        ({"scale": None, "zero_point": None}, np.array([1.5], np.float32), [1.5]),
        ({}, np.array([7], np.int32), [7]),
    ],
)
def test_real_values_of_stored_ones(port: dict[str, Any], stored: Any, wanted: list[float]) -> None:
    assert beside.real(stored, port).tolist() == wanted


# --- watching ---


def test_rows_come_at_their_time_and_are_thinned(tmp_path: Path) -> None:
    watch = watching.Watch(files.Roots(str(tmp_path), str(tmp_path), "/nonexistent"))
    watch.poll()
    watch.poll()
    assert len(watch.rows) == 1
    assert watch.rows[0][1:] == [None, None, None, None, None]
    watch.rows = [[n, None, None, None, None, None] for n in range(watching.MAX_ROWS - 1)]
    watch._next = time.monotonic()
    watch.poll()
    assert len(watch.rows) == watching.MAX_ROWS // 2
    assert watch.period == 2 * watching.PERIOD_SECONDS


def test_a_sampler_without_a_power_source_watches(tmp_path: Path) -> None:
    (tmp_path / "loadavg").write_text("0.25 0.1 0.1 1/1 1\n")
    found = sampler.Sampling(sampler.NO_SOURCE, files.Roots("/nonexistent", str(tmp_path), "/nonexistent"), (), True)
    found.wait()
    time.sleep(0.6)
    trace = found.stop()
    assert (trace["source"], trace["readings"]) == ("none", [])
    assert len(trace["watched"]) >= 2
    assert {row[5] for row in trace["watched"]} == {0.25}


# --- parts ---


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with its float model beside it, as a builder lays it out."""
    folder = tmp_path_factory.mktemp("parts")
    model = tiny.conv_tflite(folder)
    values, _ = tiny.tiny_samples(tiny.CONV_SHAPE, tiny.CLASSES, 4)
    made = folder / "bundle"
    make_bundle(model, made, [values])
    with_float(made)
    return made


def test_a_part_that_fails_says_why_and_the_next_is_asked(tmp_path: Path) -> None:
    roots = files.Roots(str(tmp_path), str(tmp_path), "none")
    found = parts.ask(["memory", "beside"], tmp_path, {"interpreter": "ai_edge_litert"}, roots)
    assert list(found) == ["memory", "beside"]
    for failure in found.values():
        assert "manifest.json cannot be read" in failure.message
        assert failure.kind == "altered"


def test_parts_share_one_fresh_process(bundle: Path) -> None:
    """One runtime is loaded once, and memory is told as by a process that has done nothing else."""
    settings = {"interpreter": "ai_edge_litert", "seconds": 0.1}
    found = parts.ask(["memory", "beside"], bundle, settings, files.Roots())
    alone = parts.ask(["memory"], bundle, settings, files.Roots())
    assert found["memory"]["memory"]["floor_rss"] == pytest.approx(alone["memory"]["memory"]["floor_rss"], rel=0.1)
    assert len(found["beside"]["rounds"]) >= beside.LEAST_ROUNDS


def test_a_process_that_dies_costs_the_part_at_which_it_died(bundle: Path, tmp_path: Path) -> None:
    """A float model for which memory does not suffice: killed as the kernel does it, the others are told."""
    private = tmp_path / "copy"
    shutil.copytree(bundle, private)
    main = private / "runner" / "beside.py"
    main.write_text("import os\ndef run(*_words):\n    os.kill(os.getpid(), 9)\n")
    argv = [sys.executable, "-I", str(private / "runner" / "__main__.py"), "bench", "--bundle", str(private)]
    settings = json.dumps({"seconds": 0.1, "warmup_seconds": 0.1, "compare_float": True, "operators": True})
    done = subprocess.run([*argv, "--settings", settings], check=True, capture_output=True, timeout=120)
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["memory"]["model_file"] == (private / "model.tflite").stat().st_size
    assert told["unavailable"]["speedup"] == "the process for beside was ended by signal 9 (out of memory?)"
    assert "has no profiler" in told["unavailable"]["operators"]
    assert "beside" not in told


def test_a_part_that_is_killed_says_how() -> None:
    assert parts._message("memory", -9) == "the process for memory was ended by signal 9 (out of memory?)"
    assert parts._message("beside", 3) == "the process for beside ended with 3"


def test_lines_that_are_no_events_are_nothing() -> None:
    assert parts._parsed(b"\xff{") == parts._parsed(b"[1]") == parts._parsed(b"") == {}
    assert parts._parsed(b'{"event": "x"}') == {"event": "x"}


# --- operators ---


def event(name: str, kind: str, us: int, **more: Any) -> dict[str, Any]:
    return {
        "cat": "Node",
        "name": f"{name}_kernel_time",
        "dur": us,
        "args": {"op_name": kind, "provider": "CPU"},
        **more,
    }


def test_operators_are_means_over_the_runs() -> None:
    trace = [event("a", "Conv", 10), event("b", "Gemm", 3), event("a", "Conv", 30), event("b", "Gemm", 5)]
    rows = operators.rows_of([*trace, {"cat": "Session", "name": "x", "dur": 9}, event("a", "Conv", 1, cat="Api")], 2)
    assert rows == [
        {"operator": "Conv", "name": "a", "placement": "CPU", "count": 1, "ns": 20_000},
        {"operator": "Gemm", "name": "b", "placement": "CPU", "count": 1, "ns": 4_000},
    ]


def test_long_names_are_cut() -> None:
    (row,) = operators.rows_of([event("n" * 5000, "K" * 5000, 1)], 1)
    assert len(row["name"]) == len(row["operator"]) == 200


def test_shares_add_up_and_names_are_cleaned() -> None:
    rows = tuple(
        OperatorRow(operator="Conv\x1b[2J", name=f"n{n}", placement="CPU", count=1, ns=100 * n) for n in range(4)
    )
    found = findings.operators(Operators(operators=rows, runs=3, left_out=0))
    assert sum(one.share for one in found) == pytest.approx(1.0)
    assert all(one.operator == "Conv [2J" for one in found)
    none = findings.operators(Operators(operators=(rows[0],), runs=3, left_out=0))
    assert none[0].share == 0.0


# --- what a hostile device may say of its times ---


def times(**changes: Any) -> Times:
    words: dict[str, Any] = {
        "load_ns": 1, "first_ns": 1, "samples_ns": (100,) * 50, "starts_ns": tuple(range(0, 5500, 110)),
        "batch": 1, "inferences": 50, "stride": 1,
    }  # fmt: skip
    return Times(**{**words, **changes})


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"starts_ns": (0, 110)}, "50 times and 2 moments"),
        ({"starts_ns": tuple(range(0, 5000, 100))[::-1]}, "begin before"),
        ({"starts_ns": tuple(range(0, 2500, 50))}, "begin before"),
        ({"inferences": 49}, "which cannot be"),
        ({"stride": 2, "inferences": 98}, "which cannot be"),
        ({"batch": 10, "inferences": 50}, "which cannot be"),
        ({"batch": 10, "inferences": 500}, "begin before"),
    ],
)
def test_times_that_cannot_be_are_one_error(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(CommandFailed, match=why) as caught:
        findings.check_times("pi", times(**changes))
    assert caught.value.message.startswith("pi gave ")


def test_times_that_can_be_are_taken() -> None:
    findings.check_times("pi", times())
    findings.check_times("pi", times(starts_ns=()))
    findings.check_times("pi", times(samples_ns=(1,), starts_ns=(0,), inferences=1))


@given(
    st.lists(st.integers(1, 10**15), min_size=1, max_size=100),
    st.lists(st.integers(0, 10**15), max_size=100),
    st.integers(1, 10**6),
    st.integers(1, 10**9),
    st.integers(1, 10**12),
)
@settings(deadline=None, max_examples=150)
def test_any_times_are_refused_or_give_finite_statistics(
    samples: list[int], starts: list[int], batch: int, stride: int, inferences: int
) -> None:
    told = times(samples_ns=tuple(samples), starts_ns=tuple(starts), batch=batch, stride=stride, inferences=inferences)
    try:
        findings.check_times("pi", told)
    except CommandFailed:
        return
    latency, reasons = findings.latency(told)
    shape = findings.steadiness(told)
    lasting = findings.sustained(told, 1.0, shape)
    text = json.dumps([str(latency), reasons, str(shape), str(lasting)])
    assert "nan" not in text
    assert "inf" not in text.replace("info", "")
    assert lasting.peak_p50_ms <= lasting.sustained_p50_ms * (1 + 1e-9) or len(samples) > 1


def test_a_device_cannot_make_the_host_work_long() -> None:
    rng = np.random.default_rng(1)
    samples = tuple(int(value) for value in rng.integers(1, 10**12, 20_000))
    moments = tuple(int(value) for value in np.concatenate([[0], np.cumsum(samples)[:-1]]))
    told = times(samples_ns=samples, starts_ns=moments, inferences=20_000)
    begun = time.process_time()
    findings.check_times("pi", told)
    findings.latency(told)
    findings.sustained(told, 60.0, findings.steadiness(told))
    assert time.process_time() - begun < 2.0


def test_rows_of_the_state_are_sorted_and_throttling_is_seen() -> None:
    rows: Any = [(2 * 10**9, 1, 50.0, 4, 7, 0.1), (10**9, None, None, 0, 7, None)]
    assert [row.at_s for row in findings.watched(rows)] == [1.0, 2.0]
    assert [row.throttled for row in findings.watched(rows)] == [False, True]
    assert findings.throttled(rows)
    assert findings.throttled(((0, None, None, None, 1, None), (1, None, None, None, 2, None)))
    assert not findings.throttled(((0, None, None, 0, 2, None), (1, None, None, 0x40000, 2, None)))
    assert not findings.throttled(())
