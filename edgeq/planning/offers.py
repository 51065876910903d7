"""Which rungs of the ladder are worth a plan for one model and one operator table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from edgeq.planning import arriving, placement, schemes
from edgeq.planning import view as views
from edgeq.planning.placement import Placed, Survey
from edgeq.planning.sensitive import always_float, sensitive
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
    always = always_float(ground.look)
    kept = {**always, **sensitive(ground.look)}
    unfit = set() if name else _unfit(ground, rungs[0].scheme, always, kept)
    wanted = [rung for rung in rungs if rung.scheme.name == (name or rung.scheme.name)]
    fit = [rung for rung in wanted if rung.scheme.name not in unfit]
    return [rung._replace(kept=_kept_by(rung.scheme, always, kept)) for rung in fit]


def _kept_by(scheme: Scheme, always: Mapping[int, str], kept: Mapping[int, str]) -> Mapping[int, str]:
    if not scheme.is_static:
        return {}
    return kept if scheme.name == "static_wi8_ai8_mixed" else always


def _unfit(ground: Survey, static: Scheme, always: Mapping[int, str], kept: Mapping[int, str]) -> set[str]:
    """Schemes that are no candidates of their own here."""
    plain = placement.place(ground, static.default, always)
    mixed = placement.place(ground, static.default, kept)
    granular = "static_wi8_ai8_per_tensor" if _takes_per_channel(ground, plain) else "static_wi8_ai8"
    differs = any(one.placement != other.placement for one, other in zip(plain, mixed, strict=True))
    return {"float32", granular} | (set() if differs else {"static_wi8_ai8_mixed"})


def _takes_per_channel(ground: Survey, placed: tuple[Placed, ...]) -> bool:
    """Whether a layer is per-channel; a graph without layers is no reason against it."""
    layers = [one for one in placed if one.placement == "cpu" and views.weights(ground.look, one.operator)]
    granularities = {one.signature.granularity for one in layers}
    return "per-channel" in granularities or "per-tensor" not in granularities
