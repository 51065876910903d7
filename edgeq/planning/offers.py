"""Which rungs of the ladder are worth a plan for one model and one operator table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    """A scheme to plan: its place in the ladder, the reason for its integer types, what it keeps in float and why."""

    scheme: Scheme
    place: int = 0
    why: str = ""
    kept: Mapping[int, str] = {}


def offers(ground: Survey, target: Target, name: str | None) -> list[Offer]:
    """The schemes to plan in the ladder's order; one that is asked for by name is offered whatever it is worth."""
    graph = ground.look.graph
    if name == "as_is" or (name is None and graph.state in ("quantized", "weights")):
        return [Offer(arriving.scheme_as_is(ground.look))]
    rungs = [Offer(*rung) for rung in ladder(graph.format, target, ground.table)]
    always = always_float(ground.look)
    kept = {**always, **sensitive(ground.look)}
    unfit = set() if name else _unfit(ground, rungs, always, kept)
    wanted = [rung for rung in rungs if rung.scheme.name == (name or rung.scheme.name)]
    fit = [rung for rung in wanted if rung.scheme.name not in unfit]
    return [rung._replace(kept=_kept_by(rung.scheme, always, kept)) for rung in fit]


def _kept_by(scheme: Scheme, always: Mapping[int, str], kept: Mapping[int, str]) -> Mapping[int, str]:
    if not scheme.is_static:
        return {}
    return kept if scheme.name == "static_wi8_ai8_mixed" else always


def ladder(model_format: Literal["tflite", "onnx"], target: Target, table: OperatorTable) -> Iterator[Rung]:
    """The ladder of a target's runtime."""
    fast = target.kind == "mcu" or table.placement == "npu"
    return schemes.ladder(model_format, target.cpu, fast_int16=fast)


def _unfit(ground: Survey, rungs: list[Offer], always: Mapping[int, str], kept: Mapping[int, str]) -> set[str]:
    """Schemes that are no candidates of their own here."""
    static = rungs[0].scheme
    plain = placement.place(ground, static, always)
    mixed = placement.place(ground, static, kept)
    granular = "static_wi8_ai8_per_tensor" if _takes_per_channel(ground, plain) else "static_wi8_ai8"
    differs = any(place_of(one) != place_of(other) for one, other in zip(plain, mixed, strict=True))
    empty = {rung.scheme.name for rung in rungs if rung.scheme.name in OWN_LISTS and not _gives(ground, rung, always)}
    return {"float32", granular} | empty | (set() if differs else {"static_wi8_ai8_mixed"})


def _gives(ground: Survey, rung: Offer, always: Mapping[int, str]) -> bool:
    """Whether an operator would have the data types that the scheme is about."""
    if not operators_of(ground.look.graph.format, rung.scheme.name):
        return False
    wanted = rung.scheme.default
    placed = placement.place(ground, rung.scheme, _kept_by(rung.scheme, always, always))
    rule = "weights-expanded" if rung.scheme.expands_weights else "signature-supported"
    return any(one.rule == rule and _has(one.signature, wanted) for one in placed)


def _has(signature: Signature, wanted: Signature) -> bool:
    return signature.activations == wanted.activations and signature.weights in (None, wanted.weights)


def _takes_per_channel(ground: Survey, placed: tuple[Placed, ...]) -> bool:
    """Whether a layer is per-channel; a graph without layers is no reason against it."""
    layers = [one for one in placed if one.placement == "cpu" and views.weights(ground.look, one.operator)]
    granularities = {one.signature.granularity for one in layers}
    return "per-channel" in granularities or "per-tensor" not in granularities
