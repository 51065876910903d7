"""Whether each scheme that a plan did not take fails, comes later or was never due, and none is left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from edgeq.planning import schemes, written
from edgeq.planning import view as views
from edgeq.planning.audit import checks, figures, verdicts
from edgeq.planning.audit.scene import Finding, Scene, ask_of, inner_rule, kept_in_float, ladder
from edgeq.types import Placement, Predicted, Rejected, Scheme, Signature


def findings(scene: Scene) -> Iterator[Finding]:
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
    for rung in ladder(scene):
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
    for rung in ladder(scene):
        if _key(rung.scheme) not in found:
            found[_key(rung.scheme)] = _work_out(scene, rung.scheme)
    return found


def _work_out(scene: Scene, scheme: Scheme) -> Scene:
    plan = dataclasses.replace(scene.plan, scheme=scheme, runtime=scene.runtime.name, predicted=Predicted())
    other = scene._replace(plan=plan, kept=kept_in_float(scene.look, scheme))
    made: dict[int, str] = {}
    placements = []
    for number, operator in enumerate(scene.look.graph.operators):
        found = verdicts.verdict(ask_of(other, number, made), scene.cpu)
        kind = "float32" if found.rule == "converts-types" else figures.parts(found.signature)[0]
        made.update(dict.fromkeys(operator.outputs, kind))
        placements.append(Placement(index=operator.index, type=operator.type, why="", **found._asdict()))
    plan = dataclasses.replace(plan, operators=tuple(placements))
    planned = figures.memory(plan, scene.look, scene.target)
    return other._replace(plan=dataclasses.replace(plan, memory=planned))


def _failing(worked: Scene) -> Iterator[str]:
    yield from (one.rule for one in worked.plan.operators if one.placement == "refused")
    yield from (rule for rule, (ok, _, _) in checks.expected(worked) if not ok)


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
    return one.placement in ("float", "refused") or (kind not in views.QUANTIZED and weights not in views.QUANTIZED)


def _gives(scene: Scene, scheme: Scheme, worked: Scene) -> bool:
    """Whether the converter writes the scheme and an operator has its data types."""
    if not written.operators_of(scene.look.graph.format, scheme.name):
        return False
    rule = "weights-expanded" if scheme.expands_weights else "signature-supported"
    wanted = (scheme.default.activations, scheme.default.weights)
    for number, one in enumerate(worked.plan.operators):
        kinds = figures.parts(one.signature)
        if inner_rule(worked, number, one) == rule and kinds[0] == wanted[0] and kinds[1] in (None, wanted[1]):
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
    rung = next((rung for rung in ladder(scene) if rung.scheme == schemes.bare(scene.plan.scheme)), None)
    return () if rung is None else _key_of(scene, rung)
