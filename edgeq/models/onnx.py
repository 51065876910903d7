"""Read an ONNX file into a ModelGraph."""

from __future__ import annotations

import hashlib
from collections import ChainMap
from collections.abc import Iterator, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.errors import ModelError
from edgeq.models import onnx_constants, onnx_quantization, onnx_shapes
from edgeq.models.assemble import Parts, assemble
from edgeq.models.liveness import SUBGRAPH_SUFFIX
from edgeq.models.tensors import checked_shape, elements, tensor_bytes
from edgeq.types import Attribute, ModelGraph, Operator, TensorSpec

if TYPE_CHECKING:
    import onnx

MAX_BYTES = (1 << 31) - 1
_SHOWN_ELEMENTS = 64
_KINDS = {9: "tensors", 10: "graphs", 11: "sparse tensor", 12: "sparse tensors", 13: "type", 14: "types"}
_RUNTIME_DOMAINS = ("com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental")

Scope = MutableMapping[str, int]


@dataclass(kw_only=True)
class _Reading:
    """What has been read so far; `shapes` holds one table per graph, in order of appearance."""

    path: Path
    parts: Parts
    shapes: list[onnx_shapes.Shapes]
    functions: set[tuple[str, str]]
    graphs: int = 0
    constants: dict[int, onnx.TensorProto] = field(default_factory=dict)
    outside: set[Path] = field(default_factory=set)


def read(path: Path, infer: onnx_shapes.Infer = onnx_shapes.infer) -> ModelGraph:
    """The structure of an ONNX file.

    Operators keep their ONNX names, those outside the default domain with it (`com.microsoft.QGemm`); their
    version is the operator set's. Constant nodes stay operators, and their results are constants. Tensors
    and operators of subgraphs (If, Loop, Scan) follow in one row. `size_bytes` includes external data;
    quantization parameters are those of the integer tensors. Raises ModelError.
    """
    model, digest, size_bytes = _parse(path)
    shapes, failure = infer(model)
    parts = Parts(
        format="onnx",
        path=str(path),
        sha256=digest,
        size_bytes=size_bytes,
        tensors=[],
        operators=[],
        inputs=(),
        outputs=(),
        opset={_domain(entry.domain): entry.version for entry in model.opset_import},
        notes=[failure] if failure else [],
    )
    functions = {(_domain(function.domain), function.name) for function in model.functions}
    reading = _Reading(path=path, parts=parts, shapes=shapes, functions=functions)
    scope = _graph(model.graph, {}, reading)
    parts.inputs = tuple(scope[value.name] for value in model.graph.input if not _is_constant(value.name, scope, parts))
    parts.outputs = tuple(_output(value.name, scope, path) for value in model.graph.output)
    onnx_quantization.apply(parts, reading.constants, path)
    parts.size_bytes += sum(file.stat().st_size for file in reading.outside)
    parts.notes += _notes(reading)
    return assemble(parts)


def _parse(path: Path) -> tuple[onnx.ModelProto, str, int]:
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    size_bytes = path.stat().st_size
    if size_bytes > MAX_BYTES:
        raise ModelError(
            "is larger than 2 GiB, the limit of the format's encoding",
            where=str(path),
            hint="save it with external data: onnx.save_model(model, path, save_as_external_data=True)",
        )
    content = path.read_bytes()
    model = onnx.ModelProto()
    try:
        model.ParseFromString(content)
    except DecodeError as error:
        raise ModelError("is not a whole ONNX file: its encoding breaks off or is damaged", where=str(path)) from error
    if not model.HasField("graph") or not model.graph.output:
        raise ModelError("is no ONNX model: it holds no graph with outputs", where=str(path))
    if not model.opset_import:
        raise ModelError("names no operator set version (opset_import)", where=str(path))
    if any(isinstance(name, bytes) for name in _names(model)):  # protobuf gives what it cannot decode as bytes
        raise ModelError("is damaged: a name in it is not UTF-8 text", where=str(path))
    return model, hashlib.sha256(content).hexdigest(), size_bytes


def _names(model: onnx.ModelProto) -> Iterator[str | bytes]:
    """Every name that the reader uses."""
    for entry in model.opset_import:
        yield entry.domain
    for function in model.functions:
        yield from (function.domain, function.name)
    for graph in onnx_shapes.walk(model.graph):
        for named in (*graph.input, *graph.output, *graph.value_info):
            yield named.name
        for tensor in (*graph.initializer, *(sparse.values for sparse in graph.sparse_initializer)):
            yield from _tensor_names(tensor)
        for node in graph.node:
            yield from (node.op_type, node.domain, node.name, *node.input, *node.output)
            for attribute in node.attribute:
                yield attribute.name
                yield from _tensor_names(attribute.t)


