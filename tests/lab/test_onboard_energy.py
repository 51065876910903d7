"""Energy from traces of known shape: ramps, steps, spikes, gaps, counters; and the host's integral of a trace."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import MeterError
from edgeq.lab.meters import PowerTrace
from edgeq.lab.onboard import energy

SECOND = 10**9
TICK = SECOND // 50
IDLE, LOAD = (0, SECOND), (2 * SECOND, 4 * SECOND)


def trace(power_mw: Callable[[float], float], seconds: float = 4.5, **told: Any) -> dict[str, Any]:
    """50 readings a second of a power over time in s."""
    readings = [[n * TICK, power_mw(n * TICK / SECOND)] for n in range(int(seconds * 50) + 1)]
    return {"source": "hwmon", "what": "test", "counts": False, "readings": readings, **told}


def mean(told: dict[str, Any], start: float, end: float) -> float:
    return float(energy.mean_mw(told, (int(start * SECOND), int(end * SECOND)))[0])


def step(seconds: float) -> float:
    """1 W, and 3 W from 1.5 s on."""
    return 3000.0 if seconds >= 1.5 else 1000.0


def test_a_step_between_the_windows_is_its_height() -> None:
    found = energy.per_inference(trace(step), IDLE, LOAD, 400)
    assert (found["idle_mw"], found["load_mw"]) == (pytest.approx(1000), pytest.approx(3000))
    assert found["per_inference_mj"] == pytest.approx(2000 * 2 / 400)
    assert found["samples"] == 101
    assert found["source"] == "hwmon (test), idle subtracted"


@pytest.mark.parametrize(("start", "end"), [(0, 4), (0.013, 3.987), (1, 1.2), (0.009, 2.001)])
def test_a_ramp_is_its_middle(start: float, end: float) -> None:
    assert mean(trace(lambda s: 500 + 250 * s), start, end) == pytest.approx(500 + 125 * (start + end))


def test_a_spike_of_one_reading_is_a_triangle() -> None:
    told = trace(lambda _: 1000.0)
    told["readings"][75][1] = 51_000.0
    assert mean(told, 1, 2) == pytest.approx(1000 + 50_000 * TICK / SECOND)
    assert mean(told, 2, 3) == pytest.approx(1000)


def test_a_spike_on_the_edge_counts_half() -> None:
    told = trace(lambda _: 1000.0)
    told["readings"][50][1] = 51_000.0
    assert mean(told, 1, 2) == pytest.approx(1000 + 50_000 * TICK / SECOND / 2)
    assert mean(told, 0, 1) == pytest.approx(1000 + 50_000 * TICK / SECOND / 2)


def test_square_waves_are_their_duty() -> None:
    assert mean(trace(lambda s: 4000.0 if int(s * 10) % 2 else 0.0), 0, 4) == pytest.approx(2000, rel=0.02)


def test_a_sine_is_its_offset() -> None:
    assert mean(trace(lambda s: 2000 + 500 * math.sin(2 * math.pi * s)), 0, 4) == pytest.approx(2000)


@pytest.mark.parametrize(("start", "end"), [(1.2, 1.8), (0.8, 1.2), (1.7, 2.2)])
def test_a_hole_in_the_runs_is_a_reason(start: float, end: float) -> None:
    """What happened in it nobody knows; a mean of the rest would be a guess."""
    told = trace(lambda s: 1000 * s)
    told["readings"] = [reading for reading in told["readings"] if not start * SECOND < reading[0] < end * SECOND]
    with pytest.raises(energy.Unmeasured, match=r"gave no readings for 0\.\d+ s of the runs' 1\.00 s"):
        mean(told, 1, 2)


def test_a_short_hole_is_bridged_and_widens_the_uncertainty() -> None:
    told, window = trace(lambda s: 1000 * s, seconds=12), (SECOND, 11 * SECOND)
    whole = energy.integral(told, window)
    told["readings"] = [reading for reading in told["readings"] if not 5.2 * SECOND < reading[0] < 5.4 * SECOND]
    cut = energy.integral(told, window)
    assert cut["mj"] == pytest.approx(whole["mj"])
    assert cut["alignment_mj"] > whole["alignment_mj"] + 0.2 * 9000


def test_a_sensor_that_ends_early_is_a_reason() -> None:
    with pytest.raises(energy.Unmeasured, match=r"gave no readings for 1\.00 s of the runs' 2\.00 s"):
        mean(trace(lambda _: 700.0, seconds=3), 2, 4)


def test_uneven_readings_weigh_by_their_time() -> None:
    """A mean of the values alone would say about 170."""
    dense = [[n * SECOND // 100, 0.0] for n in range(101)]
    sparse = [[SECOND + n * SECOND // 20, 1000.0] for n in range(1, 21)]
    told = {"source": "s", "what": "w", "counts": False, "readings": dense + sparse}
    assert mean(told, 0, 2) == pytest.approx(500, rel=0.03)


@pytest.mark.parametrize("count", range(energy.MIN_READINGS))
def test_too_few_readings_are_a_reason(count: int) -> None:
    told = trace(step)
    told["readings"] = told["readings"][:100] + told["readings"][100 : 100 + count]
    with pytest.raises(energy.Unmeasured, match=f"only {count} readings of hwmon"):
        energy.per_inference(told, IDLE, LOAD, 1)


def test_readings_of_one_moment_are_a_reason() -> None:
    told = trace(step)
    told["readings"] = [[5, 1.0]] * 10
    with pytest.raises(energy.Unmeasured, match="one time"):
        energy.mean_mw(told, (0, 10))


@pytest.mark.parametrize("told", [{}, {"readings": []}, {"event": "error", "message": "x"}])
def test_a_sampler_that_died_is_a_reason(told: dict[str, Any]) -> None:
    with pytest.raises(energy.Unmeasured, match="gave no reading"):
        energy.per_inference(told, IDLE, LOAD, 1)


@pytest.mark.parametrize(("rise", "measured"), [(0.0, False), (-0.1, False), (0.2, False), (1.1, True), (5000.0, True)])
def test_the_rise_must_be_more_than_a_step_of_the_sensor(rise: float, measured: bool) -> None:
    told = trace(lambda s: 1000.0 + (rise if s >= 1.5 else 0))
    if measured:
        assert energy.per_inference(told, IDLE, LOAD, 1)["per_inference_mj"] == pytest.approx(2 * rise)
    else:
        with pytest.raises(energy.Unmeasured, match="no more power under load"):
            energy.per_inference(told, IDLE, LOAD, 1)


def test_an_idle_of_nothing_at_all_still_needs_a_rise() -> None:
    with pytest.raises(energy.Unmeasured):
        energy.per_inference(trace(lambda _: 0.0), IDLE, LOAD, 1)
    assert energy.per_inference(trace(lambda s: float(s >= 1.5)), IDLE, LOAD, 1)["load_mw"] == pytest.approx(1)


def test_a_turned_shunt_and_a_sign_that_changes_differ() -> None:
    turned = energy.per_inference(trace(lambda s: -step(s)), IDLE, LOAD, 1)
    assert turned == energy.per_inference(trace(step), IDLE, LOAD, 1)
    with pytest.raises(energy.Unmeasured, match="less power"):
        energy.per_inference(trace(lambda s: -1000.0 if s >= 1.5 else 500.0), IDLE, LOAD, 1)


def test_counter_and_power_of_one_course_agree() -> None:
    counter, total = trace(step, counts=True), 0.0
    for number, reading in enumerate(counter["readings"]):
        total += step((number - 0.5) * TICK / SECOND) * TICK / SECOND if number else 0.0
        reading[1] = total
    from_counter = energy.per_inference(counter, IDLE, LOAD, 10)
    from_power = energy.per_inference(trace(step), IDLE, LOAD, 10)
    assert from_counter["per_inference_mj"] == pytest.approx(from_power["per_inference_mj"], rel=1e-6)


def test_a_counters_edges_are_interpolated() -> None:
    told = trace(lambda s: 2000 * s, counts=True)
    assert mean(told, 0.513, 1.777) == pytest.approx(2000)


@given(st.floats(0.0, 0.9), st.floats(1.1, 2.0), st.floats(2.1, 4.0), st.floats(0, 1e4), st.floats(-1e3, 1e3))
def test_windows_add_up(start: float, middle: float, end: float, level: float, slope: float) -> None:
    """Energy of two adjoining windows is the energy of both."""
    told = trace(lambda s: level + slope * s * s)
    whole = mean(told, start, end) * (end - start)
    parts = mean(told, start, middle) * (middle - start) + mean(told, middle, end) * (end - middle)
    assert parts == pytest.approx(whole, rel=1e-6, abs=1e-3)


@given(st.floats(10, 1e5), st.floats(10, 1e5), st.integers(1, 10**6))
def test_energy_is_rise_times_time_over_count(idle: float, rise: float, count: int) -> None:
    told = trace(lambda s: idle + (rise if s >= 1.5 else 0.0))
    if rise <= 2 * idle / energy.FULL_SCALE_STEPS:
        return
    found = energy.per_inference(told, IDLE, LOAD, count)
    assert found["per_inference_mj"] == pytest.approx(2 * rise / count, rel=1e-6)


# --- the host's trace ---


def host(told: dict[str, Any]) -> PowerTrace:
    times, values = zip(*told["readings"], strict=True)
    return PowerTrace(source="s", times_ns=times, values=values, counts=told["counts"])


@pytest.mark.parametrize(
    ("power", "mean_mw"),
    [(lambda _: 1500.0, 1500.0), (lambda s: 100 * s, 200.0), (lambda s: 3000.0 if s >= 2 else 0.0, 1507.5)],
)
def test_the_hosts_mean_of_known_shapes(power: Callable[[float], float], mean_mw: float) -> None:
    found = host(trace(power, seconds=4))
    assert found.seconds == 4
    assert found.mean_mw == pytest.approx(mean_mw)
    assert found.energy_mj == pytest.approx(4 * mean_mw)


@given(st.lists(st.tuples(st.integers(1, SECOND), st.floats(0, 1e6)), min_size=2, max_size=40))
def test_host_and_device_integrate_alike(steps: list[tuple[int, float]]) -> None:
    now, readings = 0, []
    for wait, value in steps:
        now += wait
        readings.append([now, value])
    found = host({"readings": readings, "counts": False})
    assert min(found.values) - 1e-6 <= found.mean_mw <= max(found.values) + 1e-6
    if len(readings) >= energy.MIN_READINGS:
        told = {"source": "s", "what": "w", "counts": False, "readings": readings}
        with contextlib.suppress(energy.Unmeasured):
            on_device, count = energy.mean_mw(told, (readings[0][0], readings[-1][0]))
            assert count == len(readings)
            assert on_device == pytest.approx(found.mean_mw, rel=1e-9, abs=1e-9)


def test_a_trace_of_no_duration_has_no_mean() -> None:
    with pytest.raises(MeterError):
        _ = PowerTrace(source="s", times_ns=(7, 7, 7), values=(1.0, 2.0, 3.0)).mean_mw
