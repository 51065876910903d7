"""Where an operator must run, derived a second time: from the operator table to the verdict, for the audit of plans.

Nothing here asks `placement` or `arriving`. What is shared are facts: the graph's view, the measures of constraints,
what converters write, and which operators are sensitive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from edgeq.planning import constraints, written
from edgeq.planning import view as views
from edgeq.planning.view import View
from edgeq.types import Operator, OperatorRow, OperatorTable, Scheme, Signature, TensorSpec

_NARROW = ("int8", "uint8", "int16", "uint16", "int4", "float16")
_EXPANDERS = {"tflite": ("DEQUANTIZE",), "onnx": ("Cast", "DequantizeLinear")}
_QUANTIZERS = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
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


def verdict(ask: Ask, cpu: OperatorTable | None) -> Verdict:
    """The verdict by the table, and where that denies the operator, by the CPU's."""
    derive = _as_is if ask.scheme.name == "as_is" else _planned
    if cpu is None or ask.table.fallback == "none":
        return _alone(ask, derive(ask, False))
    first = derive(ask, True)
    if not _is_denied(ask, first):
        return _named(first, ask.table)
    second = derive(ask._replace(table=cpu), False)
    if second.placement == "refused":
        return Verdict("refused", first.signature, _reason(ask, first))
    own = second.rule in ("kept-in-float", "left-in-float", "constants-only", "folded")
    return second if own else second._replace(rule="falls-back-to-cpu")


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


# --- accelerators ----------------------------------------------------------------------------


def _alone(ask: Ask, found: Verdict) -> Verdict:
    """The verdict where no table of the CPU stands behind."""
    if ask.table.placement == "cpu":
        return found
    if not _is_denied(ask, found):
        return _named(found, ask.table)
    if found.placement == "refused":
        return found
    if ask.table.fallback == "none":
        return Verdict("refused", found.signature, _reason(ask, found))
    own = found.rule in ("kept-in-float", "left-in-float", "constants-only", "folded")
    return found if own else found._replace(rule="falls-back-to-cpu")


def _named(found: Verdict, table: OperatorTable) -> Verdict:
    return found if found.placement == "refused" else found._replace(placement=table.placement)


def _is_denied(ask: Ask, found: Verdict) -> bool:
    if found.rule in ("constants-only", "folded"):
        return False
    if found.placement == "refused" or broken(ask):
        return True
    rows = ask.row.signatures if ask.row else None
    if rows is None:
        return False
    if found.rule == "carries-integers":
        return found.signature not in {one.activations for one in rows}
    return found.placement == "float" and not _has_float(ask, strict=True, weighted="/" in found.signature)


def _reason(ask: Ask, found: Verdict) -> str:
    return broken(ask) or (found.rule if found.placement == "refused" else "signature-unsupported")


# --- float models ----------------------------------------------------------------------------


def _planned(ask: Ask, strict: bool) -> Verdict:
    """The first rule that applies decides. `strict`: what the table has not goes to the CPU's table."""
    default = Signature(activations="float32", weights="float32", bias="float32")
    default = default if ask.operator.subgraph else ask.scheme.default
    wrong = broken(ask)
    if wrong is not None:
        return _broken(ask, wrong, str(default), _floating(ask), strict)
    plain = _plain(ask)
    if plain is not None:
        return plain
    weighted = bool(views.weights(ask.look, ask.operator))
    reason = _reason_for_float(ask, default)
    if reason is not None:
        if _has_float(ask, strict=strict, weighted=weighted):
            return Verdict("float", _floating(ask), reason)
        if strict or (reason == "left-in-float" and ask.table.placement != "cpu"):
            return Verdict("refused", _floating(ask), "no-float-kernel")
    if ask.row is not None and ask.row.passes_quantization:
        moved = _moved(ask, default)
        if moved is not None:
            return moved
    return _computed(ask, default, strict)


