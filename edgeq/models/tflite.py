"""Read a TFLite flatbuffer into a ModelGraph."""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgeq.errors import ModelError
from edgeq.models import flatbuffer
from edgeq.models.assemble import Parts, assemble
from edgeq.models.flatbuffer import RawGraph, RawModel, RawOperator, RawTensor
from edgeq.models.liveness import SUBGRAPH_SUFFIX
from edgeq.models.tensors import checked_shape, shown, tensor_bytes
from edgeq.types import Attribute, ModelGraph, Operator, Quantization, TensorSpec

MAGIC = b"TFL3"
_CUSTOM = 32
_FLATBUFFER_BYTES = (1 << 31) - 1
"""The format's limit for the flatbuffer itself; larger files hold their weights behind it."""
_ENUMS = {
    "fused_activation_function": "ActivationFunctionType",
    "padding": "Padding",
    "weights_format": "FullyConnectedOptionsWeightsFormat",
    "kernel_type": "LSTMKernelType",
    "mode": "MirrorPadMode",
    "reduce_function": "ReduceWindowFunction",
    **dict.fromkeys(
        ("in_data_type", "out_data_type", "out_type", "output_type", "idx_out_type", "quantized_bias_type"),
        "TensorType",
    ),
}
_NAMES = {"string": "str"}


def read(path: Path) -> ModelGraph:
    """The structure of a TFLite file.

    Operators keep the schema's names (`CONV_2D`), custom ones their custom code; attributes have the
    schema's field names (`stride_w`), enumerations as names (`SAME`, `RELU6`). Tensors of all subgraphs
    stand in one row, those of subgraph 0 first with the file's own numbers. Raises ModelError.
    """
    with path.open("rb") as stream:
        content = stream.read(_FLATBUFFER_BYTES)
        digest = hashlib.sha256(content)
        while piece := stream.read(1 << 20):
            digest.update(piece)
        size_bytes = stream.tell()
    if content[4:8] != MAGIC:
        raise ModelError("is not a TFLite file: the mark TFL3 is missing at byte 4", where=str(path))
    raw = flatbuffer.unpack(content, size_bytes, str(path))
    return assemble(_parts(raw, str(path), digest.hexdigest(), size_bytes))


def _parts(raw: RawModel, path: str, digest: str, size_bytes: int) -> Parts:
    if not raw.graphs:
        raise ModelError("holds no subgraph, so there is nothing to run", where=path)
    parts = Parts(
        format="tflite",
        path=path,
        sha256=digest,
        size_bytes=size_bytes,
        tensors=[],
        operators=[],
        inputs=(),
        outputs=(),
    )
    for number, graph in enumerate(raw.graphs):
        _add_graph(parts, raw, graph, number)
    main = raw.graphs[0]
    parts.inputs = _ports(main.inputs, main, path, "input")
    parts.outputs = _ports(main.outputs, main, path, "output")
    parts.notes = _notes(raw, parts)
    return parts


def _ports(numbers: list[int], graph: RawGraph, path: str, kind: str) -> tuple[int, ...]:
    wrong = [number for number in numbers if not 0 <= number < len(graph.tensors)]
    if wrong:
        raise ModelError(f"model {kind} names tensor {wrong[0]}; there are {len(graph.tensors)}", where=path)
    if not numbers and kind == "output":
        raise ModelError("names no model output", where=path)
    return tuple(numbers)


def _add_graph(parts: Parts, raw: RawModel, graph: RawGraph, number: int) -> None:
    base = len(parts.tensors)
    for tensor in graph.tensors:
        index = len(parts.tensors)
        spec = _tensor_spec(tensor, index, raw, parts.path)
        parts.tensors.append(spec)
        if spec.is_constant:
            parts.storage[index] = ("buffer", tensor.buffer) if not tensor.external else ("outside", tensor.external)
    _check_order(graph, parts.path, number)
    for operator in graph.operators:
        parts.operators.append(_operator(operator, len(parts.operators), base, number, raw, parts.path))


def _tensor_spec(tensor: RawTensor, index: int, raw: RawModel, path: str) -> TensorSpec:
    place = f"tensor {index} ({tensor.name[:60]!r})"
    dtype = tensor_types().get(tensor.type)
    if dtype is None:
        raise ModelError(f"{place} has the unknown data type {tensor.type}", where=path)
    if tensor.buffer >= len(raw.buffer_bytes):
        raise ModelError(f"{place} names buffer {tensor.buffer}; there are {len(raw.buffer_bytes)}", where=path)
    sizes = tensor.signature if len(tensor.signature) == len(tensor.shape) else tensor.shape
    shape = checked_shape(sizes, dtype, path, place)
    stored_bytes = raw.buffer_bytes[tensor.buffer]
    spec = TensorSpec(
        index=index,
        name=tensor.name,
        shape=shape,
        dtype=dtype,
        size_bytes=tensor_bytes(shape, dtype),
        is_constant=(stored_bytes > 0 or tensor.external > 0) and not tensor.variable,
        quantization=_quantization(tensor, shape, path, place),
    )
    if stored_bytes and spec.size_bytes and not tensor.sparse and stored_bytes != spec.size_bytes:
        raise ModelError(
            f"{place} holds {stored_bytes} bytes; shape {list(shape)} of {dtype} takes {spec.size_bytes}", where=path
        )
    return replace(spec, size_bytes=stored_bytes) if stored_bytes and tensor.sparse else spec


