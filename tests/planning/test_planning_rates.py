"""Costs of work learned from measured latencies."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.planning import rates
from edgeq.types import Observation, Roofline

TRUE = {"int8 conv": 2e-11, "int8 depthwise": 9e-11, "int8 matmul": 4e-11, "bytes": 5e-11, "operators": 2e-6}


def observed(work: dict[str, float], latency_ms: float | None = None) -> Observation:
    found = latency_ms if latency_ms is not None else 1000 * sum(TRUE[kind] * units for kind, units in work.items())
    return Observation(
        runtime="litert", artifact_sha256="ab", device="pi", date="2026-11-21", latency_ms=found, work=work
    )


WORKS = [
    {"int8 conv": 2.4e6, "int8 depthwise": 2.9e5, "bytes": 1.7e5, "operators": 13},
    {"int8 conv": 1.25e7, "int8 matmul": 6.4e2, "bytes": 3.5e5, "operators": 16},
    {"int8 conv": 3e8, "int8 depthwise": 2e7, "bytes": 2.5e7, "operators": 66},
    {"int8 matmul": 2.6e5, "bytes": 2.7e5, "operators": 10},
    {"int8 conv": 6.7e6, "int8 depthwise": 8e5, "int8 matmul": 512, "bytes": 7e5, "operators": 31},
    {"int8 conv": 1.4e8, "int8 depthwise": 1.1e7, "bytes": 1.6e7, "operators": 79},
    {"int8 matmul": 288, "bytes": 486, "operators": 3},
]


def test_true_costs_are_found_from_enough_measurements() -> None:
    found = rates.fit([observed(work) for work in WORKS], None)
    for work in WORKS:
        assert rates.seconds(work, found) == pytest.approx(observed(work).latency_ms / 1000, rel=0.05)
    assert found["int8 depthwise"] > found["int8 conv"]


def test_a_model_that_was_not_measured_is_predicted() -> None:
    unseen = {"int8 conv": 5e7, "int8 depthwise": 4e6, "bytes": 6e6, "operators": 40}
    found = rates.fit([observed(work) for work in WORKS], None)
    assert rates.seconds(unseen, found) == pytest.approx(observed(unseen).latency_ms / 1000, rel=0.2)


def test_one_measurement_scales_the_general_proportions() -> None:
    one = observed(WORKS[2])
    found = rates.fit([one], None)
    assert rates.seconds(one.work, found) == pytest.approx(one.latency_ms / 1000, rel=0.01)
    assert found["float32 conv"] > found["int8 conv"] > 0, "float arithmetic is known to be slower, not to be free"
    assert rates.left_out_error([one], None) is None


def test_a_roofline_is_where_the_fit_starts() -> None:
    roofline = Roofline(source="bench", int8_macs_per_s=1e9, float32_macs_per_s=2.5e8, memory_bytes_per_s=1e10)
    found = rates.fit([observed({"int8 conv": 1e9}, 1000.0)], roofline)
    assert found["int8 conv"] == pytest.approx(1e-9, rel=0.01)
    assert found["float32 conv"] == pytest.approx(4e-9)
    assert found["bytes"] == pytest.approx(1e-10)


def test_a_roofline_that_measurements_contradict_gives_way() -> None:
    roofline = Roofline(source="data sheet", int8_macs_per_s=1e12, memory_bytes_per_s=1e12)
    one = observed({"int8 conv": 1e9, "bytes": 1e6}, 1000.0)
    assert rates.seconds(one.work, rates.fit([one], roofline)) == pytest.approx(1.0, rel=0.02)


def test_the_error_is_of_measurements_that_the_fit_did_not_see() -> None:
    honest = [observed(work) for work in WORKS]
    error = rates.left_out_error(honest, None)
    assert error is not None
    assert error < 0.3
    odd = [*honest[:-1], observed(WORKS[-1], 100.0)]
    worse = rates.left_out_error(odd, None)
    assert worse is not None
    assert worse > error


def test_relative_errors_count_so_that_small_models_are_not_drowned() -> None:
    found = rates.fit([observed(work) for work in WORKS], None)
    small, large = WORKS[-1], WORKS[2]
    for work in (small, large):
        assert rates.seconds(work, found) == pytest.approx(observed(work).latency_ms / 1000, rel=0.05)


UNITS = st.floats(1, 1e12)
WORK = st.dictionaries(st.sampled_from(rates.KINDS), UNITS, min_size=1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(WORK, st.floats(1e-6, 1e6)), min_size=1, max_size=6))
def test_costs_are_finite_and_never_negative(measured: list[tuple[dict[str, float], float]]) -> None:
    found = rates.fit([observed(work, latency) for work, latency in measured], None)
    assert set(found) == set(rates.KINDS)
    assert all(math.isfinite(cost) and cost >= 0 for cost in found.values())


def test_unknown_kinds_of_work_cost_nothing() -> None:
    """A file of a newer edgeq may know more kinds."""
    known = observed(WORKS[0])
    newer = observed({**WORKS[0], "int4 conv": 1e9}, known.latency_ms)
    assert rates.fit([newer], None) == rates.fit([known], None)
    assert rates.seconds({"int4 conv": 1.0}, {}) == 0