def _broken(ask: Ask, wrong: str, wanted: str, floating: str, strict: bool) -> Verdict:
    falls = _BASIC_FALLS.get("none" if strict or ask.operator.custom else ask.table.fallback, "refused")
    if falls == "float" and wrong == "version-too-new":
        falls = "refused"
    return Verdict(falls, floating if falls == "float" else wanted, wrong)


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
        return Verdict("cpu" if kind in _NARROW else "float", kind, "folded")
    return None


def _reason_for_float(ask: Ask, default: Signature) -> str | None:
    if ask.operator.index in ask.kept:
        return "kept-in-float"
    if default.weights not in _NARROW:
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
    if not any(_matches(one, kind, None) for one in _signatures(ask.row, kind)):
        return None
    return Verdict("cpu" if kind in _NARROW else "float", kind, "passes-quantization")


def _computed(ask: Ask, default: Signature, strict: bool) -> Verdict:
    """By the row's signatures: as wanted, expanded, in float, or not at all."""
    weighted = bool(views.weights(ask.look, ask.operator))
    can_float = _has_float(ask, strict=strict, weighted=weighted)
    if default.activations not in _NARROW and not (weighted and default.weights in _NARROW) and can_float:
        return Verdict("float", _floating(ask), "stays-float")
    wanted = _wanted(ask, default, weighted)
    expands = ask.scheme.expands_weights
    found = None if expands else _kernel(ask.row, wanted, weighted)
    if found is not None:
        return Verdict("cpu", found, "signature-supported")
    if (expands or default.weights == "float16") and _expandable(ask, wanted.weights):
        return Verdict("cpu", str(wanted), "weights-expanded")
    if can_float:
        return Verdict("float", _floating(ask), "falls-back-to-float")
    return Verdict("refused", str(wanted), "signature-unsupported")


def _wanted(ask: Ask, default: Signature, weighted: bool) -> Signature:
    if not weighted:
        return Signature(activations=default.activations)
    is_wide = default.weights == "int4" and ask.operator.type in written.EIGHT_BITS_ONLY
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
    same = [one for one in row.signatures if _matches(one, wanted.activations, wanted.weights if weighted else None)]
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


def _matches(one: Signature, activations: str, weights: str | None) -> bool:
    """Whether a row's signature has the data types; without weights it may speak of two activations."""
    return one.activations == activations and one.weights in (None, weights or activations)


def _signatures(row: OperatorRow | None, kind: str) -> tuple[Signature, ...]:
    if row is None:
        return ()
    return (Signature(activations=kind),) if row.signatures is None else row.signatures


def _has_float(ask: Ask, *, strict: bool, weighted: bool) -> bool:
    if not strict and ask.table.fallback != "none":
        return True
    return any(_matches(one, "float32", "float32" if weighted else None) for one in _signatures(ask.row, "float32"))


def _expandable(ask: Ask, kind: str | None) -> bool:
    rows = [ask.table.operators.get(name) for name in _EXPANDERS[ask.look.graph.format]]
    reads = any(one.activations == kind for row in rows for one in _signatures(row, kind or ""))
    return reads and _has_float(ask, strict=True, weighted=True)


def _floating(ask: Ask) -> str:
    if not views.weights(ask.look, ask.operator):
        return "float32"
    return "float32/float32/float32" if views.bias(ask.look, ask.operator) else "float32/float32"


def _floats(tensors: Iterator[TensorSpec]) -> bool:
    return any(tensor.dtype in views.FLOATS for tensor in tensors)


# --- models that came quantized --------------------------------------------------------------


def _as_is(ask: Ask, strict: bool) -> Verdict:
    """The first rule that applies to the data types in the file decides."""
    look, operator = ask.look, ask.operator
    found = stored(look, operator)
    bound = any(tensor.dtype in _NARROW for tensor in views.operands(look, operator))
    wrong = broken(ask)
    if wrong is not None:
        fallen = _broken(ask, wrong, str(found), str(found), strict)
        return fallen._replace(placement="refused") if fallen.placement == "float" and bound else fallen
    if operator.outputs and look.constants.issuperset(operator.outputs):
        return Verdict("cpu", str(found), "constants-only")
    return _of_stored(ask, found, strict, bound)


