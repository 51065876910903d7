"""Which operators an accelerator takes, and which go to the CPU instead."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from edgeq.planning import rules
from edgeq.planning.ground import NOT_RUN, Placed, Survey, fits
from edgeq.planning.rules import Subject
from edgeq.types import FLOAT32, Check, OperatorTable, Signature

NAMES = {"cpu": "CPU", "gpu": "GPU", "npu": "NPU"}


def settled(one: Placed, ground: Survey, number: int, place_on: Callable[[Subject, Check | None], Placed]) -> Placed:
    """The operator where it really runs: on the table's own place, else on the CPU, by the CPU's own rules.

    `one` was placed by the ground's table; `place_on` places the operator again, before the table of the CPU.
    """
    if ground.table.placement == "cpu" and ground.cpu is None:
        return one
    subject, failure = ground.subjects[number]
    denial = None if one.rule in NOT_RUN else _denial(one, subject, failure)
    if denial is None:
        return one._replace(where=ground.table.placement)
    if ground.cpu is None:
        return _without_table(one, denial, ground.table)
    second = place_on(*ground.cpu.subjects[number])
    if second.failure is None:
        return second._replace(denied=denial)
    both = dataclasses.replace(denial, why=f"{denial.why} Nor does the CPU take it. {second.failure.why}")
    return one._replace(placement="refused", rule=both.rule, why=both.why, failure=both)


def _denial(one: Placed, subject: Subject, failure: Check | None) -> Check | None:
    """Why the table does not take the operator as it was placed; None where it does."""
    if failure is not None or one.failure is not None:
        return failure or one.failure
    row = subject.row
    if row is None or row.signatures is None:
        return None
    if one.rule == "carries-integers":
        carried = any(signature.activations == one.signature.activations for signature in row.signatures)
        return None if carried else rules.signature_unsupported(subject, one.signature)
    if one.placement == "float" and fits(row, FLOAT32, has_weights=one.signature.weights is not None) is None:
        return rules.signature_unsupported(subject, Signature(activations="float32"))
    return None


def _without_table(one: Placed, denial: Check, table: OperatorTable) -> Placed:
    """A denied operator where nobody says what the CPU has: the table's word decides."""
    if one.placement == "refused" or table.fallback != "none":
        return one._replace(denied=denial if one.placement != "refused" else None)
    return one._replace(placement="refused", rule=denial.rule, why=denial.why, failure=denial)
