"""Where every operator of a float model runs under one scheme, and which rule decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from edgeq.planning import rules
from edgeq.planning import view as views
from edgeq.planning.rules import Subject
from edgeq.planning.view import View
from edgeq.planning.written import before_weights, is_folded, why_float
from edgeq.types import FLOAT32, Check, Operator, OperatorRow, OperatorTable, Placement, Scheme, Signature, TensorSpec

QUANTIZED = ("int8", "uint8", "int16", "int4", "float16")
_EXPANDING = {"tflite": ("DEQUANTIZE",), "onnx": ("Cast", "DequantizeLinear")}
"""Operators that turn stored weights into float32 again when the model is loaded."""

_UNTOUCHED = {
    "constants-only": "It computes on constants alone and is folded away.",
    "carries-integers": "It carries integers, which are not quantized.",
    "converts-types": "It turns one data type into another and is left as it is.",
}
"""Rules of operators that no scheme changes, with their sentences."""
FALLS_TO = {
    "operator-unknown": {"none": "refused", "cpu": "cpu", "float": "float"},
    "version-too-new": {"none": "refused", "cpu": "cpu", "float": "refused"},
    "constraint-violated": {"none": "refused", "cpu": "cpu", "float": "float"},
}
"""Where an operator goes that breaks a rule, by the table's fallback. A version that the runtime does not know is not
known to its float kernel either."""


FRAMED = ("folded", "falls-back-to-float", "operator-unknown", "constraint-violated", "left-in-float")
"""Rules by which an operator of a static ONNX scheme runs in float because the runtime has no integer kernel, or the
converter leaves it there by itself."""


class Placed(NamedTuple):
    """One operator with its signature, its place, the rule that decided, and the check that failed, if one did."""

    operator: Operator
    signature: Signature
    placement: str
    rule: str
    why: str
    failure: Check | None = None


class Survey(NamedTuple):
    """A graph before one operator table: each operator's subject, and the first basic rule that it breaks."""

    look: View
    table: OperatorTable
    subjects: tuple[tuple[Subject, Check | None], ...]


def survey(look: View, table: OperatorTable) -> Survey:
    """Apply the rules that no scheme changes. Raises PlanError for a table with an unknown constraint."""
    subjects = [Subject(look, operator, table, table.operators.get(operator.type)) for operator in look.graph.operators]
    return Survey(look, table, tuple((subject, _first_failure(subject)) for subject in subjects))


def place(ground: Survey, default: Signature, kept: Mapping[int, str]) -> tuple[Placed, ...]:
    """Place every operator; `kept` are the operators that the scheme keeps in float, with the reason."""
    carried: dict[int, str] = {}
    before = before_weights(ground.look)
    placed = []
    for subject, failure in ground.subjects:
        wanted = FLOAT32 if subject.operator.subgraph else default  # bodies of IF and WHILE are not calibrated
        one = _place_one(subject, failure, wanted, kept, carried, before)
        makes = "float32" if one.rule == "converts-types" else one.signature.activations
        carried.update(dict.fromkeys(subject.operator.outputs, makes))
        placed.append(one)
    return tuple(placed)


def shown(placed: Placed) -> Placement:
    """What the plan tells of one operator."""
    operator = placed.operator
    return Placement(
        index=operator.index,
        type=operator.type,
        signature=str(placed.signature),
        placement=placed.placement,
        rule=placed.rule,
        why=placed.why,
    )


def overrides(look: View, placed: tuple[Placed, ...], scheme: Scheme) -> dict[int, Signature]:
    """What differs from the scheme's default: operators in float, and layers whose weights are per-tensor.

    Operators that carry no real numbers, that no default could quantize, or that another operator's subgraph holds are
    not listed. Nor are ONNX operators without an integer kernel: between DequantizeLinear and QuantizeLinear they run
    in float by themselves, and without that frame portrait segmentation lost 2.7 dB.
    """
    framed = look.graph.format == "onnx" and scheme.is_static
    listed = (one for one in placed if not (framed and one.rule in FRAMED))
    return {one.operator.index: one.signature for one in listed if _differs(one, scheme)}


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


def _first_failure(subject: Subject) -> Check | None:
    checks = (rule(subject) for rule in rules.BASIC)
    return next((check for check in checks if not check.ok), None)


def _place_one(
    subject: Subject,
    failure: Check | None,
    default: Signature,
    kept: Mapping[int, str],
    carried: Mapping[int, str],
    before: frozenset[int],
) -> Placed:
    look, operator, _, row = subject
    if failure is not None:
        return _fallen(subject, failure, default)
    rule = _untouched(subject)
    if row is None or rule is not None:
        rule = rule or "constants-only"
        return Placed(operator, _as_stored(look, operator), "cpu", rule, _UNTOUCHED[rule])
    if is_folded(look, operator):
        made = carried.get(operator.inputs[0], default.activations)
        place = "cpu" if made in QUANTIZED else "float"
        return Placed(operator, Signature(activations=made), place, "folded", "It is folded into the layer before it.")
    reason = _float_reason(subject, default, kept, carried, before)
    if reason is not None and _runs_in_float(subject, row):
        return Placed(operator, _plain(look, operator), "float", *reason)
    if row.passes_quantization:
        return _follower(subject, row, default, carried)
    return _by_signature(subject, row, default)


def _float_reason(
    subject: Subject,
    default: Signature,
    kept: Mapping[int, str],
    carried: Mapping[int, str],
    before: frozenset[int],
) -> tuple[str, str] | None:
    """The rule and sentence by which the scheme or the converter leaves an operator in float, or None."""
    look, operator, _, _ = subject
    if operator.index in kept:
        return "kept-in-float", f"The scheme keeps it in float: {kept[operator.index]}."
    left = why_float(look, operator, default, before, carried) if default.weights in QUANTIZED else None
    return None if left is None else ("left-in-float", f"It runs in float: {left}.")


