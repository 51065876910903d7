"""The limits that an operator table can put on one operator, by the name of the rule."""

from __future__ import annotations

from edgeq.errors import PlanError
from edgeq.planning.measures import MEASURES
from edgeq.planning.view import View
from edgeq.types import Constraint, Operator, OperatorTable

_FORBIDDEN = {
    "align_corners_with_half_pixel_centers": 0,
    "depth_reduced_with_height_and_width": 0,
    "dilation_with_stride": 0,
    "uneven_dilation": 0,
}
"""Rules that name a thing which must not be there: what they demand when the table gives no limit."""


def broken(look: View, operator: Operator, table: OperatorTable, constraint: Constraint) -> str | None:
    """What breaks a constraint, in words; None when it holds or its operand is left out."""
    measure = MEASURES.get(constraint.rule)
    if measure is None:
        known = ", ".join(sorted(MEASURES))
        raise PlanError(
            f"operator table {table.name} has the unknown constraint {constraint.rule!r} on {operator.type}",
            hint=f"use one of {known}",
        )
    value = measure(look, operator, constraint.of)
    if value is None or _allows(constraint, value):
        return None
    subject = f" of {constraint.of}" if constraint.of else ""
    return f"{constraint.rule.replace('_', ' ')}{subject} is {value}, allowed is {_limits(constraint)}"


def _allows(constraint: Constraint, value: int | str) -> bool:
    equals = constraint.equals if _is_limited(constraint) else _FORBIDDEN.get(constraint.rule)
    if equals is not None and value != equals:
        return False
    if constraint.one_of and value not in constraint.one_of:
        return False
    if isinstance(value, str):
        return True
    low = constraint.minimum is None or value >= constraint.minimum
    return low and (constraint.maximum is None or value <= constraint.maximum)


def _is_limited(constraint: Constraint) -> bool:
    return bool(constraint.one_of) or any(
        limit is not None for limit in (constraint.equals, constraint.minimum, constraint.maximum)
    )


def _limits(constraint: Constraint) -> str:
    parts = [] if constraint.equals is None else [str(constraint.equals)]
    parts += [", ".join(str(choice) for choice in constraint.one_of)] if constraint.one_of else []
    parts += [] if constraint.minimum is None else [f"at least {constraint.minimum}"]
    parts += [] if constraint.maximum is None else [f"at most {constraint.maximum}"]
    return " and ".join(parts) or str(_FORBIDDEN.get(constraint.rule, "anything"))
