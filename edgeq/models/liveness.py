"""When activations are alive, and the memory that follows from it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from edgeq.errors import ModelError
from edgeq.types import ModelGraph, Operator, TensorSpec

ALIGNMENT_BYTES = 16
MAX_NESTING = 64
DEQUANTIZES = frozenset(("DEQUANTIZE", "DequantizeLinear", "com.microsoft.DequantizeLinear"))
SUBGRAPH_SUFFIX = "subgraph_index"
"""Attributes whose name ends like this hold the number of a subgraph that the operator runs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """A tensor that takes `size_bytes` while the operators at steps `first` to `last` (both included) run."""

    tensor: int
    first: int
    last: int
    size_bytes: int


Rank = Callable[[Interval], tuple[int, ...]]
"""Sorts tensors into the order in which they are placed."""


def intervals(graph: ModelGraph, subgraph: int = 0) -> tuple[Interval, ...]:
    """Lifetimes of one subgraph's activations, by step (position among that subgraph's operators).

    Constants take no activation memory, nor do dequantized ones: they are weights, which runtimes fold or
    fuse. Model inputs live from step 0 to their last use, outputs to the
    end (TFLite Micro's rule). A tensor of the main graph that nothing makes is state (a variable) and lives
    throughout. What a called subgraph reads from outside is alive while the calling operator runs; what
    nothing in a called subgraph reads is taken for its result and lives to its end.
    """
    return _Activations(graph.tensors, graph.operators, graph.inputs, graph.outputs).lifetimes(subgraph)


def peak_activation_bytes(
    tensors: Sequence[TensorSpec],
    operators: Sequence[Operator],
    inputs: Sequence[int],
    outputs: Sequence[int],
    path: str = "",
) -> int:
    """Largest sum of live activations at any step; a called subgraph's peak adds to its caller's step.

    Raises ModelError where subgraphs call each other in a circle or nest too deeply.
    """
    activations = _Activations(tensors, operators, inputs, outputs, path)
    return activations.deepest(_sums)


def arena_bytes(graph: ModelGraph) -> int:
    """Bytes of one tensor arena by the greedy-by-size offset planner, 16-byte aligned.

    Model inputs and outputs live in the arena too, as in TFLite Micro. A called subgraph has an arena of its
    own on top of its caller's. Source of the planner: Pisarchyk and Lee, Efficient Memory Management for
    Deep Neural Net Inference, 2020. Scratch buffers and the interpreter's own records are not counted.
    Raises ModelError where subgraphs call each other in a circle or nest too deeply.
    """
    activations = _Activations(graph.tensors, graph.operators, graph.inputs, graph.outputs, graph.path)
    return activations.deepest(lambda lives, steps: [arena_of(lives)] * steps)


def arena_of(lives: Sequence[Interval], rank: Rank | None = None) -> int:
    """Bytes of an arena that holds these lifetimes."""
    offsets = plan_offsets(lives, rank)
    return max((offsets[life.tensor] + _aligned(life.size_bytes) for life in lives), default=0)


def plan_offsets(lives: Sequence[Interval], rank: Rank | None = None) -> dict[int, int]:
    """Offset of each tensor: the largest first, each into the lowest gap among those alive with it.

    `rank` sorts them otherwise; by itself, the earlier comes first among tensors of one size.
    """
    import numpy as np

    offsets = {life.tensor: 0 for life in lives if not life.size_bytes}
    # What is placed already, by offset: rows are start, end, first and last step.
    placed = np.zeros((4, 0), np.int64)
    filled = [life for life in lives if life.size_bytes]
    for life in sorted(filled, key=rank or _by_size):
        size = _aligned(life.size_bytes)
        alive = placed[:, (placed[2] <= life.last) & (placed[3] >= life.first)]
        below = np.maximum.accumulate(np.concatenate(([0], alive[1])))
        fits = np.flatnonzero(alive[0] - below[:-1] >= size)
        offset = int(below[fits[0]] if len(fits) else below[-1])
        offsets[life.tensor] = offset
        row = [offset, offset + size, life.first, life.last]
        placed = np.insert(placed, np.searchsorted(placed[0], offset), row, axis=1)
    return offsets


def _by_size(life: Interval) -> tuple[int, ...]:
    return -life.size_bytes, life.first, life.tensor


def reachable(operators: Iterable[Operator]) -> frozenset[int]:
    """Numbers of the subgraphs that run when subgraph 0 does, itself included."""
    calls: dict[int, set[int]] = defaultdict(set)
    for operator in operators:
        calls[operator.subgraph].update(callees(operator))
    seen, waiting = {0}, [0]
    while waiting:
        new = calls[waiting.pop()] - seen
        seen |= new
        waiting.extend(new)
    return frozenset(seen)


