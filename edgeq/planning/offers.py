"""Which rungs of the ladder are worth a plan for one model and one operator table."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

from edgeq.planning import arriving, placement, schemes
from edgeq.planning import view as views
from edgeq.planning.ground import Placed, Survey, place_of
from edgeq.planning.schemes import Rung
from edgeq.planning.sensitive import always_float, sensitive
from edgeq.planning.written import OWN_LISTS, operators_of
from edgeq.types import OperatorTable, Scheme, Signature, Target

NOT_OFFERED = {
    "static_wi8_ai8": "No layer can have per-channel weights on this runtime.",
    "static_wi8_ai8_per_tensor": "The runtime takes per-channel weights, which lose less accuracy.",
    "static_wi8_ai8_mixed": "No sensitive operator would be kept in float.",
    "float32": "It is not a quantization; it is planned only when it is asked for.",
    "as_is": "The model did not come quantized.",
    **dict.fromkeys(
        OWN_LISTS, "No operator here can have it: the runtime has no kernel, or edgeq's converter writes none."
    ),
}
"""Why a scheme is not planned at all."""


class Offer(NamedTuple):
    """A scheme to plan: its place in the ladder, the reason for its integer types, what it keeps in float and why.

    `placed` are the operators under it, where offering it needed them.
    """

    scheme: Scheme
    place: int = 0
    why: str = ""
    kept: Mapping[int, str] = {}
    placed: tuple[Placed, ...] | None = None


def offers(ground: Survey, target: Target, name: str | None) -> list[Offer]:
    """The schemes to plan in the ladder's order; one that is asked for by name is offered whatever it is worth."""
    graph = ground.look.graph
    if name == "as_is" or (name is None and graph.state in ("quantized", "weights")):
        return [Offer(arriving.scheme_as_is(ground.look))]
    always = always_float(ground.look)
    kept = {**always, **sensitive(ground.look)}
    rungs = [
        Offer(rung.scheme, rung.place, rung.why, _kept_by(rung.scheme, always, kept))
        for rung in ladder(graph.format, target, ground.table)
        if name in (None, rung.scheme.name)
    ]
    return rungs if name else _fit(ground, rungs)


def in_float(ground: Survey, target: Target, scheme: Scheme, islands: Sequence[int]) -> Offer:
    """A static scheme of the ladder with these operators in float."""
    base = schemes.bare(scheme)
    rung = next(rung for rung in ladder(ground.look.graph.format, target, ground.table) if rung.scheme == base)
    mixed = dataclasses.replace(base, name=schemes.MIXED, islands=tuple(sorted(islands)))
    kept = {**always_float(ground.look), **dict.fromkeys(islands, schemes.ISLAND)}
    return Offer(mixed, rung.place, rung.why, kept)


def _kept_by(scheme: Scheme, always: Mapping[int, str], kept: Mapping[int, str]) -> Mapping[int, str]:
    if not scheme.is_static:
        return {}
    return kept if scheme.name == schemes.MIXED else always


def ladder(model_format: Literal["tflite", "onnx"], target: Target, table: OperatorTable) -> Iterator[Rung]:
    """The ladder of a target's runtime."""
    fast = target.kind == "mcu" or table.placement == "npu"
    return schemes.ladder(model_format, target.cpu, table, fast_int16=fast)


def _fit(ground: Survey, rungs: list[Offer]) -> list[Offer]:
    """The schemes that are candidates of their own here; what was placed to find out goes along."""
    static = _first(rungs, "static_wi8_ai8")
    mixed = _first(rungs, "static_wi8_ai8_mixed")
    placed = {_key(rung): placement.place(ground, rung.scheme, rung.kept) for rung in (static, mixed)}
    plain, parts = placed[_key(static)], placed[_key(mixed)]
    unfit = {"float32", "static_wi8_ai8_per_tensor" if _takes_per_channel(ground, plain) else "static_wi8_ai8"}
    if all(place_of(one) == place_of(other) for one, other in zip(plain, parts, strict=True)):
        unfit.add("static_wi8_ai8_mixed")
    for rung in rungs:
        if rung.scheme.name in OWN_LISTS and operators_of(ground.look.graph.format, rung.scheme.name):
            placed[_key(rung)] = placement.place(ground, rung.scheme, rung.kept)
    unfit |= {name for name in OWN_LISTS if not any(_gives(rung, placed) for rung in rungs if rung.scheme.name == name)}
    return [rung._replace(placed=placed.get(_key(rung))) for rung in rungs if rung.scheme.name not in unfit]


def _first(rungs: list[Offer], name: str) -> Offer:
    return next(rung for rung in rungs if rung.scheme.name == name)


def _key(rung: Offer) -> tuple[str, Signature]:
    return rung.scheme.name, rung.scheme.default


def _gives(rung: Offer, placed: Mapping[tuple[str, Signature], tuple[Placed, ...]]) -> bool:
    """Whether an operator has the data types that the scheme is about."""
    rule = "weights-expanded" if rung.scheme.expands_weights else "signature-supported"
    wanted = rung.scheme.default
    return any(one.rule == rule and _has(one.signature, wanted) for one in placed.get(_key(rung), ()))


def _has(signature: Signature, wanted: Signature) -> bool:
    return signature.activations == wanted.activations and signature.weights in (None, wanted.weights)


def _takes_per_channel(ground: Survey, placed: tuple[Placed, ...]) -> bool:
    """Whether a layer is per-channel; a graph without layers is no reason against it."""
    layers = [one for one in placed if one.placement == "cpu" and views.weights(ground.look, one.operator)]
    granularities = {one.signature.granularity for one in layers}
    return "per-channel" in granularities or "per-tensor" not in granularities
