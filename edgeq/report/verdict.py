"""Does all that was asked for hold? One check per promise."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from edgeq.types import Accuracy, Budgets, Check, Measurement, QuantizedModel, Validation, Verdict


def judge(
    quantized: QuantizedModel | None,
    measurement: Measurement | None,
    validation: Validation | None,
    budgets: Budgets,
) -> Verdict:
    """The verdict over whatever stages there are."""
    checks: list[Check] = []
    if quantized is not None:
        checks += _plan_checks(quantized)
    if quantized is not None and quantized.accuracy is not None:
        checks.append(_accuracy(quantized.accuracy))
    if measurement is not None:
        checks += _measured(measurement, budgets)
        checks += _against_plan(quantized, measurement)
    if validation is not None:
        checks.append(_validated(validation))
    return Verdict(ok=all(check.ok for check in checks), checks=tuple(checks))


def _plan_checks(quantized: QuantizedModel) -> list[Check]:
    return [check for check in quantized.plan.checks if not check.ok]


def _accuracy(accuracy: Accuracy) -> Check:
    return Check(
        rule="accuracy",
        subject=accuracy.metric,
        ok=accuracy.ok,
        needed=accuracy.tolerance,
        available=accuracy.drop,
        unit="drop",
        why=accuracy.why or "the quantized model stays near the float one",
        hint=None if accuracy.ok else "allow more with --max-drop, or --prefer accuracy",
    )


def _measured(measurement: Measurement, budgets: Budgets) -> Iterator[Check]:
    parity = measurement.parity
    if parity is not None:
        yield Check(
            rule="parity",
            subject="golden vectors",
            ok=parity.ok,
            needed=0 if parity.exact or measurement.firmware else 1,
            available=parity.max_steps,
            unit="steps",
            why="the device computes what the host computed" if parity.ok else "the device computes something else",
        )
    latency = measurement.latency_ms.p50 if measurement.latency_ms else None
    energy = measurement.energy.per_inference_mj if measurement.energy else None
    yield from _budget("latency p50", "ms", budgets.max_latency_ms, latency, measurement.unavailable.get("latency_ms"))
    yield from _budget("energy", "mJ", budgets.max_energy_mj, energy, measurement.unavailable.get("energy_mj"))
    peak = measurement.memory_bytes.peak_rss
    yield from (dataclasses.replace(found, ok=True, why=f"warning: {found.why}") for found in measurement.preflight)
    yield from _budget("peak RSS", "bytes", budgets.max_ram_bytes, peak, measurement.unavailable.get("peak_rss"))
    if measurement.conditions.throttled:
        yield Check(
            rule="throttling",
            subject="device",
            ok=False,
            why="the device lowered its clock while it was measured",
            hint="cool the device or its supply and measure again",
        )


def _budget(
    subject: str, unit: str, limit: float | None, measured: float | None, reason: str | None
) -> Iterator[Check]:
    """A budget that was set holds only when the quantity was measured and is within it."""
    if limit is None:
        return
    ok = measured is not None and measured <= limit
    if measured is None:
        why = f"not measured: {reason or 'no source'}"
    else:
        why = "within the budget" if ok else "over the budget"
    yield Check(rule="budget", subject=subject, ok=ok, needed=measured, available=limit, unit=unit, why=why)


def _against_plan(quantized: QuantizedModel | None, measurement: Measurement) -> Iterator[Check]:
    """Planned memory beside the measured one; an interpreter's own floor is not the plan's fault."""
    peak = measurement.memory_bytes.peak_rss
    if quantized is None or peak is None:
        return
    yield Check(
        rule="memory-planned-against-measured",
        subject="memory",
        ok=True,
        needed=quantized.plan.memory.ram_bytes,
        available=peak,
        unit="bytes",
        why="planned for model and activations; measured for the whole process with interpreter and NumPy",
    )


def _validated(validation: Validation) -> Check:
    return Check(
        rule="validation",
        subject=validation.metric,
        ok=validation.ok,
        needed=validation.host_score,
        available=validation.device_score,
        why=f"{validation.differing_samples} of {validation.samples} samples differ from the host's",
    )
