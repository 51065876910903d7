"""Predicted bytes of a plan: the model file, the activations, both together."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from edgeq.models.tensors import BITS
from edgeq.planning import arenas
from edgeq.planning import view as views
from edgeq.planning.ground import Placed
from edgeq.planning.view import View
from edgeq.types import ModelGraph, PlannedMemory, Quantization, RuntimeSpec, Target, TensorSpec


class Overhead(NamedTuple):
    """What a file format adds in bytes: per scale of a tensor, per quantized tensor, per expanded tensor.

    `name` is what each letter of a constant's name takes away when a static scheme is written without it.
    """

    scale: float
    tensor: float
    expanded: float
    name: float


OVERHEAD = {
    "tflite": Overhead(scale=5.8, tensor=-5, expanded=200, name=1.3),
    "onnx": Overhead(scale=6.2, tensor=103, expanded=220, name=1.9),
}
"""TFLite stores float32 scales, and zero points that are alike once; QDQ ONNX a float32 scale and an 8-bit zero point,
and two nodes. An expanded tensor has an operator of its own that makes it float32. Fitted to 14 real models in static
INT8: 2 % off in TFLite, 5 % in ONNX."""


Stored = tuple[str, int]
"""Data type of a layer's weights and the number of their scales."""

Stores = frozenset[tuple[int, str] | tuple[int, Stored]]
"""What tells one arena from another: the data types of activations, and the layers where they matter."""

Arenas = dict[Stores, tuple[arenas.Parts, arenas.Parts, str | None]]
"""The arenas of one runtime, and what the compiled model takes or why it is none: schemes share most of them."""


def predict(
    look: View, placed: Iterable[Placed], target: Target, runtime: RuntimeSpec, known: Arenas, *, as_is: bool
) -> PlannedMemory:
    """Bytes of the file, of the activations, and at run time.

    The file keeps its structure, weights shrink to their data type, biases stay 32 bits (64 with int16 activations),
    scales are added. Run-time memory is activations plus, off a microcontroller, the file, which is read whole, and
    integer weights that are expanded to float. The interpreter's own memory counts where it lies in the arena.
    """
    placed = tuple(placed)
    kinds = {} if as_is else dtypes(look, placed)
    flash_bytes = look.graph.size_bytes if as_is else _file_bytes(look, placed, kinds)
    layers = {} if as_is or not arenas.needs_weights(runtime.name) else layouts(look, placed)
    key: Stores = frozenset([*kinds.items(), *layers.items()])
    if key not in known:
        planned = retyped(look, kinds, layers)
        compiled = arenas.compiled(planned, target), arenas.refusal(planned, target)
        known[key] = arenas.parts(runtime.name, planned, target), *compiled
    parts, compiled_bytes, refusal = known[key]
    arena_bytes = sum(parts.values())
    resident_bytes = 0 if target.kind == "mcu" else flash_bytes
    resident_bytes += 0 if as_is else _expanded_bytes(look, placed)
    return PlannedMemory(
        flash_bytes=flash_bytes,
        ram_bytes=arena_bytes + resident_bytes,
        arena_bytes=arena_bytes,
        arena_parts_bytes=parts,
        compiled_bytes=compiled_bytes,
        compiled_refusal=refusal,
    )


def dtypes(look: View, placed: Iterable[Placed]) -> dict[int, str]:
    """Data type that each floating-point activation gets: that of the operator that makes it, or reads it."""
    found: dict[int, str] = {}
    for one in placed:
        kind = one.signature.activations
        for tensor in views.operands(look, one.operator):
            if tensor.index not in look.constants:
                found.setdefault(tensor.index, kind)
        found.update(dict.fromkeys(one.operator.outputs, kind))
    return {index: kind for index, kind in found.items() if _is_real(look, index)}


def layouts(look: View, placed: Iterable[Placed]) -> dict[int, Stored]:
    """Data type and number of scales that the weights of each layer get."""
    found: dict[int, Stored] = {}
    for one in placed:
        kind, per_channel = one.signature.weights, one.signature.granularity == "per-channel"
        if kind in views.QUANTIZED and kind != "float16":
            for tensor in views.weights(look, one.operator):
                found[tensor.index] = kind, views.channels(one.operator, tensor) if per_channel else 1
    return found


def stored_weights(look: View, one: Placed) -> list[tuple[TensorSpec, str]]:
    """The constants that an operator stores otherwise than the file does, with their data type; no biases.

    Weights that came as integers in a partly quantized file are restored, so they are stored anew as well.
    """
    layers = views.weights(look, one.operator)
    kind = one.signature.weights
    if kind is None and one.placement != "cpu":
        return []
    anew = [(tensor, kind) for tensor in layers if kind and views.stored(look, tensor).dtype != kind]
    if one.signature.activations not in views.QUANTIZED:
        return anew
    bias = views.bias(look, one.operator)
    skipped = {tensor.index for tensor in layers} | ({bias.index} if bias else set())
    others = [tensor for tensor in views.operands(look, one.operator) if tensor.index not in skipped]
    return anew + [(tensor, one.signature.activations) for tensor in others if _is_real_constant(look, tensor)]


