"""Target and model to plan: which runtime and scheme, where each operator runs, what fits, what was rejected."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping

from edgeq.errors import PlanError
from edgeq.planning import arriving, draft, placement, rejected, schemes
from edgeq.planning import view as views
from edgeq.planning.offers import offers
from edgeq.planning.schemes import Prefer, label
from edgeq.planning.view import View
from edgeq.types import Budgets, ModelGraph, OperatorTable, Plan, RuntimeSpec, Target

__all__ = ["candidates", "choose", "label"]

_UNLIMITED = Budgets()


def candidates(
    graph: ModelGraph,
    target: Target,
    tables: Mapping[str, OperatorTable],
    *,
    budgets: Budgets = _UNLIMITED,
    prefer: Prefer = "latency",
    scheme: str | None = None,
) -> tuple[Plan, ...]:
    """Every plan that could be tried, the best first; those that are not ok stand last.

    `tables` are operator tables by name; `scheme` restricts to one scheme. There is always at least one plan.
    Raises PlanError for an unknown scheme or preference, and for a table that is missing or wrong.
    """
    schemes.demand_known(scheme)
    order = schemes.order(prefer)
    look = views.view(graph)
    runtimes = [runtime for runtime in target.runtimes if runtime.format == graph.format]
    if not runtimes:
        return (_without_runtime(look, target, scheme),)
    plans = [plan for runtime in runtimes for plan in _plans(look, target, runtime, tables, budgets, scheme)]
    ranked = sorted(plans, key=lambda one: (not one[0].ok, order(one[0], one[1]), one[1]))
    return tuple(plan for plan, _ in ranked)


def choose(
    graph: ModelGraph,
    target: Target,
    tables: Mapping[str, OperatorTable],
    *,
    budgets: Budgets = _UNLIMITED,
    prefer: Prefer = "latency",
    scheme: str | None = None,
) -> Plan:
    """The best plan, with every other scheme and runtime in `rejected`; `ok` is False when nothing fits.

    Raises what `candidates` raises.
    """
    best, *others = candidates(graph, target, tables, budgets=budgets, prefer=prefer, scheme=scheme)
    reasons = [*rejected.runtimes(graph, target), *rejected.plans(best, others, prefer)]
    if scheme is None and best.operators:
        reasons += rejected.never_offered((best, *others))
    return dataclasses.replace(best, rejected=tuple(reasons))


def _plans(
    look: View,
    target: Target,
    runtime: RuntimeSpec,
    tables: Mapping[str, OperatorTable],
    budgets: Budgets,
    scheme: str | None,
) -> Iterator[tuple[Plan, int]]:
    """Plans of one runtime, each with its place in the ladder; drafts are drawn once for all range methods."""
    ground = placement.survey(look, _table(target, runtime, tables))
    drafts: dict[object, draft.Draft] = {}
    for offer in offers(ground, target.cpu, scheme):
        key = (offer.scheme.name, offer.scheme.default)
        if key not in drafts:
            drafts[key] = draft.draw(ground, target, offer)
        yield draft.plan(look, target, runtime, offer, drafts[key], budgets), offer.place


def _table(target: Target, runtime: RuntimeSpec, tables: Mapping[str, OperatorTable]) -> OperatorTable:
    if runtime.operators not in tables:
        raise PlanError(
            f"target {target.name} names the operator table {runtime.operators!r}, which is not there",
            hint=f"write targets/operators/{runtime.operators}.yaml",
        )
    return tables[runtime.operators]


def _without_runtime(look: View, target: Target, name: str | None) -> Plan:
    ladder = (scheme for scheme, _ in schemes.ladder(look.graph.format, target.cpu) if name in (None, scheme.name))
    return draft.without_runtime(look, target, next(ladder, None) or arriving.scheme_as_is(look))
