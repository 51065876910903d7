"""Where every operator runs of a model that came quantized: its data types are read, never changed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Literal

from edgeq.planning import accelerator, ground, placement, rules
from edgeq.planning import view as views
from edgeq.planning.ground import Placed, Survey
from edgeq.planning.rules import Subject
from edgeq.planning.view import View
from edgeq.types import FLOAT32, Check, Operator, OutputSpec, Scheme, Signature, TensorSpec

_QUANTIZERS = ("QUANTIZE", "DEQUANTIZE", "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear")
_WHY_FLOAT = "It came in float."


def place_as_is(survey: Survey) -> tuple[Placed, ...]:
    """Place every operator by the data types that it has in the file."""
    return tuple(
        accelerator.settled(_place_one(subject, failure), survey, number, _place_one)
        for number, (subject, failure) in enumerate(survey.subjects)
    )


def scheme_as_is(look: View) -> Scheme:
    """The scheme of a quantized file: the signature that most of its layers with weights have."""
    layers = [read(look, operator) for operator in look.graph.operators if views.weights(look, operator)]
    found = layers or [read(look, operator) for operator in look.graph.operators]
    default = Counter(found).most_common(1)[0][0] if found else FLOAT32
    return Scheme(name="as_is", default=default)


def read(look: View, operator: Operator) -> Signature:
    """The signature that an operator has in the file, looking through the DEQUANTIZE of a QDQ layout."""
    moved = views.data(look, operator)
    moved = moved and _source(look, operator, moved)
    weights = [_source(look, operator, tensor) for tensor in views.weights(look, operator)]
    bias = views.bias(look, operator)
    return Signature(
        activations=moved.dtype if moved else "float32",
        weights=weights[0].dtype if weights else None,
        bias=_source(look, operator, bias).dtype if bias else None,
        granularity=_granularity(weights) if weights else None,
        symmetric=_symmetry(weights, moved) if weights else None,
    )


def _source(look: View, operator: Operator, tensor: TensorSpec) -> TensorSpec:
    """What a QDQ layout stores; a TFLite kernel behind a DEQUANTIZE really reads float."""
    return tensor if look.graph.format != "onnx" or operator.type in _QUANTIZERS else views.stored(look, tensor)


def _place_one(subject: Subject, failure: Check | None) -> Placed:
    look, operator, table, row = subject
    if failure is not None or row is None:
        return _fallen(subject, failure)
    found = read(look, operator)
    if views.on_constants(look, operator):
        why = "It computes on constants alone and is folded away."
        return Placed(operator, found, "cpu", "constants-only", why)
    if not _is_quantized(found):
        return _unquantized(subject, found)
    if not _any_allows(subject, found):
        return _unsupported(subject, found)
    wrong = _wrong_output(subject, found)
    if wrong is not None:
        return Placed(operator, found, "refused", wrong.rule, wrong.why, wrong)
    why = f"{table.name} has a kernel for {found}."
    return Placed(operator, found, "cpu", "signature-supported", why)


def _fallen(subject: Subject, failure: Check | None) -> Placed:
    """An operator that breaks a basic rule: refused, or where the table's fallback says.

    An operator that reads integers itself cannot fall to float; one behind a DEQUANTIZE (QDQ) can.
    """
    found = read(subject.look, subject.operator)
    failure = failure or rules.operator_unknown(subject)
    place = placement.FALLS_TO[failure.rule][subject.table.fallback]
    bound = place == "float" and _reads_integers(subject)
    if subject.operator.custom or place == "refused" or bound:
        return Placed(subject.operator, found, "refused", failure.rule, failure.why, failure)
    where = "in float" if place == "float" else "on the CPU as it is"
    return Placed(subject.operator, found, place, failure.rule, f"{failure.why.rstrip('.')}; it runs {where}.")


def _unquantized(subject: Subject, found: Signature) -> Placed:
    operator, row, table = subject.operator, subject.row, subject.table
    has_weights = found.weights is not None
    if found.activations not in views.FLOATS:
        return Placed(operator, found, "cpu", "carries-integers", "It carries integers, which are not quantized.")
    if row is None or table.fallback != "none" or ground.fits(row, FLOAT32, has_weights=has_weights):
        return Placed(operator, found, "float", "stays-float", _WHY_FLOAT)
    failure = rules.signature_unsupported(subject, found)
    return Placed(operator, found, "refused", failure.rule, failure.why, failure)


def _unsupported(subject: Subject, found: Signature) -> Placed:
    """Integer types without a kernel: behind a DEQUANTIZE it runs in float where the table lets it, else refused."""
    operator, table = subject.operator, subject.table
    in_float = subject.row is not None and ground.fits(subject.row, FLOAT32, has_weights=found.weights is not None)
    if in_float and not _reads_integers(subject):
        why = f"{table.name} has no kernel for {found}, so it runs in float between its quantizers."
        return Placed(operator, found, "float", "falls-back-to-float", why)
    failure = rules.signature_unsupported(subject, found)
    return Placed(operator, found, "refused", failure.rule, failure.why, failure)


def _reads_integers(subject: Subject) -> bool:
    """Whether the file binds the operator to integers: one of its own operands is stored in 8 or 16 bits."""
    kinds = {tensor.dtype for tensor in views.operands(subject.look, subject.operator)}
    return not kinds.isdisjoint(views.QUANTIZED)


def _any_allows(subject: Subject, found: Signature) -> bool:
    row = subject.row
    if row is None or row.signatures is None:
        return True
    layers = views.weights(subject.look, subject.operator)
    one_channel = bool(layers) and views.channels(subject.operator, layers[0]) == 1
    return any(_allows(signature, found, one_channel) for signature in row.signatures)


def _allows(signature: Signature, found: Signature, one_channel: bool) -> bool:
    """Whether a file's data types are those of a row; with one channel per-channel and per-tensor are the same."""
    if signature.activations != found.activations:
        return False
    if found.weights is None:
        return signature.weights in (None, signature.activations)
    same = signature.weights in (None, found.weights) and signature.bias in (None, found.bias, *_no_bias(found))
    granular = one_channel or signature.granularity in (None, found.granularity)
    return same and granular and _is_symmetric_enough(signature, found)


