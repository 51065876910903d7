"""`plan --check`: what the planner makes is accepted, what a hand has changed is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq import models, planning, targets
from edgeq.types import (
    Budgets,
    Memory,
    ModelGraph,
    OperatorRow,
    OperatorTable,
    Plan,
    Rejected,
    RuntimeSpec,
    Signature,
    Target,
)

MODELS = (
    "kws_dscnn/kws_float.tflite",
    "kws_dscnn/kws_float.onnx",
    "kws_dscnn/kws_reference_int8.tflite",
    "lstm_mnist/mnist_lstm_float.tflite",
    "seg_mobilenetv3/portrait_float.tflite",
    "seg_mobilenetv3/portrait_float.onnx",
    "text_minilm_l3/minilm_l3_float.onnx",
    "imagenet_mobilenetv2/mobilenet_v2_float.onnx",
)


def problems(plan: Plan, graph: ModelGraph, target: Target, found: dict[str, OperatorTable]) -> list[str]:
    return [finding.subject for finding in planning.audit(plan, graph, target, found)]


@pytest.fixture(scope="module")
def shelf() -> list[tuple[Target, dict[str, OperatorTable]]]:
    """Every target with its tables; a table that several name is read once."""
    return [(target, targets.load_tables(target)) for target in targets.load_all()]


@pytest.mark.parametrize("file", MODELS)
def test_every_plan_of_a_shared_model_is_accepted(shared: Path, shelf: Any, file: str) -> None:
    graph = models.read(shared / file)
    for target, found in shelf:
        plan = planning.choose(graph, target, found)
        assert planning.audit(plan, graph, target, found) == (), target.name


# --- what a hand has changed -----------------------------------------------------------------

Change = Callable[[Plan], Plan]


def place(**words: Any) -> Change:
    """Change the first operator."""
    return lambda plan: dataclasses.replace(
        plan, operators=(dataclasses.replace(plan.operators[0], **words), *plan.operators[1:])
    )


def scheme(**words: Any) -> Change:
    return lambda plan: dataclasses.replace(plan, scheme=dataclasses.replace(plan.scheme, **words))


def memory(**words: Any) -> Change:
    return lambda plan: dataclasses.replace(plan, memory=dataclasses.replace(plan.memory, **words))


def field(**words: Any) -> Change:
    return lambda plan: dataclasses.replace(plan, **words)


def check(named: str, /, **words: Any) -> Change:
    def change(plan: Plan) -> Plan:
        checks = tuple(dataclasses.replace(one, **words) if one.rule == named else one for one in plan.checks)
        assert checks != plan.checks
        return dataclasses.replace(plan, checks=checks)

    return change


def without_check(rule: str) -> Change:
    return lambda plan: dataclasses.replace(plan, checks=tuple(one for one in plan.checks if one.rule != rule))


def rejection(name: str, /, **words: Any) -> Change:
    def change(plan: Plan) -> Plan:
        found = tuple(dataclasses.replace(one, **words) if name in one.scheme else one for one in plan.rejected)
        assert found != plan.rejected
        return dataclasses.replace(plan, rejected=found)

    return change


def without_rejection(name: str) -> Change:
    return lambda plan: dataclasses.replace(
        plan, rejected=tuple(one for one in plan.rejected if name not in one.scheme)
    )


TAMPERED: dict[str, tuple[Change, str]] = {
    "placement to float": (place(placement="float"), "operator 0 CONV_2D"),
    "placement refused": (place(placement="refused"), "operator 0 CONV_2D"),
    "placement npu": (place(placement="npu"), "operator 0 CONV_2D"),
    "float in all its parts": (
        place(placement="float", signature="float32/float32/float32", rule="falls-back-to-float"),
        "operator 0 CONV_2D",
    ),
    "kept without a reason": (
        place(placement="float", signature="float32/float32/float32", rule="kept-in-float"),
        "operator 0 CONV_2D",
    ),
    "signature": (place(signature="int8/int8/int32 per-tensor"), "operator 0 CONV_2D"),
    "signature of nonsense": (place(signature="x"), "operator 0 CONV_2D"),
    "rule": (place(rule="constants-only"), "operator 0 CONV_2D"),
    "unknown rule": (place(rule="because"), "operator 0 CONV_2D"),
    "type": (place(type="ADD"), "operator 0 CONV_2D"),
    "index": (place(index=3), "operator 0 CONV_2D"),
    "flash": (memory(flash_bytes=1), "memory.flash_bytes"),
    "ram": (memory(ram_bytes=1), "memory.ram_bytes"),
    "arena": (memory(arena_bytes=1), "memory.arena_bytes"),
    "a part of the arena": (memory(arena_parts_bytes={"activations": 1}), "memory.arena_parts_bytes"),
    "scheme's name": (scheme(name="dynamic_wi8_af32"), "scheme"),
    "scheme's types": (scheme(default=Signature(activations="int16")), "scheme"),
    "scheme's ranges": (scheme(reduce_range=True), "scheme"),
    "override": (scheme(overrides={1: Signature(activations="float32")}), "override 1"),
    "ok": (field(ok=False), "ok"),
    "check's verdict": (check("fits-ram", ok=False), "check fits-ram"),
    "check's need": (check("fits-ram", needed=1), "check fits-ram"),
    "check's limit": (check("fits-ram", available=1 << 50), "check fits-ram"),
    "check's rule": (check("fits-ram", rule="fits-nothing"), "check fits-nothing"),
    "a count": (check("quantizes-something", available=99), "check quantizes-something"),
    "a check is gone": (without_check("fits-ram"), "check fits-ram"),
    "no checks": (field(checks=()), "check fits-ram"),
    "a budget is gone": (field(budgets=Budgets()), "check max-flash"),
    "a budget is larger": (field(budgets=Budgets(max_flash_bytes=1 << 40)), "check max-flash"),
    "another scheme was forced": (field(forced_scheme="float32"), "scheme"),
    "another preference": (field(prefer="accuracy"), "rejected litert dynamic_wi8_af32"),
    "a rejection fails nothing": (
        rejection("litert dynamic_wi8_af32", rule="fits-ram"),
        "rejected litert dynamic_wi8_af32",
    ),
    "a rejection is gone": (without_rejection("litert dynamic_wi8_af32"), "rejected litert dynamic_wi8_af32"),
    "a runtime is gone": (without_rejection("onnxruntime"), "rejected onnxruntime"),
    "no rejections": (field(rejected=()), "rejected litert weight_only_wf16"),
    "a plan that was never due": (
        lambda plan: dataclasses.replace(
            plan, rejected=(*plan.rejected, Rejected(scheme="litert float32", why="No.", rule="comes-later"))
        ),
        "rejected litert float32",
    ),
    "model": (field(model_sha256="1" * 64), "model"),
    "target": (field(target="another"), "target"),
    "tables": (field(tables_sha256="1" * 64), "tables"),
    "runtime": (field(runtime="onnxruntime"), "runtime"),
    "format": (field(format="onnx"), "format"),
    "an operator is gone": (lambda plan: dataclasses.replace(plan, operators=plan.operators[1:]), "operators"),
}


def honest(tiny: Any) -> tuple[Plan, ModelGraph, Target, dict[str, OperatorTable]]:
    graph, target, found = tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables()
    runtimes = tuple(dataclasses.replace(spec) for spec in target.runtimes)
    target = dataclasses.replace(target, runtimes=runtimes)
    return planning.choose(graph, target, found, budgets=Budgets(max_flash_bytes=1 << 30)), graph, target, found


def test_the_honest_plan_is_accepted(tiny: Any) -> None:
    assert planning.audit(*honest(tiny)) == ()


def test_a_plan_from_before_parts_were_told_is_accepted(tiny: Any) -> None:
    plan, *rest = honest(tiny)
    assert planning.audit(memory(arena_parts_bytes={})(plan), *rest) == ()


@pytest.mark.parametrize("name", TAMPERED)
def test_what_was_changed_by_hand_is_named(tiny: Any, name: str) -> None:
    plan, graph, target, found = honest(tiny)
    change, subject = TAMPERED[name]
    changed = change(plan)
    assert changed != plan
    assert subject in problems(changed, graph, target, found)


def test_a_lie_that_hangs_together_is_named_by_the_table(tiny: Any) -> None:
    """A refused operator made legal in every place that speaks of it."""
    found = tiny.tables(SOFTMAX=None)
    graph, target = tiny.conv_net().done("x", "y"), tiny.target()
    plan = planning.choose(graph, target, found, scheme="static_wi8_ai8")
    last = dataclasses.replace(plan.operators[-1], placement="cpu", rule="signature-supported")
    checks = tuple(one for one in plan.checks if one.ok)
    lie = dataclasses.replace(plan, operators=(*plan.operators[:-1], last), checks=checks, ok=True)
    assert planning.audit(plan, graph, target, found) == ()
    assert "operator 4 SOFTMAX" in problems(lie, graph, target, found)


@pytest.mark.parametrize(
    ("changed", "subject"),
    [
        (
            {"CONV_2D": OperatorRow(signatures=(Signature(activations="float32", weights="float32"),))},
            "operator 0 CONV_2D",
        ),
        ({"SOFTMAX": None}, "operator 4 SOFTMAX"),
        ({"SOFTMAX": OperatorRow(signatures=(Signature(activations="int8"),), max_version=0)}, "operator 4 SOFTMAX"),
        ({"RESHAPE": OperatorRow(signatures=(), passes_quantization=True)}, "operator 2 RESHAPE"),
    ],
)
def test_a_table_that_changed_is_told_and_what_it_breaks(tiny: Any, changed: Any, subject: str) -> None:
    plan, graph, target, _ = honest(tiny)
    found = problems(plan, graph, target, tiny.tables(**changed))
    assert "tables" in found
    assert subject in found


def test_a_target_with_less_memory_is_told(tiny: Any) -> None:
    plan, graph, _, found = honest(tiny)
    smaller = tiny.target(memory=Memory(ram_bytes=4096))
    assert {"tables", "check fits-ram"} <= set(problems(plan, graph, smaller, found))


def test_a_rejection_that_would_come_first_is_named(tiny: Any) -> None:
    """The plan itself is lawful, but a better one was turned down."""
    graph, target, found = tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables()
    good = planning.choose(graph, target, found)
    other = next(plan for plan in planning.candidates(graph, target, found) if plan.scheme.name == "dynamic_wi8_af32")
    told = [Rejected(scheme="litert static_wi8_ai8 (int8/int8, percentile)", why="It comes later.", rule="comes-later")]
    kept = [one for one in good.rejected if "dynamic" not in one.scheme]
    lie = dataclasses.replace(other, rejected=(*told, *kept), tables_sha256=good.tables_sha256)
    assert "rejected litert static_wi8_ai8 (int8/int8, percentile)" in problems(lie, graph, target, found)


def test_a_plan_that_settled_after_trials_is_accepted(tiny: Any) -> None:
    graph, target, found = tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables()
    planned = planning.plan(graph, target, found)
    taken = next(plan for plan in planned.candidates if plan.scheme.name == "dynamic_wi8_af32")
    before = planned.candidates[: planned.candidates.index(taken)]
    tried = [Rejected(scheme=planning.label(plan.scheme), why="It lost 9 points.") for plan in before]
    settled = planning.settled(planned, taken, tried)
    assert settled.scheme == taken.scheme
    assert [one.rule for one in settled.rejected].count("tried") == len(before)
    assert planning.audit(settled, graph, target, found) == ()


def test_a_runtime_that_reads_nothing_here(tiny: Any) -> None:
    graph = tiny.onnx_net().done("x", "y")
    target = tiny.target(runtimes=(RuntimeSpec(name="litert", format="tflite", operators="tiny"),))
    found = tiny.tables()
    plan = planning.choose(graph, target, found)
    assert planning.audit(plan, graph, target, found) == ()
    assert "ok" in problems(dataclasses.replace(plan, ok=True), graph, target, found)
