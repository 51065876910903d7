"""Many one-operator graphs as branches of one, so that one start of a compiler judges them all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from edgeq.models.write_tflite import Graph, Node, Tensor


def prefix(number: int) -> str:
    """What the names of a branch's tensors begin with."""
    return f"c{number}_"


def joined(graphs: Sequence[Graph]) -> Graph:
    """One graph with all branches; its outputs are theirs, in order."""
    named = [_named(graph, prefix(number)) for number, graph in enumerate(graphs)]
    return Graph(
        tensors=tuple(tensor for graph in named for tensor in graph.tensors),
        nodes=tuple(node for graph in named for node in graph.nodes),
        inputs=tuple(name for graph in named for name in graph.inputs),
        outputs=tuple(name for graph in named for name in graph.outputs),
    )


def _named(graph: Graph, before: str) -> Graph:
    def named(names: Iterable[str]) -> tuple[str, ...]:
        return tuple(name and f"{before}{name}" for name in names)

    def tensor(one: Tensor) -> Tensor:
        return replace(one, name=f"{before}{one.name}")

    def node(one: Node) -> Node:
        return replace(
            one, inputs=named(one.inputs), outputs=named(one.outputs), intermediates=named(one.intermediates)
        )

    return Graph(
        tensors=tuple(map(tensor, graph.tensors)),
        nodes=tuple(map(node, graph.nodes)),
        inputs=named(graph.inputs),
        outputs=named(graph.outputs),
    )
