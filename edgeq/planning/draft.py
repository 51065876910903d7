"""One offer worked out: placements, predictions, checks, and the plan that they make."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from edgeq.planning import arriving, checks, ground, latency, memory, placement, risks
from edgeq.planning.ground import Placed, Survey
from edgeq.planning.offers import Offer
from edgeq.planning.spread import Spread
from edgeq.planning.view import View
from edgeq.types import (
    Budgets,
    Check,
    Observation,
    Placement,
    Plan,
    PlannedMemory,
    Predicted,
    Risk,
    RuntimeSpec,
    Scheme,
    Signature,
    Target,
)


class Draft(NamedTuple):
    """What does not depend on how ranges are chosen; `unavailable` is why there is no latency."""

    placed: tuple[Placed, ...]
    memory: PlannedMemory
    predicted: Predicted
    unavailable: str | None
    risks: tuple[Risk, ...] = ()
    operators: tuple[Placement, ...] = ()
    overrides: Mapping[int, Signature] = MappingProxyType({})


class Scene(NamedTuple):
    """One runtime of a target before one model, and what is known of both; `arenas` are those laid out already."""

    ground: Survey
    target: Target
    runtime: RuntimeSpec
    of_graph: tuple[risks.Struck, ...]
    spread: Spread
    observations: Sequence[Observation]
    arenas: memory.Arenas


def draw(scene: Scene, offer: Offer) -> Draft:
    """Place every operator and predict memory, latency and what is at risk."""
    survey, target = scene.ground, scene.target
    as_is = offer.scheme.name == "as_is"
    placed = offer.placed
    if placed is None:
        placed = arriving.place_as_is(survey) if as_is else placement.place(survey, offer.scheme, offer.kept)
    planned = memory.predict(survey.look, placed, target, scene.runtime, scene.arenas, as_is=as_is)
    predicted, unavailable = latency.predict(survey.look, placed, target, scene.observations)
    at_risk = () if as_is else risks.of_plan(scene.of_graph, placed, scene.spread)
    told = tuple(ground.shown(one) for one in placed)
    differing = {} if as_is else placement.overrides(survey.look, placed, offer.scheme)
    return Draft(placed, planned, predicted, unavailable, at_risk, told, differing)


def plan(scene: Scene, offer: Offer, draft: Draft, budgets: Budgets) -> Plan:
    """The plan of a draft, with its checks."""
    look, target, runtime = scene.ground.look, scene.target, scene.runtime
    applied = _checks(scene, offer, draft, budgets)
    return Plan(
        target=target.name,
        runtime=runtime.name,
        format=runtime.format,
        scheme=dataclasses.replace(offer.scheme, overrides=dict(draft.overrides)),
        ok=all(check.ok for check in applied),
        model_sha256=look.graph.sha256,
        operators=draft.operators,
        memory=draft.memory,
        predicted=draft.predicted,
        checks=applied,
        unavailable={} if draft.unavailable is None else {"latency_ms": draft.unavailable},
        risks=draft.risks,
    )


def without_runtime(look: View, target: Target, scheme: Scheme) -> Plan:
    """The plan that says no: nothing on the target reads the model's format."""
    size_bytes = look.graph.size_bytes
    failed = tuple(checks.runtime_format(look, runtime) for runtime in target.runtimes)
    none = Check(rule="runtime-format", subject=target.name, ok=False, why=f"{target.name} has no runtime.")
    return Plan(
        target=target.name,
        runtime=target.runtimes[0].name if target.runtimes else "none",
        format=look.graph.format,
        scheme=scheme,
        ok=False,
        model_sha256=look.graph.sha256,
        operators=(),
        memory=PlannedMemory(flash_bytes=size_bytes, ram_bytes=size_bytes, arena_bytes=0),
        predicted=Predicted(),
        checks=failed or (none,),
        unavailable={"latency_ms": "no runtime of the target reads the model"},
    )


def _checks(scene: Scene, offer: Offer, draft: Draft, budgets: Budgets) -> tuple[Check, ...]:
    look, target, runtime = scene.ground.look, scene.target, scene.runtime
    found = [
        checks.runtime_format(look, runtime),
        checks.state(look, offer.scheme),
        *checks.operators(draft.placed, scene.ground.table),
        checks.quantizes(look, draft.placed, offer.scheme),
        checks.integer_types(offer.scheme, offer.why),
        *checks.memory(draft.memory, target),
        *checks.budgets(draft.memory, draft.predicted, budgets),
    ]
    return tuple(check for check in found if check is not None)
