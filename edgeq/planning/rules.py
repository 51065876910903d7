"""The rules that decide where one operator runs. A rule's docstring is the sentence that the user reads."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edgeq.planning import constraints
from edgeq.planning.view import View
from edgeq.types import Check, Operator, OperatorRow, OperatorTable, OutputSpec, Quantization, Signature, TensorSpec


class Subject(NamedTuple):
    """One operator before its row of an operator table; `row` is None where the table has none."""

    look: View
    operator: Operator
    table: OperatorTable
    row: OperatorRow | None


_OTHER_TYPES = "start from the float model and let edgeq quantize it"
_OTHER_SCHEME = "--prefer accuracy, which keeps activations in float"

Rule = Callable[[Subject], Check]


def operator_unknown(subject: Subject) -> Check:
    """The runtime has no kernel for this operator."""
    operator, table = subject.operator, subject.table
    kind = "custom operator" if operator.custom else "operator"
    return check(
        operator_unknown,
        operator,
        ok=subject.row is not None,
        detail=f"{kind} {operator.type} is not in {table.name}",
        needed=operator.type,
        hint=f"replace {operator.type} in the model by operators of {table.name}",
    )


def version_too_new(subject: Subject) -> Check:
    """The operator's version is newer than the runtime's kernel."""
    newest = subject.row.max_version if subject.row else None
    operator = subject.operator
    return check(
        version_too_new,
        operator,
        ok=newest is None or operator.version <= newest,
        detail=f"version {operator.version} of {operator.type}, {subject.table.name} has up to {newest}",
        needed=operator.version,
        available=newest,
        unit="version",
        hint=f"export the model so that {operator.type} has version {newest} or older",
    )


def constraint_violated(subject: Subject) -> Check:
    """The operator breaks a limit of the runtime's kernel."""
    limits = (*subject.table.constraints, *(subject.row.constraints if subject.row else ()))
    broken = (constraints.broken(subject.look, subject.operator, subject.table, limit) for limit in limits)
    detail = next((words for words in broken if words is not None), None)
    return check(constraint_violated, subject.operator, ok=detail is None, detail=detail or "")


BASIC: tuple[Rule, ...] = (operator_unknown, version_too_new, constraint_violated)
"""What must hold before data types are looked at, in this order."""


def signature_unsupported(subject: Subject, wanted: Signature) -> Check:
    """The runtime has no kernel for these data types."""
    operator = subject.operator
    allowed = allows(subject.row)
    return check(
        signature_unsupported,
        operator,
        ok=False,
        detail=f"{operator.type} is {wanted}, {subject.table.name} allows {allowed}",
        needed=str(wanted),
        available=allowed,
        hint=_OTHER_TYPES if subject.look.graph.state in ("quantized", "weights") else _OTHER_SCHEME,
    )


def no_float_kernel(subject: Subject, wanted: Signature, reason: str) -> Check:
    """The operator has to stay in float, and the runtime has no float kernel for it."""
    operator, allowed = subject.operator, allows(subject.row)
    return check(
        no_float_kernel,
        operator,
        ok=False,
        detail=f"{reason.rstrip('.')}, and {subject.table.name} allows {operator.type} only as {allowed}",
        needed=str(wanted),
        available=allowed,
        hint=_OTHER_SCHEME,
    )


def output_fixed(subject: Subject, output: OutputSpec, found: TensorSpec) -> Check:
    """The runtime demands a fixed quantization of this operator's output."""
    scale, zero_point = _scale_of(found.quantization)
    same = output.dtype == found.dtype and _matches(output.scale, scale) and _matches(output.zero_point, zero_point)
    return check(
        output_fixed,
        subject.operator,
        ok=same,
        detail=f"{_written(output.dtype, output.scale, output.zero_point)}, "
        f"the model has {_written(found.dtype, scale, zero_point)}",
    )


def check(
    rule: Callable[..., Check],
    operator: Operator,
    *,
    ok: bool,
    detail: str,
    needed: float | str | None = None,
    available: float | str | None = None,
    unit: str = "",
    hint: str | None = None,
) -> Check:
    """A rule applied to an operator; its docstring and the detail make the sentence."""
    subject = f"operator {operator.index} {operator.type}"
    if ok:
        return Check(rule=rule_name(rule), subject=subject, ok=True)
    return Check(
        rule=rule_name(rule),
        subject=subject,
        ok=False,
        needed=needed,
        available=available,
        unit=unit,
        why=sentence(rule, detail),
        hint=hint,
    )


def rule_name(rule: Callable[..., object]) -> str:
    """`operator-unknown` for the function `operator_unknown`."""
    return rule.__name__.replace("_", "-")


def sentence(rule: Callable[..., object], detail: str = "") -> str:
    """A rule's sentence, with the detail behind a colon."""
    first = (rule.__doc__ or "").split("\n", maxsplit=1)[0].strip()
    return f"{first.rstrip('.')}: {detail}." if detail else first


def allows(row: OperatorRow | None) -> str:
    """The data types that a row allows, in words."""
    if row is None:
        return "nothing"
    if row.signatures is None:
        return "any"
    return ", ".join(dict.fromkeys(str(signature) for signature in row.signatures)) or "nothing"


def _scale_of(quantization: Quantization | None) -> tuple[float | None, int | None]:
    if quantization is None or not quantization.scales:
        return None, None
    return quantization.scales[0], next(iter(quantization.zero_points), 0)


def _matches(demanded: float | None, found: float | None) -> bool:
    if demanded is None:
        return True
    return found is not None and abs(demanded - found) <= 1e-6 * abs(demanded)


def _written(dtype: str, scale: float | None, zero_point: int | None) -> str:
    shown = ["any" if value is None else str(value) for value in (scale, zero_point)]
    return f"{dtype} with scale {shown[0]} and zero point {shown[1]}"
