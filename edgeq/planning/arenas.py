"""Bytes of the memory that activations take, as each runtime lays it out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.planning import tflm
from edgeq.types import ModelGraph, Target

Parts = dict[str, int]
"""Bytes of an arena by what they hold."""

Arena = Callable[[ModelGraph, Target], Parts]
"""The arena of a graph whose tensors have the data types that the runtime will see."""


def greedy(graph: ModelGraph, _: Target) -> Parts:
    """One arena by the greedy-by-size offset planner; inputs and outputs live in it too."""
    from edgeq.models.liveness import arena_bytes

    return {"activations": arena_bytes(graph)}


ARENAS: Mapping[str, Arena] = {"tflite-micro": tflm.parts}
"""By runtime (`RuntimeSpec.name`) whose arena is laid out otherwise than `greedy` does."""


def parts(runtime: str, graph: ModelGraph, target: Target) -> Parts:
    """A runtime's arena, whose bytes are the sum; both the planner and its audit ask here."""
    return ARENAS.get(runtime, greedy)(graph, target)


def compiled(graph: ModelGraph, target: Target) -> Parts:
    """What the graph compiled to C takes of a microcontroller, by part; empty where it cannot be compiled.

    `graph` is as in `parts`. The arena is the generator's own, so it is exact.
    """
    if target.kind != "mcu":
        return {}
    from edgeq.codegen.footprint import footprint

    return footprint(graph)


def refusal(graph: ModelGraph, target: Target) -> str | None:
    """Why the graph cannot be compiled to C for a microcontroller; None where it can, and for other targets."""
    if target.kind != "mcu":
        return None
    from edgeq.codegen import footprint

    return footprint.refusal(graph)


def needs_weights(runtime: str) -> bool:
    """Whether a runtime's arena depends on how weights are stored."""
    return runtime in ARENAS