def _untouched(subject: Subject) -> str | None:
    """The rule by which no scheme changes the operator, or None."""
    look, operator, _, row = subject
    if views.on_constants(look, operator):
        return "constants-only"
    if not views.is_real(look, operator):
        return "carries-integers"
    any_types = row is not None and row.signatures is None and not row.passes_quantization
    return "converts-types" if any_types and _converts(look, operator) else None


def _fallen(subject: Subject, failure: Check, default: Signature) -> Placed:
    """An operator that breaks a basic rule: refused, or where the table's fallback says."""
    place = "refused" if subject.operator.custom else FALLS_TO[failure.rule][subject.table.fallback]
    if place == "refused":
        return Placed(subject.operator, default, place, failure.rule, failure.why, failure)
    signature = _plain(subject.look, subject.operator) if place == "float" else default
    where = "in float" if place == "float" else "on the CPU"
    return Placed(subject.operator, signature, place, failure.rule, f"{failure.why.rstrip('.')}; it runs {where}.")


def _follower(subject: Subject, row: OperatorRow, default: Signature, carried: Mapping[int, str]) -> Placed:
    """An operator that only moves data has the data type of what it moves; float wins where they differ."""
    look, operator = subject.look, subject.operator
    moved = [tensor for tensor in views.operands(look, operator) if tensor.dtype in views.FLOATS]
    kinds = {carried.get(tensor.index, default.activations) for tensor in moved if tensor.index not in look.constants}
    if _moves_float_port(look, moved):
        kinds = {"float32"}
    activations = "float32" if "float32" in kinds else default.activations
    if fits(row, Signature(activations=activations), has_weights=False) is None:
        return _by_signature(subject, row, default)
    place = "cpu" if activations in QUANTIZED else "float"
    why = f"It only moves data, so it stays {activations} like its input."
    return Placed(operator, Signature(activations=activations), place, "passes-quantization", why)


def _moves_float_port(look: View, moved: list[TensorSpec]) -> bool:
    """Whether all that is moved is one input of the model, which stays float in ONNX."""
    return look.graph.format == "onnx" and len(moved) == 1 and moved[0].index in look.graph.inputs


def _by_signature(subject: Subject, row: OperatorRow, default: Signature) -> Placed:
    """An operator that computes: the default where the runtime has a kernel for it, else float, else refused."""
    look, operator, table = subject.look, subject.operator, subject.table
    has_weights = bool(views.weights(look, operator))
    floating = default.activations not in QUANTIZED
    if floating and (not has_weights or default.weights not in QUANTIZED) and _runs_in_float(subject, row):
        why = "The scheme quantizes weights only, and it has none." if default.weights in QUANTIZED else "It is float."
        return Placed(operator, _plain(look, operator), "float", "stays-float", why)
    wanted = _wanted(look, operator, default)
    found = fits(row, wanted, has_weights=has_weights)
    if found is not None:
        return Placed(operator, found, "cpu", "signature-supported", f"{table.name} has a kernel for {found}.")
    if default.weights == "float16" and _expands(table, row, look):
        why = f"Its weights are stored as float16 and expanded to float32 for the float kernel of {table.name}."
        return Placed(operator, wanted, "cpu", "weights-expanded", why)
    if _runs_in_float(subject, row):
        why = f"{table.name} has no kernel for {wanted}, so it runs in float."
        return Placed(operator, _plain(look, operator), "float", "falls-back-to-float", why)
    failure = rules.signature_unsupported(subject, wanted)
    return Placed(operator, wanted, "refused", failure.rule, failure.why, failure)


def _converts(look: View, operator: Operator) -> bool:
    """Whether integers go in and floats come out, or the other way round (`Cast`, `Shape`)."""
    reads = any(tensor.dtype in views.FLOATS for tensor in views.operands(look, operator))
    makes = any(tensor.dtype in views.FLOATS for tensor in views.results(look, operator))
    return reads != makes


def _runs_in_float(subject: Subject, row: OperatorRow) -> bool:
    """Whether the row has a float kernel, or the table sends to float what its row has not."""
    has_weights = bool(views.weights(subject.look, subject.operator))
    return subject.table.fallback != "none" or fits(row, FLOAT32, has_weights=has_weights) is not None


def _expands(table: OperatorTable, row: OperatorRow, look: View) -> bool:
    known = any(kind in table.operators for kind in _EXPANDING[look.graph.format])
    return known and fits(row, FLOAT32, has_weights=True) is not None


def _wanted(look: View, operator: Operator, default: Signature) -> Signature:
    if not views.weights(look, operator):
        return Signature(activations=default.activations)
    if views.bias(look, operator) is None:
        return dataclasses.replace(default, bias=None)
    return default


def _plain(look: View, operator: Operator) -> Signature:
    """Float, with as many parts as the operator has operands."""
    if not views.weights(look, operator):
        return Signature(activations="float32")
    return FLOAT32 if views.bias(look, operator) else dataclasses.replace(FLOAT32, bias=None)


def _as_stored(look: View, operator: Operator) -> Signature:
    tensor = views.data(look, operator) or next(views.results(look, operator), None)
    return Signature(activations=tensor.dtype if tensor else "float32")


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


def _differs(one: Placed, scheme: Scheme) -> bool:
    if one.operator.subgraph or one.rule in _UNTOUCHED or one.placement == "refused":
        return False
    if one.placement == "float":
        return scheme.is_static or one.rule == "falls-back-to-float"
    return one.signature.granularity not in (None, scheme.default.granularity)