def _of_stored(ask: Ask, found: Signature, strict: bool, bound: bool) -> Verdict:
    """By the data types in the file; `bound` to integers is what reads them itself."""
    weighted = found.weights is not None
    if found.activations not in _NARROW and found.weights not in _NARROW:
        if found.activations not in views.FLOATS:
            return Verdict("cpu", str(found), "carries-integers")
        fine = _has_float(ask, strict=strict, weighted=weighted)
        return Verdict("float", str(found), "stays-float") if fine else _unsupported(found)
    rows = ask.row.signatures if ask.row else None
    if rows is not None and not any(_allows(ask, one, found) for one in rows):
        in_float = not bound and _has_float(ask, strict=True, weighted=weighted)
        return Verdict("float", str(found), "falls-back-to-float") if in_float else _unsupported(found)
    if _breaks_output(ask, found):
        return Verdict("refused", str(found), "output-fixed")
    return Verdict("cpu", str(found), "signature-supported")


def _unsupported(found: Signature) -> Verdict:
    return Verdict("refused", str(found), "signature-unsupported")


def stored(look: View, operator: Operator) -> Signature:
    """The signature in the file; ONNX's quantizers are looked through."""

    def seen(tensor: TensorSpec) -> TensorSpec:
        through = look.graph.format == "onnx" and operator.type not in _QUANTIZERS
        return views.stored(look, tensor) if through else tensor

    moved, bias = views.data(look, operator), views.bias(look, operator)
    moved = seen(moved) if moved else None
    layers = [seen(tensor) for tensor in views.weights(look, operator)]
    known = [tensor.quantization for tensor in layers if tensor.quantization]
    symmetric = None
    if known:
        centred = bool(moved and moved.quantization and not any(moved.quantization.zero_points))
        shifted = any(any(one.zero_points) for one in known)
        symmetric = "none" if shifted else "both" if centred else "weights"
    granularity = ("per-channel" if max(len(one.scales) for one in known) > 1 else "per-tensor") if known else None
    return Signature(
        activations=moved.dtype if moved else "float32",
        weights=layers[0].dtype if layers else None,
        bias=seen(bias).dtype if bias else None,
        granularity=granularity,  # type: ignore[arg-type]
        symmetric=symmetric,  # type: ignore[arg-type]
    )


def _allows(ask: Ask, one: Signature, found: Signature) -> bool:
    if one.activations != found.activations:
        return False
    if found.weights is None:
        return one.weights in (None, one.activations)
    layers = views.weights(ask.look, ask.operator)
    single = bool(layers) and views.channels(ask.operator, layers[0]) == 1
    return (
        one.weights in (None, found.weights)
        and (one.bias in (None, found.bias) or (found.bias is None and one.bias in ("int32", "int64", "float32")))
        and (single or one.granularity in (None, found.granularity))
        and (one.symmetric in (None, "none", found.symmetric) or found.symmetric == "both")
    )


def _breaks_output(ask: Ask, found: Signature) -> bool:
    """Whether every kernel of these activations demands an output quantization, and the file has another."""
    rows = [one for one in (ask.row.signatures if ask.row else None) or () if one.activations == found.activations]
    output = next(views.results(ask.look, ask.operator), None)
    if not rows or any(one.output is None for one in rows) or output is None or output.quantization is None:
        return False
    demanded = rows[0].output
    if demanded is None:
        return False
    scale = next(iter(output.quantization.scales), None)
    point = None if scale is None else next(iter(output.quantization.zero_points), 0)
    return output.dtype != demanded.dtype or _differs(demanded.scale, scale) or _differs(demanded.zero_point, point)


def _differs(demanded: float | None, found: float | None) -> bool:
    return demanded is not None and (found is None or abs(demanded - found) > 1e-6 * abs(demanded))
