"""Target and model to plan: which runtime and scheme, where each operator runs, what fits, what was rejected."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from edgeq.errors import PlanError
from edgeq.planning import arriving, draft, explain, fingerprint, ground, rejected, risks, schemes
from edgeq.planning import spread as spreads
from edgeq.planning import view as views
from edgeq.planning.audit import Finding, audit
from edgeq.planning.offers import Offer, in_float, offers
from edgeq.planning.schemes import Prefer, label
from edgeq.planning.spread import Spread
from edgeq.planning.view import View
from edgeq.types import Budgets, ModelGraph, Observation, OperatorTable, Plan, Rejected, RuntimeSpec, Target

__all__ = [
    "Finding",
    "Planned",
    "audit",
    "candidates",
    "choose",
    "label",
    "plan",
    "settled",
    "spreads",
    "with_islands",
]

_UNLIMITED = Budgets()


class Planned(NamedTuple):
    """The plan to take, explained, and every plan that could be tried, the best first."""

    chosen: Plan
    candidates: tuple[Plan, ...]
    options: tuple[Option, ...] = ()


class Asked(NamedTuple):
    """What the user wants, and what is known beside model and target."""

    budgets: Budgets
    prefer: Prefer
    scheme: str | None
    observations: Sequence[Observation] = ()
    spread: Spread = MappingProxyType({})


class Option(NamedTuple):
    """One plan with its place in the ladder and what it was made of; no scene where no runtime reads the model."""

    plan: Plan
    place: int
    scene: draft.Scene | None = None
    drawn: draft.Draft | None = None


def plan(
    graph: ModelGraph,
    target: Target,
    tables: Mapping[str, OperatorTable],
    *,
    budgets: Budgets = _UNLIMITED,
    prefer: Prefer = "latency",
    scheme: str | None = None,
    observations: Sequence[Observation] = (),
    spread: Spread = MappingProxyType({}),
) -> Planned:
    """The best plan, with every other scheme and runtime in `rejected`, and all candidates beside it.

    `tables` are operator tables by name, those of fallbacks too; `scheme` restricts to one scheme; `observations` are
    latencies measured on the target; `spread` is what `spreads.of_weights` reads from the model's file.
    The plan's `ok` is False when nothing fits. Raises PlanError for an unknown scheme or preference, and for a table
    that is missing or wrong.
    """
    options = _options(graph, target, tables, Asked(budgets, prefer, scheme, observations, spread))
    found = tuple(option.plan for option in options)
    reasons = [*rejected.runtimes(graph, target), *rejected.plans(found[0], found[1:], prefer)]
    if scheme is None and found[0].operators:
        reasons += rejected.never_offered(found, spreads.widest(graph.operators, spread))
    chosen = dataclasses.replace(_explained(options[0]), rejected=tuple(reasons))
    chosen = dataclasses.replace(chosen, tables_sha256=fingerprint.of_target(target, tables))
    return Planned(chosen, found, tuple(options))


def settled(found: Planned, taken: Plan, tried: Sequence[Rejected]) -> Plan:
    """The plan that was taken after others were tried, explained, with why each other one was not.

    `tried` has an entry for each plan given up, by its scheme's label.
    """
    option = _with_islands(_option_of(found, taken), taken.scheme.islands)
    others = [one.plan for one in found.options if one is not option]
    reasons = {entry.scheme: entry.why for entry in tried}
    planned = {rejected.name_of(plan) for plan in found.candidates}
    told = rejected.after_trials(taken, others, reasons, taken.prefer)
    # Other formats and schemes that nobody planned stay as they were told.
    kept = [entry for entry in found.chosen.rejected if entry.scheme not in planned]
    return dataclasses.replace(_explained(option), rejected=(*told, *kept), tables_sha256=found.chosen.tables_sha256)


def with_islands(found: Planned, base: Plan, islands: Sequence[int]) -> Plan:
    """A static plan with these operators, by index, in float; `ok` is False where the target cannot run them so."""
    return _with_islands(_option_of(found, base), islands).plan


def _option_of(found: Planned, taken: Plan) -> Option:
    """What a plan was made of; for one with islands, what it was before."""
    wanted = taken.runtime, schemes.bare(taken.scheme)
    return next(one for one in found.options if (one.plan.runtime, schemes.bare(one.plan.scheme)) == wanted)


def _with_islands(option: Option, islands: Sequence[int]) -> Option:
    if option.scene is None or not islands:
        return option
    scene, base = option.scene, option.plan
    offer = in_float(scene.ground, scene.target, base.scheme, islands)
    drawn = draft.draw(scene, offer)
    made = draft.plan(scene, offer, drawn, base.budgets)
    asked = dataclasses.replace(made, prefer=base.prefer, budgets=base.budgets, forced_scheme=base.forced_scheme)
    return Option(asked, offer.place, scene, drawn)


def choose(graph: ModelGraph, target: Target, tables: Mapping[str, OperatorTable], **asked: Any) -> Plan:
    """The chosen one of `plan`."""
    return plan(graph, target, tables, **asked).chosen


def candidates(
    graph: ModelGraph, target: Target, tables: Mapping[str, OperatorTable], **asked: Any
) -> tuple[Plan, ...]:
    """Every plan that could be tried, the best first; those that are not ok stand last. There is always one."""
    return plan(graph, target, tables, **asked).candidates


def _options(graph: ModelGraph, target: Target, tables: Mapping[str, OperatorTable], asked: Asked) -> list[Option]:
    schemes.demand_known(asked.scheme)
    order = schemes.order(asked.prefer)
    look = views.view(graph)
    runtimes = [runtime for runtime in target.runtimes if runtime.format == graph.format]
    if not runtimes:
        return [Option(_asked(_without_runtime(look, target, asked.scheme), asked), 0)]
    struck = risks.struck(look)
    found = [one for runtime in runtimes for one in _of_runtime(look, target, runtime, tables, struck, asked)]
    return sorted(found, key=lambda one: (not one.plan.ok, *order(one.plan, one.place)))


def _of_runtime(
    look: View,
    target: Target,
    runtime: RuntimeSpec,
    tables: Mapping[str, OperatorTable],
    struck: tuple[risks.Struck, ...],
    asked: Asked,
) -> Iterator[Option]:
    """Plans of one runtime, each with its place in the ladder; drafts are drawn once for all range methods."""
    fallback = None if runtime.fallback is None else _table(target, runtime.fallback, tables)
    survey = ground.survey(look, _table(target, runtime.operators, tables), fallback)
    measured = tuple(one for one in asked.observations if one.runtime == runtime.name)
    scene = draft.Scene(survey, target, runtime, struck, asked.spread, measured, {})
    drafts: dict[object, draft.Draft] = {}
    for offer in offers(survey, target, asked.scheme):
        key = (offer.scheme.name, offer.scheme.default)
        if key not in drafts:
            drafts[key] = draft.draw(scene, offer)
        yield _option(scene, offer, drafts[key], asked)


def _option(scene: draft.Scene, offer: Offer, drawn: draft.Draft, asked: Asked) -> Option:
    return Option(_asked(draft.plan(scene, offer, drawn, asked.budgets), asked), offer.place, scene, drawn)


def _asked(found: Plan, asked: Asked) -> Plan:
    """The plan with what was asked, so that it can be checked alone."""
    return dataclasses.replace(found, prefer=asked.prefer, budgets=asked.budgets, forced_scheme=asked.scheme)


def _explained(option: Option) -> Plan:
    if option.scene is None or option.drawn is None:
        return option.plan
    placements = explain.explained(option.scene.ground, option.drawn.placed, option.plan.scheme)
    return dataclasses.replace(option.plan, operators=placements)


def _table(target: Target, name: str, tables: Mapping[str, OperatorTable]) -> OperatorTable:
    if name not in tables:
        raise PlanError(
            f"target {target.name} names the operator table {name!r}, which is not there",
            hint=f"write targets/operators/{name}.yaml",
        )
    return tables[name]


def _without_runtime(look: View, target: Target, name: str | None) -> Plan:
    found = (rung.scheme for rung in schemes.ladder(look.graph.format, target.cpu) if name in (None, rung.scheme.name))
    return draft.without_runtime(look, target, next(found, None) or arriving.scheme_as_is(look))
