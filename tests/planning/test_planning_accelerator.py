"""Operators on an NPU or GPU, what goes to the CPU beside it, and what is refused."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgeq import planning
from edgeq.errors import PlanError
from edgeq.types import Constraint, OperatorRow, OperatorTable, Plan, RuntimeSpec, Signature, Target

INT8 = Signature(activations="int8")
FLOAT = Signature(activations="float32")


def npu(tiny: Any, fallback: str = "cpu", place: str = "npu", **changed: OperatorRow | None) -> OperatorTable:
    """A table of int8 kernels only, without SOFTMAX."""
    rows: dict[str, OperatorRow | None] = {
        "CONV_2D": OperatorRow(signatures=(tiny.per_channel,)),
        "FULLY_CONNECTED": OperatorRow(signatures=(tiny.per_channel,)),
        "RESHAPE": OperatorRow(signatures=(INT8,), passes_quantization=True),
        **changed,
    }
    found = tiny.table({name: row for name, row in rows.items() if row is not None}, "npu", fallback)
    return dataclasses.replace(found, placement=place)  # type: ignore[no-any-return]


def board(tiny: Any, cpu: str | None = "tiny") -> Target:
    return tiny.target(  # type: ignore[no-any-return]
        runtimes=(RuntimeSpec(name="vela", format="tflite", operators="npu", fallback=cpu),)
    )


def planned(tiny: Any, table: OperatorTable, cpu: str | None = "tiny", scheme: str | None = None, **rows: Any) -> Plan:
    tables = {**tiny.tables(**rows), "npu": table}
    plan = planning.choose(tiny.conv_net().done("x", "y"), board(tiny, cpu), tables, scheme=scheme)
    assert planning.audit(plan, tiny.conv_net().done("x", "y"), board(tiny, cpu), tables) == ()
    return plan


def places(plan: Plan) -> dict[str, str]:
    return {one.type: one.placement for one in plan.operators}


def told(plan: Plan, rule: str) -> str:
    return next(check.why for check in plan.checks if check.rule == rule)


def test_what_the_npu_denies_runs_on_the_cpu_with_the_npus_reason_first(tiny: Any) -> None:
    plan = planned(tiny, npu(tiny))
    assert plan.ok
    assert places(plan) == {"CONV_2D": "npu", "RESHAPE": "npu", "FULLY_CONNECTED": "npu", "SOFTMAX": "cpu"}
    softmax = plan.operators[-1]
    assert softmax.rule == "falls-back-to-cpu"
    assert softmax.why.startswith("The runtime has no kernel for this operator: operator SOFTMAX is not in npu; ")
    assert softmax.why.endswith("it runs on the CPU. tiny has a kernel for int8.")
    assert told(plan, "operators-placed") == "4 on the NPU, 1 on the CPU: SOFTMAX."


def test_the_cpu_s_own_rules_hold_for_what_falls(tiny: Any) -> None:
    """The CPU has the operator in float only, so that it is float there."""
    plan = planned(tiny, npu(tiny), SOFTMAX=OperatorRow(signatures=(FLOAT,)))
    assert places(plan)["SOFTMAX"] == "float"
    assert plan.scheme.overrides[4].activations == "float32"


def test_what_neither_has_is_refused_with_both_reasons(tiny: Any) -> None:
    plan = planned(tiny, npu(tiny), SOFTMAX=None, scheme="static_wi8_ai8")
    assert not plan.ok
    assert places(plan)["SOFTMAX"] == "refused"
    why = plan.operators[-1].why
    assert "not in npu" in why
    assert "Nor does the CPU take it." in why
    assert "not in tiny" in why
    assert [check.subject for check in plan.checks if not check.ok] == ["operator 4 SOFTMAX"]


def test_a_table_may_refuse_to_fall_back(tiny: Any) -> None:
    plan = planned(tiny, npu(tiny, fallback="none"), scheme="static_wi8_ai8")
    assert places(plan)["SOFTMAX"] == "refused"
    assert "Nor does the CPU" not in plan.operators[-1].why


def test_without_a_table_of_the_cpu_the_npu_s_word_is_taken(tiny: Any) -> None:
    plan = planned(tiny, npu(tiny), cpu=None)
    assert places(plan)["SOFTMAX"] == "cpu"
    assert plan.ok


@pytest.mark.parametrize(
    ("limit", "why"),
    [
        (Constraint(rule="batch", of="input", equals=2), "batch of input is 1, allowed is 2"),
        (Constraint(rule="rank", of="input", maximum=3), "rank of input is 4, allowed is at most 3"),
    ],
)
def test_a_constraint_of_the_npu_is_none_of_the_cpu(tiny: Any, limit: Constraint, why: str) -> None:
    row = OperatorRow(signatures=(tiny.per_channel,), constraints=(limit,))
    plan = planned(tiny, npu(tiny, CONV_2D=row))
    assert places(plan)["CONV_2D"] == "cpu"
    assert why in plan.operators[0].why


def test_a_version_that_the_npu_does_not_know(tiny: Any) -> None:
    plan = planned(tiny, npu(tiny, CONV_2D=OperatorRow(signatures=(tiny.per_channel,), max_version=0)))
    assert places(plan)["CONV_2D"] == "cpu"
    assert plan.operators[0].edit == "export with version 0 or older of `CONV_2D`"


@pytest.mark.parametrize("scheme", ["float32", "dynamic_wi8_af32", "weight_only_wf16"])
def test_a_plan_that_leaves_the_npu_idle_is_not_ok(tiny: Any, scheme: str) -> None:
    plan = planned(tiny, npu(tiny), scheme=scheme)
    assert not plan.ok
    assert told(plan, "uses-accelerator") == "Nothing of this plan would run on the NPU."


def test_what_a_mixed_scheme_keeps_in_float_leaves_the_npu(tiny: Any) -> None:
    plan = planned(tiny, npu(tiny), scheme="static_wi8_ai8_mixed")
    assert plan.ok
    assert [one.placement for one in plan.operators] == ["float", "npu", "npu", "float", "float"]
    assert plan.operators[0].rule == "kept-in-float"
    assert set(plan.scheme.overrides) == {0, 3, 4}


def test_a_gpu_runs_float_where_its_row_has_it(tiny: Any) -> None:
    both = OperatorRow(signatures=(FLOAT, tiny.float32))
    rows = dict.fromkeys(("CONV_2D", "FULLY_CONNECTED", "SOFTMAX"), both)
    table = npu(tiny, place="gpu", **rows, RESHAPE=OperatorRow(signatures=None, passes_quantization=True))
    plan = planned(tiny, table, scheme="float32")
    assert plan.ok
    assert set(places(plan).values()) == {"gpu"}
    assert told(plan, "operators-placed") == "5 on the GPU, 0 on the CPU."


def test_integers_that_the_npu_does_not_carry_go_to_the_cpu(tiny: Any) -> None:
    graph = (
        tiny.Graph()
        .tensor("x", (1, 4), "int32")
        .tensor("r", (4, 1), "int32")
        .tensor("f", (1, 4))
        .tensor("y", (1, 4))
        .operator("RESHAPE", "x", "r")
        .operator("ADD", "f f", "y")
        .done("x f", "r y")
    )
    tables = {**tiny.tables(), "npu": npu(tiny, ADD=OperatorRow(signatures=(INT8,)))}
    plan = planning.choose(graph, board(tiny), tables)
    assert [one.placement for one in plan.operators] == ["cpu", "npu"]
    assert planning.audit(plan, graph, board(tiny), tables) == ()


def test_a_quantized_model_goes_to_the_npu_as_it_is(tiny: Any) -> None:
    graph = tiny.quantized_net().done("x", "y", state="quantized")
    tables = {**tiny.tables(), "npu": npu(tiny)}
    plan = planning.choose(graph, board(tiny), tables)
    assert [one.placement for one in plan.operators] == ["npu", "cpu"]
    assert plan.scheme.name == "as_is"
    assert planning.audit(plan, graph, board(tiny), tables) == ()


def test_a_missing_fallback_table_is_told(tiny: Any) -> None:
    with pytest.raises(PlanError, match="'nosuch', which is not there"):
        planning.choose(tiny.conv_net().done("x", "y"), board(tiny, "nosuch"), {"npu": npu(tiny)})


def test_int16_comes_before_float_arithmetic_on_an_npu(tiny: Any) -> None:
    wide = Signature(activations="int16", weights="int8", bias="int64", granularity="per-channel", symmetric="both")
    both = OperatorRow(signatures=(tiny.per_channel, wide))
    moves = OperatorRow(signatures=(INT8, Signature(activations="int16")), passes_quantization=True)
    tables = {**tiny.tables(), "npu": npu(tiny, CONV_2D=both, FULLY_CONNECTED=both, RESHAPE=moves)}
    plans = planning.candidates(tiny.conv_net().done("x", "y"), board(tiny), tables)
    names = list(dict.fromkeys(plan.scheme.name for plan in plans if plan.ok))
    assert names == ["static_wi8_ai8", "static_wi8_ai16", "static_wi8_ai8_mixed"]
