"""The verdict on an operator of a model that came quantized: the data types in the file decide."""

from __future__ import annotations

from edgeq.planning import view as views
from edgeq.planning.audit.ask import Ask, Verdict, broken, has_float, where_broken
from edgeq.planning.view import View
from edgeq.types import Operator, Signature, TensorSpec

_QUANTIZERS = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")


def verdict(ask: Ask, strict: bool) -> Verdict:
    """The first rule that applies to the data types in the file decides."""
    look, operator = ask.look, ask.operator
    found = stored(look, operator)
    bound = any(tensor.dtype in views.QUANTIZED for tensor in views.operands(look, operator))
    wrong = broken(ask)
    if wrong is not None:
        fallen = where_broken(ask, wrong, str(found), str(found), strict)
        return fallen._replace(placement="refused") if fallen.placement == "float" and bound else fallen
    if operator.outputs and look.constants.issuperset(operator.outputs):
        return Verdict("cpu", str(found), "constants-only")
    return _of_stored(ask, found, strict, bound)


def _of_stored(ask: Ask, found: Signature, strict: bool, bound: bool) -> Verdict:
    """By the data types in the file; `bound` to integers is what reads them itself."""
    weighted = found.weights is not None
    if found.activations not in views.QUANTIZED and found.weights not in views.QUANTIZED:
        if found.activations not in views.FLOATS:
            return Verdict("cpu", str(found), "carries-integers")
        fine = has_float(ask, strict=strict, weighted=weighted)
        return Verdict("float", str(found), "stays-float") if fine else _unsupported(found)
    rows = ask.row.signatures if ask.row else None
    if rows is not None and not any(_allows(ask, one, found) for one in rows):
        in_float = not bound and has_float(ask, strict=True, weighted=weighted)
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
