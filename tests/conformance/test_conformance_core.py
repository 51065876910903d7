"""Counting outcomes, and the hash of a result."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq import conformance
from edgeq.errors import BackendNotFound, TargetError
from edgeq.types import Case, OperatorRow, OperatorTable, Outcome, Signature

INT8 = Signature(activations="int8")


def outcome(result: Any, *, claimed: bool, operator: str = "ADD", variant: str = "", why: str = "") -> Outcome:
    return Outcome(
        case=Case(operator=operator, signature=INT8, claimed=claimed, variant=variant), result=result, why=why
    )


def table(**changes: Any) -> OperatorTable:
    settings: dict[str, Any] = {"name": "t", "runtime": "litert", "version": "1", "source": "s"}
    return OperatorTable(operators={"ADD": OperatorRow(signatures=(INT8,))}, **{**settings, **changes})


@pytest.mark.parametrize(
    ("result", "claimed", "standing"),
    [
        ("runs", True, "proved"),
        ("refused", True, "false"),
        ("wrong", True, "false"),
        ("runs", False, "missed"),
        ("refused", False, "denied"),
        ("wrong", False, "denied"),
        ("untried", True, "untried"),
        ("untried", False, "untried"),
    ],
)
def test_standing(result: str, claimed: bool, standing: str) -> None:
    assert conformance.standing(outcome(result, claimed=claimed)) == standing


def test_summary_counts_and_keeps_what_is_not_as_the_table_says() -> None:
    outcomes = [outcome("runs", claimed=True)] * 3 + [outcome("refused", claimed=False)] * 2
    odd = [outcome("wrong", claimed=True), outcome("runs", claimed=False), outcome("untried", claimed=True)]
    proof = conformance.summary(table(), "abc", "2.3", [*outcomes, *odd])
    assert (proof.proved, proof.false_claims, proof.missed, proof.denied, proof.untried) == (3, 1, 1, 2, 1)
    assert proof.details == tuple(odd)
    assert (proof.table_sha256, proof.version) == ("abc", "2.3")


def test_hash_does_not_depend_on_order_or_words_but_on_results() -> None:
    first, second = outcome("runs", claimed=True), outcome("refused", claimed=False, operator="SUB")
    digest = conformance.summary(table(), "", "", [first, second]).result_sha256
    other_words = outcome("refused", claimed=False, operator="SUB", why="other words")
    assert conformance.summary(table(), "", "", [other_words, first]).result_sha256 == digest
    changed = outcome("wrong", claimed=False, operator="SUB")
    assert conformance.summary(table(), "", "", [first, changed]).result_sha256 != digest
    variant = outcome("refused", claimed=False, operator="SUB", variant="version 9")
    assert conformance.summary(table(), "", "", [first, variant]).result_sha256 != digest


def test_table_without_prover_says_why() -> None:
    with pytest.raises(TargetError, match="read from documentation"):
        conformance.verify(table(unproved="read from documentation"), "")


def test_unknown_prover_is_named() -> None:
    with pytest.raises(BackendNotFound, match="crystal_ball"):
        conformance.verify(table(prover="crystal_ball"), "")
