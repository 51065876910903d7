"""From a rule to what the user reads: the rule's docstring is the sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from types import MappingProxyType
from typing import Literal, TypeVar

from edgeq.types import Finding

Severity = Literal["stop", "warning", "note"]
Subject = TypeVar("Subject")
LABELS, PREPARATION = "labels", "preparation"
CONTRADICTED = "labels-contradicted"
EXPLAIN = MappingProxyType(
    {
        **dict.fromkeys(("labels-shifted", "labels-displaced", "classes-renamed"), LABELS),
        **dict.fromkeys(("other-scaling", "other-colours", "other-layout"), PREPARATION),
    }
)
"""Rules that explain why answers do not fit; their evidence `other` is how well they would."""


def finding(
    rule: Callable[..., object], severity: Severity, detail: str, hint: str | None = None, **evidence: float
) -> Finding:
    """What a rule found: its docstring's first sentence, the detail behind a colon."""
    sentence = (rule.__doc__ or "").split("\n", maxsplit=1)[0].strip().rstrip(".")
    return Finding(
        rule=rule.__name__.replace("_", "-"),
        severity=severity,
        why=f"{sentence}: {detail}.",
        evidence={name: float(value) for name, value in evidence.items()},
        hint=hint,
    )


def applied(rules: Iterable[Callable[[Subject], Finding | None]], subject: Subject) -> Iterator[Finding]:
    """What rules find in what they look at, in the rules' order."""
    for rule in rules:
        found = rule(subject)
        if found is not None:
            yield found


def explained(found: Iterable[Finding]) -> list[Finding]:
    """The findings, with one explanation only of why answers do not fit labels: that with which they would fit best.

    A wrong preparation makes labels look wrong too, and wrong labels a preparation.
    """
    told = list(found)
    reasons = [one for one in told if one.rule in EXPLAIN]
    if not reasons:
        return told
    best = max(reasons, key=lambda one: one.evidence["other"])
    preparation = EXPLAIN[best.rule] == PREPARATION
    return [
        one
        for one in told
        if one is best
        or (preparation and EXPLAIN.get(one.rule) == PREPARATION)
        or (one.rule not in EXPLAIN and one.rule != CONTRADICTED)
    ]
