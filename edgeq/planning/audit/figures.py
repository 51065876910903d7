"""The memory of a plan added up a second time, from what the plan says of its operators, for the audit."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from edgeq.planning import arenas
from edgeq.planning import view as views
from edgeq.planning.memory import OVERHEAD, item_bytes
from edgeq.planning.view import View
from edgeq.types import Operator, Placement, Plan, PlannedMemory, Quantization, Target, TensorSpec

_INTEGERS = views.QUANTIZED - {"float16"}
_BESIDE_BIAS = ("int32", "int64")


def parts(signature: str) -> tuple[str, str | None, str | None, str | None]:
    """Activations, weights, bias and granularity of a signature as a plan writes it."""
    types, _, granularity = signature.partition(" ")
    kinds = [*types.split("/"), None, None]
    return kinds[0] or "", kinds[1], kinds[2], granularity or None


def memory(plan: Plan, look: View, target: Target) -> PlannedMemory:
    """Flash, RAM and arena that follow from the placements of a plan."""
    as_is = plan.scheme.name == "as_is"
    kinds = {} if as_is else activations(plan.operators, look)
    layers = {} if as_is or not arenas.needs_weights(plan.runtime) else _layers(plan.operators, look)
    tensors = tuple(_planned(look, t, kinds.get(t.index), layers.get(t.index)) for t in look.graph.tensors)
    planned = dataclasses.replace(look.graph, tensors=tensors)
    parts_of_arena = arenas.parts(plan.runtime, planned, target)
    flash = look.graph.size_bytes if as_is else _file_bytes(plan, look, kinds)
    resident = 0 if target.kind == "mcu" else flash
    expanded = 0 if as_is else _expanded_bytes(plan, look)
    arena = sum(parts_of_arena.values())
    ram = arena + resident + expanded
    return PlannedMemory(
        flash_bytes=flash,
        ram_bytes=ram,
        arena_bytes=arena,
        arena_parts_bytes=parts_of_arena,
        compiled_bytes=arenas.compiled(planned, target),
        compiled_refusal=arenas.refusal(planned, target),
    )


def activations(operators: Sequence[Placement], look: View) -> dict[int, str]:
    """Data type of each real activation: its maker's, else its first reader's."""
    made: dict[int, str] = {}
    read: dict[int, str] = {}
    for operator, one in zip(look.graph.operators, operators, strict=True):
        kind = parts(one.signature)[0]
        for index in operator.inputs:
            if index not in made:
                read.setdefault(index, kind)
        made.update(dict.fromkeys(operator.outputs, kind))
    every = {**read, **made}
    real = (tensor.index for tensor in look.graph.tensors if tensor.dtype in views.FLOATS)
    return {index: every[index] for index in real if index in every and index not in look.constants}


def _layers(operators: Sequence[Placement], look: View) -> dict[int, tuple[str, int]]:
    """Data type and scales of the weights of every layer that stores integers."""
    found: dict[int, tuple[str, int]] = {}
    for operator, one in zip(look.graph.operators, operators, strict=True):
        _, kind, _, granularity = parts(one.signature)
        for tensor in views.weights(look, operator) if kind in _INTEGERS else ():
            scales = views.channels(operator, tensor) if granularity == "per-channel" else 1
            found[tensor.index] = str(kind), scales
    return found


def _planned(look: View, tensor: TensorSpec, kind: str | None, layer: tuple[str, int] | None) -> TensorSpec:
    wanted, scales = layer or (kind or tensor.dtype, 0)
    changes: dict[str, object] = {"is_constant": tensor.is_constant or tensor.index in look.constants}
    if wanted != tensor.dtype:
        changes |= {"dtype": wanted, "size_bytes": math.ceil(views.elements(tensor) * item_bytes(wanted))}
    if scales:
        changes["quantization"] = Quantization(scales=(1.0,) * scales, zero_points=(0,) * scales)
    return dataclasses.replace(tensor, **changes)  # type: ignore[arg-type]


def _file_bytes(plan: Plan, look: View, kinds: dict[int, str]) -> int:
    """The file as it came, with every constant changed that an operator stores otherwise, and a record of scales."""
    overhead = OVERHEAD[look.graph.format]
    total = float(max(look.graph.size_bytes, look.graph.weight_bytes))
    done: set[int] = set()
    for operator, one in zip(look.graph.operators, plan.operators, strict=True):
        for tensor, kind in _stored_anew(look, operator, one):
            if tensor.index not in done:
                done.add(tensor.index)
                total += _added(look, operator, one, tensor, kind)
    quantized = sum(kind in views.QUANTIZED for kind in kinds.values())
    total += overhead.tensor * quantized
    if quantized:
        names = [tensor.name.encode() for tensor in look.graph.tensors if tensor.is_constant]
        total -= overhead.name * sum(map(len, names))
    return max(round(total), 0)


def _stored_anew(look: View, operator: Operator, one: Placement) -> list[tuple[TensorSpec, str]]:
    kind, weights = parts(one.signature)[:2]
    layers = views.weights(look, operator)
    if weights is None and _stays(one):
        return []
    anew = [(tensor, weights) for tensor in layers if weights and views.stored(look, tensor).dtype != weights]
    if kind not in views.QUANTIZED:
        return anew
    bias = views.bias(look, operator)
    own = {tensor.index for tensor in (*layers, *([bias] if bias else []))}
    rest = [tensor for tensor in views.operands(look, operator) if tensor.index not in own]
    return anew + [(t, kind) for t in rest if t.index in look.constants and t.dtype in views.FLOATS]


def _stays(one: Placement) -> bool:
    """Whether the operator computes in float or not at all, so that its constants stay as they are."""
    return one.placement in ("float", "refused") or parts(one.signature)[0] not in views.QUANTIZED


def _added(look: View, operator: Operator, one: Placement, tensor: TensorSpec, kind: str) -> float:
    overhead = OVERHEAD[look.graph.format]
    added = views.elements(tensor) * item_bytes(kind) - views.stored(look, tensor).size_bytes
    if kind not in views.QUANTIZED:
        return added
    if kind == "float16":
        return added + overhead.expanded
    bias, granularity = parts(one.signature)[2:]
    has_bias = views.bias(look, operator)
    scales = views.channels(operator, tensor) if granularity == "per-channel" else 1
    sets = 2 if has_bias and bias in _BESIDE_BIAS else 1
    longer = 4 * views.elements(has_bias) if has_bias and bias == "int64" else 0
    expanded = overhead.expanded if one.rule == "weights-expanded" else 0
    return added + longer + expanded + overhead.tensor + sets * scales * overhead.scale


def _expanded_bytes(plan: Plan, look: View) -> int:
    """Integer weights that stand in memory as float too."""
    found: dict[int, int] = {}
    for operator, one in zip(look.graph.operators, plan.operators, strict=True):
        if one.rule == "weights-expanded" and parts(one.signature)[1] != "float16":
            found |= {tensor.index: 4 * views.elements(tensor) for tensor in views.weights(look, operator)}
    return sum(found.values())
