"""Bytes of the memory that activations take, as each runtime lays it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.types import ModelGraph

Arena = Callable[[ModelGraph], int]
"""Bytes of activations for a graph whose tensors have the data types that the runtime will see."""


def greedy(graph: ModelGraph) -> int:
    """One arena by the greedy-by-size offset planner; inputs and outputs live in it too."""
    from edgeq.models.liveness import arena_bytes

    return arena_bytes(graph)


ARENAS: Mapping[str, Arena] = {}
"""By runtime (`RuntimeSpec.name`) whose arena is laid out otherwise than `greedy` does."""


def arena_bytes(runtime: str, graph: ModelGraph) -> int:
    """Bytes of a runtime's arena; both the planner and its audit ask here."""
    return ARENAS.get(runtime, greedy)(graph)
