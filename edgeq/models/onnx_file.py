"""Parse an ONNX file and refuse what is no whole model."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import ModelError
from edgeq.models import onnx_shapes

if TYPE_CHECKING:
    import onnx

MAX_BYTES = (1 << 31) - 1
"""What protobuf can encode."""


def parse(path: Path) -> tuple[onnx.ModelProto, str, int]:
    """(model, sha256, bytes) of a file that can be read; external data stays where it is. Raises ModelError."""
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
