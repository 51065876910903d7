"""Read an ONNX file into a ModelGraph."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, MutableMapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import ModelError
from edgeq.models import onnx_constants, onnx_file, onnx_quantization, onnx_shapes
from edgeq.models.assemble import Parts, assemble
from edgeq.models.liveness import SUBGRAPH_SUFFIX
from edgeq.models.tensors import checked_shape, elements, shown, tensor_bytes
from edgeq.types import Attribute, ModelGraph, Operator, TensorSpec

if TYPE_CHECKING:
    import onnx

_SHOWN_ELEMENTS = 64
_KINDS = {9: "tensors", 10: "graphs", 11: "sparse tensor", 12: "sparse tensors", 13: "type", 14: "types"}
_RUNTIME_DOMAINS = ("com.microsoft", "com.microsoft.nchwc", "com.microsoft.experimental")

Scope = MutableMapping[str, int]


@dataclass(kw_only=True)
class _Reading:
    """What has been read so far; `homes` tells each tensor's graph, numbered in order of appearance."""

    path: Path
    parts: Parts
    functions: set[tuple[str, str]]
    homes: list[int] = field(default_factory=list)
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
    model, digest, size_bytes = onnx_file.parse(path)
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
    )
    functions = {(_domain(function.domain), function.name) for function in model.functions}
    reading = _Reading(path=path, parts=parts, functions=functions)
    scope = _graph(model.graph, {}, reading)
    parts.inputs = tuple(scope[value.name] for value in model.graph.input if not _is_constant(value.name, scope, parts))
    parts.outputs = tuple(_output(value.name, scope, path) for value in model.graph.output)
    _set_shapes(infer(model), reading)  # last, so that no process starts for a file that is broken
    onnx_quantization.apply(parts, reading.constants, path)
    parts.size_bytes += sum(file.stat().st_size for file in reading.outside)
    parts.notes += _notes(reading)
    return assemble(parts)


def _graph(graph: onnx.GraphProto, outer: Scope, reading: _Reading) -> Scope:
    """Add a graph's tensors and operators; the names that it defines, in front of the outer ones."""
    number = reading.graphs
    reading.graphs += 1
    local: dict[str, int] = {}
    own: Scope = ChainMap(local, outer)
    for value in graph.input:
        _add(value.name, number, own, reading)
    inputs = set(local)
    for constant in graph.initializer:
        _add_constant(constant, number, own, inputs, reading)
    for sparse in graph.sparse_initializer:
        _add_sparse(sparse, number, own, reading)
    made = set(local)
    for node in graph.node:
        _node(node, number, own, made, reading)
    return own


def _add(name: str, graph: int, scope: Scope, reading: _Reading) -> int:
    """A tensor whose type and shape are not known yet."""
    index = len(reading.parts.tensors)
    reading.parts.tensors.append(TensorSpec(index=index, name=name, shape=(), dtype="unknown", size_bytes=0))
    reading.homes.append(graph)
    reading.parts.unknown.add(index)
    scope[name] = index
    return index


def _set_shapes(inferred: tuple[list[onnx_shapes.Shapes], str | None], reading: _Reading) -> None:
    """Give every tensor but the constants the type and the shape that the file or the inference tells."""
    shapes, failure = inferred
    if failure:
        reading.parts.notes.append(failure)
    for index in sorted(reading.parts.unknown):
        tensor = reading.parts.tensors[index]
        kind, axes = shapes[reading.homes[index]].get(tensor.name, (0, None))
        dtype = onnx_constants.DTYPES.get(kind, "unknown")
        if not tensor.is_constant:
            _set(index, dtype, axes or (), reading)
        if axes is not None:
            reading.parts.unknown.discard(index)


def _set(index: int, dtype: str, axes: Iterable[int], reading: _Reading) -> None:
    tensor = reading.parts.tensors[index]
    shape = checked_shape(axes, dtype, str(reading.path), f"tensor {tensor.name[:60]!r}")
    reading.parts.tensors[index] = replace(tensor, shape=shape, dtype=dtype, size_bytes=tensor_bytes(shape, dtype))


def _add_constant(constant: onnx.TensorProto, graph: int, scope: Scope, local: set[str], reading: _Reading) -> None:
    """An initializer; before IR version 4 it has a graph input of the same name."""
    index = scope[constant.name] if constant.name in local else _add(constant.name, graph, scope, reading)
    _make_constant(index, constant, reading)


def _make_constant(index: int, constant: onnx.TensorProto, reading: _Reading) -> None:
    dtype, shape, outside = onnx_constants.check(constant, reading.path)
    _set(index, dtype, shape, reading)
    reading.parts.tensors[index] = replace(reading.parts.tensors[index], is_constant=True)
    reading.parts.unknown.discard(index)
    reading.constants[index] = constant
    if outside is not None:
        reading.outside.add(outside)


def _add_sparse(sparse: onnx.SparseTensorProto, graph: int, scope: Scope, reading: _Reading) -> None:
    """A sparse constant takes the bytes of its stored values."""
    dtype, shape, _ = onnx_constants.check(sparse.values, reading.path)
    index = _add(sparse.values.name, graph, scope, reading)
    _set(index, dtype, sparse.dims, reading)
    spec = replace(reading.parts.tensors[index], is_constant=True, size_bytes=tensor_bytes(shape, dtype))
    reading.parts.tensors[index] = spec
    reading.parts.unknown.discard(index)


def _node(node: onnx.NodeProto, graph: int, scope: Scope, made: set[str], reading: _Reading) -> None:
    index = len(reading.parts.operators)
    place = f"node {index} ({shown(node.op_type)} {node.name[:60]!r})"
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


def _mark_constant(node: onnx.NodeProto, index: int, reading: _Reading) -> None:
    """Give a Constant node's result the type and the value of its attribute."""
    held = node.attribute[0] if node.attribute else None
    if index < 0 or held is None:
        return
    constant = held.t if held.name == "value" else _numbers(held)
    if constant is not None:
        _make_constant(index, constant, reading)
    else:
        reading.parts.tensors[index] = replace(reading.parts.tensors[index], is_constant=True)


def _numbers(held: onnx.AttributeProto) -> onnx.TensorProto | None:
    """The numbers of a Constant node as a tensor; None for text and sparse tensors."""
    import numpy as np
    from onnx import numpy_helper

    sources = {"value_float": "f", "value_floats": "floats", "value_int": "i", "value_ints": "ints"}
    if held.name not in sources:
        return None
    dtype = np.float32 if "float" in held.name else np.int64
    return numpy_helper.from_array(np.asarray(getattr(held, sources[held.name]), dtype))


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
        notes.append(f"local functions, not looked into: {shown(listed)}")
    dynamic = [parts.tensors[number] for number in parts.inputs if -1 in parts.tensors[number].shape]
    if dynamic:
        listed = ", ".join(f"{shown(tensor.name)} {list(tensor.shape)}" for tensor in dynamic[:4])
        notes.append(f"dynamic axes counted as 1: {listed}")
    custom = sorted({operator.type for operator in parts.operators if operator.custom})
    if custom:
        notes.append(f"operators outside ONNX's and onnxruntime's domains: {shown(', '.join(custom))}")
    if reading.outside:
        listed = ", ".join(sorted(file.name for file in reading.outside))
        notes.append(f"external data: {shown(listed)}")
    if parts.unknown:
        notes.append(f"{len(parts.unknown)} tensors of unknown shape count as 0 bytes")
    return notes
