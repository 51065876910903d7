"""Where operators of float models run, by which rule, and what a refused one says."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgeq import planning
from edgeq.errors import PlanError
from edgeq.types import Constraint, OperatorRow, Plan, RuntimeSpec, Signature


def _plan(tiny: Any, graph: Any, *, scheme: str = "static_wi8_ai8", fallback: str = "none", **rows: Any) -> Plan:
    return planning.choose(graph, tiny.target(), tiny.tables(fallback, **rows), scheme=scheme)


def _rules(plan: Plan) -> list[tuple[str, str]]:
    return [(one.placement, one.rule) for one in plan.operators]


def test_static_places_layers_followers_and_activations(tiny: Any) -> None:
    plan = _plan(tiny, tiny.conv_net().done("x", "y"))
    assert plan.ok
    assert [one.signature for one in plan.operators] == [
        "int8/int8/int32 per-channel",
        "int8/int8/int32 per-channel",
        "int8",
        "int8/int8/int32 per-channel",
        "int8",
    ]
    assert plan.operators[2].rule == "passes-quantization"
    assert plan.scheme.overrides == {}


def test_dynamic_quantizes_layers_and_leaves_the_rest_in_float(tiny: Any) -> None:
    plan = _plan(tiny, tiny.conv_net().done("x", "y"), scheme="dynamic_wi8_af32")
    assert [one.placement for one in plan.operators] == ["cpu", "cpu", "float", "cpu", "float"]
    assert plan.operators[4].why == "The scheme quantizes weights only, and it has none."


def test_float16_weights_need_a_dequantizer_or_a_row(tiny: Any) -> None:
    graph = tiny.conv_net().done("x", "y")
    assert _plan(tiny, graph, scheme="weight_only_wf16").operators[0].rule == "weights-expanded"
    without = _plan(tiny, graph, scheme="weight_only_wf16", DEQUANTIZE=None)
    assert [check.rule for check in without.checks if not check.ok] == ["quantizes-something"]
    half = OperatorRow(signatures=(Signature(activations="float32", weights="float16"),))
    with_row = _plan(tiny, graph, scheme="weight_only_wf16", DEQUANTIZE=None, CONV_2D=half, FULLY_CONNECTED=half)
    assert with_row.ok
    assert with_row.operators[0].rule == "signature-supported"


@pytest.mark.parametrize(("fallback", "placement"), [("none", "refused"), ("cpu", "cpu"), ("float", "float")])
def test_an_operator_without_a_row_goes_where_the_table_says(tiny: Any, fallback: str, placement: str) -> None:
    plan = _plan(tiny, tiny.conv_net().done("x", "y"), fallback=fallback, SOFTMAX=None)
    last = plan.operators[4]
    assert (last.placement, last.rule) == (placement, "operator-unknown")
    assert plan.ok == (placement != "refused")
    assert "SOFTMAX is not in tiny" in last.why


@pytest.mark.parametrize("fallback", ["none", "cpu", "float"])
def test_a_custom_operator_is_refused_by_name_whatever_the_fallback(tiny: Any, fallback: str) -> None:
    graph = tiny.conv_net().tensor("z", (1, 10)).operator("Flex_Erf", "y", "z", custom=True).done("x", "z")
    plan = planning.choose(graph, tiny.target(), tiny.tables(fallback))
    assert not plan.ok
    failed = [check for check in plan.checks if not check.ok]
    assert [check.rule for check in failed] == ["operator-unknown"]
    assert failed[0].subject == "operator 5 Flex_Erf"
    assert failed[0].why == "The runtime has no kernel for this operator: custom operator Flex_Erf is not in tiny."
    assert failed[0].hint


def test_a_custom_operator_with_a_row_runs(tiny: Any) -> None:
    graph = tiny.conv_net().tensor("z", (1, 10)).operator("Own", "y", "z", custom=True).done("x", "z")
    plan = _plan(tiny, graph, Own=OperatorRow(signatures=(Signature(activations="int8"),)))
    assert plan.ok


def test_a_version_beyond_the_kernel_is_refused_even_with_float_fallback(tiny: Any) -> None:
    graph = tiny.Graph().tensor("x", (1, 4)).tensor("y", (1, 4)).operator("ADD", "x x", "y", version=9).done("x", "y")
    newest = OperatorRow(signatures=(Signature(activations="int8"),), max_version=5)
    plan = _plan(tiny, graph, fallback="float", ADD=newest)
    assert _rules(plan) == [("refused", "version-too-new")]
    check = next(check for check in plan.checks if not check.ok)
    assert (check.needed, check.available) == (9, 5)
    assert _plan(tiny, graph, ADD=dataclasses.replace(newest, max_version=9)).ok


@pytest.mark.parametrize(
    ("constraint", "ok"),
    [
        (Constraint(rule="rank", of="input", equals=4), True),
        (Constraint(rule="rank", of="input", equals=3), False),
        (Constraint(rule="rank", of="output", minimum=4, maximum=5), True),
        (Constraint(rule="rank", of="weights", maximum=3), False),
        (Constraint(rule="rank", of="bias", one_of=(1, 2)), True),
        (Constraint(rule="dtype", of="input", one_of=("float32", "int8")), True),
        (Constraint(rule="dtype", of="weights", equals="int8"), False),
        (Constraint(rule="batch", of="input", equals=1), True),
        (Constraint(rule="batch", of="input", minimum=2), False),
        (Constraint(rule="constant", of="weights", equals=1), True),
        (Constraint(rule="constant", of="input", equals=1), False),
        (Constraint(rule="elements", of="output", maximum=1023), False),
        (Constraint(rule="elements", of="output", maximum=1024), True),
        (Constraint(rule="attribute", of="stride_w", maximum=2), True),
        (Constraint(rule="attribute", of="stride_w", one_of=(2, 4)), False),
        (Constraint(rule="attribute", of="not_there", equals=7), True),
        (Constraint(rule="dilation_with_stride"), True),
    ],
)
def test_constraints_of_a_row(tiny: Any, constraint: Constraint, ok: bool) -> None:
    row = OperatorRow(signatures=tiny.layer, constraints=(constraint,))
    plan = _plan(tiny, tiny.conv_net().done("x", "y"), CONV_2D=row)
    assert plan.ok == ok
    if not ok:
        assert plan.operators[0].rule == "constraint-violated"
        assert "allowed is" in plan.operators[0].why


@pytest.mark.parametrize(("stride", "dilation", "ok"), [(1, 1, True), (2, 1, True), (1, 2, True), (2, 2, False)])
@pytest.mark.parametrize("listed", [False, True])
def test_dilation_with_stride(tiny: Any, stride: int, dilation: int, ok: bool, listed: bool) -> None:
    words: dict[str, Any] = (
        {"strides": [1, stride], "dilations": [dilation, 1]}
        if listed
        else {"stride_h": stride, "dilation_w_factor": dilation}
    )
    graph = (
        tiny.Graph()
        .tensor("x", (1, 8, 8, 3))
        .tensor("w", (4, 3, 3, 3), constant=True)
        .tensor("y", (1, 8, 8, 4))
        .operator("CONV_2D", "x w", "y", **words)
        .done("x", "y")
    )
    row = OperatorRow(signatures=tiny.layer, constraints=(Constraint(rule="dilation_with_stride"),))
    assert _plan(tiny, graph, CONV_2D=row).ok == ok


def test_a_broken_constraint_falls_to_float_where_the_table_allows(tiny: Any) -> None:
    row = OperatorRow(signatures=tiny.layer, constraints=(Constraint(rule="rank", of="input", equals=3),))
    plan = _plan(tiny, tiny.conv_net().done("x", "y"), fallback="float", CONV_2D=row)
    assert plan.ok
    assert plan.operators[0].placement == "float"
    assert plan.operators[0].why.endswith("it runs in float.")
    assert set(plan.scheme.overrides) == {0, 1, 2}, "the reshape behind them follows"
    counted = next(check for check in plan.checks if check.rule == "operators-placed")
    assert counted.why == "2 of 5 operators fall back: CONV_2D."


def test_an_unknown_constraint_names_the_table(tiny: Any) -> None:
    row = OperatorRow(signatures=tiny.layer, constraints=(Constraint(rule="phase_of_moon"),))
    with pytest.raises(PlanError, match="operator table tiny has the unknown constraint 'phase_of_moon'") as caught:
        _plan(tiny, tiny.conv_net().done("x", "y"), CONV_2D=row)
    assert "rank" in str(caught.value.hint)


def test_a_missing_table_is_named(tiny: Any) -> None:
    runtime = RuntimeSpec(name="litert", format="tflite", operators="nowhere")
    with pytest.raises(PlanError, match="'nowhere', which is not there"):
        planning.choose(tiny.conv_net().done("x", "y"), tiny.target(runtimes=(runtime,)), tiny.tables())


def test_no_int8_kernel_falls_back_to_float_and_is_counted(tiny: Any) -> None:
    only_float = OperatorRow(signatures=(Signature(activations="float32"),))
    plan = _plan(tiny, tiny.conv_net().done("x", "y"), SOFTMAX=only_float)
    assert plan.ok
    assert plan.operators[4].rule == "falls-back-to-float"
    assert set(plan.scheme.overrides) == {4}
    placed = next(check for check in plan.checks if check.rule == "operators-placed")
    assert placed.why == "1 of 5 operators fall back: SOFTMAX."


def test_no_kernel_at_all_is_refused_with_what_the_table_allows(tiny: Any) -> None:
    strange = OperatorRow(signatures=(Signature(activations="int16"),))
    plan = _plan(tiny, tiny.conv_net().done("x", "y"), SOFTMAX=strange)
    check = next(check for check in plan.checks if not check.ok)
    assert (check.rule, check.needed, check.available) == ("signature-unsupported", "int8", "int16")


def test_a_follower_of_float_stays_float_and_one_float_input_decides(tiny: Any) -> None:
    passing = OperatorRow(signatures=None, passes_quantization=True)
    only_float = OperatorRow(signatures=(Signature(activations="float32"),))
    graph = (
        tiny.Graph()
        .tensor("x", (1, 4))
        .tensor("s", (1, 4))
        .tensor("a", (1, 4))
        .tensor("c", (1, 8))
        .tensor("r", (1, 8))
        .operator("LOGISTIC", "x", "s")
        .operator("ADD", "x x", "a")
        .operator("CONCATENATION", "a s", "c")
        .operator("RESHAPE", "c", "r")
        .done("x", "r")
    )
    plan = _plan(tiny, graph, LOGISTIC=only_float, CONCATENATION=passing)
    assert [one.placement for one in plan.operators] == ["float", "cpu", "float", "float"]
    assert set(plan.scheme.overrides) == {0, 2, 3}


def test_integers_constants_and_casts_are_left_alone(tiny: Any) -> None:
    graph = (
        tiny.Graph("onnx")
        .tensor("x", (1, 4))
        .tensor("k", (4,), constant=True)
        .tensor("ks", (4,))
        .tensor("n", (2,), "int64")
        .tensor("m", (2,), "int64")
        .tensor("f", (2,))
        .tensor("y", (1, 4))
        .operator("Relu", "k", "ks")
        .operator("Shape", "x", "n")
        .operator("Add", "n n", "m")
        .operator("Cast", "m", "f")
        .operator("Relu", "x", "y")
        .done("x", "y")
    )
    tables = tiny.tables()
    rows = {**tiny.onnx_rows(), "Shape": OperatorRow(signatures=None), "Add": tiny.onnx_rows()["Relu"]}
    tables["tiny-onnx"] = tiny.table(rows, "tiny-onnx")
    plan = planning.choose(graph, tiny.target(), tables, scheme="static_wi8_ai8")
    rules = [one.rule for one in plan.operators]
    assert rules == ["constants-only", "converts-types", "carries-integers", "converts-types", "left-in-float"]
    assert plan.scheme.overrides == {}


def test_the_body_of_a_loop_stays_float_and_out_of_the_overrides(tiny: Any) -> None:
    graph = tiny.conv_net().done("x", "y")
    body = dataclasses.replace(graph.operators[4], subgraph=1)
    plan = _plan(tiny, dataclasses.replace(graph, operators=(*graph.operators[:4], body)))
    assert (plan.operators[4].placement, plan.operators[4].signature) == ("float", "float32")
    assert plan.scheme.overrides == {}


def test_layer_normalization_written_out_is_kept_in_float_without_the_residual(tiny: Any) -> None:
    graph = tiny.Graph()
    for name in ("x", "r", "mu", "d", "sq", "var", "e", "root", "n", "g", "y"):
        graph.tensor(name, (1, 4))
    graph.tensor("eps", (1,), constant=True)
    for kind, inputs, output in (
        ("ADD", "x x", "r"),
        ("MEAN", "r", "mu"),
        ("SUB", "r mu", "d"),
        ("MUL", "d d", "sq"),
        ("MEAN", "sq", "var"),
        ("ADD", "var eps", "e"),
        ("RSQRT", "e", "root"),
        ("MUL", "d root", "n"),
        ("LOGISTIC", "n", "g"),
        ("MUL", "n g", "y"),
    ):
        graph.operator(kind, inputs, output)
    plain = OperatorRow(signatures=(Signature(activations="int8"), Signature(activations="float32")))
    rows = dict.fromkeys(("MEAN", "SUB", "RSQRT"), plain)
    plan = _plan(tiny, graph.done("x", "y"), scheme="static_wi8_ai8_mixed", **rows)
    assert [one.index for one in plan.operators if one.placement == "cpu"] == [0]
    assert "layer normalization" in plan.operators[6].why
    assert "gate" in plan.operators[8].why


def test_a_mean_that_pools_is_not_a_normalization(tiny: Any) -> None:
    plain = OperatorRow(signatures=(Signature(activations="int8"), Signature(activations="float32")))
    graph = tiny.conv_net().tensor("p", (1, 1)).operator("MEAN", "y", "p").done("x", "p")
    plan = _plan(tiny, graph, scheme="static_wi8_ai8_mixed", MEAN=plain)
    assert plan.operators[5].placement == "cpu"


def test_only_products_of_an_onnx_transformer_are_static(tiny: Any) -> None:
    graph = (
        tiny.onnx_net()
        .tensor("w3", (10, 10), constant=True)
        .tensor("l", (1, 4, 8, 10))
        .tensor("z", (1, 4, 8, 10))
        .operator("LayerNormalization", "y", "l")
        .operator("MatMul", "l w3", "z", macs=100)
    )
    tables = tiny.tables("float")
    plan = planning.choose(graph.done("x", "z"), tiny.target(), tables, scheme="static_wi8_ai8")
    assert {one.type for one in plan.operators if one.placement == "cpu"} == {"MatMul"}
    assert "transformer" in plan.operators[1].why


def test_no_runtime_for_the_format_is_a_plan_that_says_no(tiny: Any) -> None:
    runtime = RuntimeSpec(name="onnxruntime", format="onnx", operators="tiny-onnx")
    target = tiny.target(runtimes=(runtime,))
    plan = planning.choose(tiny.conv_net().done("x", "y"), target, tiny.tables())
    assert not plan.ok
    assert plan.checks[0].why == "onnxruntime wants ONNX, the model is TFLite."
    assert plan.checks[0].hint
    assert planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(runtimes=()), tiny.tables())[0].ok is False
