"""What the planner stands on: a graph before an operator table, and one operator with its place."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

from edgeq.planning import rules
from edgeq.planning.rules import Subject
from edgeq.planning.view import View
from edgeq.types import Check, Operator, OperatorRow, OperatorTable, Placement, Signature

UNTOUCHED = {
    "constants-only": "It computes on constants alone and is folded away.",
    "carries-integers": "It carries integers, which are not quantized.",
    "converts-types": "It turns one data type into another and is left as it is.",
}
"""Rules of operators that no scheme changes, with their sentences."""

NOT_RUN = ("constants-only", "folded")
"""Rules of operators that are gone when the model runs."""

_BY_THE_SCHEME = ("kept-in-float", "left-in-float", *NOT_RUN)
"""Rules that say why an operator is on the CPU better than the accelerator's denial does."""


class Placed(NamedTuple):
    """One operator with its signature, its place, the rule that decided, and the check that failed, if one did.

    `placement` is cpu (as the scheme wants it), float or refused; `where` is what runs it: cpu, gpu or npu; `denied`
    is why the target's accelerator does not.
    """

    operator: Operator
    signature: Signature
    placement: str
    rule: str
    why: str
    failure: Check | None = None
    where: str = "cpu"
    denied: Check | None = None


class Survey(NamedTuple):
    """A graph before one operator table: each operator's subject, and the first basic rule that it breaks.

    `cpu` is the same graph before the table of the CPU that takes what an accelerator's table does not.
    """

    look: View
    table: OperatorTable
    subjects: tuple[tuple[Subject, Check | None], ...]
    cpu: Survey | None = None


def survey(look: View, table: OperatorTable, fallback: OperatorTable | None = None) -> Survey:
    """Apply the rules that no scheme changes. Raises PlanError for a table with an unknown constraint.

    With a `fallback` table the first one is read strictly: what it denies goes to the other. A table whose own
    fallback is none refuses even so.
    """
    cpu = survey(look, fallback) if fallback is not None and table.fallback != "none" else None
    strict = table if cpu is None else dataclasses.replace(table, fallback="none")
    subjects = [
        Subject(look, operator, strict, strict.operators.get(operator.type)) for operator in look.graph.operators
    ]
    return Survey(look, strict, tuple((subject, _first_failure(subject)) for subject in subjects), cpu)


def _first_failure(subject: Subject) -> Check | None:
    checks = (rule(subject) for rule in rules.BASIC)
    return next((check for check in checks if not check.ok), None)


def shown(placed: Placed) -> Placement:
    """What the plan tells of one operator."""
    operator = placed.operator
    fallen = placed.denied is not None and placed.placement != "refused" and placed.rule not in _BY_THE_SCHEME
    return Placement(
        index=operator.index,
        type=operator.type,
        signature=str(placed.signature),
        placement=place_of(placed),
        rule="falls-back-to-cpu" if fallen else placed.rule,
        why=_on_the_cpu(placed) if fallen else placed.why,
    )


def place_of(placed: Placed) -> str:
    """The word for where an operator runs: float is float on the CPU."""
    if placed.placement == "refused" or (placed.placement == "float" and placed.where == "cpu"):
        return placed.placement
    return placed.where


def _on_the_cpu(placed: Placed) -> str:
    first = "" if placed.denied is None else placed.denied.why.rstrip(".")
    return f"{first}; it runs on the CPU. {placed.why}"


def fits(row: OperatorRow, wanted: Signature, *, has_weights: bool) -> Signature | None:
    """The row's signature for these data types: the wanted granularity, else per-tensor; None when there is none."""
    if row.signatures is None:
        return wanted
    found = [signature for signature in row.signatures if _same_types(signature, wanted, has_weights)]
    for granularity in (wanted.granularity, None, "per-tensor"):
        for signature in found:
            if not has_weights or wanted.granularity is None or signature.granularity == granularity:
                return _merged(signature, wanted, has_weights)
    return None


def _same_types(signature: Signature, wanted: Signature, has_weights: bool) -> bool:
    if signature.activations != wanted.activations:
        return False
    if not has_weights:  # rows that speak of weights hold for two activations of one type
        return signature.weights in (None, signature.activations)
    return signature.weights in (None, wanted.weights)


def _merged(signature: Signature, wanted: Signature, has_weights: bool) -> Signature:
    """The wanted signature with what the row demands in its place."""
    if not has_weights:
        return Signature(activations=wanted.activations, output=signature.output)
    return dataclasses.replace(
        wanted,
        bias=(signature.bias or wanted.bias) if wanted.bias else None,
        granularity=signature.granularity or wanted.granularity,
        symmetric=signature.symmetric or wanted.symmetric,
        output=signature.output,
    )
