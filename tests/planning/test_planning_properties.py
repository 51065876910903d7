"""What must hold for every graph, table and budget, checked by an independent and naive reading of the table."""

from __future__ import annotations

import dataclasses
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import planning
from edgeq.planning.schemes import KNOWN, Prefer
from edgeq.types import (
    Budgets,
    ModelGraph,
    Operator,
    OperatorRow,
    OperatorTable,
    Plan,
    Quantization,
    RuntimeSpec,
    Signature,
    TensorSpec,
)

KINDS = ("CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "SOFTMAX", "RESHAPE", "RSQRT", "LOGISTIC", "DEQUANTIZE", "STRANGE")
TYPES = ("float32", "int8", "uint8", "int32", "float16", "int16")
QUICK = settings(max_examples=60, deadline=None)
INDEX = st.integers(-1, 7)


@st.composite
def tensors(draw: st.DrawFn, index: int) -> TensorSpec:
    scales = draw(st.lists(st.floats(1e-6, 1e3), max_size=3))
    return TensorSpec(
        index=index,
        name=f"t{index}",
        shape=tuple(draw(st.lists(st.integers(-1, 9), max_size=4))),
        dtype=draw(st.sampled_from(TYPES)),
        size_bytes=draw(st.integers(0, 4096)),
        is_constant=draw(st.booleans()),
        quantization=Quantization(scales=tuple(scales), zero_points=(0,) * len(scales)) if scales else None,
    )


@st.composite
def graphs(draw: st.DrawFn, state: str | None = None) -> ModelGraph:
    """Any graph at all: operands left out, made twice or never, operators on themselves."""
    operators = tuple(
        Operator(
            index=index,
            type=draw(st.sampled_from(KINDS)),
            version=draw(st.integers(1, 9)),
            inputs=tuple(draw(st.lists(INDEX, max_size=4))),
            outputs=tuple(draw(st.lists(st.integers(0, 7), max_size=2))),
            macs=draw(st.integers(0, 10**9)),
            custom=draw(st.booleans()) and draw(st.booleans()),
            attributes={"stride_w": draw(st.integers(0, 3)), "dilation_w_factor": draw(st.integers(0, 3))},
        )
        for index in range(draw(st.integers(0, 8)))
    )
    return ModelGraph(
        format=draw(st.sampled_from(("tflite", "onnx"))),
        path="any",
        sha256="0" * 64,
        size_bytes=draw(st.integers(0, 1 << 20)),
        inputs=(0,),
        outputs=(7,),
        tensors=tuple(draw(tensors(index)) for index in range(8)),
        operators=operators,
        parameters=0,
        weight_bytes=draw(st.integers(0, 1 << 16)),
        macs=0,
        peak_activation_bytes=0,
        state=state or draw(st.sampled_from(("float", "quantized", "weights", "partial"))),  # type: ignore[arg-type]
    )


SIGNATURES = st.builds(
    Signature,
    activations=st.sampled_from(("int8", "uint8", "float32")),
    weights=st.sampled_from((None, "int8", "uint8", "float16", "float32")),
    granularity=st.sampled_from((None, "per-tensor", "per-channel")),
)
ROWS = st.builds(
    OperatorRow,
    signatures=st.none() | st.lists(SIGNATURES, max_size=4).map(tuple),
    passes_quantization=st.booleans(),
    max_version=st.none() | st.integers(1, 9),
)


@st.composite
def tables(draw: st.DrawFn) -> dict[str, OperatorTable]:
    rows = draw(st.dictionaries(st.sampled_from(KINDS[:-1]), ROWS))
    fallback = draw(st.sampled_from(("none", "cpu", "float")))
    names = ("tiny", "tiny-onnx")
    return {
        name: OperatorTable(name=name, runtime=name, version="1", source="a test", operators=rows, fallback=fallback)
        for name in names
    }


def _naively_allowed(table: OperatorTable, graph: ModelGraph, index: int, plan: Plan) -> bool:
    """Whether an operator that was placed may run there: read from the table line by line."""
    operator = graph.operators[index]
    placed = plan.operators[index]
    row = table.operators.get(operator.type)
    if row is None:
        return table.fallback != "none" and not operator.custom
    if row.max_version is not None and operator.version > row.max_version:
        return table.fallback == "cpu"
    if placed.rule in ("constants-only", "carries-integers", "converts-types", "weights-expanded"):
        return True
    if row.signatures is None or (placed.placement == "float" and table.fallback != "none"):
        return True
    listed = {signature.activations for signature in row.signatures}
    if plan.scheme.name == "as_is" and placed.rule == "falls-back-to-float":
        return "float32" in listed and not _own_types(graph, operator) & {"int8", "uint8", "int16", "float16"}
    return placed.signature.split("/")[0].split()[0] in listed


def _own_types(graph: ModelGraph, operator: Operator) -> set[str]:
    """Data types that the operator itself reads, whatever stands before it."""
    return {graph.tensors[index].dtype for index in operator.inputs if index >= 0}


def _bare(chosen: Plan) -> Plan:
    """A chosen plan without what candidates have not."""
    plain = tuple(dataclasses.replace(one, alternatives=(), edit=None) for one in chosen.operators)
    return dataclasses.replace(chosen, rejected=(), operators=plain, tables_sha256="")


@QUICK
@given(
    graph=graphs(), found=tables(), prefer=st.sampled_from(get_args(Prefer)), name=st.none() | st.sampled_from(KNOWN)
)
def test_planning_never_raises_and_always_answers(tiny: Any, graph: Any, found: Any, prefer: Any, name: Any) -> None:
    plans = planning.candidates(graph, tiny.target(), found, prefer=prefer, scheme=name)
    chosen = planning.choose(graph, tiny.target(), found, prefer=prefer, scheme=name)
    assert _bare(chosen) == plans[0]
    verdicts = [plan.ok for plan in plans]
    assert verdicts == sorted(verdicts, reverse=True), "plans that are ok come first"
    for plan in plans:
        assert len(plan.operators) == len(graph.operators)
        assert plan.ok == all(check.ok for check in plan.checks)
        assert min(plan.memory.flash_bytes, plan.memory.ram_bytes, plan.memory.arena_bytes) >= 0
        assert all(check.ok or check.why for check in plan.checks)
        assert all(one.why.endswith(".") and one.rule for one in plan.operators)


@QUICK
@given(graph=graphs(), found=tables())
def test_every_verdict_follows_from_its_table(tiny: Any, graph: ModelGraph, found: dict[str, OperatorTable]) -> None:
    table = found["tiny"]
    for plan in planning.candidates(graph, tiny.target(), found):
        for one in plan.operators:
            if one.placement != "refused":
                assert _naively_allowed(table, graph, one.index, plan), one
        refused = {one.index for one in plan.operators if one.placement == "refused"}
        failing = {check.subject for check in plan.checks if not check.ok}
        assert {f"operator {index} {graph.operators[index].type}" for index in refused} <= failing


@QUICK
@given(graph=graphs("float"), found=tables())
def test_what_the_table_wholly_supports_is_never_refused(tiny: Any, graph: ModelGraph, found: Any) -> None:
    rows = {kind: OperatorRow(signatures=None) for kind in KINDS}
    plain = dataclasses.replace(
        graph, operators=tuple(dataclasses.replace(one, custom=False) for one in graph.operators)
    )
    all_of_it = {name: dataclasses.replace(table, operators=rows) for name, table in found.items()}
    for plan in planning.candidates(plain, tiny.target(), all_of_it):
        assert all(one.placement != "refused" for one in plan.operators)


@QUICK
@given(
    graph=graphs(),
    found=tables(),
    small=st.integers(0, 1 << 18),
    more=st.integers(0, 1 << 18),
    field=st.sampled_from(("max_flash_bytes", "max_ram_bytes")),
)
def test_a_larger_budget_never_turns_ok_into_not_ok(
    tiny: Any, graph: Any, found: Any, small: int, more: int, field: str
) -> None:
    def verdicts(limit: int) -> dict[Any, bool]:
        plans = planning.candidates(graph, tiny.target(), found, budgets=Budgets(**{field: limit}))
        return {(plan.runtime, plan.scheme.name, plan.scheme.ranges): plan.ok for plan in plans}

    tight, loose = verdicts(small), verdicts(small + more)
    assert tight.keys() == loose.keys()
    assert all(loose[key] for key, ok in tight.items() if ok)


@QUICK
@given(graph=graphs(), found=tables())
def test_the_same_question_has_the_same_answer(tiny: Any, graph: ModelGraph, found: Any) -> None:
    reordered = {
        name: dataclasses.replace(table, operators=dict(reversed(table.operators.items())))
        for name, table in found.items()
    }
    assert planning.choose(graph, tiny.target(), found) == planning.choose(graph, tiny.target(), reordered)


@QUICK
@given(
    graph=graphs(),
    found=tables(),
    prefer=st.sampled_from(("latency", "memory", "accuracy")),
    name=st.none() | st.sampled_from(KNOWN),
    limit=st.none() | st.integers(1, 1 << 21),
)
def test_every_plan_of_any_graph_is_accepted(
    tiny: Any, graph: Any, found: Any, prefer: Any, name: Any, limit: int | None
) -> None:
    budgets = Budgets(max_flash_bytes=limit, max_drop=1.0)
    plan = planning.choose(graph, tiny.target(), found, prefer=prefer, scheme=name, budgets=budgets)
    assert planning.audit(plan, graph, tiny.target(), found) == ()


@QUICK
@given(
    graph=graphs(),
    found=tables(),
    place=st.sampled_from(("npu", "gpu")),
    beside=st.booleans(),
    fallback=st.sampled_from(("none", "cpu", "float")),
)
def test_every_plan_of_an_accelerator_is_accepted(
    tiny: Any, graph: Any, found: Any, place: Any, beside: bool, fallback: Any
) -> None:
    runtimes = tuple(
        RuntimeSpec(name=kind, format=kind, operators="npu", fallback="tiny" if beside else None)  # type: ignore[arg-type]
        for kind in ("tflite", "onnx")
    )
    target = tiny.target(runtimes=runtimes)
    rows = dict(list(found["tiny"].operators.items())[::2])
    npu = dataclasses.replace(found["tiny"], name="npu", operators=rows, placement=place, fallback=fallback)
    every = {**found, "npu": npu}
    plan = planning.choose(graph, target, every)
    assert planning.audit(plan, graph, target, every) == ()


@pytest.mark.parametrize("copies", [400])
def test_a_long_chain_of_gates_and_roots_is_planned_quickly(tiny: Any, copies: int) -> None:
    import time

    graph = tiny.Graph().tensor("t0", (1, 4))
    for number in range(copies):
        graph.tensor(f"t{number + 1}", (1, 4)).operator(
            ("RSQRT", "MUL")[number % 2], f"t{number} t{number}", f"t{number + 1}"
        )
    started = time.perf_counter()
    plan = planning.choose(graph.done("t0", f"t{copies}"), tiny.target(), tiny.tables("float"))
    assert len(plan.operators) == copies
    assert time.perf_counter() - started < 5