def _tensor_names(tensor: onnx.TensorProto) -> Iterator[str | bytes]:
    yield tensor.name
    for entry in tensor.external_data:
        yield from (entry.key, entry.value)


def _graph(graph: onnx.GraphProto, outer: Scope, reading: _Reading) -> Scope:
    """Add a graph's tensors and operators; the names that it defines, in front of the outer ones."""
    number = reading.graphs
    reading.graphs += 1
    local: dict[str, int] = {}
    own: Scope = ChainMap(local, outer)
    for value in graph.input:
        _add(value.name, number, own, reading)
    for constant in graph.initializer:
        _add_constant(constant, number, own, reading)
    for sparse in graph.sparse_initializer:
        _add_sparse(sparse, number, own, reading)
    made = set(local)
    for node in graph.node:
        _node(node, number, own, made, reading)
    return own


def _add(name: str, graph: int, scope: Scope, reading: _Reading) -> int:
    """A tensor that is no constant, with the shape that the file or the inference gives."""
    tensors, path = reading.parts.tensors, str(reading.path)
    index = len(tensors)
    kind, axes = reading.shapes[graph].get(name, (0, None))
    dtype = onnx_constants.DTYPES.get(kind, "unknown")
    shape = checked_shape(axes or (), dtype, path, f"tensor {name[:60]!r}")
    tensors.append(TensorSpec(index=index, name=name, shape=shape, dtype=dtype, size_bytes=tensor_bytes(shape, dtype)))
    if axes is None:
        reading.parts.unknown.add(index)
    scope[name] = index
    return index


def _add_constant(constant: onnx.TensorProto, graph: int, scope: Scope, reading: _Reading) -> None:
    dtype, shape, outside = onnx_constants.check(constant, reading.path)
    known = scope.get(constant.name)
    if graph or known is None:
        known = _add(constant.name, graph, scope, reading)
    spec = replace(reading.parts.tensors[known], shape=shape, dtype=dtype, size_bytes=tensor_bytes(shape, dtype))
    reading.parts.tensors[known] = replace(spec, is_constant=True)
    reading.parts.unknown.discard(known)
    reading.constants[known] = constant
    if outside is not None:
        reading.outside.add(outside)


def _add_sparse(sparse: onnx.SparseTensorProto, graph: int, scope: Scope, reading: _Reading) -> None:
    """A sparse constant counts as its stored values."""
    dtype, shape, _ = onnx_constants.check(sparse.values, reading.path)
    known = _add(sparse.values.name, graph, scope, reading)
    dense = checked_shape(sparse.dims, dtype, str(reading.path), f"constant {sparse.values.name[:60]!r}")
    spec = replace(reading.parts.tensors[known], shape=dense, dtype=dtype, size_bytes=tensor_bytes(shape, dtype))
    reading.parts.tensors[known] = replace(spec, is_constant=True)
    reading.parts.unknown.discard(known)


def _node(node: onnx.NodeProto, graph: int, scope: Scope, made: set[str], reading: _Reading) -> None:
    index = len(reading.parts.operators)
    place = f"node {index} ({node.op_type[:40]} {node.name[:60]!r})"
    if not node.op_type or not node.output:
        raise ModelError(f"{place} has no operator type or makes nothing", where=str(reading.path))
    inputs = tuple(_operand(name, scope, place, reading.path) for name in node.input)
    domain = _domain(node.domain)
    operator = Operator(
        index=index,
        type=f"{domain}.{node.op_type}" if domain else node.op_type,
        version=reading.parts.opset.get(domain, 0),
        inputs=inputs,
        outputs=(),
        name=node.name,
        custom=_is_custom(domain, node.op_type, reading),
        subgraph=graph,
    )
    reading.parts.operators.append(operator)
    attributes = {key: value for item in node.attribute for key, value in _attribute(item, scope, reading).items()}
    outputs = tuple(_result(name, graph, scope, made, place, reading) for name in node.output)
    reading.parts.operators[index] = replace(operator, attributes=attributes, outputs=outputs)
    if node.op_type == "Constant" and not domain:
        _mark_constant(node, outputs[0], reading)


def _operand(name: str, scope: Scope, place: str, path: Path) -> int:
    if not name:
        return -1
    if name not in scope:
        raise ModelError(
            f"{place} reads {name[:60]!r}, which nothing before it makes; nodes must stand in execution order",
            where=str(path),
        )
    return scope[name]


