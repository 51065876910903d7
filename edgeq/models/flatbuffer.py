"""Take a TFLite flatbuffer apart into plain lists, without trusting it."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from edgeq.errors import ModelError
from edgeq.types import Attribute

CORRUPT = (struct.error, ValueError, TypeError, OverflowError)
"""What flatbuffers' accessors raise on offsets and lengths outside the file (measured by fuzzing)."""

_TABLE_BYTES = 16
"""Less than any writer needs for a tensor, an operator or its options with the reference to it."""
_SLACK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class RawTensor:
    name: str
    shape: list[int]
    signature: list[int]
    type: int
    buffer: int
    variable: bool
    sparse: bool
    external: int
    scales: list[float]
    zero_points: list[int]
    axis: int
    details: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawOperator:
    code: int
    inputs: list[int]
    outputs: list[int]
    options: dict[str, Attribute]
    custom_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawGraph:
    name: str
    tensors: list[RawTensor]
    operators: list[RawOperator]
    inputs: list[int]
    outputs: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class RawCode:
    builtin: int
    custom: str
    version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RawModel:
    version: int
    codes: list[RawCode]
    graphs: list[RawGraph]
    buffer_bytes: list[int]
    signatures: list[str]
    external_buffers: int


class _Allowance:
    """Counts the bytes that the tables claim: a file whose tables share parts over and over runs out."""

    def __init__(self, path: str, size_bytes: int) -> None:
        self.path = path
        self.left_bytes = size_bytes + _SLACK_BYTES

    def spend(self, size_bytes: int) -> None:
        self.left_bytes -= size_bytes
        if self.left_bytes < 0:
            raise ModelError("its tables claim more data than the file holds; the file is damaged", where=self.path)


def unpack(content: bytes, size_bytes: int, path: str) -> RawModel:
    """The parts of a TFLite file; `content` is its bytes, at most the first 2 GiB of `size_bytes`.

    Raises ModelError where an offset or a length points outside the file. Time and memory are linear in the
    size of the file.
    """
    from ai_edge_litert import schema_py_generated as schema

    allowance = _Allowance(path, size_bytes)
    try:
        model = schema.Model.GetRootAs(content, 0)
        return _model(model, size_bytes, allowance)
    except CORRUPT as error:
        raise ModelError(
            "is not a whole TFLite file: an offset or a length points outside of it", where=path
        ) from error


def main_data(content: Any, size_bytes: int, tensors: Iterable[int]) -> Iterator[tuple[int, memoryview]]:
    """The stored bytes of tensors of the main graph, as views of the file's `content`; raises `CORRUPT`."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(content, 0)
    graph = model.Subgraphs(0)
    tables = [(index, graph and graph.Tensors(index)) for index in tensors]
    buffers = [(index, table and model.Buffers(table.Buffer())) for index, table in tables]
    for index, buffer in buffers:
        if buffer is None:
            raise ValueError("a table that was there is missing")
        yield index, _data(buffer, content, size_bytes)


def _data(buffer: Any, content: Any, size_bytes: int) -> memoryview:
    """One buffer's data, in the flatbuffer or behind it."""
    if buffer.Offset() > 1:
        return memoryview(content)[buffer.Offset() : buffer.Offset() + _buffer_bytes(buffer, size_bytes)]
    return memoryview(b"" if buffer.DataIsNone() else buffer.DataAsNumpy()).cast("B")


def _model(model: Any, size_bytes: int, allowance: _Allowance) -> RawModel:
    return RawModel(
        version=model.Version(),
        codes=[_code(code, allowance) for code in _tables(model.OperatorCodes, model.OperatorCodesLength(), allowance)],
        buffer_bytes=[
            _buffer_bytes(buffer, size_bytes) for buffer in _tables(model.Buffers, model.BuffersLength(), allowance, 8)
        ],
        graphs=[_graph(graph, allowance) for graph in _tables(model.Subgraphs, model.SubgraphsLength(), allowance)],
        signatures=[
            _text(signature.SignatureKey(), allowance)
            for signature in _tables(model.SignatureDefs, model.SignatureDefsLength(), allowance)
        ],
        external_buffers=model.ExternalBuffersLength(),
    )


