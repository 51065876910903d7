"""Assemble a small TFLite file from NumPy arrays and operator options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ALIGNMENT_BYTES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor; `data` makes it a constant. A -1 in `shape` is written as 1 with a shape signature."""

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    data: NDArray[Any] | None = None
    scales: tuple[float, ...] = ()
    zero_points: tuple[int, ...] = ()
    axis: int = 0
    variable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator. `type` is a name of the schema's BuiltinOperator, or any name when `custom`.

    `options` are fields of the operator's options table, `options_table` its name without the `T`.
    An input named "" is an optional operand left out. `intermediates` are tensors that only carry quantization.
    """

    type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    options_table: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    version: int = 1
    custom: bool = False
    intermediates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """One subgraph; `inputs` and `outputs` are names of tensors."""

    tensors: tuple[Tensor, ...]
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class _AlignedBuffer:
    """A buffer table whose data starts on 16 bytes, which the kernels ask for."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    def Pack(self, builder: Any) -> int:  # noqa: N802 the schema's own method name
        from ai_edge_litert import schema_py_generated as schema

        if not self.data:
            return int(schema.BufferT().Pack(builder))
        builder.StartVector(1, len(self.data), _ALIGNMENT_BYTES)
        builder.head -= len(self.data)
        builder.Bytes[builder.head : builder.head + len(self.data)] = self.data
        vector = builder.EndVector()
        schema.BufferStart(builder)
        schema.BufferAddData(builder, vector)
        return int(schema.BufferEnd(builder))


def tflite_bytes(*graphs: Graph, signature: bool = True) -> bytes:
    """A TFLite file with these subgraphs; `signature` adds `serving_default` to the first."""
    import flatbuffers  # type: ignore[import-untyped]
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT(version=3, description="edgeq", operatorCodes=[], subgraphs=[])
    model.buffers = [_AlignedBuffer(b"")]
    codes: dict[tuple[str, int, bool], int] = {}
    for graph in graphs:
        model.subgraphs.append(_subgraph(graph, model, codes))
    if signature:
        model.signatureDefs = [_signature(graphs[0])]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def write_tflite(path: Path, *graphs: Graph, signature: bool = True) -> Path:
    """Write `tflite_bytes` to a file and return its path."""
    path.write_bytes(tflite_bytes(*graphs, signature=signature))
    return path


def _subgraph(graph: Graph, model: Any, codes: dict[tuple[str, int, bool], int]) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    numbers = {tensor.name: number for number, tensor in enumerate(graph.tensors)}
    return schema.SubGraphT(
        tensors=[_tensor(tensor, model.buffers) for tensor in graph.tensors],
        inputs=[numbers[name] for name in graph.inputs],
        outputs=[numbers[name] for name in graph.outputs],
        operators=[_operator(node, numbers, model, codes) for node in graph.nodes],
        name="main",
    )


def _tensor(tensor: Tensor, buffers: list[Any]) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    if tensor.data is not None:
        buffers.append(_AlignedBuffer(np.ascontiguousarray(tensor.data).tobytes()))
    made = schema.TensorT(
        shape=[1 if size == -1 else size for size in tensor.shape],
        shapeSignature=list(tensor.shape) if -1 in tensor.shape else None,
        type=getattr(schema.TensorType, tensor.dtype.upper()),
        buffer=0 if tensor.data is None else len(buffers) - 1,
        name=tensor.name,
        hasRank=True,
        isVariable=tensor.variable,
    )
    if tensor.scales:
        made.quantization = schema.QuantizationParametersT(
            scale=np.asarray(tensor.scales, np.float32),
            zeroPoint=np.asarray(tensor.zero_points, np.int64),
            quantizedDimension=tensor.axis,
        )
    return made


def _operator(node: Node, numbers: dict[str, int], model: Any, codes: dict[tuple[str, int, bool], int]) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    key = (node.type, node.version, node.custom)
    if key not in codes:
        codes[key] = len(codes)
        model.operatorCodes.append(_code(node))
    made = schema.OperatorT(
        opcodeIndex=codes[key],
        inputs=[numbers[name] if name else -1 for name in node.inputs],
        outputs=[numbers[name] for name in node.outputs],
        intermediates=[numbers[name] for name in node.intermediates] or None,
    )
    if node.options_table:
        kind = schema.BuiltinOptions if hasattr(schema.BuiltinOptions, node.options_table) else schema.BuiltinOptions2
        options = getattr(schema, node.options_table + "T")(**node.options)
        which = "" if kind is schema.BuiltinOptions else "2"
        setattr(made, f"builtinOptions{which}", options)
        setattr(made, f"builtinOptions{which}Type", getattr(kind, node.options_table))
    return made


def _code(node: Node) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    number = schema.BuiltinOperator.CUSTOM if node.custom else getattr(schema.BuiltinOperator, node.type)
    return schema.OperatorCodeT(
        builtinCode=number,
        deprecatedBuiltinCode=min(number, 127),
        version=node.version,
        customCode=node.type if node.custom else None,
    )


def _signature(graph: Graph) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    def ports(names: Sequence[str]) -> list[Any]:
        numbers = [tensor.name for tensor in graph.tensors]
        return [schema.TensorMapT(name=name, tensorIndex=numbers.index(name)) for name in names]

    return schema.SignatureDefT(
        inputs=ports(graph.inputs), outputs=ports(graph.outputs), signatureKey="serving_default", subgraphIndex=0
    )
