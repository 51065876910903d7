"""Which rungs of the ladder are worth a plan for one model and one operator table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from edgeq.planning import arriving, placement, schemes
from edgeq.planning import view as views
from edgeq.planning.placement import Survey
from edgeq.planning.sensitive import sensitive
from edgeq.types import Cpu, Scheme

NOT_OFFERED = {
    "static_wi8_ai8": "No layer can have per-channel weights on this runtime.",
    "static_wi8_ai8_per_tensor": "The runtime takes per-channel weights, which lose less accuracy.",
    "static_wi8_ai8_mixed": "No sensitive operator would be kept in float.",
    "float32": "It is not a quantization; it is planned only when it is asked for.",
    "as_is": "The model did not come quantized.",
}
"""Why a scheme is not planned at all."""


class Offer(NamedTuple):
    """A scheme to plan: its place in the ladder, the reason for its integer types, what it keeps in float and why."""

    scheme: Scheme
    place: int = 0
    why: str = ""
    kept: Mapping[int, str] = {}


def offers(ground: Survey, cpu: Cpu, name: str | None) -> list[Offer]:
    """The schemes to plan in the ladder's order; one that is asked for by name is offered whatever it is worth."""
    graph = ground.look.graph
    if name == "as_is" or (name is None and graph.state in ("quantized", "weights")):
        return [Offer(arriving.scheme_as_is(ground.look))]
    rungs = [Offer(scheme, place, why) for place, (scheme, why) in enumerate(schemes.ladder(graph.format, cpu))]
    kept = _kept(ground, rungs[0].scheme)
    unfit = set() if name else _unfit(ground, rungs[0].scheme, kept)
    wanted = [rung for rung in rungs if rung.scheme.name == (name or rung.scheme.name)]
    fit = [rung for rung in wanted if rung.scheme.name not in unfit]
    return [rung._replace(kept=kept) if rung.scheme.name == "static_wi8_ai8_mixed" else rung for rung in fit]


def _unfit(ground: Survey, static: Scheme, kept: Mapping[int, str]) -> set[str]:
    """Schemes that are no candidates of their own here."""
    granular = "static_wi8_ai8_per_tensor" if _takes_per_channel(ground, static) else "static_wi8_ai8"
    return {"float32", granular} | (set() if kept else {"static_wi8_ai8_mixed"})


def _takes_per_channel(ground: Survey, static: Scheme) -> bool:
    """Whether a layer can be per-channel; a graph without layers is no reason against it."""
    placed = placement.place(ground, static.default, {})
    layers = [one for one in placed if one.placement == "cpu" and views.weights(ground.look, one.operator)]
    granularities = {one.signature.granularity for one in layers}
    return "per-channel" in granularities or "per-tensor" not in granularities


def _kept(ground: Survey, static: Scheme) -> dict[int, str]:
    """What a mixed scheme keeps in float: sensitive operators that would be quantized otherwise."""
    reasons = sensitive(ground.look)
    quantized = {one.operator.index for one in placement.place(ground, static.default, {}) if one.placement == "cpu"}
    mixed = placement.place(ground, static.default, reasons)
    kept = {one.operator.index for one in mixed if one.rule == "kept-in-float"}
    return {index: why for index, why in reasons.items() if index in kept & quantized}
