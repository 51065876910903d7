"""Put what a reader found together into a ModelGraph: MACs, parameters, peak memory, state."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from edgeq.models import liveness, macs
from edgeq.models.onnx_quantization import DESCRIBES
from edgeq.models.state import ROLES, find_state, stored
from edgeq.models.tensors import FLOATS, SMALL_INTEGERS, elements, shown
from edgeq.types import ModelGraph, Operator, Shape, TensorSpec

SETTINGS: Mapping[str, Collection[int]] = {
    **{
        operator: {place for _, scale, zero_point, _ in described for place in (scale, zero_point)}
        for operator, described in DESCRIBES.items()
    },
    "Clip": (1, 2),
    "Resize": (1, 2, 3),
    "Upsample": (1,),
    "Pad": (1, 2, 3),
    "PADV2": (1, 2),
    "ConvInteger": (2, 3),
    "MatMulInteger": (2, 3),
}
"""Operands that steer an operator rather than hold weights, though they are floats or small integers."""


@dataclass(kw_only=True)
class Parts:
    """What a reader found. `storage` tells tensors that share one stored constant; `unknown` have no known shape."""

    format: Literal["tflite", "onnx"]
    path: str
    sha256: str
    size_bytes: int
    tensors: list[TensorSpec]
    operators: list[Operator]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    storage: dict[int, object] = field(default_factory=dict)
    unknown: set[int] = field(default_factory=set)
    opset: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def assemble(parts: Parts) -> ModelGraph:
    """The ModelGraph of a model's parts; raises ModelError where subgraphs call each other in a circle.

    `macs` and the peak follow from subgraph 0 and what it calls, each called subgraph counted once.
    """
    notes = list(parts.notes)
    operators = _counted(parts, notes)
    runs = liveness.reachable(operators)
    weights = _weights(parts)
    state, found = find_state(parts.format, parts.tensors, operators)
    if found:
        notes.append(found)
    return ModelGraph(
        format=parts.format,
        path=parts.path,
        sha256=parts.sha256,
        size_bytes=parts.size_bytes,
        inputs=parts.inputs,
        outputs=parts.outputs,
        tensors=tuple(parts.tensors),
        operators=operators,
        parameters=sum(number for number, _ in weights),
        weight_bytes=sum(size_bytes for _, size_bytes in weights),
        macs=sum(operator.macs for operator in operators if operator.subgraph in runs),
        peak_activation_bytes=liveness.peak_activation_bytes(
            parts.tensors, operators, parts.inputs, parts.outputs, parts.path
        ),
        state=state,
        opset=parts.opset,
        notes=tuple(notes),
    )


def _counted(parts: Parts, notes: list[str]) -> tuple[Operator, ...]:
    """The operators with their MACs; what could not be counted is noted."""
    makers = {tensor: operator for operator in parts.operators for tensor in operator.outputs}
    counted, uncounted = [], Counter[str]()
    for operator in parts.operators:
        number = _macs(operator, parts, makers)
        if number is None or operator.custom or operator.type in macs.UNCOUNTED:
            uncounted[operator.type] += 1
        counted.append(replace(operator, macs=number) if number else operator)
    if uncounted:
        listed = ", ".join(f"{number} x {kind}" for kind, number in sorted(uncounted.items())[:8])
        notes.append(f"MACs not counted: {shown(listed)}{', ...' if len(uncounted) > 8 else ''}")
    return tuple(counted)


def _macs(operator: Operator, parts: Parts, makers: Mapping[int, Operator]) -> int | None:
    if operator.type not in macs.FORMULAS and operator.type not in macs.RECURRENT:
        return 0
    inputs = _shapes(operator.inputs, parts)
    _, places = ROLES[parts.format].get(operator.type, (None, ()))
    weights = {place: inputs[place] for place in places if place in inputs}
    weights = {place: shape for place, shape in weights.items() if _is_constant(operator.inputs[place], parts, makers)}
    return macs.count(operator.type, inputs, _shapes(operator.outputs, parts), operator.attributes, weights)


def _shapes(tensors: Sequence[int], parts: Parts) -> dict[int, Shape]:
    known = {place: tensor for place, tensor in enumerate(tensors) if tensor >= 0 and tensor not in parts.unknown}
    return {place: tuple(abs(size) for size in parts.tensors[tensor].shape) for place, tensor in known.items()}


def _is_constant(tensor: int, parts: Parts, makers: Mapping[int, Operator]) -> bool:
    source, _ = stored(tensor, parts.tensors, makers)
    return source is not None and source.is_constant


def _weights(parts: Parts) -> list[tuple[int, int]]:
    """(elements, stored bytes) of each constant that holds parameters, shared ones once.

    Parameters are constants of float or sub-16-bit type, or with quantization parameters, that some operator
    reads other than as a setting. Shapes, axes, indices, clip limits, scales and zero points are not.
    """
    read = _read_as_weights(parts.operators)
    seen: dict[object, tuple[int, int]] = {}
    for tensor in parts.tensors:
        if tensor.is_constant and tensor.index in read and _is_parameter(tensor):
            key = parts.storage.get(tensor.index, ("tensor", tensor.index))
            seen.setdefault(key, (elements(tensor.shape), tensor.size_bytes))
    return list(seen.values())


def _read_as_weights(operators: Collection[Operator]) -> set[int]:
    return {
        tensor
        for operator in operators
        for place, tensor in enumerate(operator.inputs)
        if place not in SETTINGS.get(operator.type, ())
    }


def _is_parameter(tensor: TensorSpec) -> bool:
    return tensor.dtype in FLOATS or tensor.dtype in SMALL_INTEGERS or tensor.quantization is not None
