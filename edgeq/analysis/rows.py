"""Pair each operator of a model with the operators of an earlier model that should compute the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from edgeq.analysis.matching import Same, same_tensors
from edgeq.analysis.net import FLOATS, Net, Part, Region, parts, region
from edgeq.types import Operator

NO_COUNTERPART = "the float model has no tensor of that name"
NOT_REAL = "its result is no real number"
TOO_FAR = "the float model computes it in too many steps"


class Weight(NamedTuple):
    """A constant operand: the tensor that the later model stores and the earlier one's."""

    operand: int
    stored: int
    original: int


class Row(NamedTuple):
    """One operator of the later model; `before` is None where it only quantizes what it reads."""

    part: Part
    after: Region
    before: Region | None
    ends: Mapping[int, int]
    goals: tuple[int, ...]
    weights: tuple[Weight, ...] = ()


class Missing(NamedTuple):
    """An operator without a counterpart, and why."""

    part: Part
    why: str


def quantized_rows(later: Net, earlier: Net) -> list[Row | Missing]:
    """One for each operator of a quantized model, in order."""
    same = same_tensors(later, earlier)
    return [_row(part, later, earlier, same) for part in parts(later)]


def _row(part: Part, later: Net, earlier: Net, same: Same) -> Row | Missing:
    if not same.keys() >= {*part.ends, *part.goals}:
        return Missing(part, NO_COUNTERPART)
    ends = {same[end]: end for end in part.ends}
    goals = tuple(same[goal] for goal in part.goals)
    if any(earlier.graph.tensors[goal].dtype not in (*FLOATS, "unknown") for goal in goals):
        return Missing(part, NOT_REAL)
    after = region(later, part.goals, part.ends)
    if after is None:
        return Missing(part, TOO_FAR)
    if set(goals) <= ends.keys():
        return Row(part, after, None, ends, goals)
    before = region(earlier, goals, ends.keys())
    if before is None or not before.ends:
        return Missing(part, TOO_FAR)
    return Row(part, after, before, ends, goals, tuple(_weights(part.operator, later, before, earlier)))


def _weights(operator: Operator, later: Net, before: Region, earlier: Net) -> Iterator[Weight]:
    twins = [one for one in before.operators if one.type == operator.type]
    if not twins:
        return
    for place, (ours, theirs) in enumerate(zip(operator.inputs, twins[-1].inputs)):  # noqa: B905 operands may be left out
        if ours in later.fixed and theirs in earlier.fixed and earlier.graph.tensors[theirs].dtype == "float32":
            maker = later.makers.get(ours)
            yield Weight(place, ours if maker is None else maker.inputs[0], theirs)


def prepared_rows(later: Net, earlier: Net) -> list[Row]:
    """Pieces of a prepared float model between tensors that the original has too."""
    same = same_tensors(later, earlier)
    found = []
    for operator in later.operators:
        goals = tuple(tensor for tensor in operator.outputs if later.is_activation(tensor))
        if goals and same.keys() >= set(goals) and later.graph.tensors[goals[0]].dtype in FLOATS:
            row = _piece(operator, goals, later, earlier, same)
            found += [row] if row is not None else []
    return found


def _piece(operator: Operator, goals: tuple[int, ...], later: Net, earlier: Net, same: Same) -> Row | None:
    after = region(later, goals, same.keys() - set(goals))
    if after is None:
        return None
    ends = {same[end]: end for end in after.ends}
    theirs = tuple(same[goal] for goal in goals)
    before = region(earlier, theirs, ends.keys())
    if before is None or not before.ends or not before.operators:
        return None
    return Row(Part(operator, after.ends, goals), after, before, ends, theirs)
