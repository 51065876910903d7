"""Energy of synthetic devices whose true power is known at every moment: the truth lies within what is stated, always.

A course is power on a grid of 50 µs; its integral is exact. A sensor converts all the time: each value is the mean
over its own period, with noise, rounded to its step, and is read at the sampler's random moments until it is renewed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.lab.onboard import energy

GRID_S = 50e-6
SECOND = 10**9
BEGIN, WARM = 0.15, 1.35
IDLE = (0.2, 1.2)


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

    @property
    def load(self) -> tuple[float, float]:
        return (WARM + 0.507, WARM + 0.507 + self.run_s)

    @property
    def after(self) -> tuple[float, float]:
        return (self.load[1] + 0.3, self.load[1] + 1.3)

    def power(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(times in s, mW of everything, mW of the load alone) on the grid."""
        t = np.arange(0, self.after[1] + 0.2, GRID_S)
        busy = (t >= WARM) & (t < self.load[1] + 0.02)
        x = np.clip((t - WARM) / (self.load[1] - WARM), 0, 1)
        course = {
            "flat": np.ones_like(t),
            "ramp": 0.5 + 0.5 * x,
            "step": np.where(t < WARM + 0.507 + self.run_s * self.duty, 1.0, 0.6),
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
        inside = (t >= self.load[0]) & (t < self.load[1])
        return float(load[inside].sum() * GRID_S)

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
        told or case.trace(), window(IDLE), window(case.load), 100, window(case.after)
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


@settings(max_examples=600, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(case=CASES)
def test_the_truth_lies_within_what_is_stated(case: Case) -> None:
    try:
        found = measured(case)
    except energy.Unmeasured as reason:
        assert "no more power" in str(reason) or "gave no readings" in str(reason)
        return
    assert miss(case, found) <= 1.0