def _result(name: str, graph: int, scope: Scope, made: set[str], place: str, reading: _Reading) -> int:
    if not name:
        return -1
    if name in made:
        raise ModelError(f"{place} makes {name[:60]!r}, which was made before", where=str(reading.path))
    made.add(name)
    return _add(name, graph, scope, reading)


def _mark_constant(node: onnx.NodeProto, tensor: int, reading: _Reading) -> None:
    """Give a Constant node's result the type and the value of its attribute."""
    import numpy as np
    from onnx import numpy_helper

    if tensor < 0 or not node.attribute:
        return
    held = node.attribute[0]
    numbers: dict[str, Any] = {
        "value_float": ("f", np.float32),
        "value_floats": ("floats", np.float32),
        "value_int": ("i", np.int64),
        "value_ints": ("ints", np.int64),
    }
    if held.name in numbers:
        source, dtype = numbers[held.name]
        constant = numpy_helper.from_array(np.asarray(getattr(held, source), dtype), node.output[0])
    elif held.name == "value":
        constant = held.t
    else:
        reading.parts.tensors[tensor] = replace(reading.parts.tensors[tensor], is_constant=True)
        return
    dtype, shape, outside = onnx_constants.check(constant, reading.path)
    spec = replace(reading.parts.tensors[tensor], shape=shape, dtype=dtype, size_bytes=tensor_bytes(shape, dtype))
    reading.parts.tensors[tensor] = replace(spec, is_constant=True)
    reading.parts.unknown.discard(tensor)
    reading.constants[tensor] = constant
    if outside is not None:
        reading.outside.add(outside)


def _attribute(item: onnx.AttributeProto, scope: Scope, reading: _Reading) -> dict[str, Attribute]:
    """An attribute as a plain value; a graph becomes the number of its subgraph."""
    kinds: dict[int, str] = {1: "f", 2: "i", 6: "floats", 7: "ints"}
    if item.type in kinds:
        value = getattr(item, kinds[item.type])
        return {item.name: value if item.type < 3 else list(value)}
    if item.type == item.STRING:
        return {item.name: item.s.decode(errors="replace")}
    if item.type == item.STRINGS:
        return {item.name: [text.decode(errors="replace") for text in item.strings]}
    if item.type == item.TENSOR:
        return {item.name: _tensor_attribute(item.t, reading.path)}
    if item.type == item.GRAPH:
        number = reading.graphs
        _graph(item.g, scope, reading)
        return {f"{item.name}_{SUBGRAPH_SUFFIX}": number}
    return {item.name: _KINDS.get(item.type, "unknown")}


def _tensor_attribute(tensor: onnx.TensorProto, path: Path) -> Attribute:
    dtype, shape, _ = onnx_constants.check(tensor, path)
    numbers = onnx_constants.values(tensor, path) if elements(shape) <= _SHOWN_ELEMENTS else None
    return numbers if numbers is not None else f"{dtype}{list(shape)}"


def _output(name: str, scope: Scope, path: Path) -> int:
    if name not in scope:
        raise ModelError(f"the model's output {name[:60]!r} is made by no node", where=str(path))
    return scope[name]


def _is_constant(name: str, scope: Scope, parts: Parts) -> bool:
    return parts.tensors[scope[name]].is_constant


def _is_custom(domain: str, type: str, reading: _Reading) -> bool:
    from onnx import defs

    if domain in _RUNTIME_DOMAINS or (domain, type) in reading.functions:
        return False
    return not defs.has(type, domain=domain)


def _domain(domain: str) -> str:
    return "" if domain == "ai.onnx" else domain


def _notes(reading: _Reading) -> list[str]:
    parts, notes = reading.parts, []
    if reading.graphs > 1:
        notes.append(f"{reading.graphs} subgraphs (If, Loop, Scan); each is counted once")
    if reading.functions:
        listed = ", ".join(sorted(name for _, name in reading.functions))
        notes.append(f"local functions, not looked into: {listed[:200]}")
    dynamic = [parts.tensors[number] for number in parts.inputs if -1 in parts.tensors[number].shape]
    if dynamic:
        listed = ", ".join(f"{tensor.name[:60]} {list(tensor.shape)}" for tensor in dynamic[:4])
        notes.append(f"dynamic axes counted as 1: {listed}")
    custom = sorted({operator.type for operator in parts.operators if operator.custom})
    if custom:
        notes.append(f"operators outside ONNX's and onnxruntime's domains: {', '.join(custom)[:200]}")
    if reading.outside:
        listed = ", ".join(sorted(file.name for file in reading.outside))
        notes.append(f"external data: {listed[:200]}")
    if parts.unknown:
        notes.append(f"{len(parts.unknown)} tensors of unknown shape count as 0 bytes")
    return notes