def item_bytes(dtype: str) -> float:
    """Bytes of one value, half of one where they are packed; an unknown type counts as four."""
    return BITS.get(dtype, 32) / 8


def _file_bytes(look: View, placed: tuple[Placed, ...], kinds: Mapping[int, str]) -> int:
    overhead = OVERHEAD[look.graph.format]
    size = float(max(look.graph.size_bytes, look.graph.weight_bytes))
    seen: set[int] = set()
    for one in placed:
        for tensor, kind in stored_weights(look, one):
            if tensor.index not in seen:
                seen.add(tensor.index)
                size += _grown(look, one, tensor, kind, overhead)
    quantized = sum(kind in views.QUANTIZED for kind in kinds.values())
    return max(round(size + quantized * overhead.tensor - _nameless_bytes(look, quantized)), 0)


def _nameless_bytes(look: View, quantized: int) -> float:
    """Bytes of names that a static scheme, one with quantized activations, leaves out."""
    if not quantized:
        return 0.0
    letters = sum(len(tensor.name.encode()) for tensor in look.graph.tensors if tensor.is_constant)
    return letters * OVERHEAD[look.graph.format].name


def _grown(look: View, one: Placed, tensor: TensorSpec, kind: str, overhead: Overhead) -> float:
    """Bytes that a constant adds to the file by its new data type; negative where it shrinks."""
    if kind not in views.QUANTIZED:
        return views.elements(tensor) * item_bytes(kind) - views.stored(look, tensor).size_bytes
    now_bytes = views.stored(look, tensor).size_bytes
    added = views.elements(tensor) * item_bytes(kind) - now_bytes
    if kind == "float16":
        return added + overhead.expanded
    scales = views.channels(one.operator, tensor) if one.signature.granularity == "per-channel" else 1
    bias = views.bias(look, one.operator)
    with_bias = 2 if bias and one.signature.bias in ("int32", "int64") else 1
    if bias and one.signature.bias == "int64":
        added += 4 * views.elements(bias)
    added += overhead.expanded if one.rule == "weights-expanded" else 0
    return added + overhead.tensor + scales * overhead.scale * with_bias


def _expanded_bytes(look: View, placed: tuple[Placed, ...]) -> int:
    """Bytes of integer weights that are kept as float32 beside what is stored; each weight counts once."""
    expanded = [one for one in placed if one.rule == "weights-expanded" and one.signature.weights != "float16"]
    layers = {tensor.index: tensor for one in expanded for tensor in views.weights(look, one.operator)}
    return sum(4 * views.elements(tensor) for tensor in layers.values())


def retyped(look: View, kinds: Mapping[int, str], layers: Mapping[int, Stored]) -> ModelGraph:
    """The graph with activations and weights in their planned data types; what folds away counts as constant."""
    tensors = [_retyped(look, tensor, kinds.get(tensor.index)) for tensor in look.graph.tensors]
    for index, (kind, scales) in layers.items():
        quantization = Quantization(scales=(1.0,) * scales, zero_points=(0,) * scales)
        tensors[index] = dataclasses.replace(_retyped(look, tensors[index], kind), quantization=quantization)
    return dataclasses.replace(look.graph, tensors=tuple(tensors))


def _retyped(look: View, tensor: TensorSpec, kind: str | None) -> TensorSpec:
    if tensor.index in look.constants and not tensor.is_constant:
        tensor = dataclasses.replace(tensor, is_constant=True)
    if kind is None or kind == tensor.dtype:
        return tensor
    size_bytes = math.ceil(views.elements(tensor) * item_bytes(kind))
    return dataclasses.replace(tensor, dtype=kind, size_bytes=size_bytes)


def _is_real(look: View, index: int) -> bool:
    tensor = look.tensors.get(index)
    return tensor is not None and tensor.dtype in views.FLOATS and index not in look.constants


def _is_real_constant(look: View, tensor: TensorSpec) -> bool:
    return tensor.index in look.constants and tensor.dtype in views.FLOATS


def moved_bytes(look: View, one: Placed, kinds: Mapping[int, str]) -> float:
    """Bytes that an operator reads and writes: operands, weights as stored, results."""
    stored = {tensor.index: kind for tensor, kind in stored_weights(look, one)}
    touched = [*views.operands(look, one.operator), *views.results(look, one.operator)]
    return sum(
        views.elements(tensor) * item_bytes(stored.get(tensor.index) or kinds.get(tensor.index) or tensor.dtype)
        for tensor in touched
    )


def arithmetic(one: Placed) -> str:
    """What an operator computes in: int8, int16 or float32; dynamic range multiplies integers too."""
    signature = one.signature
    if signature.activations in ("int16", "uint16"):
        return "int16"
    if one.rule == "weights-expanded":
        return "float32"
    return "int8" if signature.weights in ("int8", "uint8") or signature.activations in views.QUANTIZED else "float32"
