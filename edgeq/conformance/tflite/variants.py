"""What sets two cases of one signature apart: a rank, a version, an output's scale, a second activation."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from edgeq.conformance.tflite.operands import Operand, Recipe
from edgeq.types import Case

TWO_ACTIVATIONS = "two activations"
OTHER_SCALE = "output of twice the scale"
UNKNOWN = "outside of "
_RANK = re.compile(r"rank of input (\d+)")
_VERSION = re.compile(r"version (\d+)")


def rank(number: int) -> str:
    """The variant whose data has another number of axes."""
    return f"rank of input {number}"


def version(number: int) -> str:
    """The variant whose operator says another version."""
    return f"version {number}"


def version_of(case: Case, usual: int) -> int:
    """The version that a case's operator says."""
    found = _VERSION.fullmatch(case.variant)
    return int(found[1]) if found else usual


def is_unknown(variant: str) -> bool:
    """Whether no model of a variant can be made."""
    return variant.startswith(UNKNOWN)


def applied(case: Case, recipe: Recipe) -> Recipe:
    """The recipe as the case's variant wants it."""
    if case.variant == TWO_ACTIVATIONS:
        return replace(recipe, operands=tuple(map(_as_data, recipe.operands)))
    found = _RANK.fullmatch(case.variant)
    return replace(recipe, operands=tuple(_ranked(recipe.operands, int(found[1])))) if found else recipe


def _as_data(operand: Operand) -> Operand:
    return Operand(role="data", values=operand.values) if operand.role == "weights" else operand


def _ranked(operands: tuple[Operand, ...], number: int) -> list[Operand]:
    """The operands with the first of the data in another rank: axes of 1 before, or the first axes in one."""
    first = next(operand for operand in operands if operand.role == "data")
    shape = first.values.shape
    if number >= len(shape):
        shape = (1,) * (number - len(shape)) + shape
    else:
        extra = len(shape) - number + 1
        shape = (int(np.prod(shape[:extra])), *shape[extra:])
    changed = replace(first, values=first.values.reshape(shape))
    return [changed if operand is first else operand for operand in operands]
