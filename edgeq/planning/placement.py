"""Where every operator of a float model runs under one scheme, and which rule decided."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple

from edgeq.planning import accelerator, rules
from edgeq.planning import view as views
from edgeq.planning.ground import UNTOUCHED, Placed, Survey, fits
from edgeq.planning.rules import Subject
from edgeq.planning.view import View
from edgeq.planning.written import before_weights, in_eight_bits, is_folded, why_float
from edgeq.types import FLOAT32, Check, Operator, OperatorRow, OperatorTable, Scheme, Signature, TensorSpec

_EXPANDING = {"tflite": ("DEQUANTIZE",), "onnx": ("Cast", "DequantizeLinear")}
"""Operators that turn stored weights into float32 again when the model is loaded."""

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


class Asked(NamedTuple):
    """What is wanted of every operator: the scheme, what it keeps in float and why, what earlier operators made.

    `before` are the tensors from which layers with weights are reached; `cpu` tells that a table of the CPU takes what
    this one denies.
    """

    scheme: Scheme
    kept: Mapping[int, str]
    carried: dict[int, str]
    before: frozenset[int]
    cpu: bool = False


def place(ground: Survey, scheme: Scheme, kept: Mapping[int, str]) -> tuple[Placed, ...]:
    """Place every operator; `kept` are the operators that the scheme keeps in float, with the reason."""
    asked = Asked(scheme, kept, {}, before_weights(ground.look), ground.cpu is not None)
    on_cpu = asked._replace(cpu=False)
    placed = []
    for number, (subject, failure) in enumerate(ground.subjects):
        one = _place_one(subject, failure, asked)
        one = accelerator.settled(one, ground, number, partial(_place_one, asked=on_cpu))
        makes = "float32" if one.rule == "converts-types" else one.signature.activations
        asked.carried.update(dict.fromkeys(subject.operator.outputs, makes))
        placed.append(one)
    return tuple(placed)


def overrides(look: View, placed: tuple[Placed, ...], scheme: Scheme) -> dict[int, Signature]:
    """What differs from the scheme's default: operators in float, and layers whose weights are per-tensor.

    Operators that carry no real numbers, that no default could quantize, or that another operator's subgraph holds are
    not listed. Nor are ONNX operators without an integer kernel: between DequantizeLinear and QuantizeLinear they run
    in float by themselves, and without that frame portrait segmentation lost 2.7 dB.
    """
    framed = look.graph.format == "onnx" and scheme.is_static
    listed = (one for one in placed if not (framed and one.rule in FRAMED))
    return {one.operator.index: one.signature for one in listed if _differs(one, scheme)}


def _place_one(subject: Subject, failure: Check | None, asked: Asked) -> Placed:
    look, operator, _, row = subject
    # Bodies of IF and WHILE are not calibrated.
    default = FLOAT32 if operator.subgraph else asked.scheme.default
    if failure is not None:
        return _fallen(subject, failure, default)
    rule = _untouched(subject)
    if row is None or rule is not None:
        rule = rule or "constants-only"
        return Placed(operator, _as_stored(look, operator), "cpu", rule, UNTOUCHED[rule])
    if is_folded(look, operator):
        made = asked.carried.get(operator.inputs[0], default.activations)
        place = "cpu" if made in views.QUANTIZED else "float"
        return Placed(operator, Signature(activations=made), place, "folded", "It is folded into the layer before it.")
    return _place_real(subject, row, default, asked)


def _place_real(subject: Subject, row: OperatorRow, default: Signature, asked: Asked) -> Placed:
    """An operator on real numbers that the table has a row for."""
    look, operator = subject.look, subject.operator
    reason = _float_reason(subject, default, asked)
    if reason is not None:
        if _runs_in_float(subject, row):
            return Placed(operator, plain(look, operator), "float", *reason)
        if asked.cpu or (subject.table.placement != "cpu" and reason[0] == "left-in-float"):
            return _refused_in_float(subject, reason[1])
    if row.passes_quantization:
        return _follower(subject, row, default, asked.carried)
    return _by_signature(subject, row, default, asked.scheme)


def _float_reason(subject: Subject, default: Signature, asked: Asked) -> tuple[str, str] | None:
    """The rule and sentence by which the scheme or the converter leaves an operator in float, or None."""
    look, operator, _, _ = subject
    if operator.index in asked.kept:
        return "kept-in-float", f"The scheme keeps it in float: {asked.kept[operator.index]}."
    if default.weights not in views.QUANTIZED:
        return None
    left = why_float(look, operator, asked.scheme, asked.before, asked.carried)
    return None if left is None else ("left-in-float", f"It runs in float: {left}.")


def _refused_in_float(subject: Subject, why: str) -> Placed:
    """An operator that has to be float where the table has no float kernel for it."""
    operator = subject.operator
    signature = plain(subject.look, operator)
    failure = rules.no_float_kernel(subject, signature, why)
    return Placed(operator, signature, "refused", failure.rule, failure.why, failure)


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
    signature = plain(subject.look, subject.operator) if place == "float" else default
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
    place = "cpu" if activations in views.QUANTIZED else "float"
    why = f"It only moves data, so it stays {activations} like its input."
    return Placed(operator, Signature(activations=activations), place, "passes-quantization", why)


def _moves_float_port(look: View, moved: list[TensorSpec]) -> bool:
    """Whether all that is moved is one input of the model, which stays float in ONNX."""
    return look.graph.format == "onnx" and len(moved) == 1 and moved[0].index in look.graph.inputs


def _by_signature(subject: Subject, row: OperatorRow, default: Signature, scheme: Scheme | None = None) -> Placed:
    """An operator that computes: the default where the runtime has a kernel for it, else float, else refused."""
    look, operator, table = subject.look, subject.operator, subject.table
    has_weights = bool(views.weights(look, operator))
    floating, stores_less = default.activations not in views.QUANTIZED, default.weights in views.QUANTIZED
    if floating and not (has_weights and stores_less) and _runs_in_float(subject, row):
        why = "The scheme quantizes weights only, and it has none." if stores_less else "It is float."
        return Placed(operator, plain(look, operator), "float", "stays-float", why)
    wanted = wanted_of(look, operator, default)
    is_expanded = scheme is not None and scheme.expands_weights
    found = None if is_expanded else fits(row, wanted, has_weights=has_weights)
    if found is not None:
        return Placed(operator, found, "cpu", "signature-supported", f"{table.name} has a kernel for {found}.")
    if (is_expanded or default.weights == "float16") and _expands(table, row, look, wanted.weights):
        kind = wanted.weights
        why = f"Its weights are stored as {kind} and expanded to float32 for the float kernel of {table.name}."
        return Placed(operator, wanted, "cpu", "weights-expanded", why)
    if _runs_in_float(subject, row):
        why = f"{table.name} has no kernel for {wanted}, so it runs in float."
        return Placed(operator, plain(look, operator), "float", "falls-back-to-float", why)
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


def _expands(table: OperatorTable, row: OperatorRow, look: View, kind: str | None) -> bool:
    """Whether the runtime can expand weights of a data type and has a float kernel that reads them."""
    expanders = (table.operators.get(name) for name in _EXPANDING[look.graph.format])
    reads = any(found is not None and _reads(found, kind) for found in expanders)
    return reads and fits(row, FLOAT32, has_weights=True) is not None


def _reads(row: OperatorRow, kind: str | None) -> bool:
    """Whether a row that turns weights into float reads this data type."""
    if row.signatures is None:
        return True
    return any(signature.activations == kind for signature in row.signatures)


def wanted_of(look: View, operator: Operator, default: Signature) -> Signature:
    """The signature that a scheme's default comes to for one operator."""
    if not views.weights(look, operator):
        return Signature(activations=default.activations)
    if default.weights == "int4" and in_eight_bits(operator):
        default = dataclasses.replace(default, weights="int8")
    if views.bias(look, operator) is None:
        return dataclasses.replace(default, bias=None)
    return default


def plain(look: View, operator: Operator) -> Signature:
    """Float, with as many parts as the operator has operands."""
    if not views.weights(look, operator):
        return Signature(activations="float32")
    return FLOAT32 if views.bias(look, operator) else dataclasses.replace(FLOAT32, bias=None)


def _as_stored(look: View, operator: Operator) -> Signature:
    tensor = views.data(look, operator) or next(views.results(look, operator), None)
    return Signature(activations=tensor.dtype if tensor else "float32")


def _differs(one: Placed, scheme: Scheme) -> bool:
    if one.operator.subgraph or one.rule in UNTOUCHED or one.placement == "refused":
        return False
    if one.placement == "float":
        return scheme.is_static or one.rule == "falls-back-to-float"
    narrower = scheme.expands_weights and one.signature.weights not in (None, scheme.default.weights)
    return narrower or one.signature.granularity not in (None, scheme.default.granularity)
