"""Weights of a float model that are no numbers, read from the file; nothing of the model is run."""

from __future__ import annotations

from typing import NamedTuple

from edgeq.models import channels
from edgeq.types import ModelGraph


class Broken(NamedTuple):
    """A constant that holds NaN or infinity, how many of its values do, and the operator that reads it."""

    tensor: str
    operator: str
    what: str
    broken: int
    values: int


def first_broken(graph: ModelGraph) -> Broken | None:
    """The first constant, in the order in which operators of the main graph read them, that no model can work with.

    NaN is always one. Infinity is one among the weights of operators that multiply; elsewhere it may be a mask or a
    limit. Raises ModelError where the file is not the one that was read.
    """
    import numpy as np

    reads = [(index, one) for one in graph.operators if one.subgraph == 0 for index in one.inputs if index >= 0]
    readers = dict(reversed(reads))
    found: dict[int, Broken] = {}
    for tensor, values in channels.constants(graph, [graph.tensors[index] for index in readers]):
        operator = readers[tensor.index]
        wrong = ~np.isfinite(values) if operator.macs else np.isnan(values)
        count = int(np.count_nonzero(wrong))
        if count:
            what = "NaN" if np.isnan(values[wrong]).any() else "infinite"
            told = f"{operator.type} (operator {operator.index})"
            found[tensor.index] = Broken(tensor.name, told, what, count, values.size)
    return next((found[index] for index, _ in reads if index in found), None)
