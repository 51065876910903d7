"""Shapes of an ONNX model's tensors: as written in the file, and inferred in a bounded child process."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.models.infer_child import described
from edgeq.models.tensors import shown

if TYPE_CHECKING:
    import onnx

Described = tuple[int, tuple[int, ...] | None]
Shapes = dict[str, Described]
"""Name -> (ONNX element type, axes); axes None where the rank is unknown."""

Infer = Callable[["onnx.ModelProto"], tuple[list[Shapes], str | None]]

_CPU_SECONDS = 2
_MEMORY_BYTES = 1 << 29
_WALL_SECONDS = 60
_KEPT = 8192


def infer(model: onnx.ModelProto) -> tuple[list[Shapes], str | None]:
    """Shapes by graph (main first, then subgraphs in order of appearance), and a note on what failed.

    Where the file names every tensor's shape itself, nothing is inferred. Otherwise ONNX's own inference
    runs in a child process with bounds on time and memory, since files are not trusted; when it fails the
    file's own shapes are all there is.
    """
    written = [_written(graph) for graph in walk(model.graph)]
    if _is_complete(model.graph, written[0]):
        return written, None
    answer, failure = _ask(_stripped(model))
    if answer is None or len(answer) != len(written):
        return written, f"shapes were not inferred: {failure or 'the answer does not fit the model'}"
    return answer, None


def written(model: onnx.ModelProto) -> tuple[list[Shapes], str | None]:
    """Only what the file says: an `Infer` that starts no process."""
    return [_written(graph) for graph in walk(model.graph)], None


def walk(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """A graph and the graphs inside its nodes' attributes, in order of appearance."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == attribute.GRAPH:
                yield from walk(attribute.g)


def _written(graph: onnx.GraphProto) -> Shapes:
    values = (*graph.value_info, *graph.input, *graph.output)
    return {value.name: _typed(described(value.type)) for value in values}


def _typed(answer: list[object]) -> Described:
    kind, axes = answer
    if not isinstance(kind, int):
        return 0, None
    return kind, tuple(int(axis) for axis in axes) if isinstance(axes, list) else None


def _is_complete(graph: onnx.GraphProto, known: Shapes) -> bool:
    made = [name for node in graph.node if node.op_type != "Constant" for name in node.output if name]
    return all(name in known and known[name][1] is not None for name in made)


def _stripped(model: onnx.ModelProto) -> bytes:
    """The model without local functions and large constants' values: inference needs neither.

    Functions that call each other would recurse without end; small constants may hold shapes.
    """
    copy = type(model)()
    copy.CopyFrom(model)
    for field in ("functions", "training_info", "metadata_props", "doc_string"):
        copy.ClearField(field)
    for graph in walk(copy.graph):
        for tensor in (*graph.initializer, *_attribute_tensors(graph)):
            _empty(tensor)
    return bytes(copy.SerializeToString())


def _attribute_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == attribute.TENSOR:
                yield attribute.t


def _empty(tensor: onnx.TensorProto) -> None:
    fields = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")
    if any(len(getattr(tensor, field)) > _KEPT for field in fields):
        for field in fields:
            tensor.ClearField(field)


def _bounds(size_bytes: int) -> tuple[str, str]:
    """Seconds of processor time and bytes of memory that a model of this size may take."""
    return str(_CPU_SECONDS + (size_bytes >> 20)), str(_MEMORY_BYTES + 100 * size_bytes)


def _ask(model: bytes) -> tuple[list[Shapes] | None, str | None]:
    child = Path(__file__).with_name("infer_child.py")
    argv = [sys.executable, "-I", str(child), json.dumps(sys.path), *_bounds(len(model))]
    try:
        done = subprocess.run(argv, input=model, capture_output=True, timeout=_WALL_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return None, f"no answer within {_WALL_SECONDS} s"
    if done.returncode < 0:
        return None, f"the inference was ended by signal {-done.returncode}, out of its bounds of time and memory"
    if done.returncode:
        lines = done.stderr.decode(errors="replace").split("\n")
        return None, next((shown(line) for line in reversed(lines) if line.strip()), "the inference failed")
    return [{name: _typed(value) for name, value in graph.items()} for graph in json.loads(done.stdout)], None
