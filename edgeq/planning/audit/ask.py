"""One operator before one operator table, and what the table's rows allow of data types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from edgeq.planning import constraints
from edgeq.planning import view as views
from edgeq.planning.view import View
from edgeq.types import Operator, OperatorRow, OperatorTable, Scheme, Signature

_BASIC_FALLS = {"cpu": "cpu", "float": "float"}


class Verdict(NamedTuple):
    """What a plan has to say of an operator: place, signature as text, rule."""

    placement: str
    signature: str
    rule: str


class Ask(NamedTuple):
    """One operator before one table under one scheme; `made` are data types that the plan gives earlier results."""

    look: View
    operator: Operator
    table: OperatorTable
    scheme: Scheme
    kept: Mapping[int, str]
    made: Mapping[int, str]
    before: frozenset[int]

    @property
    def row(self) -> OperatorRow | None:
        return self.table.operators.get(self.operator.type)


def broken(ask: Ask) -> str | None:
    """The first basic rule that the operator breaks."""
    row, operator = ask.row, ask.operator
    if row is None:
        return "operator-unknown"
    if row.max_version is not None and operator.version > row.max_version:
        return "version-too-new"
    limits = (*ask.table.constraints, *row.constraints)
    words = (constraints.broken(ask.look, operator, ask.table, limit) for limit in limits)
    return "constraint-violated" if any(word is not None for word in words) else None


def where_broken(ask: Ask, wrong: str, wanted: str, floating: str, strict: bool) -> Verdict:
    falls = _BASIC_FALLS.get("none" if strict or ask.operator.custom else ask.table.fallback, "refused")
    if falls == "float" and wrong == "version-too-new":
        falls = "refused"
    return Verdict(falls, floating if falls == "float" else wanted, wrong)


def matches(one: Signature, activations: str, weights: str | None) -> bool:
    """Whether a row's signature has the data types; without weights it may speak of two activations."""
    return one.activations == activations and one.weights in (None, weights or activations)


def signatures(row: OperatorRow | None, kind: str) -> tuple[Signature, ...]:
    if row is None:
        return ()
    return (Signature(activations=kind),) if row.signatures is None else row.signatures


def has_float(ask: Ask, *, strict: bool, weighted: bool) -> bool:
    if not strict and ask.table.fallback != "none":
        return True
    return any(matches(one, "float32", "float32" if weighted else None) for one in signatures(ask.row, "float32"))


def floating_signature(ask: Ask) -> str:
    if not views.weights(ask.look, ask.operator):
        return "float32"
    return "float32/float32/float32" if views.bias(ask.look, ask.operator) else "float32/float32"
