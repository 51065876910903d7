"""What one unit of each kind of work costs on a target, learned from latencies measured there."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

from edgeq.types import Observation, Roofline

CLASSES = ("conv", "depthwise", "matmul", "other")
ARITHMETIC = ("int8", "float32")
_MACS = tuple(f"{arithmetic} {kind}" for arithmetic in ARITHMETIC for kind in CLASSES)
KINDS = (*_MACS, "bytes", "operators", "inferences")
"""Kinds of work: MACs by arithmetic and class of operator, bytes moved, operators run, and 1 for the inference."""

_SHAPE = {
    "int8 conv": 1.0,
    "int8 depthwise": 8.0,
    "int8 matmul": 1.5,
    "int8 other": 8.0,
    "float32 conv": 2.8,
    "float32 depthwise": 6.0,
    "float32 matmul": 3.0,
    "float32 other": 10.0,
    "bytes": 1.5,
    "operators": 50_000.0,
    "inferences": 500_000.0,
}
"""Costs relative to one MAC of an int8 convolution, where a profile gives no rates: the starting point of a fit.

Rounded from 26 models on an x86-64 with LiteRT 2.3 and onnxruntime 1.31; tests/bench/predicted.py fits them anew, each
within a factor of 3 but the cost of one operator (LiteRT: a fifth)."""

_PRIOR_WEIGHT = 0.02
"""Weight of the starting point against one measurement: it decides only what measurements leave open."""

_SWEEPS = 200
Rates = Mapping[str, float]


def fit(observations: Sequence[Observation], roofline: Roofline | None) -> Rates:
    """Seconds per unit of each kind of work, never negative: least squares of relative errors.

    Kinds that the measurements cannot tell apart keep the proportions of the profile's roofline, or general ones.
    There must be at least one observation with work.
    """
    prior = _prior(observations, roofline)
    rows = [[one.work.get(kind, 0.0) * prior[kind] / _seconds(one) for kind in KINDS] for one in observations]
    scales = _least_squares(rows)
    return {kind: scale * prior[kind] for kind, scale in zip(KINDS, scales, strict=True)}


def seconds(work: Mapping[str, float], rates: Rates) -> float:
    """Time of one inference that does this work."""
    return sum(units * rates.get(kind, 0.0) for kind, units in work.items())


def left_out_error(observations: Sequence[Observation], roofline: Roofline | None) -> float | None:
    """Median relative error with which each measurement is predicted from the others; None below two."""
    if len(observations) < 2:
        return None
    errors = []
    for place, one in enumerate(observations):
        rates = fit([*observations[:place], *observations[place + 1 :]], roofline)
        errors.append(abs(seconds(one.work, rates) / _seconds(one) - 1))
    return statistics.median(errors)


def _prior(observations: Sequence[Observation], roofline: Roofline | None) -> Rates:
    """Starting costs: the roofline's proportions, general ones for what it leaves out, scaled to the measurements."""
    known = _from_roofline(roofline)
    shares = [known[kind] / _SHAPE[kind] for kind in known]
    unit = statistics.median(shares) if shares else 1.0
    costs = {kind: known.get(kind, unit * cost) for kind, cost in _SHAPE.items()}
    ratios = [seconds(one.work, costs) / _seconds(one) for one in observations]
    squares = sum(ratio * ratio for ratio in ratios)
    scale = sum(ratios) / squares if squares > 0 else 1.0
    return {kind: scale * cost for kind, cost in costs.items()}


def _from_roofline(roofline: Roofline | None) -> dict[str, float]:
    if roofline is None:
        return {}
    rates = {f"int8 {kind}": roofline.int8_macs_per_s for kind in CLASSES}
    rates |= {f"float32 {kind}": roofline.float32_macs_per_s for kind in CLASSES}
    rates["bytes"] = roofline.memory_bytes_per_s
    return {kind: 1.0 / rate for kind, rate in rates.items() if rate}


def _least_squares(rows: Sequence[Sequence[float]]) -> list[float]:
    """Scales >= 0 that bring every row's sum near 1 and stay near 1 themselves, by coordinate descent.

    The prior's term makes the problem strictly convex, so that the descent finds its one minimum.
    """
    scales = [1.0] * len(KINDS)
    sums = [sum(row) for row in rows]
    for _ in range(_SWEEPS):
        for column, scale in enumerate(scales):
            steep = _PRIOR_WEIGHT + sum(row[column] ** 2 for row in rows)
            slope = _PRIOR_WEIGHT * (scale - 1) + sum(
                row[column] * (total - 1) for row, total in zip(rows, sums, strict=True)
            )
            moved = max(scale - slope / steep, 0.0)
            sums = [total + row[column] * (moved - scale) for row, total in zip(rows, sums, strict=True)]
            scales[column] = moved
    return scales


def _seconds(one: Observation) -> float:
    return one.latency_ms / 1000
