"""The verdict: one check per promise."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import types
from edgeq.report.verdict import judge


def _failed(verdict: types.Verdict) -> list[str]:
    return [check.rule for check in verdict.checks if not check.ok]


def test_all_well(quantized: types.QuantizedModel, measurement: types.Measurement) -> None:
    verdict = judge(quantized, measurement, None, types.Budgets())
    assert verdict.ok
    assert {"accuracy", "parity"} <= {check.rule for check in verdict.checks}


def test_lost_accuracy_says_so(quantized: types.QuantizedModel) -> None:
    assert quantized.accuracy
    lost = dataclasses.replace(quantized.accuracy, ok=False, drop=0.8, why="the answer is always class 3")
    verdict = judge(dataclasses.replace(quantized, accuracy=lost), None, None, types.Budgets())
    assert not verdict.ok
    assert verdict.checks[0].why == "the answer is always class 3"
    assert "--max-drop" in (verdict.checks[0].hint or "")


def test_parity_that_failed(quantized: types.QuantizedModel, measurement: types.Measurement) -> None:
    parity = types.Parity(exact=False, max_steps=90.0, vectors=16, ok=False)
    verdict = judge(quantized, dataclasses.replace(measurement, parity=parity), None, types.Budgets())
    assert _failed(verdict) == ["parity"]


@pytest.mark.parametrize(
    ("budgets", "failed"),
    [
        (types.Budgets(max_latency_ms=3.9), ["budget"]),
        (types.Budgets(max_latency_ms=4.0), []),
        (types.Budgets(max_ram_bytes=1 << 20), ["budget"]),
        (types.Budgets(max_ram_bytes=1 << 30), []),
        (types.Budgets(max_energy_mj=1e9), ["budget"]),
    ],
)
def test_budgets(
    quantized: types.QuantizedModel, measurement: types.Measurement, budgets: types.Budgets, failed: list[str]
) -> None:
    assert _failed(judge(quantized, measurement, None, budgets)) == failed


def test_a_budget_on_what_was_not_measured_fails_with_the_reason(
    quantized: types.QuantizedModel, measurement: types.Measurement
) -> None:
    verdict = judge(quantized, measurement, None, types.Budgets(max_energy_mj=5))
    assert "no sensor found" in next(check.why for check in verdict.checks if not check.ok)


def test_throttling_fails_the_verdict(quantized: types.QuantizedModel, measurement: types.Measurement) -> None:
    hot = dataclasses.replace(measurement.conditions, throttled=True)
    verdict = judge(quantized, dataclasses.replace(measurement, conditions=hot), None, types.Budgets())
    assert _failed(verdict) == ["throttling"]


def test_validation_counts(quantized: types.QuantizedModel) -> None:
    validation = types.Validation(
        metric="top1", samples=400, float_score=0.9, host_score=0.9, device_score=0.5, differing_samples=200, ok=False
    )
    verdict = judge(quantized, None, validation, types.Budgets())
    assert _failed(verdict) == ["validation"]


@given(limit=st.floats(0.001, 1e6), wider=st.floats(0, 1e6))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
def test_a_wider_budget_never_turns_yes_into_no(measurement: types.Measurement, limit: float, wider: float) -> None:
    narrow = judge(None, measurement, None, types.Budgets(max_latency_ms=limit))
    wide = judge(None, measurement, None, types.Budgets(max_latency_ms=limit + wider))
    assert wide.ok or not narrow.ok
