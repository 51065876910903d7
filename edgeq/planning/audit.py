"""Whether every verdict of a plan follows from the model, the target and its operator tables.

The claims of the plan are taken one by one and derived anew (`verdicts`, `figures`); the code that made the plan is not
asked.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from edgeq.planning import figures, fingerprint, schemes, verdicts, written
from edgeq.planning import view as views
from edgeq.planning.sensitive import always_float, sensitive
from edgeq.planning.verdicts import Ask, Verdict
from edgeq.planning.view import View
from edgeq.types import (
    FLOAT32,
    Check,
    ModelGraph,
    OperatorTable,
    Placement,
    Plan,
    Predicted,
    Rejected,
    RuntimeSpec,
    Scheme,
    Signature,
    Target,
)

_FRAMED = ("folded", "falls-back-to-float", "operator-unknown", "constraint-violated", "left-in-float")
_UNTOUCHED = ("constants-only", "carries-integers", "converts-types")
_NARROW = ("int8", "uint8", "int16", "int4", "float16")
_GONE = ("constants-only", "folded")


class Finding(NamedTuple):
    """One claim of a plan that does not follow: what the plan says and what follows instead."""

    subject: str
    claimed: str
    derived: str
    why: str


class Scene(NamedTuple):
    """A plan before what it speaks of; `kept` is what its scheme keeps in float, `before` leads to layers."""

    plan: Plan
    look: View
    target: Target
    runtime: RuntimeSpec
    tables: Mapping[str, OperatorTable]
    before: frozenset[int]
    kept: Mapping[int, str] = {}

    @property
    def table(self) -> OperatorTable:
        return self.tables[self.runtime.operators]

    @property
    def cpu(self) -> OperatorTable | None:
        return None if self.runtime.fallback is None else self.tables[self.runtime.fallback]


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
    scene = Scene(
        plan, look, target, reading[plan.runtime], tables, written.before_weights(look), _kept(look, plan.scheme)
    )
    if len(plan.operators) != len(graph.operators):
        count = Finding(
            "operators", str(len(plan.operators)), str(len(graph.operators)), "the model has another number"
        )
        return (*foreign, count)
    return (*foreign, *_scheme(scene), *_operators(scene), *_memory(scene), *_checks(scene), *_others(scene))


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


# --- the scheme ------------------------------------------------------------------------------


def _scheme(scene: Scene) -> Iterator[Finding]:
    plan, graph = scene.plan, scene.look.graph
    scheme = plan.scheme
    if scheme.name == "as_is":
        yield from _as_is(scene)
        return
    bare = dataclasses.replace(scheme, overrides={})
    if bare not in [rung.scheme for rung in _ladder(scene)]:
        yield Finding("scheme", _told(scheme), "another", f"no such scheme is planned for {graph.format} on this CPU")
    if plan.forced_scheme not in (None, scheme.name):
        yield Finding("scheme", scheme.name, str(plan.forced_scheme), "another scheme was asked for")
    wanted = _overrides(scene)
    for index in sorted(scheme.overrides.keys() | wanted.keys()):
        claimed = str(scheme.overrides.get(index, "none"))
        if claimed != wanted.get(index, "none"):
            yield Finding(f"override {index}", claimed, wanted.get(index, "none"), "the operator's placement says so")


def _as_is(scene: Scene) -> Iterator[Finding]:
    """The default of a file that came quantized is the signature that most layers have."""
    look, scheme = scene.look, scene.plan.scheme
    layers = [operator for operator in look.graph.operators if views.weights(look, operator)]
    found = [verdicts.stored(look, operator) for operator in layers or look.graph.operators]
    most = max((found.count(one) for one in found), default=0)
    if scheme.overrides or (found and found.count(scheme.default) != most) or (not found and scheme.default != FLOAT32):
        yield Finding("scheme", _told(scheme), "the file's own", "the layers in the file have other data types")


def _ladder(scene: Scene) -> list[schemes.Rung]:
    fast = scene.target.kind == "mcu" or scene.table.placement == "npu"
    return list(schemes.ladder(scene.look.graph.format, scene.target.cpu, scene.table, fast_int16=fast))


def _told(scheme: Scheme) -> str:
    return f"{schemes.label(scheme)} {scheme.default}"


def _overrides(scene: Scene) -> dict[int, str]:
    """What must differ from the default, as the placements say."""
    scheme, graph = scene.plan.scheme, scene.look.graph
    found = {}
    for operator, one in zip(graph.operators, scene.plan.operators, strict=True):
        rule = _inner_rule(scene, operator.index, one)
        if operator.subgraph or rule in _UNTOUCHED or one.placement == "refused":
            continue
        if graph.format == "onnx" and scheme.is_static and rule in _FRAMED:
            continue
        kind, weights, _, granularity = figures.parts(one.signature)
        in_float = one.placement == "float" or (kind not in _NARROW and weights not in _NARROW)
        coarser = granularity not in (None, scheme.default.granularity)
        wider = scheme.expands_weights and weights not in (None, scheme.default.weights)
        if (scheme.is_static or rule == "falls-back-to-float") if in_float else (coarser or wider):
            found[one.index] = one.signature
    return found


def _inner_rule(scene: Scene, number: int, one: Placement) -> str:
    """The rule by which the CPU runs an operator that the accelerator denies."""
    if one.rule != "falls-back-to-cpu":
        return one.rule
    table = scene.cpu or scene.table
    ask = _ask(scene, number, {})._replace(table=table)
    return verdicts.verdict(ask._replace(table=dataclasses.replace(table, placement="cpu")), None).rule


# --- operators -------------------------------------------------------------------------------


def _operators(scene: Scene) -> Iterator[Finding]:
    for number, (claim, found) in enumerate(zip(scene.plan.operators, derived(scene), strict=True)):
        operator = scene.look.graph.operators[number]
        subject = f"operator {operator.index} {operator.type}"
        if (claim.index, claim.type) != (operator.index, operator.type):
            yield Finding(subject, f"{claim.index} {claim.type}", subject, "the model has another operator there")
        claimed = Verdict(claim.placement, claim.signature, claim.rule)
        if claimed != found:
            yield Finding(subject, " ".join(claimed), " ".join(found), f"so says {scene.table.name}")


def derived(scene: Scene) -> Iterator[Verdict]:
    """The verdict on each operator, given what the plan says of those before it."""
    made: dict[int, str] = {}
    for number, claim in enumerate(scene.plan.operators):
        ask = _ask(scene, number, made)
        yield verdicts.verdict(ask, scene.cpu)
        # A verdict follows given the verdicts before it, each of which is looked at by itself.
        kind = "float32" if claim.rule == "converts-types" else figures.parts(claim.signature)[0]
        made.update(dict.fromkeys(ask.operator.outputs, kind))


def _ask(scene: Scene, number: int, made: Mapping[int, str]) -> Ask:
    look = scene.look
    operator = look.graph.operators[number]
    return Ask(look, operator, scene.table, scene.plan.scheme, scene.kept, made, scene.before)


def _kept(look: View, scheme: Scheme) -> Mapping[int, str]:
    if not scheme.is_static or scheme.name == "as_is":
        return {}
    always = always_float(look)
    return {**always, **sensitive(look)} if scheme.name == "static_wi8_ai8_mixed" else always


# --- memory and checks -----------------------------------------------------------------------


def _memory(scene: Scene) -> Iterator[Finding]:
    claimed = dataclasses.asdict(scene.plan.memory)
    found = dataclasses.asdict(figures.memory(scene.plan, scene.look, scene.target))
    for name, size in found.items():
        if claimed[name] != size:
            yield Finding(f"memory.{name}", str(claimed[name]), str(size), "the operators' data types add up to that")


def _checks(scene: Scene) -> Iterator[Finding]:
    plan = scene.plan
    wanted = dict(_expected(scene))
    refused = [one for one in plan.operators if one.placement == "refused"]
    subjects = {f"operator {one.index} {one.type}": one.rule for one in refused}
    seen = set()
    for check in plan.checks:
        key = (check.rule, check.subject) if check.subject in subjects else (check.rule, "")
        seen.add(key)
        if check.subject in subjects:
            if check.ok or check.rule != subjects[check.subject]:
                yield Finding(f"check {check.subject}", _verdict(check), subjects[check.subject], "it is refused")
        elif check.rule not in wanted:
            yield Finding(f"check {check.rule}", _verdict(check), "none", "nothing asks for this check")
        elif (check.ok, check.needed, check.available) != wanted[check.rule]:
            yield Finding(f"check {check.rule}", _verdict(check), _written(*wanted[check.rule]), "so it adds up")
    for rule, values in wanted.items():
        if (rule, "") not in seen:
            yield Finding(f"check {rule}", "none", _written(*values), "the check is missing")
    for subject, rule in subjects.items():
        if (rule, subject) not in seen:
            yield Finding(f"check {subject}", "none", rule, "a refused operator needs a check that fails")
    if plan.ok != all(check.ok for check in plan.checks):
        yield Finding("ok", str(plan.ok), str(not plan.ok), "a plan is ok when all its checks are")


Expected = tuple[bool, float | str | None, float | str | None]


def _verdict(check: Check) -> str:
    return _written(check.ok, check.needed, check.available)


def _written(ok: bool, needed: float | str | None, available: float | str | None) -> str:
    return f"{'ok' if ok else 'no'} ({needed} of {available})"


def _expected(scene: Scene) -> Iterator[tuple[str, Expected]]:
    """Every check that the plan must have beside those of refused operators: ok, needed, available."""
    plan, look = scene.plan, scene.look
    name = {"tflite": "TFLite", "onnx": "ONNX"}[look.graph.format]
    yield "runtime-format", (True, name, name)
    quantized = look.graph.state in ("quantized", "weights")
    if quantized or plan.scheme.name == "as_is" or look.graph.state == "partial":
        yield "model-state", (quantized == (plan.scheme.name == "as_is"), None, None)
    if not any(one.placement == "refused" for one in plan.operators):
        yield "operators-placed", (True, None, None)
        if scene.table.placement != "cpu":
            there = sum(one.placement == scene.table.placement and one.rule not in _GONE for one in plan.operators)
            yield "uses-accelerator", (there > 0, 1, there)
    if plan.scheme.name not in ("float32", "as_is"):
        count = _quantized(scene)
        yield "quantizes-something", (count > 0, 1, count)
    if plan.scheme.is_static and plan.scheme.name != "as_is":
        yield "integer-types", (True, None, None)
    yield from _limits(scene)


def _quantized(scene: Scene) -> int:
    look, pairs = scene.look, list(zip(scene.look.graph.operators, scene.plan.operators, strict=True))
    layers = [one for operator, one in pairs if views.weights(look, operator)]
    placed = [one for one in layers or [one for _, one in pairs] if one.placement in ("cpu", "gpu", "npu")]
    return sum(not set(figures.parts(one.signature)[:2]).isdisjoint(_NARROW) for one in placed)


def _limits(scene: Scene) -> Iterator[tuple[str, Expected]]:
    had, needed, asked = scene.target.memory, scene.plan.memory, scene.plan.budgets
    latency = scene.plan.predicted.latency_ms
    bounds = {
        "fits-ram": (needed.ram_bytes, had.ram_bytes - had.reserved_ram_bytes),
        "fits-model-budget": (needed.ram_bytes, had.model_budget_bytes),
        "fits-flash": (
            needed.flash_bytes,
            None if had.flash_bytes is None else had.flash_bytes - had.reserved_flash_bytes,
        ),
        "max-flash": (needed.flash_bytes, asked.max_flash_bytes),
        "max-ram": (needed.ram_bytes, asked.max_ram_bytes),
        "max-latency": (latency, asked.max_latency_ms),
        "max-drop": (None, asked.max_drop),
        "max-energy": (None, asked.max_energy_mj),
    }
    for rule, (used, limit) in bounds.items():
        if limit is not None:
            yield rule, (used is None or used <= limit, used, limit)


# --- what was not taken ----------------------------------------------------------------------


def _others(scene: Scene) -> Iterator[Finding]:
    """Each scheme that was not taken fails, comes later, or was never due; none is left out."""
    told = {entry.scheme: entry for entry in scene.plan.rejected}
    for spec in scene.target.runtimes:
        if spec.format != scene.look.graph.format:
            if spec.name not in told or told[spec.name].rule != "runtime-format":
                yield Finding(f"rejected {spec.name}", _rule(told.get(spec.name)), "runtime-format", "another format")
        elif scene.plan.scheme.name != "as_is":
            yield from _rungs(scene._replace(runtime=spec), told)


def _rungs(scene: Scene, told: Mapping[str, Rejected]) -> Iterator[Finding]:
    """The schemes of one runtime."""
    plan, known = scene.plan, _worked_out(scene)
    chosen = f"{plan.runtime} {schemes.label(plan.scheme)}"
    for rung in _ladder(scene):
        name = f"{scene.runtime.name} {schemes.label(rung.scheme)}"
        if name == chosen:
            continue
        entry, due = told.get(name), _is_due(scene, rung.scheme, known)
        if due != (entry is not None):
            words = "it could be planned here" if due else "it is no candidate of its own here"
            yield Finding(f"rejected {name}", _rule(entry), "a plan" if due else "no plan", words)
        elif entry is not None:
            yield from _entry(scene, rung, entry, known[_key(rung.scheme)])
        elif (
            plan.forced_scheme is None
            and plan.operators
            and rung.scheme.name not in told
            and not _is_elsewhere(scene, rung, told)
        ):
            yield Finding(f"rejected {rung.scheme.name}", "none", "not-offered", "nothing says why it was not planned")


def _entry(scene: Scene, rung: schemes.Rung, entry: Rejected, worked: Scene) -> Iterator[Finding]:
    """One plan that was not taken: the rule that it fails, or its place behind the one that was."""
    failing = set(_failing(worked))
    if entry.rule == "max-latency" and scene.plan.budgets.max_latency_ms is not None:
        return  # predictions of other plans are not kept
    if failing and entry.rule not in failing:
        yield Finding(f"rejected {entry.scheme}", _rule(entry), ", ".join(sorted(failing)), "that is what it fails")
    if not failing and entry.rule not in ("comes-later", "tried"):
        yield Finding(f"rejected {entry.scheme}", _rule(entry), "comes-later", "it fails nothing")
    if entry.rule == "comes-later" and not failing and scene.plan.ok and _key_of(worked, rung) < _own_key(scene):
        yield Finding(f"rejected {entry.scheme}", "comes-later", "comes first", f"{scene.plan.prefer} is preferred")


def _rule(entry: Rejected | None) -> str:
    return "none" if entry is None else entry.rule


def _is_elsewhere(scene: Scene, rung: schemes.Rung, told: Mapping[str, Rejected]) -> bool:
    """Whether another runtime of the target plans the scheme, or another rung of this one does."""
    plans = {name.split(" ")[1] for name in told if " " in name}
    return rung.scheme.name in plans | {scene.plan.scheme.name}


def _key(scheme: Scheme) -> tuple[str, Signature]:
    return scheme.name, scheme.default


def _worked_out(scene: Scene) -> dict[tuple[str, Signature], Scene]:
    """Every scheme of the ladder with its operators and its memory, derived."""
    found: dict[tuple[str, Signature], Scene] = {}
    for rung in _ladder(scene):
        if _key(rung.scheme) not in found:
            found[_key(rung.scheme)] = _work_out(scene, rung.scheme)
    return found


def _work_out(scene: Scene, scheme: Scheme) -> Scene:
    plan = dataclasses.replace(scene.plan, scheme=scheme, runtime=scene.runtime.name, predicted=Predicted())
    other = scene._replace(plan=plan, kept=_kept(scene.look, scheme))
    made: dict[int, str] = {}
    placements = []
    for number, operator in enumerate(scene.look.graph.operators):
        found = verdicts.verdict(_ask(other, number, made), scene.cpu)
        kind = "float32" if found.rule == "converts-types" else figures.parts(found.signature)[0]
        made.update(dict.fromkeys(operator.outputs, kind))
        placements.append(Placement(index=operator.index, type=operator.type, why="", **found._asdict()))
    plan = dataclasses.replace(plan, operators=tuple(placements))
    planned = figures.memory(plan, scene.look, scene.target)
    return other._replace(plan=dataclasses.replace(plan, memory=planned))


def _failing(worked: Scene) -> Iterator[str]:
    yield from (one.rule for one in worked.plan.operators if one.placement == "refused")
    yield from (rule for rule, (ok, _, _) in _expected(worked) if not ok)


def _is_due(scene: Scene, scheme: Scheme, known: Mapping[tuple[str, Signature], Scene]) -> bool:
    """Whether a scheme is a candidate of its own on this runtime."""
    if scene.plan.forced_scheme is not None:
        return scheme.name == scene.plan.forced_scheme
    static = next(worked for key, worked in known.items() if key[0] == "static_wi8_ai8").plan.operators
    if scheme.name == "float32":
        return False
    if scheme.name == "static_wi8_ai8_mixed":
        mixed = next(worked for key, worked in known.items() if key[0] == scheme.name).plan.operators
        return any(one.placement != other.placement for one, other in zip(static, mixed, strict=True))
    if scheme.name in ("static_wi8_ai8", "static_wi8_ai8_per_tensor"):
        return _takes_channels(scene, static) == (scheme.name == "static_wi8_ai8")
    return scheme.name not in written.OWN_LISTS or _gives(scene, scheme, known[_key(scheme)])


def _takes_channels(scene: Scene, static: tuple[Placement, ...]) -> bool:
    pairs = zip(scene.look.graph.operators, static, strict=True)
    layers = [one for operator, one in pairs if views.weights(scene.look, operator) and not _in_float(one)]
    grains = {figures.parts(one.signature)[3] for one in layers}
    return "per-channel" in grains or "per-tensor" not in grains


def _in_float(one: Placement) -> bool:
    kind, weights = figures.parts(one.signature)[:2]
    return one.placement in ("float", "refused") or (kind not in _NARROW and weights not in _NARROW)


def _gives(scene: Scene, scheme: Scheme, worked: Scene) -> bool:
    """Whether the converter writes the scheme and an operator has its data types."""
    if not written.operators_of(scene.look.graph.format, scheme.name):
        return False
    rule = "weights-expanded" if scheme.expands_weights else "signature-supported"
    wanted = (scheme.default.activations, scheme.default.weights)
    for number, one in enumerate(worked.plan.operators):
        kinds = figures.parts(one.signature)
        if _inner_rule(worked, number, one) == rule and kinds[0] == wanted[0] and kinds[1] in (None, wanted[1]):
            return one.placement != "refused"
    return False


def _key_of(worked: Scene, rung: schemes.Rung) -> tuple[float, ...]:
    keys = {
        "latency": (rung.place,),
        "memory": (worked.plan.memory.ram_bytes, rung.place),
        "accuracy": (schemes.risk_of(rung.scheme.name),),
    }
    return keys[worked.plan.prefer]


def _own_key(scene: Scene) -> tuple[float, ...]:
    """The same of the plan itself; no key where its scheme is none of the ladder, which is told elsewhere."""
    own = dataclasses.replace(scene.plan.scheme, overrides={})
    rung = next((rung for rung in _ladder(scene) if rung.scheme == own), None)
    return () if rung is None else _key_of(scene, rung)
