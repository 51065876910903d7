"""From a rule to what the user reads: the rule's docstring is the sentence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from edgeq.types import Finding

Severity = Literal["stop", "warning", "note"]


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
