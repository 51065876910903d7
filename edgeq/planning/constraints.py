"""The limits that an operator table can put on one operator, by the name of the rule."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edgeq.errors import PlanError
from edgeq.planning import view as views
from edgeq.planning.view import View
from edgeq.types import Attribute, Constraint, Operator, OperatorTable, TensorSpec

Value = int | str | None
_FORBIDDEN = {"dilation_with_stride": 0}
"""Rules that name a thing which must not be there: what they demand when the table gives no limit."""


def broken(look: View, operator: Operator, table: OperatorTable, constraint: Constraint) -> str | None:
    """What breaks a constraint, in words; None when it holds or its operand is left out."""
    measure = _MEASURES.get(constraint.rule)
    if measure is None:
        known = ", ".join(sorted(_MEASURES))
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


def _operand(look: View, operator: Operator, name: str | None) -> TensorSpec | None:
    if name == "output":
        return next(views.results(look, operator), None)
    if name == "weights":
        return next(iter(views.weights(look, operator)), None)
    if name == "bias":
        return views.bias(look, operator)
    return views.data(look, operator)


def _rank(look: View, operator: Operator, name: str | None) -> Value:
    tensor = _operand(look, operator, name)
    return None if tensor is None else len(tensor.shape)


def _dtype(look: View, operator: Operator, name: str | None) -> Value:
    tensor = _operand(look, operator, name)
    return None if tensor is None else tensor.dtype


def _elements(look: View, operator: Operator, name: str | None) -> Value:
    tensor = _operand(look, operator, name)
    return None if tensor is None else views.elements(tensor)


def _constant(look: View, operator: Operator, name: str | None) -> Value:
    if name == "weights" and operator.type in views.WEIGHTS_AT:
        return int(bool(views.weights(look, operator)))
    tensor = _operand(look, operator, name)
    return None if tensor is None else int(tensor.index in look.constants)


def _batch(look: View, operator: Operator, name: str | None) -> Value:
    tensor = _operand(look, operator, name)
    return max(tensor.shape[0], 1) if tensor is not None and tensor.shape else None


def _attribute(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    value = operator.attributes.get(name or "")
    return value if isinstance(value, int | str) else None


def _dilation_with_stride(look: View, operator: Operator, name: str | None) -> Value:  # noqa: ARG001
    """1 where the operator both dilates and strides; a table that forbids it says `equals: 0`."""
    return int(_above_one(operator.attributes, "dilation") and _above_one(operator.attributes, "stride"))


def _above_one(attributes: Mapping[str, Attribute], stem: str) -> bool:
    return any(stem in name and _largest(value) > 1 for name, value in attributes.items())


def _largest(value: Attribute) -> float:
    numbers = value if isinstance(value, list) else [value]
    return max((number for number in numbers if isinstance(number, int | float)), default=0)


_MEASURES: dict[str, Callable[[View, Operator, str | None], Value]] = {
    "attribute": _attribute,
    "batch": _batch,
    "constant": _constant,
    "dilation_with_stride": _dilation_with_stride,
    "dtype": _dtype,
    "elements": _elements,
    "rank": _rank,
}
