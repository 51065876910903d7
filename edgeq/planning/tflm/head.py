"""The front of TFLite Micro's arena: activations and scratch buffers, placed by its greedy planner.

Sources: micro_allocation_info.cc and greedy_memory_planner.cc of tensorflow/tflite-micro.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache

from edgeq.errors import ModelError
from edgeq.models.liveness import ALIGNMENT_BYTES, MAX_NESTING, Interval, arena_of, callees
from edgeq.planning.tflm.structs import aligned
from edgeq.types import ModelGraph, Operator

UNUSED = -1
"""Step of what nothing makes or reads; it is placed all the same."""


def head_bytes(graph: ModelGraph, scratch: Mapping[int, Sequence[int]], variables: Collection[int]) -> int:
    """Bytes of activations and of the operators' scratch buffers (by operator index), 16-byte aligned.

    Inputs and outputs are placed too; constants and variables are not. Of two buffers of one size the later comes
    first. Called subgraphs share the arena. Raises ModelError where subgraphs nest too deeply.
    """
    return _laid_out(tuple(lifetimes(graph, scratch, variables)))


@lru_cache(maxsize=32)
def _laid_out(lives: tuple[Interval, ...]) -> int:
    """Bytes of an arena; kept, for schemes that differ in weights alone share their activations."""
    return arena_of(lives, rank=_largest)


def lifetimes(graph: ModelGraph, scratch: Mapping[int, Sequence[int]], variables: Collection[int]) -> list[Interval]:
    """When each tensor and each scratch buffer is alive, in steps."""
    walk = _Walk(graph)
    walk.visit(0, 0)
    walk.keep_called_again()
    lives = [
        Interval(
            tensor=tensor.index,
            first=walk.first.get(tensor.index, UNUSED),
            last=walk.last.get(tensor.index, UNUSED),
            size_bytes=tensor.size_bytes,
        )
        for tensor in graph.tensors
        if not tensor.is_constant and tensor.index not in variables
    ]
    number = len(graph.tensors)
    for operator, sizes in scratch.items():
        first, last = walk.steps.get(operator, (UNUSED, UNUSED))
        for size in sizes:
            lives.append(Interval(tensor=number, first=first, last=last, size_bytes=size))
            number += 1
    return lives


def _largest(life: Interval) -> tuple[int, int]:
    return -aligned(life.size_bytes, ALIGNMENT_BYTES), -life.tensor


class _Walk:
    """Steps at which tensors are made and last read; a called subgraph's steps lie within its caller's."""

    def __init__(self, graph: ModelGraph) -> None:
        self.inputs, self.outputs = graph.inputs, graph.outputs
        self.operators: dict[int, list[Operator]] = defaultdict(list)
        for operator in graph.operators:
            self.operators[operator.subgraph].append(operator)
        self.step = 0
        self.first: dict[int, int] = {}
        self.last: dict[int, int] = {}
        self.steps: dict[int, tuple[int, int]] = {}
        self.visited: set[int] = set()
        self.called_again: dict[int, int] = {}

    def visit(self, subgraph: int, depth: int) -> None:
        """Walk a subgraph when it is first called."""
        if depth > MAX_NESTING:
            raise ModelError("its subgraphs nest over 64 deep")
        self.visited.add(subgraph)
        inputs, outputs = self._ports(subgraph)
        self._make((*inputs, *outputs))
        for operator in self.operators[subgraph]:
            self._run(operator, depth)
        self.last.update(dict.fromkeys(outputs, self.step))

    def _run(self, operator: Operator, depth: int) -> None:
        self.step += 1
        start = self.step
        self._make(operator.outputs)
        for callee in callees(operator):
            self.step += 1
            if callee in self.visited:
                self.called_again[callee] = self.step
            else:
                self.visit(callee, depth + 1)
        self.last.update(dict.fromkeys((*operator.inputs, *operator.outputs), self.step))
        self.steps[operator.index] = (start, self.step)

    def _make(self, tensors: Iterable[int]) -> None:
        self.first.update(dict.fromkeys(tensors, self.step))
        self.last.update(dict.fromkeys(tensors, self.step))

    def _ports(self, subgraph: int) -> tuple[Collection[int], Collection[int]]:
        """Inputs and outputs; of a called subgraph what nothing in it makes, and what nothing in it reads."""
        if subgraph == 0:
            return self.inputs, self.outputs
        made = {tensor for operator in self.operators[subgraph] for tensor in operator.outputs}
        read = {tensor for operator in self.operators[subgraph] for tensor in operator.inputs}
        return read - made, made - read

    def keep_called_again(self) -> None:
        """What a subgraph holds is alive until its last call, and so is what it calls."""
        waiting = list(self.called_again.items())
        until: dict[int, int] = {}
        while waiting:
            subgraph, step = waiting.pop()
            if until.get(subgraph, -1) >= step:
                continue
            until[subgraph] = step
            waiting.extend((callee, step) for one in self.operators[subgraph] for callee in callees(one))
        for subgraph, step in until.items():
            for operator in self.operators[subgraph]:
                self._extend(operator, step)

    def _extend(self, operator: Operator, step: int) -> None:
        start, end = self.steps.get(operator.index, (step, step))
        self.steps[operator.index] = (start, max(end, step))
        for tensor in (*operator.inputs, *operator.outputs):
            self.last[tensor] = max(self.last.get(tensor, step), step)
