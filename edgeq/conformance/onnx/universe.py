"""Which signatures of which operators are worth trying against an operator table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Literal

from edgeq.conformance.onnx.build import opset_of_recipe
from edgeq.conformance.onnx.operands import Recipe
from edgeq.conformance.onnx.recipes import RECIPES
from edgeq.types import Case, Constraint, OperatorRow, OperatorTable, Signature

Granularity = Literal["per-tensor", "per-channel"]
Symmetric = Literal["weights", "both", "none"]
PLAIN = ("float32", "float16", "int8", "uint8", "int16", "int32", "int64", "bool")
_STATIC = (("int8", "int8"), ("uint8", "uint8"), ("uint8", "int8"), ("int8", "uint8"), ("int16", "int8"))
_GRANULARITIES: tuple[Granularity, ...] = ("per-channel", "per-tensor")
_SYMMETRIES: tuple[Symmetric, ...] = ("weights", "none", "both")
_COVERED: dict[str | None, tuple[str | None, ...]] = {
    None: (None, *_SYMMETRIES),
    "none": (None, *_SYMMETRIES),
    "weights": ("weights", "both"),
    "both": ("both",),
}
"""Symmetries that a row's word allows: what takes any zero point takes zero, too."""


def cases(table: OperatorTable, registered: Iterable[str], newest_opset: int) -> list[Case]:
    """Every signature that the table claims, and those that it denies and that the runtime could have.

    `registered` are the operators of ONNX's own domain that the runtime has; `newest_opset`, the newest that it reads.
    """
    names = [*table.operators, *sorted(set(registered) - table.operators.keys())]
    tried = [case for name in names for case in _operator(name, table.operators.get(name), newest_opset)]
    return [*tried, *_weights_only(table)]


def _operator(name: str, row: OperatorRow | None, newest: int) -> Iterator[Case]:
    recipe = RECIPES.get(name)
    if recipe is None:
        yield Case(operator=name, signature=Signature(activations="float32"), claimed=row is not None)
        return
    for signature in _signatures(name, recipe, row):
        yield Case(operator=name, signature=signature, claimed=claims(row, signature, recipe))
    yield from _variants(name, recipe, row)
    yield from _opsets(name, recipe, row, newest)


def _weights_only(table: OperatorTable) -> Iterator[Case]:
    """Integer weights that DequantizeLinear expands for a float kernel: claimed where the table has both."""
    expander = table.operators.get("DequantizeLinear")
    for name, row in table.operators.items():
        recipe = RECIPES.get(name)
        if recipe is None or not recipe.has("weights"):
            continue
        is_float = claims(row, _fitted(Signature(activations="float32", weights="float32"), recipe), recipe)
        for stored in ("int8", "uint8"):  # rows themselves speak of int4: no form of it computes in integers
            reads = claims(expander, Signature(activations=stored), RECIPES["DequantizeLinear"])
            for granularity in _GRANULARITIES:
                signature = Signature(
                    activations="float32", weights=stored, bias="float32", granularity=granularity, symmetric="weights"
                )
                yield Case(
                    operator=name,
                    signature=_fitted(signature, recipe),
                    claimed=is_float and reads,
                    variant="weights only",
                )


def _variants(name: str, recipe: Recipe, row: OperatorRow | None) -> Iterator[Case]:
    """Variants of what the table claims; outside a constraint the runtime must refuse it, except in float."""
    for variant in recipe.variants:
        varied = recipe.varied(variant)
        for signature in _signatures(name, varied, row):
            if not claims(row, signature, varied) or row is None:
                continue
            within = all(holds(constraint, varied) for constraint in row.constraints)
            if within or signature.activations != "float32":
                yield Case(operator=name, signature=signature, claimed=within, variant=variant)


def _opsets(name: str, recipe: Recipe, row: OperatorRow | None, newest: int) -> Iterator[Case]:
    """The newest opset that the runtime reads, and both sides of the table's limit."""
    if row is None:
        return
    signature = _first_float(_signatures(name, recipe, row))
    limit = row.max_version or newest
    for opset in sorted({newest, limit, min(limit + 1, newest)}):
        if opset >= recipe.opset:
            claimed = opset <= limit and claims(row, signature, recipe)
            yield Case(operator=name, signature=signature, claimed=claimed, variant=f"opset {opset}")


def _first_float(signatures: list[Signature]) -> Signature:
    plain = (one for one in signatures if one.activations == "float32" and one.weights in (None, "float32"))
    return next(plain, signatures[0])


# --- signatures ------------------------------------------------------------------------------


def _signatures(name: str, recipe: Recipe, row: OperatorRow | None) -> list[Signature]:
    """The universe of an operator's signatures, with those beyond it that the table claims."""
    allowed = _allowed(name, recipe)
    found = list(_universe(recipe, row, allowed))
    if row is not None:
        found += [one for one in row.signatures or () if recipe.has("weights") == (one.weights is not None)]
    return list(dict.fromkeys(_fitted(one, recipe) for one in found))


