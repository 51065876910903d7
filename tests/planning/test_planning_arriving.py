"""Models that came quantized: read, checked against the table, never changed."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq import planning
from edgeq.types import OperatorRow, OutputSpec, Plan, Quantization, Signature


def _plan(tiny: Any, graph: Any, fallback: str = "none", **rows: Any) -> Plan:
    return planning.choose(graph.done("x", "y", "quantized"), tiny.target(), tiny.tables(fallback, **rows))


def test_a_supported_one_is_planned_as_it_is(tiny: Any) -> None:
    plan = _plan(tiny, tiny.quantized_net())
    assert plan.ok
    assert plan.scheme.name == "as_is"
    assert str(plan.scheme.default) == "int8/int8/int32 per-channel"
    assert plan.scheme.overrides == {}
    assert plan.memory.flash_bytes == tiny.quantized_net().done("x", "y").size_bytes
    assert any("never quantized again" in entry.why for entry in plan.rejected if entry.scheme == "static_wi8_ai8")


def test_weights_that_the_target_cannot_run_are_refused_by_operator(tiny: Any) -> None:
    plan = _plan(tiny, tiny.quantized_net("uint8"))
    check = next(check for check in plan.checks if not check.ok)
    assert check.subject == "operator 0 CONV_2D"
    assert check.rule == "signature-unsupported"
    assert check.needed == "int8/uint8/int32 per-channel"
    assert "int8/int8/int32 per-channel" in str(check.available)
    assert "CONV_2D is int8/uint8/int32 per-channel, tiny allows" in check.why


@pytest.mark.parametrize("fallback", ["none", "float"])
def test_tflite_integers_cannot_fall_back_to_float(tiny: Any, fallback: str) -> None:
    only_float = OperatorRow(signatures=(Signature(activations="float32"),))
    plan = _plan(tiny, tiny.quantized_net(), fallback, SOFTMAX=only_float)
    assert plan.operators[1].placement == "refused"
    assert not plan.ok


def test_an_integer_operator_without_a_row_is_refused(tiny: Any) -> None:
    plan = _plan(tiny, tiny.quantized_net(), "float", SOFTMAX=None)
    assert plan.operators[1].rule == "operator-unknown"
    assert not plan.ok


def test_granularity_must_be_one_that_the_row_has(tiny: Any) -> None:
    row = OperatorRow(signatures=(tiny.per_channel,))
    assert not _plan(tiny, tiny.quantized_net(granularity="per-tensor"), CONV_2D=row).ok
    assert _plan(tiny, tiny.quantized_net(granularity="per-channel"), CONV_2D=row).ok


@pytest.mark.parametrize(("zero_point", "ok"), [(0, True), (7, False)])
def test_weights_must_be_symmetric_where_the_row_says_so(tiny: Any, zero_point: int, ok: bool) -> None:
    weights = Quantization(scales=(0.01,), zero_points=(zero_point,))
    activation = Quantization(scales=(0.1,), zero_points=(3,))
    graph = (
        tiny.Graph()
        .tensor("x", (1, 8), "int8", quantization=activation)
        .tensor("w", (4, 8), "int8", constant=True, quantization=weights)
        .tensor("y", (1, 4), "int8", quantization=activation)
        .operator("FULLY_CONNECTED", "x w", "y")
    )
    assert _plan(tiny, graph).ok == ok


@pytest.mark.parametrize(("scale", "ok"), [(1 / 256, True), (1 / 128, False)])
def test_a_fixed_output_scale_is_demanded(tiny: Any, scale: float, ok: bool) -> None:
    fixed = Signature(activations="int8", output=OutputSpec(dtype="int8", scale=1 / 256, zero_point=-128))
    plan = _plan(tiny, tiny.quantized_net(softmax_scale=scale), SOFTMAX=OperatorRow(signatures=(fixed,)))
    assert plan.ok == ok
    if not ok:
        assert plan.operators[1].rule == "output-fixed"
        assert "0.00390625" in plan.operators[1].why


def _qdq(tiny: Any, kind: str = "Conv") -> Any:
    activation = Quantization(scales=(0.1,), zero_points=(0,))
    weights = Quantization(scales=(0.01,) * 4, zero_points=(0,) * 4, axis=0)
    return (
        tiny.Graph("onnx")
        .tensor("x", (1, 3, 8, 8))
        .tensor("xq", (1, 3, 8, 8), "int8", quantization=activation)
        .tensor("xd", (1, 3, 8, 8))
        .tensor("wq", (4, 3, 3, 3), "int8", constant=True, quantization=weights)
        .tensor("wd", (4, 3, 3, 3))
        .tensor("y", (1, 4, 8, 8))
        .operator("QuantizeLinear", "x", "xq")
        .operator("DequantizeLinear", "xq", "xd")
        .operator("DequantizeLinear", "wq", "wd")
        .operator(kind, "xd wd", "y")
    )


def test_qdq_is_read_through_its_dequantizers(tiny: Any) -> None:
    plan = _plan(tiny, _qdq(tiny))
    assert plan.ok
    assert plan.operators[3].signature == "int8/int8 per-channel"
    assert str(plan.scheme.default) == "int8/int8 per-channel"


def test_qdq_without_an_integer_kernel_runs_in_float_between_quantizers(tiny: Any) -> None:
    tables = tiny.tables()
    tables["tiny-onnx"] = tiny.table({**tiny.onnx_rows(), "Conv": OperatorRow(signatures=(tiny.float32,))}, "tiny-onnx")
    plan = planning.choose(_qdq(tiny).done("x", "y", "quantized"), tiny.target(), tables)
    assert plan.ok
    assert (plan.operators[3].placement, plan.operators[3].rule) == ("float", "falls-back-to-float")


def test_dynamic_range_files_are_taken_as_they_stand(tiny: Any) -> None:
    weights = Quantization(scales=(0.01,) * 4, zero_points=(0,) * 4, axis=0)
    graph = (
        tiny.Graph()
        .tensor("x", (1, 8))
        .tensor("w", (4, 8), "int8", constant=True, quantization=weights)
        .tensor("h", (1, 4))
        .tensor("y", (1, 4))
        .operator("FULLY_CONNECTED", "x w", "h")
        .operator("SOFTMAX", "h", "y")
        .done("x", "y", "weights")
    )
    plan = planning.choose(graph, tiny.target(), tiny.tables())
    assert plan.ok
    assert [one.placement for one in plan.operators] == ["cpu", "float"]
    assert plan.operators[0].signature == "float32/int8 per-channel"


def test_a_scheme_for_float_models_is_refused_for_a_quantized_one(tiny: Any) -> None:
    graph = tiny.quantized_net().done("x", "y", "quantized")
    plan = planning.choose(graph, tiny.target(), tiny.tables(), scheme="static_wi8_ai8")
    assert not plan.ok
    check = next(check for check in plan.checks if not check.ok)
    assert check.rule == "model-state"
    assert "--scheme as_is" in str(check.hint)


def test_a_partly_quantized_one_is_planned_like_float_and_says_so(tiny: Any) -> None:
    graph = (
        tiny.Graph()
        .tensor("x", (1, 8))
        .tensor("wq", (4, 8), "int8", constant=True, quantization=Quantization(scales=(0.1,), zero_points=(0,)))
        .tensor("w", (4, 8))
        .tensor("y", (1, 4))
        .operator("DEQUANTIZE", "wq", "w")
        .operator("FULLY_CONNECTED", "x w", "y", macs=32)
        .done("x", "y", "partial")
    )
    plan = planning.choose(graph, tiny.target(), tiny.tables())
    assert plan.ok
    assert plan.scheme.name == "static_wi8_ai8"
    assert plan.operators[0].rule == "constants-only"
    assert plan.operators[1].signature == "int8/int8 per-channel"
    assert any("restored to float" in check.why for check in plan.checks)
    half = planning.choose(graph, tiny.target(), tiny.tables(), scheme="weight_only_wf16")
    assert half.memory.flash_bytes - plan.memory.flash_bytes >= 0, "float16 weights are larger than int8 ones"


@pytest.mark.parametrize(("fallback", "place"), [("none", "refused"), ("float", "refused"), ("cpu", "cpu")])
def test_a_version_too_new_for_the_runtime_is_not_saved_by_float(tiny: Any, fallback: str, place: str) -> None:
    row = OperatorRow(signatures=(Signature(activations="int8"),), max_version=0)
    plan = _plan(tiny, tiny.quantized_net(), fallback, SOFTMAX=row)
    assert (plan.operators[1].placement, plan.operators[1].rule) == (place, "version-too-new")


def test_an_unknown_operator_between_quantizers_runs_in_float(tiny: Any) -> None:
    graph = _qdq(tiny, "Mystery").done("x", "y", "quantized")
    plan = planning.choose(graph, tiny.target(), tiny.tables("float"))
    assert (plan.operators[3].placement, plan.operators[3].rule) == ("float", "operator-unknown")
    assert not planning.choose(graph, tiny.target(), tiny.tables("none")).ok


@pytest.mark.parametrize("fallback", ["none", "float"])
@pytest.mark.parametrize("listed", [True, False])
def test_an_onnx_operator_that_reads_integers_itself_cannot_run_in_float(
    tiny: Any, fallback: str, listed: bool
) -> None:
    activation = Quantization(scales=(0.1,), zero_points=(0,))
    graph = (
        tiny.Graph("onnx")
        .tensor("x", (1, 4), "int8", quantization=activation)
        .tensor("y", (1, 4), "int8", quantization=activation)
        .operator("Softmax", "x", "y")
    )
    tables = tiny.tables(fallback)
    only_float = {"Softmax": OperatorRow(signatures=(Signature(activations="float32"),))}
    tables["tiny-onnx"] = tiny.table(only_float if listed else {}, "tiny-onnx", fallback)
    plan = planning.choose(graph.done("x", "y", "quantized"), tiny.target(), tables)
    assert plan.operators[0].placement == "refused"
    assert not plan.ok
