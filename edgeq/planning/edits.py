"""The smallest change that would mend a broken rule, in words: of the model, of its export, or of the command."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

from edgeq.planning import constraints, rules
from edgeq.planning.rules import Subject
from edgeq.types import Constraint, OperatorRow, Signature

_SUBSTITUTES: Mapping[str, tuple[str, ...]] = {
    "HARD_SWISH": ("ADD", "RELU6", "MUL"),
    "GELU": ("TANH", "MUL", "ADD"),
    "ELU": ("RELU",),
    "LEAKY_RELU": ("PRELU",),
    "PRELU": ("LEAKY_RELU",),
    "RELU6": ("RELU",),
    "RESIZE_BILINEAR": ("RESIZE_NEAREST_NEIGHBOR",),
    "BATCH_MATMUL": ("FULLY_CONNECTED",),
    "SQUEEZE": ("RESHAPE",),
    "EXPAND_DIMS": ("RESHAPE",),
    "PACK": ("CONCATENATION",),
    "SPLIT_V": ("SPLIT",),
    "MEAN": ("AVERAGE_POOL_2D",),
    "PADV2": ("PAD",),
    "LOG_SOFTMAX": ("SOFTMAX",),
    "HardSwish": ("Add", "Clip", "Mul"),
    "Gelu": ("Tanh", "Mul", "Add"),
    "Elu": ("Relu",),
    "Flatten": ("Reshape",),
    "Squeeze": ("Reshape",),
    "ReduceMean": ("GlobalAveragePool",),
}
"""What can stand for an operator that a runtime has not; the exporter's own choice for most of them."""

_PHRASES: Mapping[str, str] = {
    "rank": "pad {of} to {limit} dimensions",
    "batch": "export with batch {limit}",
    "dtype": "cast {of} to {limit}",
    "elements": "let {of} have {limit} elements",
    "dilation_with_stride": "use a stride of 1 where it dilates",
}
"""By constraint; what is not here is worded by the constraint's own name."""


def edit(rule: str, subject: Subject, wanted: Signature) -> str | None:
    """What to change so that the subject keeps the rule; None where nothing small would."""
    make = _EDITS.get(rule)
    return None if make is None else make(subject, wanted)


def cut(subject: Subject) -> str:
    """Where to cut the model so that the accelerator runs one part whole."""
    operator = subject.operator
    return f"cut at operator {operator.index}: `{operator.type}` runs on the CPU"


def _replace(subject: Subject, wanted: Signature) -> str | None:  # noqa: ARG001
    kind = subject.operator.type
    others = _SUBSTITUTES.get(kind, ())
    if others and all(other in subject.table.operators for other in others):
        return f"replace `{kind}` by {' and '.join(f'`{other}`' for other in others)}"
    return None


def _older(subject: Subject, wanted: Signature) -> str | None:  # noqa: ARG001
    newest = subject.row.max_version if subject.row else None
    return f"export with version {newest} or older of `{subject.operator.type}`"


def _within(subject: Subject, wanted: Signature) -> str | None:  # noqa: ARG001
    for limit in (*subject.table.constraints, *(subject.row.constraints if subject.row else ())):
        if constraints.broken(subject.look, subject.operator, subject.table, limit) is not None:
            return _worded(limit)
    return None


def _worded(limit: Constraint) -> str:
    of = limit.of or "the operator"
    phrase = _PHRASES.get(limit.rule)
    if limit.rule == "constant":
        return f"make {of} {'a constant' if limit.equals == 1 else 'no constant'}"
    if phrase is not None:
        return phrase.format(of=of, limit=_limit(limit))
    name = limit.rule.replace("_", " ")
    subject = of if limit.rule == "attribute" else f"{name} of {of}" if limit.of else name
    return f"change {subject} to {_limit(limit)}"


def _limit(limit: Constraint) -> str:
    if limit.equals is not None:
        return str(limit.equals)
    parts = [" or ".join(str(choice) for choice in limit.one_of)] if limit.one_of else []
    parts += [] if limit.minimum is None else [f"at least {limit.minimum}"]
    parts += [] if limit.maximum is None else [f"at most {limit.maximum}"]
    return " and ".join(parts) or "0"


def _other_types(subject: Subject, wanted: Signature) -> str | None:
    """Another granularity, symmetry or bias where only that is wrong, else another scheme that the row has."""
    row = subject.row
    near = _nearest(row, wanted)
    if near is not None:
        return f"export with {near}"
    came = subject.look.graph.state in ("quantized", "weights")
    if came:
        return "start from the float model and let edgeq quantize it"
    scheme = _scheme_of(row)
    return None if scheme is None else f"--scheme {scheme}"


def _nearest(row: OperatorRow | None, wanted: Signature) -> str | None:
    """What differs from a signature of the row, where it is one property of the weights or the bias."""
    for other in (row.signatures if row else None) or ():
        fields = [field.name for field in dataclasses.fields(Signature) if field.name != "output"]
        differing = [name for name in fields if getattr(other, name) not in (None, getattr(wanted, name))]
        if differing == ["granularity"]:
            return f"{other.granularity} weights"
        if differing == ["symmetric"]:
            return "symmetric weights" if other.symmetric == "weights" else "symmetric weights and activations"
        if differing == ["bias"]:
            return f"biases of {other.bias}"
    return None


_SCHEMES = {
    "int8": "static_wi8_ai8",
    "uint8": "static_wi8_ai8",
    "int16": "static_wi8_ai16",
    "uint16": "static_wi8_ai16",
    "float32": "float32",
}


def _scheme_of(row: OperatorRow | None) -> str | None:
    kinds = [signature.activations for signature in (row.signatures if row else None) or ()]
    return next((scheme for kind, scheme in _SCHEMES.items() if kind in kinds), None)


def _own_scale(subject: Subject, wanted: Signature) -> str | None:
    rows = (subject.row.signatures if subject.row else None) or ()
    output = next((row.output for row in rows if row.output and row.activations == wanted.activations), None)
    if output is None:
        return None
    return f"export with scale {output.scale} and zero point {output.zero_point} of its output"


def _whole_scheme(subject: Subject, wanted: Signature) -> str | None:  # noqa: ARG001
    return "--scheme static_wi8_ai8, which quantizes it too, for less accuracy"


_EDITS: Mapping[str, Callable[[Subject, Signature], str | None]] = {
    rules.rule_name(rules.operator_unknown): _replace,
    rules.rule_name(rules.version_too_new): _older,
    rules.rule_name(rules.constraint_violated): _within,
    rules.rule_name(rules.signature_unsupported): _other_types,
    rules.rule_name(rules.no_float_kernel): _other_types,
    rules.rule_name(rules.output_fixed): _own_scale,
    "kept-in-float": _whole_scheme,
}
"""By rule."""
