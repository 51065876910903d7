"""What an operator could not have and the smallest edit; risks; 16-bit activations and weight-only schemes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgeq import planning
from edgeq.planning import risks
from edgeq.types import Constraint, OperatorRow, Placement, Plan, Scheme, Signature

AI16 = Signature(activations="int16", weights="int8", bias="int64", granularity="per-channel", symmetric="both")


def one_of(plan: Plan, kind: str) -> Placement:
    return next(one for one in plan.operators if one.type == kind)


def planned(tiny: Any, scheme: str | None = "static_wi8_ai8", fallback: str = "none", **rows: Any) -> Plan:
    graph, tables = tiny.conv_net().done("x", "y"), tiny.tables(fallback, **rows)
    plan = planning.choose(graph, tiny.target(), tables, scheme=scheme)
    assert planning.audit(plan, graph, tiny.target(), tables) == ()
    return plan


def test_what_runs_as_wanted_has_nothing_to_explain(tiny: Any) -> None:
    for one in planned(tiny).operators:
        assert (one.alternatives, one.edit) == ((), None)


def test_candidates_are_not_explained(tiny: Any) -> None:
    rows = tiny.tables("float", SOFTMAX=None)
    for plan in planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(), rows):
        assert all(one.alternatives == () for one in plan.operators)


@pytest.mark.parametrize(
    ("limit", "edit"),
    [
        (Constraint(rule="rank", of="input", equals=5), "pad input to 5 dimensions"),
        (Constraint(rule="batch", of="input", equals=4), "export with batch 4"),
        (Constraint(rule="dtype", of="weights", one_of=("int8", "int4")), "cast weights to int8 or int4"),
        (Constraint(rule="attribute", of="stride_w", equals=2), "change stride_w to 2"),
        (
            Constraint(rule="attribute", of="stride_w", minimum=2, maximum=3),
            "change stride_w to at least 2 and at most 3",
        ),
        (Constraint(rule="constant", of="weights", equals=0), "make weights no constant"),
        (Constraint(rule="elements", of="input", maximum=9), "let input have at most 9 elements"),
    ],
)
def test_the_edit_mends_the_constraint_that_is_broken(tiny: Any, limit: Constraint, edit: str) -> None:
    row = OperatorRow(signatures=tiny.layer, constraints=(limit,))
    conv = one_of(planned(tiny, CONV_2D=row), "CONV_2D")
    assert conv.placement == "refused"
    assert conv.edit == edit
    assert conv.alternatives[0].what == "int8/int8/int32 per-channel"


def test_a_table_s_own_constraint_is_explained_too(tiny: Any) -> None:
    limit = Constraint(rule="batch", of="input", equals=2)
    tables = {name: dataclasses.replace(table, constraints=(limit,)) for name, table in tiny.tables().items()}
    plan = planning.choose(tiny.conv_net().done("x", "y"), tiny.target(), tables, scheme="static_wi8_ai8")
    assert plan.operators[0].edit == "export with batch 2"


def test_a_missing_operator_is_replaced_by_what_the_table_has(tiny: Any) -> None:
    graph = tiny.Graph().tensor("x", (1, 4)).tensor("y", (1, 4)).operator("PRELU", "x x", "y").done("x", "y")
    row = OperatorRow(signatures=(Signature(activations="int8"),))
    plan = planning.choose(graph, tiny.target(), tiny.tables(LEAKY_RELU=row), scheme="static_wi8_ai8")
    assert plan.operators[0].edit == "replace `PRELU` by `LEAKY_RELU`"
    without = planning.choose(graph, tiny.target(), tiny.tables(), scheme="static_wi8_ai8")
    assert without.operators[0].edit == "replace PRELU in the model by operators of tiny"


def test_per_tensor_says_that_per_channel_was_refused(tiny: Any) -> None:
    plan = planned(tiny, FULLY_CONNECTED=OperatorRow(signatures=(tiny.per_tensor, tiny.float32)))
    (other,) = one_of(plan, "FULLY_CONNECTED").alternatives
    assert other.what == "int8/int8/int32 per-channel"
    assert "per-tensor weights only" in other.why


def test_a_file_with_the_wrong_granularity_is_exported_anew(tiny: Any) -> None:
    graph = tiny.quantized_net(granularity="per-tensor").done("x", "y", state="quantized")
    tables = tiny.tables(CONV_2D=OperatorRow(signatures=(tiny.per_channel,)))
    plan = planning.choose(graph, tiny.target(), tables)
    assert plan.operators[0].placement == "refused"
    assert plan.operators[0].edit == "export with per-channel weights"


def test_float_names_the_types_it_could_not_have(tiny: Any) -> None:
    plan = planned(tiny, "static_wi8_ai8", SOFTMAX=OperatorRow(signatures=(Signature(activations="float32"),)))
    softmax = one_of(plan, "SOFTMAX")
    assert (softmax.placement, softmax.rule) == ("float", "falls-back-to-float")
    assert [other.what for other in softmax.alternatives] == ["int8"]


def test_kept_in_float_names_the_scheme_that_would_not(tiny: Any) -> None:
    conv = planned(tiny, "static_wi8_ai8_mixed").operators[0]
    assert conv.rule == "kept-in-float"
    assert conv.edit is not None
    assert conv.edit.startswith("--scheme static_wi8_ai8")


# --- risks -----------------------------------------------------------------------------------


def rules(plan: Plan) -> set[str]:
    return {risk.rule for risk in plan.risks}


def test_softmax_in_integers_is_a_risk_and_in_float_none(tiny: Any) -> None:
    (risk,) = planned(tiny).risks
    assert (risk.rule, risk.operators) == ("softmax", (4,))
    assert risk.why.endswith(".")
    assert planned(tiny, "static_wi8_ai8_mixed").risks == ()
    assert planned(tiny, "float32").risks == ()


def test_fine_steps_leave_little_of_a_risk(tiny: Any) -> None:
    graph = tiny.Graph().tensor("x", (1, 4)).tensor("y", (1, 4)).operator("SOFTMAX", "x", "y").done("x", "y")
    row = OperatorRow(signatures=(Signature(activations="int8"), Signature(activations="int16")))
    scores = [
        risks.total(planning.choose(graph, tiny.target(), tiny.tables(SOFTMAX=row), scheme=name).risks)
        for name in ("static_wi8_ai8", "static_wi8_ai16")
    ]
    assert 0 < scores[1] < scores[0] / 10


@pytest.mark.parametrize(("kind", "rule"), [("HARD_SWISH", "hard-swish"), ("SVDF", "recurrent-cell")])
def test_kinds_of_operators_are_risks(tiny: Any, kind: str, rule: str) -> None:
    graph = tiny.Graph().tensor("x", (1, 4)).tensor("y", (1, 4)).operator(kind, "x", "y").done("x", "y", "quantized")
    struck = {one.rule.__name__.replace("_", "-"): one.operators for one in risks.struck(planning.views.view(graph))}
    assert struck[rule] == {0}


def test_wide_channels_are_a_risk_where_they_share_a_scale(tiny: Any) -> None:
    graph, rows = tiny.conv_net().done("x", "y"), tiny.tables(CONV_2D=OperatorRow(signatures=(tiny.per_tensor,)))
    wide = planning.plan(graph, tiny.target(), rows, scheme="static_wi8_ai8", spread={0: 100.0, 1: 2.0, 3: 100.0})
    assert next(risk.operators for risk in wide.chosen.risks if risk.rule == "wide-channels") == (0,)
    plain = planning.plan(graph, tiny.target(), rows, scheme="static_wi8_ai8")
    assert "wide-channels" not in rules(plain.chosen)


def test_four_bits_are_a_risk(tiny: Any) -> None:
    assert "four-bits" in rules(planned(tiny, "weight_only_wi4"))


def test_all_risks_together_stay_between_none_and_certain() -> None:
    from edgeq.types import Risk

    some = [Risk(rule="r", operators=(0,), why=".", score=score) for score in (0.5, 0.5)]
    assert risks.total(()) == 0
    assert risks.total(some) == 0.75


# --- the new schemes -------------------------------------------------------------------------


def wide_rows(tiny: Any) -> dict[str, OperatorRow]:
    layer = OperatorRow(signatures=(*tiny.layer, AI16))
    plain = OperatorRow(signatures=tuple(Signature(activations=kind) for kind in ("int8", "int16", "float32")))
    return {"CONV_2D": layer, "FULLY_CONNECTED": layer, "SOFTMAX": plain}


def test_int16_activations_come_last_on_a_cpu_with_slow_kernels(tiny: Any) -> None:
    plans = planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables(**wide_rows(tiny)))
    names = [plan.scheme.name for plan in plans]
    assert names[-1] == "static_wi8_ai16"
    assert names[0] == "static_wi8_ai8"


def test_int16_activations_come_before_float_on_a_microcontroller(tiny: Any) -> None:
    target = tiny.target(kind="mcu")
    plans = planning.candidates(tiny.conv_net().done("x", "y"), target, tiny.tables(**wide_rows(tiny)))
    names = list(dict.fromkeys(plan.scheme.name for plan in plans))
    assert names.index("static_wi8_ai16") == names.index("static_wi8_ai8") + 1
    assert names.index("static_wi8_ai16") < names.index("static_wi8_ai8_mixed") < names.index("dynamic_wi8_af32")


def test_int16_activations_take_twice_the_arena(tiny: Any) -> None:
    narrow = planned(tiny, "static_wi8_ai8", **wide_rows(tiny)).memory
    wide = planned(tiny, "static_wi8_ai16", **wide_rows(tiny)).memory
    assert wide.arena_bytes == 2 * narrow.arena_bytes
    assert wide.flash_bytes > narrow.flash_bytes, "biases are 64 bits"


def test_int16_latency_is_not_guessed(tiny: Any) -> None:
    graph, target = tiny.conv_net().done("x", "y"), tiny.target(roofline=tiny.roofline)
    plan = planning.choose(graph, target, tiny.tables(**wide_rows(tiny)), scheme="static_wi8_ai16")
    assert plan.predicted.latency_ms is None
    assert "int16" in plan.unavailable["latency_ms"]


def test_int16_is_not_offered_without_kernels(tiny: Any) -> None:
    plan = planning.choose(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables())
    (entry,) = [one for one in plan.rejected if one.scheme == "static_wi8_ai16"]
    assert entry.rule == "not-offered"


@pytest.mark.parametrize(("scheme", "kind"), [("weight_only_wi8", "int8"), ("weight_only_wi4", "int4")])
def test_weight_only_schemes_expand_for_float_kernels(tiny: Any, scheme: str, kind: str) -> None:
    plan = planned(tiny, scheme)
    assert plan.ok
    conv = plan.operators[0]
    assert (conv.rule, conv.signature) == ("weights-expanded", f"float32/{kind} per-channel")
    assert one_of(plan, "SOFTMAX").placement == "float"


def test_weight_only_saves_flash_and_not_ram(tiny: Any) -> None:
    memory = {name: planned(tiny, name).memory for name in ("float32", "weight_only_wi8", "weight_only_wi4")}
    assert memory["weight_only_wi4"].flash_bytes < memory["weight_only_wi8"].flash_bytes < memory["float32"].flash_bytes
    assert memory["weight_only_wi8"].ram_bytes > memory["float32"].ram_bytes


def test_weight_only_needs_a_row_that_reads_the_integers(tiny: Any) -> None:
    half = OperatorRow(signatures=(Signature(activations="float16"),))
    names = {
        plan.scheme.name
        for plan in planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables(DEQUANTIZE=half))
    }
    assert "weight_only_wf16" in names
    assert not {"weight_only_wi8", "weight_only_wi4"} & names


def test_depthwise_weights_stay_8_bits(tiny: Any) -> None:
    graph = (
        tiny.Graph()
        .tensor("x", (1, 8, 8, 3))
        .tensor("w", (1, 3, 3, 3), constant=True)
        .tensor("a", (1, 8, 8, 3))
        .tensor("v", (4, 3, 3, 3), constant=True)
        .tensor("y", (1, 8, 8, 4))
        .operator("DEPTHWISE_CONV_2D", "x w", "a")
        .operator("CONV_2D", "a v", "y")
        .done("x", "y")
    )
    tables = tiny.tables(DEPTHWISE_CONV_2D=OperatorRow(signatures=tiny.layer))
    plan = planning.choose(graph, tiny.target(), tables, scheme="weight_only_wi4")
    assert [one.signature for one in plan.operators] == ["float32/int8 per-channel", "float32/int4 per-channel"]
    assert {index: entry.weights for index, entry in plan.scheme.overrides.items()} == {0: "int8"}
    assert planning.audit(plan, graph, tiny.target(), tables) == ()


def test_only_integer_weight_only_schemes_expand() -> None:
    for name, expands in (("weight_only_wi8", True), ("weight_only_wf16", False), ("dynamic_wi8_af32", False)):
        assert Scheme(name=name, default=Signature(activations="float32")).expands_weights is expands