def _no_bias(found: Signature) -> Iterable[str | None]:
    return ("int32", "int64", "float32") if found.bias is None else ()


def _is_symmetric_enough(signature: Signature, found: Signature) -> bool:
    if signature.symmetric in (None, "none"):
        return True
    return found.symmetric in ("both", signature.symmetric)


def _wrong_output(subject: Subject, found: Signature) -> Check | None:
    """The check of a fixed output quantization that fails, or None."""
    output = next(views.results(subject.look, subject.operator), None)
    demanded = _fixed_output(subject, found)
    if demanded is None or output is None or output.quantization is None:
        return None
    check = rules.output_fixed(subject, demanded, output)
    return None if check.ok else check


def _fixed_output(subject: Subject, found: Signature) -> OutputSpec | None:
    rows = subject.row.signatures if subject.row else None
    same = [row for row in rows or () if row.activations == found.activations]
    return None if any(row.output is None for row in same) else next((row.output for row in same), None)


def _is_quantized(found: Signature) -> bool:
    return found.activations in views.QUANTIZED or found.weights in views.QUANTIZED


def _granularity(weights: list[TensorSpec]) -> Literal["per-tensor", "per-channel"] | None:
    counts = [len(tensor.quantization.scales) for tensor in weights if tensor.quantization]
    if not counts:
        return None
    return "per-channel" if max(counts) > 1 else "per-tensor"


def _symmetry(weights: list[TensorSpec], moved: TensorSpec | None) -> Literal["weights", "both", "none"] | None:
    points = [tensor.quantization.zero_points for tensor in weights if tensor.quantization]
    if not points:
        return None
    if any(any(zero_points) for zero_points in points):
        return "none"
    centred = moved is not None and moved.quantization is not None and not any(moved.quantization.zero_points)
    return "both" if centred else "weights"
