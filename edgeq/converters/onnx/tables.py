"""Tables of embeddings in 8 bits: rows are looked up as integers and become real numbers after.

A table behind DequantizeLinear would be expanded whole in every run: 30,522 rows of 384 take onnxruntime 2 ms, the 32
rows of a sentence 0.01 ms. Each column has a scale: a few large columns run through a transformer, and with a scale
for each row MiniLM loses 0.7 of 21.4 dB, with one for each column nothing.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from typing import Any

from edgeq.converters.onnx.weights import Layout, rounded


def separable(model: Any, nodes: Container[str]) -> dict[str, Any]:
    """Float tables, by name, that nothing reads but those Gather nodes, row by row."""
    from onnx import TensorProto

    ports = {item.name for item in (*model.graph.input, *model.graph.output)}
    found = {
        item.name: item
        for item in model.graph.initializer
        if item.data_type == TensorProto.FLOAT and len(item.dims) >= 2 and item.name not in ports
    }
    looked_up: set[str] = set()
    for node in model.graph.node:
        is_lookup = node.op_type == "Gather" and node.name in nodes and not any(item.i for item in node.attribute)
        looked_up.update(node.input[:1] if is_lookup else ())
        for name in node.input[1:] if is_lookup else node.input:
            found.pop(name, None)
    return {name: item for name, item in found.items() if name in looked_up}


def readers(model: Any, nodes: Container[str]) -> list[str]:
    """Names of the nodes that read separable tables."""
    found = separable(model, nodes)
    return [node.name for node in model.graph.node if node.op_type == "Gather" and node.input[0] in found]


def shrink(model: Any, nodes: Container[str]) -> int:
    """Store the separable tables of those nodes in 8 bits; how many operators read them."""
    from onnx import numpy_helper

    tables = separable(model, nodes)
    for name, item in tables.items():
        stored, scales = rounded(numpy_helper.to_array(item), Layout(8, len(item.dims) - 1))
        item.CopyFrom(numpy_helper.from_array(stored, f"{name}_int8"))
        model.graph.initializer.append(numpy_helper.from_array(scales, f"{name}_scale"))
    before, count = list(model.graph.node), 0
    del model.graph.node[:]
    for node in before:
        is_reader = node.op_type == "Gather" and node.input[0] in tables
        count += is_reader
        model.graph.node.extend(_looked_up(node) if is_reader else [node])
    return count


def _looked_up(node: Any) -> Iterator[Any]:
    """Rows as integers, and as real numbers under the result's name."""
    from onnx import helper

    table, rows = node.input
    stored = f"{node.output[0]}_int8"
    yield helper.make_node("Gather", [f"{table}_int8", rows], [stored], name=f"{node.name}_int8", axis=0)
    yield helper.make_node("DequantizeLinear", [stored, f"{table}_scale"], list(node.output), name=node.name, axis=-1)