def _quantization(tensor: RawTensor, shape: tuple[int, ...], path: str, place: str) -> Quantization | None:
    scales, zero_points = tensor.scales, tensor.zero_points or [0]
    if not scales:
        return None
    if not all(math.isfinite(scale) and scale >= 0 for scale in scales):
        raise ModelError(f"{place} has a quantization scale that is no positive number", where=path)
    if len(zero_points) not in (1, len(scales)):
        raise ModelError(f"{place} has {len(scales)} scales and {len(zero_points)} zero points", where=path)
    if len(scales) == 1:
        return Quantization(scales=tuple(scales), zero_points=tuple(zero_points))
    if not 0 <= tensor.axis < len(shape) or shape[tensor.axis] != len(scales):
        raise ModelError(
            f"{place} has {len(scales)} scales along axis {tensor.axis} of shape {list(shape)}", where=path
        )
    spread = zero_points * (len(scales) // len(zero_points))
    return Quantization(scales=tuple(scales), zero_points=tuple(spread), axis=tensor.axis)


def _operator(operator: RawOperator, index: int, base: int, subgraph: int, raw: RawModel, path: str) -> Operator:
    if operator.code >= len(raw.codes):
        raise ModelError(f"operator {index} names operator code {operator.code} of {len(raw.codes)}", where=path)
    code = raw.codes[operator.code]
    type = code.custom if code.builtin == _CUSTOM else operator_names().get(code.builtin)
    attributes = {name: _named(name, value) for name, value in operator.options.items()}
    _check_callees(attributes, index, len(raw.graphs), path)
    if operator.custom_bytes:
        attributes["custom_options_bytes"] = operator.custom_bytes
    return Operator(
        index=index,
        type=type or ("CUSTOM" if code.builtin == _CUSTOM else f"BUILTIN_{code.builtin}"),
        version=code.version,
        inputs=tuple(base + number if number >= 0 else -1 for number in operator.inputs),
        outputs=tuple(base + number for number in operator.outputs),
        attributes=attributes,
        custom=code.builtin == _CUSTOM or type is None,
        subgraph=subgraph,
    )


def _check_callees(attributes: Mapping[str, Attribute], index: int, graphs: int, path: str) -> None:
    for name, value in attributes.items():
        if name.endswith(SUBGRAPH_SUFFIX) and isinstance(value, int) and value >= graphs:
            raise ModelError(f"operator {index} calls subgraph {value}; there are {graphs}", where=path)


def _check_order(graph: RawGraph, path: str, subgraph: int) -> None:
    """Every operand exists, and no operator reads what a later one makes."""
    total = len(graph.tensors)
    makers: dict[int, int] = {}
    for step, operator in enumerate(graph.operators):
        place = f"operator {step} of subgraph {subgraph}"
        for tensor in (*operator.inputs, *operator.outputs):
            if not -1 <= tensor < total:
                raise ModelError(f"{place} names tensor {tensor}; there are {total}", where=path)
        for tensor in operator.outputs:
            if tensor in makers or tensor < 0:
                raise ModelError(
                    f"{place} makes tensor {tensor}, which operator {makers.get(tensor)} makes", where=path
                )
            makers[tensor] = step
    for step, operator in enumerate(graph.operators):
        late = [tensor for tensor in operator.inputs if makers.get(tensor, -1) >= step]
        if late and not graph.tensors[late[0]].variable:
            raise ModelError(
                f"operator {step} of subgraph {subgraph} reads tensor {late[0]} before operator "
                f"{makers[late[0]]} makes it; operators must stand in execution order",
                where=path,
            )


def _notes(raw: RawModel, parts: Parts) -> list[str]:
    notes = []
    if len(raw.graphs) > 1:
        notes.append(f"{len(raw.graphs)} subgraphs; totals are of the first and those that it calls, each once")
    if len(raw.signatures) > 1:
        notes.append(f"{len(raw.signatures)} signatures: {shown(', '.join(raw.signatures))}")
    dynamic = [parts.tensors[number] for number in parts.inputs if -1 in parts.tensors[number].shape]
    if dynamic:
        listed = ", ".join(f"{shown(tensor.name)} {list(tensor.shape)}" for tensor in dynamic[:4])
        notes.append(f"dynamic axes counted as 1: {listed}")
    custom = sorted({operator.type for operator in parts.operators if operator.custom})
    if custom:
        notes.append(f"operators unknown to the TFLite schema: {shown(', '.join(custom))}")
    tensors = [tensor for graph in raw.graphs for tensor in graph.tensors]
    for count, what in (
        (sum(tensor.sparse for tensor in tensors), "tensors are stored sparse"),
        (sum(tensor.details > 1 for tensor in tensors), "tensors are quantized by block or several axes, not shown"),
        (raw.external_buffers, "buffers are stored outside the file"),
    ):
        if count:
            notes.append(f"{count} {what}")
    return notes


def _named(option: str, value: Attribute) -> Attribute:
    names = _enumeration(_ENUMS[option]) if option in _ENUMS else {}
    return names.get(value, value) if isinstance(value, int) and not isinstance(value, bool) else value


@functools.cache
def operator_names() -> Mapping[int, str]:
    """Builtin operator code -> its name in the schema."""
    from ai_edge_litert import schema_py_generated as schema

    return {value: name for name, value in _members(schema.BuiltinOperator)}


@functools.cache
def tensor_types() -> Mapping[int, str]:
    """Tensor type code -> the name that NumPy (or ml_dtypes) uses."""
    return _enumeration("TensorType")


@functools.cache
def _enumeration(name: str) -> Mapping[int, str]:
    from ai_edge_litert import schema_py_generated as schema

    members = _members(getattr(schema, name))
    if name != "TensorType":
        return {value: member for member, value in members}
    return {value: _NAMES.get(member.lower(), member.lower()) for member, value in members}


def _members(enumeration: Any) -> list[tuple[str, int]]:
    return [(name, value) for name, value in vars(enumeration).items() if isinstance(value, int)]
