"""Which signatures of which operators to try: what a table claims, and what it denies and TFLite can express."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from edgeq.conformance.tflite import variants
from edgeq.conformance.tflite.operands import FLOATING, Recipe
from edgeq.conformance.tflite.recipes import RECIPES
from edgeq.types import Case, Constraint, OperatorRow, OperatorTable, Signature

_FLOAT = Signature(activations="float32")
_STRICTNESS = {"none": 0, "weights": 1, "both": 2}


def _layer(
    activations: str, weights: str, bias: str, granularities: str = "", symmetric: str | None = None
) -> Iterator[Signature]:
    for granularity in granularities.split() or (None,):
        yield Signature(
            activations=activations,
            weights=weights,
            bias=bias,
            granularity=granularity,  # type: ignore[arg-type]
            symmetric=symmetric,  # type: ignore[arg-type]
        )


_BOTH = "per-channel per-tensor"
_LAYERS: tuple[Signature, ...] = (
    *_layer("int8", "int8", "int32", _BOTH, "weights"),
    *_layer("int8", "int8", "int32", "per-tensor", "none"),
    *_layer("int8", "int4", "int32", _BOTH, "weights"),
    *_layer("int8", "uint8", "int32", "per-tensor", "none"),
    *_layer("uint8", "uint8", "int32", "per-tensor", "none"),
    *_layer("uint8", "int8", "int32", _BOTH, "weights"),
    *_layer("int16", "int8", "int64", _BOTH, "both"),
    *_layer("int16", "int8", "int32", _BOTH, "both"),
    *_layer("int16", "int4", "int64", _BOTH, "both"),
    *_layer("int16", "int16", "int64", "per-tensor", "both"),
    *_layer("float32", "int8", "float32", _BOTH, "weights"),
    *_layer("float32", "int8", "float32", "per-tensor", "none"),
    *_layer("float32", "int4", "float32", _BOTH, "weights"),
    *_layer("float32", "uint8", "float32", "per-tensor", "none"),
    *_layer("float32", "float16", "float32"),
    *_layer("float32", "float32", "float32"),
)
"""What TFLite's schema can say of a layer and converters write."""


def cases(table: OperatorTable, operators: Sequence[str]) -> list[Case]:
    """Every case of a table; `operators` are the schema's, of which the table may lack some."""
    known = [*table.operators, *sorted(set(operators) - table.operators.keys())]
    return [case for operator in known for case in _of_operator(operator, table.operators.get(operator))]


def _of_operator(operator: str, row: OperatorRow | None) -> Iterator[Case]:
    recipe = RECIPES.get(operator)
    if recipe is None:
        yield Case(operator=operator, signature=_FLOAT, claimed=row is not None)
        return
    claims = _claims(recipe, row)
    yield from (Case(operator=operator, signature=signature, claimed=True) for signature in claims)
    for signature in universe(recipe):
        if not any(covers(claim, signature) for claim in claims):
            yield Case(operator=operator, signature=signature, claimed=False)
    if recipe.takes_two_activations:
        yield from _two_activations(operator, claims)
    if row is not None:
        yield from _edges(operator, row, claims)


def _claims(recipe: Recipe, row: OperatorRow | None) -> list[Signature]:
    """The signatures of a row; one that says `any` claims all that its operator may meet."""
    if row is None:
        return []
    return list(universe(recipe)) if row.signatures is None else list(row.signatures)


def universe(recipe: Recipe) -> Iterator[Signature]:
    """Every signature that a user of TFLite may meet on an operator."""
    if recipe.has_weights:
        bare = (signature if recipe.has_bias else replace(signature, bias=None) for signature in _LAYERS)
        yield from dict.fromkeys(bare)
    else:
        yield from (Signature(activations=kind, output=recipe.fixed.get(kind)) for kind in recipe.kinds)


def covers(claim: Signature, signature: Signature) -> bool:
    """Whether a claim speaks of a signature; what it leaves out may be anything, but granularity is per-tensor."""
    if (claim.activations, claim.weights) != (signature.activations, signature.weights):
        return False
    if None not in (claim.bias, signature.bias) and claim.bias != signature.bias:
        return False
    if (claim.granularity or "per-tensor") != (signature.granularity or "per-tensor"):
        return False
    return _strictness(claim) <= _strictness(signature)


def _strictness(signature: Signature) -> int:
    return _STRICTNESS[signature.symmetric or "none"]


def _two_activations(operator: str, claims: Sequence[Signature]) -> Iterator[Case]:
    """A row that has weights of the activations' type holds for two activations of it, too."""
    for kind in FLOATING:
        claimed = any(claim.activations == kind and claim.weights in (None, kind) for claim in claims)
        yield Case(
            operator=operator, signature=Signature(activations=kind), claimed=claimed, variant=variants.TWO_ACTIVATIONS
        )


def _edges(operator: str, row: OperatorRow, claims: Sequence[Signature]) -> Iterator[Case]:
    """Just inside and outside of each limit of a row."""
    usual = [signature for signature in (claims[0], claims[-1]) if signature]
    for signature in dict.fromkeys(usual):
        for constraint in row.constraints:
            for variant, claimed in _around(constraint):
                yield Case(operator=operator, signature=signature, claimed=claimed, variant=variant)
        if row.max_version is not None:
            beyond = variants.version(row.max_version + 1)
            yield Case(operator=operator, signature=signature, claimed=False, variant=beyond)
    for signature in claims:
        if signature.output is not None and signature.output.scale is not None:
            other = replace(signature.output, scale=signature.output.scale * 2)
            changed = replace(signature, output=other)
            claimed = replace(signature, output=None) in claims
            yield Case(operator=operator, signature=changed, claimed=claimed, variant=variants.OTHER_SCALE)


def _around(constraint: Constraint) -> Iterator[tuple[str, bool]]:
    """Variants around a constraint's limits, and whether it allows them."""
    if (constraint.rule, constraint.of) != ("rank", "input"):
        yield f"{variants.UNKNOWN}{constraint.rule} of {constraint.of}", False
        return
    limits = [limit for limit in (constraint.equals, *constraint.one_of) if isinstance(limit, int)]
    low = min([*limits, *([] if constraint.minimum is None else [constraint.minimum])], default=None)
    high = max([*limits, *([] if constraint.maximum is None else [constraint.maximum])], default=None)
    inside = {limit: True for limit in (low, high) if limit is not None}
    outside = {} if low is None or low < 2 else {low - 1: False}
    outside |= {} if high is None else {high + 1: False}
    yield from ((variants.rank(number), allowed) for number, allowed in (inside | outside).items())
