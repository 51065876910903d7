"""The arena of a model: when each tensor is alive, which share their bytes, where all of them lie."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgeq.codegen import memory
from edgeq.codegen.memory import Buffer
from edgeq.codegen.needs import needs
from edgeq.codegen.program import Needs
from edgeq.models.tensors import BITS
from edgeq.types import ModelGraph, Operator, Shape

Shapes = Sequence[Shape]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """Offsets of tensors, and of the scratch memory of each step; variables live through all of it."""

    tensors: dict[int, int]
    scratch: dict[int, int]
    variables: tuple[int, ...]
    size_bytes: int


def arena_bytes(graph: ModelGraph) -> int:
    """Bytes of the arena for a graph whose tensors have the data types that the kernels will see; axes open count 1."""
    return lay_out(graph, [tuple(abs(size) for size in tensor.shape) for tensor in graph.tensors]).size_bytes


def lay_out(graph: ModelGraph, shapes: Shapes) -> Arena:
    """Plan the arena of a main graph. Inputs are alive before its first step, outputs and variables after its last."""
    operators = [operator for operator in graph.operators if operator.subgraph == 0]
    wants = [needs(operator, graph, shapes) for operator in operators]
    constant = {tensor.index for tensor in graph.tensors if tensor.is_constant}
    lives = _lives(graph, operators, constant)
    owners = _owners(wants, lives)
    base = len(graph.tensors)
    buffers, lags = _buffers(graph, shapes, lives, owners), _lags(wants, owners, base)
    buffers += [
        Buffer(number=base + step, first=step, last=step, size_bytes=want.scratch_bytes)
        for step, want in enumerate(wants)
        if want.scratch_bytes
    ]
    layout = memory.plan(buffers, lags)
    return Arena(
        tensors={tensor: layout.offsets[owners[tensor]] for tensor in lives},
        scratch={number - base: at for number, at in layout.offsets.items() if number >= base},
        variables=variables(graph, operators, constant),
        size_bytes=layout.size_bytes,
    )


def variables(graph: ModelGraph, operators: Sequence[Operator], constant: set[int]) -> tuple[int, ...]:
    """Tensors that are read, made by nothing, and neither constant nor input: what outlives an inference."""
    known = {tensor for operator in operators for tensor in operator.outputs} | set(graph.inputs) | constant
    read = dict.fromkeys(tensor for operator in operators for tensor in operator.inputs if tensor >= 0)
    return tuple(tensor for tensor in read if tensor not in known)


def _lives(graph: ModelGraph, operators: Sequence[Operator], constant: set[int]) -> dict[int, tuple[int, int]]:
    """First and last step of each tensor that is no constant."""
    end = len(operators)
    first = dict.fromkeys(graph.inputs, -1)
    last = dict.fromkeys(graph.inputs, -1)
    for step, operator in enumerate(operators):
        for tensor in operator.outputs:
            first.setdefault(tensor, step)
        last.update(dict.fromkeys((*operator.inputs, *operator.outputs), step))
    last.update(dict.fromkeys(graph.outputs, end))
    for tensor in variables(graph, operators, constant):
        first[tensor], last[tensor] = -1, end
    return {t: (first[t], last[t]) for t in first if t >= 0 and t not in constant}


def _owners(wants: Sequence[Needs], lives: Mapping[int, tuple[int, int]]) -> dict[int, int]:
    """The tensor in whose bytes each tensor lies."""
    owners = {tensor: tensor for tensor in lives}
    for want in wants:
        for written, read in want.shares.items():
            if read in owners and written in owners:
                owners[written] = owners[read]
    return owners


def _buffers(
    graph: ModelGraph, shapes: Shapes, lives: Mapping[int, tuple[int, int]], owners: Mapping[int, int]
) -> list[Buffer]:
    groups: dict[int, list[int]] = {}
    for tensor, owner in owners.items():
        groups.setdefault(owner, []).append(tensor)
    return [
        Buffer(
            number=owner,
            first=min(lives[tensor][0] for tensor in group),
            last=max(lives[tensor][1] for tensor in group),
            size_bytes=max(math.prod(shapes[t]) * BITS.get(graph.tensors[t].dtype, 0) // 8 for t in group),
        )
        for owner, group in sorted(groups.items())
    ]


def _lags(wants: Sequence[Needs], owners: Mapping[int, int], base: int) -> dict[tuple[int, int], int]:
    """Lags between buffers; where tensors of one buffer differ, the largest holds. Scratch is numbered from `base`."""
    found: dict[tuple[int, int], int] = {}
    for step, want in enumerate(wants):
        scratch = {(owners[read], base + step): lag for read, lag in want.scratch_lags.items() if read in owners}
        found.update(scratch if want.scratch_bytes else {})
        for (read, written), lag in want.lags.items():
            if read in owners and written in owners:
                key = owners[read], owners[written]
                found[key] = max(lag, found.get(key, lag))
    return found