def _universe(recipe: Recipe, row: OperatorRow | None, allowed: frozenset[str]) -> Iterator[Signature]:
    if recipe.plain or not recipe.operands:
        yield from (Signature(activations=dtype) for dtype in _plain_types(recipe, allowed))
        return
    if recipe.has("weights"):
        yield from _weighted()
        return
    yield Signature(activations="float32")
    if recipe.has("data") and "float32" in allowed and recipe.until is None:
        yield from (Signature(activations=dtype) for dtype in ("int8", "uint8", "int16"))
    if row is not None and row.signatures is None:
        yield from (Signature(activations=dtype) for dtype in ("int32", "int64", "bool") if dtype in allowed)


def _plain_types(recipe: Recipe, allowed: frozenset[str]) -> list[str]:
    if _leader(recipe) is None and recipe.operands and "value" not in recipe.attributes:
        return [recipe.operands[0].dtype]
    return [dtype for dtype in PLAIN if dtype in allowed]


def _leader(recipe: Recipe) -> int | None:
    """Place of the first operand that has the signature's type."""
    follows = (one.kind in ("data", "typed") or one.dtype == "signature" for one in recipe.operands)
    return next((place for place, is_one in enumerate(follows) if is_one), None)


def _allowed(name: str, recipe: Recipe) -> frozenset[str]:
    """Data types that ONNX allows for what has the signature's type, in the opset of the case's models."""
    from onnx import defs

    try:
        schema = defs.get_schema(name, max_inclusive_version=opset_of_recipe(recipe))
    except defs.SchemaError:  # this onnx is older than the operator
        return frozenset({"float32"})
    leader = _leader(recipe)
    port = schema.outputs[0] if leader is None else schema.inputs[min(leader, len(schema.inputs) - 1)]
    inner = (kind[len("tensor(") : -1] for kind in port.types if kind.startswith("tensor("))
    return frozenset("float32" if dtype == "float" else dtype for dtype in inner)


def _weighted() -> Iterator[Signature]:
    for granularity in _GRANULARITIES:
        for symmetric in _SYMMETRIES:
            for activations, stored in _STATIC:
                yield Signature(
                    activations=activations,
                    weights=stored,
                    bias="int32",
                    granularity=granularity,
                    symmetric=symmetric,
                )
        for stored in ("int8", "uint8", "int4"):
            for symmetric in _SYMMETRIES[:2]:
                yield Signature(
                    activations="float32",
                    weights=stored,
                    bias="float32",
                    granularity=granularity,
                    symmetric=symmetric,
                )
    yield Signature(activations="float32", weights="float16")
    yield Signature(activations="float32", weights="float32")


def _fitted(signature: Signature, recipe: Recipe) -> Signature:
    """The signature with as many parts as the operator has."""
    return signature if recipe.has("bias") else replace(signature, bias=None)


# --- what the table says ---------------------------------------------------------------------


def claims(row: OperatorRow | None, signature: Signature, recipe: Recipe) -> bool:
    """Whether some signature of a row covers this one."""
    if row is None or row.signatures is None:
        return row is not None
    return any(_covers(one, signature, recipe) for one in row.signatures)


def _covers(claimed: Signature, signature: Signature, recipe: Recipe) -> bool:
    if claimed.activations != signature.activations:
        return False
    if not recipe.has("weights"):  # rows that speak of weights hold for two activations of one type
        return claimed.weights in (None, signature.activations)
    return (
        claimed.weights in (None, signature.weights)
        and claimed.granularity in (None, signature.granularity)
        and (None in (claimed.bias, signature.bias) or claimed.bias == signature.bias)
        and signature.symmetric in _COVERED[claimed.symmetric]
    )


def holds(constraint: Constraint, recipe: Recipe) -> bool:
    """Whether a recipe lies within a constraint; limits on what no recipe varies hold."""
    value: int | str | None = None
    if constraint.rule == "attribute":
        value = recipe.attributes.get(constraint.of or "")
    if constraint.rule == "rank":
        kind = {"weights": "weights", "bias": "bias"}.get(constraint.of or "", "data")
        value = next((len(one.shape) for one in recipe.operands if one.kind == kind), None)
    if constraint.rule == "dilation_with_stride":
        above = [max(recipe.attributes.get(key, [1])) > 1 for key in ("dilations", "strides")]
        value, constraint = int(all(above)), replace(constraint, equals=constraint.equals or 0)
    return value is None or _allows(constraint, value)


def _allows(constraint: Constraint, value: int | str) -> bool:
    if constraint.equals is not None and value != constraint.equals:
        return False
    if constraint.one_of and value not in constraint.one_of:
        return False
    if isinstance(value, str):
        return True
    low = constraint.minimum is None or value >= constraint.minimum
    return low and (constraint.maximum is None or value <= constraint.maximum)
