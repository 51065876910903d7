"""Which piece of the prepared float model computes something else than the original.

Each piece of the original is fed what the prepared model has there. Where preparing multiplied channels (equalized
them), both sides of a tensor differ though the model computes the same: pieces are compared with the channels divided
again, too, and a piece that is wrong only then was given channels that nobody asked for, so that their maker is. Only
the first piece is blamed then: behind it, what was multiplied cannot be told from what is wrong.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import NamedTuple

from edgeq.analysis import judging
from edgeq.analysis.measuring import Chain, Measured
from edgeq.analysis.sums import Energy

AGREED_DB = 60.0
"""Outputs of the prepared and the original model that are as alike as this leave nobody to blame."""


class Preparing(NamedTuple):
    """What preparing changed in one piece of the float model."""

    number: int
    energy: Energy
    excess_db: float
    name: str
    type: str
    operator: int


def pieces(chain: Chain, found: Measured) -> Iterator[Preparing]:
    """Every piece, in order; only those to blame have an excess."""
    guilty = set(_guilty(found)) if _disagree(found) else set()
    for number, energy in found.prepared.items():
        part = found.prepared_rows[number].part
        excess = max(_excess(one.get(number)) for one in (found.prepared, found.rescaled))
        yield Preparing(
            number=number,
            energy=energy if not found.rescaled or number in guilty else found.rescaled.get(number, energy),
            excess_db=excess if number in guilty else 0.0,
            name=chain.prepared.graph.tensors[part.goals[0]].name,
            type=part.operator.type,
            operator=part.operator.index,
        )


def _disagree(found: Measured) -> bool:
    likeness = [energy.sqnr_db for energy in found.steps.get("prepared", ()) if energy.count]
    return any(value is not None and value < AGREED_DB for value in likeness)


def _excess(energy: Energy | None) -> float:
    if energy is None:
        return 0.0
    return judging.excess_db(energy.noise, judging.FLOORS["prepared"] * energy.signal)


def _wrong(sums: dict[int, Energy]) -> list[int]:
    return [number for number, energy in sums.items() if _excess(energy) > judging.WRONG_DB]


def _guilty(found: Measured) -> list[int]:
    plain = _wrong(found.prepared)
    if len(plain) <= 1 or not found.gains:
        return plain
    blamed = [number if number in plain else _origin(found, number, plain) for number in _wrong(found.rescaled)]
    return blamed[:1] or [number for number in plain if _is_last(found, number)][:1]


def _origin(found: Measured, number: int, plain: Collection[int]) -> int:
    """The piece that multiplied what this one reads, behind those that only pass it on."""
    makers = {goal: place for place, row in enumerate(found.prepared_rows) for goal in row.part.goals}
    for _ in found.prepared_rows:
        ends = [end for end in found.prepared_rows[number].part.ends if end in found.gains and end in makers]
        if not ends:
            break
        number = makers[ends[0]]
        if number in plain:
            break
    return number


def _is_last(found: Measured, number: int) -> bool:
    """Whether nothing divides again what this piece multiplied."""
    row = found.prepared_rows[number]
    read = {end for other in found.prepared_rows for end in other.part.ends}
    return not read.intersection(row.part.goals)
