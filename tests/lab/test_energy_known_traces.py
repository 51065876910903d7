"""Energy of synthetic devices whose true power is known at every moment: the truth lies within what is stated, always.

A course is power on a grid of 100 µs; its integral is exact. A sensor converts all the time: each value is the mean
over its own period, with noise, rounded to its step, and is read at the sampler's random moments until it is renewed.
"""

from __future__ import annotations

import dataclasses
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.lab.onboard import energy, files, meters

GRID_S = 100e-6
SECOND = 10**9
BEGIN = 0.15


@dataclass(frozen=True)
class Case:
    """A device, its load and its sensor."""

    seed: int
    base_mw: float
    rise_mw: float
    shape: str
    run_s: float
    drift: float
    period_s: float
    noise: float
    step_mw: float
    floor: bool
    lost: float
    burst_s: float
    duty: float
    memory: float = 0.0
    rate_hz: float = 50.0
    idle_s: float = 1.0

    @property
    def idle(self) -> tuple[float, float]:
        return (0.2, 0.2 + self.idle_s)

    @property
    def warm(self) -> float:
        return self.idle[1] + 0.15

    @property
    def load(self) -> tuple[float, float]:
        return (self.warm + 0.507, self.warm + 0.507 + self.run_s)

    @property
    def after(self) -> tuple[float, float]:
        return (self.load[1] + 0.3, self.load[1] + 0.3 + self.idle_s)

    def power(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(times in s, mW of everything, mW of the load alone) on the grid."""
        t = np.arange(0, self.after[1] + 0.2, GRID_S)
        busy = (t >= self.warm) & (t < self.load[1] + 0.02)
        x = np.clip((t - self.warm) / (self.load[1] - self.warm), 0, 1)
        course = {
            "flat": np.ones_like(t),
            "ramp": 0.5 + 0.5 * x,
            "step": np.where(t < self.load[0] + self.run_s * self.duty, 1.0, 0.6),
            "late": np.where(t < self.load[0] + 0.004, 0.3, 1.0),
            "bursts": ((t / self.burst_s) % 1.0 < self.duty).astype(float),
            "ripple": 1 + 0.3 * np.sin(2 * np.pi * t / self.burst_s),
            "spikes": 1 + 2.0 * ((t / self.burst_s) % 1.0 < 0.1),
        }[self.shape]
        load = self.rise_mw * course * busy
        total = self.base_mw * (1 + self.drift * t / t[-1]) + load
        return t, total, load

    def truth_mj(self) -> float:
        t, _total, load = self.power()
        return between(t, load, *self.load)

    def trace(self) -> dict[str, Any]:
        """What the sampler would have written of this device."""
        random = np.random.default_rng(self.seed)
        t, total, _load = self.power()
        energy_mj = np.concatenate([[0.0], np.cumsum(total) * GRID_S])
        grid = np.append(t, t[-1] + GRID_S)
        ends = np.arange(random.uniform(0, self.period_s) + self.period_s, t[-1], self.period_s)
        values = (np.interp(ends, grid, energy_mj) - np.interp(ends - self.period_s, grid, energy_mj)) / self.period_s
        values = values + self.base_mw * self.noise * noise(random, len(values), self.memory)
        rounding = np.floor if self.floor else np.round
        values = rounding(values / self.step_mw) * self.step_mw if self.step_mw else values
        moments = BEGIN + np.cumsum((0.5 + random.random(10_000)) / self.rate_hz)
        moments = moments[moments < self.after[1] + 0.1]
        moments = moments[random.random(len(moments)) >= self.lost]
        newest = np.searchsorted(ends, moments) - 1
        return {
            "source": "hwmon",
            "what": "synthetic",
            "counts": False,
            "period_ns": int(self.period_s * 1e9),
            "resolution": self.step_mw or None,
            "readings": [
                [int(moment * 1e9), float(values[n])] for moment, n in zip(moments, newest, strict=True) if n >= 0
            ],
        }


def between(t: np.ndarray, mw: np.ndarray, start: float, end: float) -> float:
    """Exact integral in mJ of a power that is constant within each step of the grid."""
    mj, grid = np.concatenate([[0.0], np.cumsum(mw) * GRID_S]), np.append(t, t[-1] + GRID_S)
    return float(np.interp(end, grid, mj) - np.interp(start, grid, mj))


def noise(random: np.random.Generator, count: int, memory: float) -> np.ndarray:
    """Noise of unit variance; each value keeps a share of the one before."""
    found = random.normal(0, 1, count)
    for n in range(1, count) if memory else ():
        found[n] = memory * found[n - 1] + (1 - memory**2) ** 0.5 * found[n]
    return found


def window(seconds: tuple[float, float]) -> tuple[int, int]:
    return int(seconds[0] * 1e9), int(seconds[1] * 1e9)


def measured(case: Case, told: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = energy.per_inference(
        told or case.trace(), window(case.idle), window(case.load), 100, window(case.after)
    )
    return found


def miss(case: Case, found: dict[str, Any]) -> float:
    """How far the truth is, in stated uncertainties."""
    return abs(found["per_inference_mj"] * 100 - case.truth_mj()) / (found["uncertainty_mj"] * 100)


CASES = st.builds(
    Case,
    seed=st.integers(0, 2**32 - 1),
    base_mw=st.floats(300, 6000),
    rise_mw=st.floats(200, 8000),
    shape=st.sampled_from(["flat", "flat", "ramp", "step", "late", "bursts", "ripple", "spikes"]),
    run_s=st.floats(0.8, 3.0),
    drift=st.floats(-0.05, 0.05),
    period_s=st.sampled_from([0.00106, 0.0066, 0.0352, 0.14]),
    noise=st.floats(0, 0.03),
    step_mw=st.sampled_from([0.0, 2.0, 31.25, 40.0]),
    floor=st.booleans(),
    lost=st.sampled_from([0.0, 0.0, 0.02, 0.1]),
    burst_s=st.one_of(st.floats(0.001, 0.3), st.sampled_from([0.01, 0.02, 0.04, 0.0352])),
    duty=st.floats(0.2, 0.95),
    memory=st.sampled_from([0.0, 0.0, 0.6]),
)


@settings(max_examples=500, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=CASES)
def test_the_truth_lies_within_what_is_stated(case: Case) -> None:
    try:
        found = measured(case)
    except energy.Unmeasured as reason:
        assert "no more power" in str(reason) or "gave no readings" in str(reason)
        return
    assert miss(case, found) <= 1.0


ORDINARY = [
    Case(
        seed=seed,
        base_mw=2500,
        rise_mw=1500 + 100 * (seed % 20),
        shape=("flat", "ramp", "step", "late")[seed % 4],
        run_s=1.0 + (seed % 3),
        drift=0.01 * (seed % 3 - 1),
        period_s=(0.00107, 0.0066, 0.0352)[seed % 3],
        noise=0.01,
        step_mw=(2.0, 31.25, 40.0)[seed % 3],
        floor=bool(seed % 2),
        lost=0.01,
        burst_s=0.01,
        duty=0.5,
    )
    for seed in range(60)
]


def test_the_uncertainty_of_ordinary_traces_is_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    """Truth always within, and half of all are told to better than a tenth."""
    found = [(case, measured(case)) for case in ORDINARY]
    widths = [one["uncertainty_mj"] / one["per_inference_mj"] for _case, one in found]
    assert max(miss(case, one) for case, one in found) <= 1.0
    assert statistics.median(widths) < 0.1
    with capsys.disabled():
        print(f"\nordinary traces: median relative uncertainty {statistics.median(widths):.1%}, most {max(widths):.1%}")  # noqa: T201


def test_the_parts_make_up_the_whole() -> None:
    for case in ORDINARY[:10]:
        found = measured(case)
        parts = found["uncertainty_parts_mj"]
        assert set(parts) == {"resolution", "sampling", "idle", "drift", "alignment"}
        assert all(part >= 0 for part in parts.values())
        assert max(parts.values()) <= found["uncertainty_mj"] <= sum(parts.values()) * (1 + 1e-9)


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=CASES)
def test_a_load_that_takes_nothing_is_never_an_energy(case: Case) -> None:
    with pytest.raises(energy.Unmeasured, match=r"no more power|less power|gave no readings|stood still"):
        measured(dataclasses.replace(case, rise_mw=0.0))


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=CASES, moment=st.floats(0.05, 0.9))
def test_a_sensor_that_dies_in_the_runs_is_a_reason(case: Case, moment: float) -> None:
    told = case.trace()
    end = (case.load[0] + moment * case.run_s) * 1e9
    told["readings"] = [reading for reading in told["readings"] if reading[0] < end]
    with pytest.raises(energy.Unmeasured):
        measured(case, told)


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=CASES, moment=st.floats(0.0, 1.0))
def test_a_sensor_that_freezes_is_a_reason_or_within(case: Case, moment: float) -> None:
    """From some moment on it repeats itself, to the end."""
    told = case.trace()
    start = moment * case.after[1] * 1e9
    before = [reading for reading in told["readings"] if reading[0] < start]
    last = before[-1][1] if before else 1000.0
    told["readings"] = before + [[ns, last] for ns, _value in told["readings"] if ns >= start]
    try:
        found = measured(case, told)
    except energy.Unmeasured:
        return
    assert miss(case, found) <= 1.0


def test_a_sensor_that_hangs_for_a_while_is_a_reason() -> None:
    for ordinary in ORDINARY[:20]:
        case = dataclasses.replace(ordinary, step_mw=0.0, run_s=2.0, shape="flat")
        told = case.trace()
        start, end = ((case.load[0] + share) * 1e9 for share in (0.5, 1.6))
        held = next(value for ns, value in told["readings"] if ns >= start)
        told["readings"] = [[ns, held if start <= ns < end else value] for ns, value in told["readings"]]
        with pytest.raises(energy.Unmeasured, match=r"stood still for 1\.\d+ s of the runs"):
            measured(case, told)


# --- counters ---


@dataclass
class Rapl:
    """A package whose counter advances once a ms in steps of 1/2^14 J and wraps."""

    zone: Path
    range_uj: int
    start_uj: int

    def at(self, joules: float) -> int:
        return (self.start_uj + int(joules * 2**14) * 10**6 // 2**14) % self.range_uj

    def write(self, joules: float) -> None:
        """In place: to cut a file and fill it again makes some file systems wait for the disk."""
        path = self.zone / "energy_uj"
        with path.open("r+b" if path.exists() else "wb") as stream:
            stream.write(b"%020d\n" % self.at(joules))


@settings(max_examples=100, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=CASES, start=st.floats(0.0, 1.0), range_j=st.sampled_from([8.0, 65.5, 262.1]))
def test_a_counters_truth_lies_within_what_is_stated(
    case: Case, start: float, range_j: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Read by the real reader, wherever it wraps."""
    root = tmp_path_factory.mktemp("rapl")
    range_uj = int(range_j * 1e6)
    package = Rapl(root / "class/powercap/intel-rapl:0", range_uj, int(start * range_uj) % range_uj)
    package.zone.mkdir(parents=True)
    (package.zone / "name").write_text("package-0\n")
    (package.zone / "max_energy_range_uj").write_text(str(range_uj))
    random = np.random.default_rng(case.seed)
    t, total, _load = case.power()
    joules = np.concatenate([[0.0], np.cumsum(total) * GRID_S]) / 1000
    grid = np.append(t, t[-1] + GRID_S)
    phase = random.uniform(0, 0.001)
    package.write(0.0)
    source = meters.find("rapl", files.Roots(str(root)))
    moments = BEGIN + np.cumsum((0.5 + random.random(10_000)) / case.rate_hz)
    moments = moments[(moments < case.after[1] + 0.1) & (random.random(10_000) >= case.lost)]
    renewed = np.interp(np.floor((moments - phase) / 0.001) * 0.001 + phase, grid, joules)
    readings = []
    for moment, now in zip(moments, renewed, strict=True):
        package.write(float(now))
        readings.append([int(moment * 1e9), source.read()])
    try:
        found = measured(case, {**source.about(), "readings": readings})
    except energy.Unmeasured as reason:
        assert "no more power" in str(reason)
        return
    assert miss(case, found) <= 1.0
    assert found["includes"].startswith("CPU package")


def test_a_counter_that_is_reset_in_the_runs_is_a_reason(tmp_path: Path) -> None:
    """After a suspend it begins anew, which is no wrap."""
    package = Rapl(tmp_path / "class/powercap/intel-rapl:0", 262_143_328_850, 200_000_000_000)
    package.zone.mkdir(parents=True)
    (package.zone / "name").write_text("package-0\n")
    (package.zone / "max_energy_range_uj").write_text(str(package.range_uj))
    package.write(0.0)
    source = meters.find("rapl", files.Roots(str(tmp_path)))
    readings = []
    for tick in range(200):
        (package.zone / "energy_uj").write_text(str(tick * 1000 if tick > 130 else package.at(tick * 0.001)))
        try:
            readings.append([tick * SECOND // 50, source.read()])
        except ValueError as error:
            assert "was reset" in str(error)
    assert len(readings) == 131
    told = {**source.about(), "readings": readings}
    with pytest.raises(energy.Unmeasured):
        energy.per_inference(told, (0, SECOND), (2 * SECOND, 3 * SECOND), 1, (3 * SECOND, 4 * SECOND))


# --- slow gauges, several windows ---


def test_a_gauge_of_one_value_a_second_needs_long_runs() -> None:
    """A battery: told within its wide uncertainty, or that the runs were too short."""
    slow = {"shape": "flat", "period_s": 1.0, "rate_hz": 5.0, "step_mw": 10.0, "lost": 0.0}
    idle_s = energy.idle_seconds(1.0, 5.0)
    for case in ORDINARY[:20]:
        long = dataclasses.replace(case, run_s=30.0, idle_s=idle_s, **slow)
        found = measured(long)
        assert miss(long, found) <= 1.0
        assert found["uncertainty_mj"] < 0.5 * found["per_inference_mj"]
        short = dataclasses.replace(case, run_s=1.0, idle_s=1.0, **slow)
        with pytest.raises(energy.Unmeasured):
            measured(short)


def test_turns_of_several_models_are_told_apart() -> None:
    """Interleaved runs: the windows of one model alone, between others' that take more."""
    for seed in range(20):
        case = dataclasses.replace(ORDINARY[seed], run_s=6.0, shape="bursts", burst_s=2.0, duty=0.5, period_s=0.00107)
        t, _total, load = case.power()
        first = np.ceil(case.load[0] / 2.0) * 2.0
        turns = [(first + 0.1 + n * 2.0, first + 0.9 + n * 2.0) for n in range(2)]
        truth = sum(between(t, load, *turn) for turn in turns)
        found = energy.per_inference(
            case.trace(), window(case.idle), [window(turn) for turn in turns], 10, window(case.after)
        )
        assert abs(found["per_inference_mj"] * 10 - truth) <= found["uncertainty_mj"] * 10
        assert found["uncertainty_mj"] < 0.2 * found["per_inference_mj"]
