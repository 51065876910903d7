"""How far the channels of each layer's weights lie apart: what one scale for all of them would cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgeq.models import channels
from edgeq.planning import view as views
from edgeq.types import ModelGraph, Operator

Spread = Mapping[int, float]
"""By operator: the widest channel of its weights over the median one."""

WIDE = 16.0
"""Spread from which one scale for all channels leaves most of them less than 4 of their 8 bits."""


def of_weights(graph: ModelGraph) -> Spread:
    """Read it from the model's file, for the layers whose weights are float there; of several weights the widest.

    Raises ModelError where the file has changed since it was read.
    """
    if graph.state in ("quantized", "weights"):
        return {}
    look = views.view(graph)
    axes: dict[int, int] = {}
    layers: list[tuple[int, int]] = []
    for operator in graph.operators:
        for tensor in views.weights(look, operator):
            stored, axis = views.stored(look, tensor), views.channel_axis(operator, tensor)
            if axis is not None and stored.shape == tensor.shape:
                axes[stored.index] = axis
                layers.append((operator.index, stored.index))
    found = channels.spread(graph, axes)
    spread: dict[int, float] = {}
    for operator_index, tensor_index in layers:
        if tensor_index in found:
            spread[operator_index] = max(found[tensor_index], spread.get(operator_index, 1.0))
    return spread


def widest(operators: Iterable[Operator], spread: Spread) -> str | None:
    """The widest spread of some operators as a sentence; None where none of them is wide."""
    wide = [one for one in operators if spread.get(one.index, 1.0) >= WIDE]
    if not wide:
        return None
    first = max(wide, key=lambda one: spread[one.index])
    ratio = spread[first.index]
    return f"The widest channel of operator {first.index} {first.type} is {ratio:,.0f} times its median one."