def callees(operator: Operator) -> tuple[int, ...]:
    """Numbers of the subgraphs that an operator runs."""
    numbers = (value for key, value in operator.attributes.items() if key.endswith(SUBGRAPH_SUFFIX))
    return tuple(value for value in numbers if isinstance(value, int) and value >= 0)


def _aligned(size_bytes: int) -> int:
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _sums(lives: Sequence[Interval], steps: int) -> list[int]:
    """Live bytes at each step."""
    change = [0] * (steps + 1)
    for life in lives:
        change[life.first] += life.size_bytes
        change[life.last + 1] -= life.size_bytes
    sums, total = [], 0
    for step in range(steps):
        total += change[step]
        sums.append(total)
    return sums


class _Activations:
    """A model's operators by subgraph, and who makes which tensor."""

    def __init__(
        self,
        tensors: Sequence[TensorSpec],
        operators: Sequence[Operator],
        inputs: Sequence[int],
        outputs: Sequence[int],
        path: str = "",
    ) -> None:
        self.tensors, self.inputs, self.outputs, self.path = tensors, inputs, outputs, path
        self.operators: dict[int, list[Operator]] = defaultdict(list)
        for operator in operators:
            self.operators[operator.subgraph].append(operator)
        self.makers = {tensor: operator.subgraph for operator in operators for tensor in operator.outputs}
        self.makers.update(dict.fromkeys(inputs, 0))
        self.weights = {tensor.index for tensor in tensors if tensor.is_constant}
        for operator in operators:
            if operator.type in DEQUANTIZES and self.weights.issuperset(operator.inputs[:1]):
                self.weights.update(operator.outputs)
        self.borrowed: dict[int, frozenset[int]] = {}

    def steps(self, subgraph: int) -> int:
        return max(1, len(self.operators[subgraph]))

    def lifetimes(self, subgraph: int) -> tuple[Interval, ...]:
        end = self.steps(subgraph) - 1
        made, used = self._uses(subgraph)
        outputs = self.outputs if subgraph == 0 else made.keys() - used.keys()
        used.update(dict.fromkeys(outputs, end))
        for tensor in used.keys() - made.keys():
            if self.makers.get(tensor, subgraph) != subgraph:
                continue
            made[tensor] = 0
            if subgraph == 0 and tensor not in self.inputs:
                used[tensor] = end
        alive = sorted(tensor for tensor in made if tensor >= 0 and tensor not in self.weights)
        return tuple(
            Interval(
                tensor=tensor,
                first=made[tensor],
                last=max(made[tensor], used.get(tensor, 0)),
                size_bytes=self.tensors[tensor].size_bytes,
            )
            for tensor in alive
        )

    def _uses(self, subgraph: int) -> tuple[dict[int, int], dict[int, int]]:
        """The step that makes each tensor, and the last step that reads it."""
        made = dict.fromkeys(self.inputs, 0) if subgraph == 0 else {}
        used: dict[int, int] = {}
        for step, operator in enumerate(self.operators[subgraph]):
            used.update(dict.fromkeys(operator.inputs, step))
            for callee in callees(operator):
                used.update(dict.fromkeys(self._borrows(callee, 0), step))
            for tensor in operator.outputs:
                made.setdefault(tensor, step)
        return made, used

    def _borrows(self, subgraph: int, depth: int) -> frozenset[int]:
        """Tensors made elsewhere that a subgraph, or one that it calls, reads."""
        if depth > MAX_NESTING:
            raise ModelError("its subgraphs call each other in a circle or nest over 64 deep", where=self.path)
        if subgraph not in self.borrowed:
            reads: set[int] = set()
            for operator in self.operators[subgraph]:
                reads.update(tensor for tensor in operator.inputs if self.makers.get(tensor, subgraph) != subgraph)
                for callee in callees(operator):
                    reads |= self._borrows(callee, depth + 1)
            self.borrowed[subgraph] = frozenset(reads)
        return self.borrowed[subgraph]

    def deepest(self, costs: Callable[[Sequence[Interval], int], list[int]]) -> int:
        """The largest cost of a step of subgraph 0 and of what it calls; `costs` gives one subgraph's own."""
        found: dict[int, int] = {}

        def visit(subgraph: int, depth: int) -> int:
            if depth > MAX_NESTING:
                raise ModelError("its subgraphs call each other in a circle or nest over 64 deep", where=self.path)
            if subgraph not in found:
                own = costs(self.lifetimes(subgraph), self.steps(subgraph))
                for step, operator in enumerate(self.operators[subgraph]):
                    own[step] += max((visit(callee, depth + 1) for callee in callees(operator)), default=0)
                found[subgraph] = max(own)
            return found[subgraph]

        return visit(0, 0)
