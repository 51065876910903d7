"""JSON documents have the keys of cli.md; tables show what happened and nothing hostile."""

from __future__ import annotations

import dataclasses
import io
import json

from rich.console import Console, RenderableType

from edgeq import types
from edgeq.report import json as documents
from edgeq.report import plans, terminal
from edgeq.report.verdict import judge


def _text(renderable: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=200, color_system=None)
    console.print(renderable)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def _report(quantized: types.QuantizedModel, measurement: types.Measurement | None) -> types.Report:
    return types.Report(
        model="kws",
        quantized=quantized,
        bundle=None,
        measurement=measurement,
        validation=None,
        verdict=judge(quantized, measurement, None, types.Budgets()),
    )


def _strict(document: object) -> object:
    """The document as a script reads it; NaN would raise."""
    return json.loads(json.dumps(document, allow_nan=False))


def test_plan_keys(plan: types.Plan) -> None:
    found = documents.plan(plan)
    assert _strict(found) == found
    assert found["schema_version"] == 1
    assert found["scheme"] == "static_wi8_ai8"
    assert set(found) >= {"target", "runtime", "ok", "operators", "memory", "predicted", "checks", "rejected"}
    assert set(found["operators"][0]) >= {"index", "type", "signature", "placement", "rule", "why"}
    sizes = {"flash_bytes", "ram_bytes", "arena_bytes", "arena_parts_bytes"}
    assert set(found["memory"]) == {*sizes, "compiled_bytes", "compiled_refusal"}
    assert set(found["checks"][0]) == {"rule", "subject", "ok", "needed", "available", "unit", "why", "hint"}
    assert set(found["rejected"][0]) >= {"scheme", "why"}


def test_quantize_keys(quantized: types.QuantizedModel) -> None:
    found = documents.quantize(quantized)
    assert _strict(found) == found
    assert set(found["artifact"]) == {"path", "format", "sha256", "size_bytes", "float_size_bytes"}
    assert {"metric", "samples", "float", "quantized", "drop"} <= set(found["accuracy"])
    assert set(found["fidelity"]["outputs"][0]) == {"name", "cosine", "sqnr_db", "max_abs_error"}
    assert found["plan"]["scheme"] == "static_wi8_ai8"
    assert {"seconds", "peak_rss_bytes"} <= set(found)


def test_report_keys(quantized: types.QuantizedModel, measurement: types.Measurement) -> None:
    found = documents.report(_report(quantized, measurement))
    assert _strict(found) == found
    known = {"p50", "p90", "p99", "mean", "std", "min", "max", "runs", "first", "load"}
    assert set(found["latency_ms"]) == known | {"p50_ci", "p90_ci", "p99_ci"}
    assert {"warmup", "steadiness", "sustained", "speedup", "operators", "watched"} <= set(found)
    assert {"peak_rss", "arena"} <= set(found["memory_bytes"])
    assert found["energy_mj"] is None
    assert found["unavailable"]["energy_mj"] == "no sensor found"
    assert {"exact", "max_steps", "vectors"} <= set(found["parity"])
    assert {"before", "after", "throttled"} <= set(found["conditions"])
    assert set(found["verdict"]) == {"ok", "checks"}
    assert "latency_samples_ns" not in json.dumps(found)


def test_a_report_without_measurement_has_no_measured_keys(quantized: types.QuantizedModel) -> None:
    found = documents.report(_report(quantized, None))
    assert "latency_ms" not in found
    assert found["verdict"]["ok"]


def test_every_table_shows_its_facts(
    plan: types.Plan, quantized: types.QuantizedModel, measurement: types.Measurement
) -> None:
    text = _text(terminal.report(_report(quantized, measurement)))
    for fact in ("static_wi8_ai8", "0.8975", "4 ms", "exact on 32", "no sensor found", "everything holds", "29"):
        assert fact in text, fact
    assert "in the table" in _text(plans.plan(plan))
    assert "fallback" in _text(plans.plan(plan, every_operator=True))
    assert "not a quantization" in _text(plans.plan(plan))


def test_a_lost_model_is_shown_as_lost(quantized: types.QuantizedModel) -> None:
    assert quantized.accuracy
    lost = dataclasses.replace(quantized.accuracy, ok=False, why="always class 3")
    text = _text(terminal.report(_report(dataclasses.replace(quantized, accuracy=lost), None)))
    assert "does not hold: always class 3" in text
    assert "not everything holds" in text


def test_names_from_a_model_cannot_drive_the_terminal(quantized: types.QuantizedModel) -> None:
    hostile = "\x1b[2Jgone\r[bold]markup[/nosuch]"
    changed = dataclasses.replace(
        quantized,
        notes=(hostile,),
        fidelity=(types.Fidelity(name=hostile, cosine=1.0, sqnr_db=None, max_abs_error=None),),
    )
    text = _text(terminal.quantize(changed))
    assert "\x1b" not in text
    assert "\r" not in text
    assert "[bold]markup[/nosuch]" in text


def test_nested_mappings_become_rows() -> None:
    rows = terminal.flat({"cpu": {"model": "A72", "cores": 4}, "sensors": ["ina219", "rapl"], "python": "3.11"})
    assert rows == [("cpu.model", "A72"), ("cpu.cores", 4), ("sensors", "ina219, rapl"), ("python", "3.11")]


def test_prediction_stands_beside_the_measurement(
    quantized: types.QuantizedModel, measurement: types.Measurement
) -> None:
    """Nothing predicted: null. Predicted: both figures, and the error relative to the measured one."""
    assert documents.report(_report(quantized, measurement))["prediction"] is None
    assert measurement.latency_ms is not None
    predicted = types.Predicted(latency_ms=1.5 * measurement.latency_ms.p50, source="3 measurements")
    plan = dataclasses.replace(quantized.plan, predicted=predicted)
    told = _report(dataclasses.replace(quantized, plan=plan), measurement)
    found = documents.report(told)["prediction"]["latency_ms"]
    assert found["measured"] == measurement.latency_ms.p50
    assert abs(found["error"] - 0.5) < 1e-9
    assert found["source"] == "3 measurements"
    assert "off by +50% (from 3 measurements)" in _text(terminal.report(told))
    assert "off by" not in _text(terminal.report(_report(quantized, measurement)))
