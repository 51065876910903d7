"""Whether every verdict of a plan follows from the model, the target and its operator tables.

The claims of the plan are taken one by one and derived anew (`verdicts`, `figures`); the code that made the plan is not
asked.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from edgeq.planning import fingerprint, written
from edgeq.planning import view as views
from edgeq.planning.audit import checks, figures, others, scheme, verdicts
from edgeq.planning.audit.ask import Verdict
from edgeq.planning.audit.scene import Finding, Scene, ask_of, kept_in_float
from edgeq.types import ModelGraph, OperatorTable, Plan, Target

__all__ = ["Finding", "audit"]


def audit(plan: Plan, graph: ModelGraph, target: Target, tables: Mapping[str, OperatorTable]) -> tuple[Finding, ...]:
    """Every claim of the plan that does not follow; empty where all do."""
    foreign = list(_foreign(plan, graph, target, tables))
    if plan.model_sha256 != graph.sha256 or plan.target != target.name:
        return tuple(foreign)
    reading = {spec.name: spec for spec in target.runtimes if spec.format == graph.format}
    if not reading:
        return (*foreign, *_no_runtime(plan, graph, target))
    if plan.runtime not in reading:
        words = f"{target.name} has no such runtime for {graph.format}"
        return (*foreign, Finding("runtime", plan.runtime, ", ".join(reading), words))
    look = views.view(graph)
    before, kept = written.before_weights(look), kept_in_float(look, plan.scheme)
    scene = Scene(plan, look, target, reading[plan.runtime], tables, before, kept)
    if len(plan.operators) != len(graph.operators):
        counts = str(len(plan.operators)), str(len(graph.operators))
        return (*foreign, Finding("operators", *counts, "the model has another number"))
    return (
        *foreign,
        *scheme.findings(scene),
        *_operators(scene),
        *checks.memory(scene),
        *checks.findings(scene),
        *others.findings(scene),
    )


def _foreign(plan: Plan, graph: ModelGraph, target: Target, tables: Mapping[str, OperatorTable]) -> Iterator[Finding]:
    if plan.model_sha256 != graph.sha256:
        yield Finding("model", plan.model_sha256[:12], graph.sha256[:12], "the plan is of another model")
    if plan.target != target.name:
        yield Finding("target", plan.target, target.name, "the plan is of another target")
    now = fingerprint.of_target(target, tables)
    if plan.tables_sha256 != now:
        yield Finding("tables", plan.tables_sha256[:12] or "-", now[:12], "the target or its tables have changed since")
    if plan.format != graph.format:
        yield Finding("format", plan.format, graph.format, "the model has another format")


def _no_runtime(plan: Plan, graph: ModelGraph, target: Target) -> Iterator[Finding]:
    """A plan that says no because nothing reads the model: it cannot be ok or place anything."""
    if plan.ok or plan.operators or any(check.ok for check in plan.checks):
        yield Finding("ok", str(plan.ok), "False", f"no runtime of {target.name} reads {graph.format}")
    size = graph.size_bytes
    claimed = (plan.memory.flash_bytes, plan.memory.ram_bytes, plan.memory.arena_bytes)
    if claimed != (size, size, 0):
        yield Finding("memory", str(claimed), str((size, size, 0)), "nothing is planned, so the file is all there is")


def _operators(scene: Scene) -> Iterator[Finding]:
    """Whether each operator runs where the plan says, by the rule that it gives."""
    for number, (claim, found) in enumerate(zip(scene.plan.operators, _derived(scene), strict=True)):
        operator = scene.look.graph.operators[number]
        subject = f"operator {operator.index} {operator.type}"
        if (claim.index, claim.type) != (operator.index, operator.type):
            yield Finding(subject, f"{claim.index} {claim.type}", subject, "the model has another operator there")
        claimed = Verdict(claim.placement, claim.signature, claim.rule)
        if claimed != found:
            yield Finding(subject, " ".join(claimed), " ".join(found), f"so says {scene.table.name}")


def _derived(scene: Scene) -> Iterator[Verdict]:
    """The verdict on each operator, given what the plan says of those before it."""
    made: dict[int, str] = {}
    for number, claim in enumerate(scene.plan.operators):
        ask = ask_of(scene, number, made)
        yield verdicts.verdict(ask, scene.cpu)
        # A verdict follows given the verdicts before it, each of which is looked at by itself.
        kind = "float32" if claim.rule == "converts-types" else figures.parts(claim.signature)[0]
        made.update(dict.fromkeys(ask.operator.outputs, kind))