def _tables(
    get: Callable[[int], Any], length: int, allowance: _Allowance, table_bytes: int = _TABLE_BYTES
) -> Iterator[Any]:
    for number in range(length):
        allowance.spend(table_bytes)
        yield get(number)


def _text(value: bytes | None, allowance: _Allowance) -> str:
    allowance.spend(len(value or b""))
    return (value or b"").decode(errors="replace")


def _list(vector: Any, allowance: _Allowance) -> list[Any]:
    """A vector as a list; an absent one reads as the number 0."""
    if isinstance(vector, int):
        return []
    allowance.spend(vector.nbytes)
    return list(vector.tolist())


def _code(code: Any, allowance: _Allowance) -> RawCode:
    # Files from before 2020 fill in the 8-bit field only, newer ones both: TFLite takes the larger.
    builtin = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
    return RawCode(builtin=builtin, custom=_text(code.CustomCode(), allowance), version=code.Version())


def _buffer_bytes(buffer: Any, size_bytes: int) -> int:
    """Bytes of one buffer's data, which stands in the flatbuffer or, in files over 2 GB, behind it."""
    offset, length = buffer.Offset(), buffer.Size()
    if offset > 1:
        if offset + length > size_bytes:
            raise ValueError("a buffer behind the flatbuffer ends outside the file")
        return int(length)
    return 0 if buffer.DataIsNone() else int(buffer.DataAsNumpy().nbytes)


def _graph(graph: Any, allowance: _Allowance) -> RawGraph:
    return RawGraph(
        name=_text(graph.Name(), allowance),
        tensors=[_tensor(tensor, allowance) for tensor in _tables(graph.Tensors, graph.TensorsLength(), allowance)],
        operators=[
            _operator(operator, allowance) for operator in _tables(graph.Operators, graph.OperatorsLength(), allowance)
        ],
        inputs=_list(graph.InputsAsNumpy(), allowance),
        outputs=_list(graph.OutputsAsNumpy(), allowance),
    )


def _tensor(tensor: Any, allowance: _Allowance) -> RawTensor:
    quantization = tensor.Quantization()
    return RawTensor(
        name=_text(tensor.Name(), allowance),
        shape=_list(tensor.ShapeAsNumpy(), allowance),
        signature=_list(tensor.ShapeSignatureAsNumpy(), allowance),
        type=tensor.Type(),
        buffer=tensor.Buffer(),
        variable=tensor.IsVariable(),
        sparse=tensor.Sparsity() is not None,
        external=tensor.ExternalBuffer(),
        scales=[] if quantization is None else _list(quantization.ScaleAsNumpy(), allowance),
        zero_points=[] if quantization is None else _list(quantization.ZeroPointAsNumpy(), allowance),
        axis=0 if quantization is None else quantization.QuantizedDimension(),
        details=0 if quantization is None else quantization.DetailsType(),
    )


def _operator(operator: Any, allowance: _Allowance) -> RawOperator:
    from ai_edge_litert import schema_py_generated as schema

    first = schema.BuiltinOptionsCreator(operator.BuiltinOptionsType(), operator.BuiltinOptions())
    second = schema.BuiltinOptions2Creator(operator.BuiltinOptions2Type(), operator.BuiltinOptions2())
    options: dict[str, Attribute] = {}
    for table in (first, second):
        allowance.spend(_TABLE_BYTES if table is not None else 0)
        for name, value in vars(table).items() if table is not None else ():
            options[_snake(name)] = _plain(value, allowance)
    return RawOperator(
        code=operator.OpcodeIndex(),
        inputs=_list(operator.InputsAsNumpy(), allowance),
        outputs=_list(operator.OutputsAsNumpy(), allowance),
        options=options,
        custom_bytes=operator.CustomOptionsLength(),
    )


def _plain(value: Any, allowance: _Allowance) -> Attribute:
    if isinstance(value, bytes):
        return _text(value, allowance)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return _list(value, allowance) if hasattr(value, "tolist") else None


def _snake(name: str) -> str:
    """`dilationWFactor` -> `dilation_w_factor`, as the schema itself writes it."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
