"""The verdict on an operator of a model that came in float: the first rule that applies decides."""

from __future__ import annotations

from collections.abc import Iterator

from edgeq.planning import view as views
from edgeq.planning import written
from edgeq.planning.audit.ask import (
    Ask,
    Verdict,
    broken,
    floating_signature,
    has_float,
    matches,
    signatures,
    where_broken,
)
from edgeq.types import OperatorRow, Signature, TensorSpec

_EXPANDERS = {"tflite": ("DEQUANTIZE",), "onnx": ("Cast", "DequantizeLinear")}


def verdict(ask: Ask, strict: bool) -> Verdict:
    """The first rule that applies decides. `strict`: what the table has not goes to the CPU's table."""
    default = Signature(activations="float32", weights="float32", bias="float32")
    default = default if ask.operator.subgraph else ask.scheme.default
    wrong = broken(ask)
    if wrong is not None:
        return where_broken(ask, wrong, str(default), floating_signature(ask), strict)
    plain = _plain(ask)
    if plain is not None:
        return plain
    weighted = bool(views.weights(ask.look, ask.operator))
    reason = _reason_for_float(ask, default)
    if reason is not None:
        if has_float(ask, strict=strict, weighted=weighted):
            return Verdict("float", floating_signature(ask), reason)
        if strict or (reason == "left-in-float" and ask.table.placement != "cpu"):
            return Verdict("refused", floating_signature(ask), "no-float-kernel")
    if ask.row is not None and ask.row.passes_quantization:
        moved = _moved(ask, default)
        if moved is not None:
            return moved
    return _computed(ask, default, strict)


def _plain(ask: Ask) -> Verdict | None:
    """Operators that no scheme changes, and those that are folded away."""
    look, operator, row = ask.look, ask.operator, ask.row
    stored = views.data(look, operator) or next(views.results(look, operator), None)
    kind = stored.dtype if stored else "float32"
    if operator.outputs and look.constants.issuperset(operator.outputs):
        return Verdict("cpu", kind, "constants-only")
    reads, makes = _floats(views.operands(look, operator)), _floats(views.results(look, operator))
    if not reads and not makes and any(True for _ in (*views.operands(look, operator), *views.results(look, operator))):
        return Verdict("cpu", kind, "carries-integers")
    if row is not None and row.signatures is None and not row.passes_quantization and reads != makes:
        return Verdict("cpu", kind, "converts-types")
    if written.is_folded(look, operator):
        kind = ask.made.get(operator.inputs[0], ask.scheme.default.activations)
        kind = ask.made.get(operator.inputs[0], "float32") if operator.subgraph else kind
        return Verdict("cpu" if kind in views.QUANTIZED else "float", kind, "folded")
    return None


def _reason_for_float(ask: Ask, default: Signature) -> str | None:
    if ask.operator.index in ask.kept:
        return "kept-in-float"
    if default.weights not in views.QUANTIZED:
        return None
    left = written.why_float(ask.look, ask.operator, ask.scheme, ask.before, ask.made)
    return None if left is None else "left-in-float"


def _moved(ask: Ask, default: Signature) -> Verdict | None:
    """What only moves data has the types of what it moves, if the row has them."""
    look, operator = ask.look, ask.operator
    reals = [tensor for tensor in views.operands(look, operator) if tensor.dtype in views.FLOATS]
    moving = [tensor.index for tensor in reals if tensor.index not in look.constants]
    in_float = any(ask.made.get(index, default.activations) == "float32" for index in moving)
    port = look.graph.format == "onnx" and len(reals) == 1 and reals[0].index in look.graph.inputs
    kind = "float32" if in_float or port else default.activations
    if not any(matches(one, kind, None) for one in signatures(ask.row, kind)):
        return None
    return Verdict("cpu" if kind in views.QUANTIZED else "float", kind, "passes-quantization")


def _computed(ask: Ask, default: Signature, strict: bool) -> Verdict:
    """By the row's signatures: as wanted, expanded, in float, or not at all."""
    weighted = bool(views.weights(ask.look, ask.operator))
    can_float = has_float(ask, strict=strict, weighted=weighted)
    stores_less = weighted and default.weights in views.QUANTIZED
    if default.activations not in views.QUANTIZED and not stores_less and can_float:
        return Verdict("float", floating_signature(ask), "stays-float")
    wanted = _wanted(ask, default, weighted)
    expands = ask.scheme.expands_weights
    found = None if expands else _kernel(ask.row, wanted, weighted)
    if found is not None:
        return Verdict("cpu", found, "signature-supported")
    if (expands or default.weights == "float16") and _expandable(ask, wanted.weights):
        return Verdict("cpu", str(wanted), "weights-expanded")
    if can_float:
        return Verdict("float", floating_signature(ask), "falls-back-to-float")
    return Verdict("refused", str(wanted), "signature-unsupported")


def _wanted(ask: Ask, default: Signature, weighted: bool) -> Signature:
    if not weighted:
        return Signature(activations=default.activations)
    is_wide = default.weights == "int4" and written.in_eight_bits(ask.operator)
    return Signature(
        activations=default.activations,
        weights="int8" if is_wide else default.weights,
        bias=default.bias if views.bias(ask.look, ask.operator) else None,
        granularity=default.granularity,
        symmetric=default.symmetric,
    )


def _kernel(row: OperatorRow | None, wanted: Signature, weighted: bool) -> str | None:
    """The text of the signature that the row gives for wanted types, the wanted granularity first."""
    if row is None:
        return None
    if row.signatures is None:
        return str(wanted)
    same = [one for one in row.signatures if matches(one, wanted.activations, wanted.weights if weighted else None)]
    if not weighted:
        return wanted.activations if same else None
    for granularity in (wanted.granularity, None, "per-tensor"):
        for one in same:
            if wanted.granularity is None or one.granularity == granularity:
                bias = (one.bias or wanted.bias) if wanted.bias else None
                parts = (wanted.activations, wanted.weights, bias)
                grain = one.granularity or wanted.granularity
                return "/".join(part for part in parts if part) + (f" {grain}" if grain else "")
    return None


def _expandable(ask: Ask, kind: str | None) -> bool:
    rows = [ask.table.operators.get(name) for name in _EXPANDERS[ask.look.graph.format]]
    reads = any(one.activations == kind for row in rows for one in signatures(row, kind or ""))
    return reads and has_float(ask, strict=True, weighted=True)


def _floats(tensors: Iterator[TensorSpec]) -> bool:
    return any(tensor.dtype in views.FLOATS for tensor in tensors)
