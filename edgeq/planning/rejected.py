"""Why each alternative to a plan was not taken."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from edgeq.planning import schemes
from edgeq.planning.checks import wrong_format
from edgeq.planning.offers import NOT_OFFERED
from edgeq.planning.schemes import Prefer
from edgeq.types import ModelGraph, Plan, Rejected, Target

COMES_LATER, NOT_PLANNED, TRIED = "comes-later", "not-offered", "tried"
_PER_TENSOR = "static_wi8_ai8_per_tensor"
_AS_IS = "The model came quantized: it is taken as it stands, never quantized again."


def runtimes(graph: ModelGraph, target: Target) -> Iterator[Rejected]:
    """The runtimes that read another format."""
    for runtime in target.runtimes:
        if runtime.format != graph.format:
            yield Rejected(scheme=runtime.name, why=wrong_format(runtime, graph.format), rule="runtime-format")


def plans(best: Plan, others: Sequence[Plan], prefer: Prefer) -> Iterator[Rejected]:
    """The other plans: the check that one fails, or its place in the order."""
    for plan in others:
        failed = next((check for check in plan.checks if not check.ok), None)
        behind = name_of(best)
        why = f"It comes after {behind} when {prefer} is preferred; it is tried when that loses too much accuracy."
        yield Rejected(
            scheme=name_of(plan),
            why=failed.why if failed else why,
            rule=failed.rule if failed else COMES_LATER,
        )


def after_trials(taken: Plan, others: Sequence[Plan], tried: Mapping[str, str], prefer: Prefer) -> Iterator[Rejected]:
    """The same once plans were converted and scored; `tried` are reasons by a scheme's label."""
    for entry, plan in zip(plans(taken, others, prefer), others, strict=True):
        why = tried.get(schemes.label(plan.scheme))
        lost = plan.ok and why is not None
        yield Rejected(scheme=entry.scheme, why=f"It was tried: {why}", rule=TRIED) if lost else entry


def name_of(plan: Plan) -> str:
    """A plan among the others of a target: its runtime and its scheme."""
    return f"{plan.runtime} {schemes.label(plan.scheme)}"


def never_offered(offered: Sequence[Plan], widest: str | None) -> Iterator[Rejected]:
    """The known schemes that were not planned at all; `widest` is the evidence against one scale for a layer."""
    names = {plan.scheme.name for plan in offered}
    evidence = {_PER_TENSOR: f" {widest}"} if widest else {}
    for name in schemes.KNOWN:
        if name not in names:
            why = _AS_IS if names == {"as_is"} else NOT_OFFERED[name] + evidence.get(name, "")
            yield Rejected(scheme=name, why=why, rule=NOT_PLANNED)
