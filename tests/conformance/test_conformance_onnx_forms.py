"""How ONNX cases are written: their form, opset and quantization parameters, and which of them a row claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import targets
from edgeq.conformance import onnx as generator
from edgeq.conformance.onnx import build, numbers, parts, universe
from edgeq.conformance.onnx.operands import Operand, Recipe, bias, data, plain_values, weights
from edgeq.conformance.onnx.recipes import RECIPES
from edgeq.types import Case, Constraint, OperatorRow, OutputSpec, Signature

STATIC = Signature(activations="uint8", weights="int8", bias="int32", granularity="per-channel", symmetric="weights")
TABLE = targets.load_table("onnx-ort-cpu")


def case(operator: str, signature: Signature, variant: str = "") -> Case:
    return Case(operator=operator, signature=signature, claimed=True, variant=variant)


def said(text: str) -> Signature:
    """Activations, weights, bias, granularity, symmetry; a dash leaves one out."""
    names = ("activations", "weights", "bias", "granularity", "symmetric")
    return Signature(**{name: part for name, part in zip(names, text.split(), strict=False) if part != "-"})  # type: ignore[arg-type]


def static(operator: str, signature: Signature, *shapes: tuple[int, ...]) -> dict[str, numbers.Array]:
    """The constants of a static model, whose outputs would be evenly between -1 and 3."""
    wanted = [np.linspace(-1, 3, int(np.prod(shape)), dtype=np.float32).reshape(shape) for shape in shapes]
    model = onnx.load_from_string(generator.quantized(case(operator, signature), wanted).content)
    return {one.name: onnx.numpy_helper.to_array(one) for one in model.graph.initializer}


# --- form and opset --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("operator", "signature", "variant", "form"),
    [
        ("Conv", "uint8 int8 int32", "", "static"),
        ("Conv", "int16 int8 int32", "", "static"),
        ("Conv", "float32 int8", "", "dynamic"),
        ("Conv", "float32 uint8", "", "dynamic"),
        ("Conv", "float32 int4", "", "stored"),
        ("Conv", "float32 int8", "weights only", "stored"),
        ("Conv", "float32 float16", "", "half"),
        ("Conv", "float32 float32", "", "plain"),
        ("Conv", "float32", "", "plain"),
        ("Conv", "uint8 int8 int32", "weights only", "static"),
        ("Relu", "int8", "", "static"),
        ("Relu", "float32", "", "plain"),
        ("Relu", "int32", "", "plain"),
        ("Relu", "float16", "", "plain"),
        ("QuantizeLinear", "int8", "", "plain"),
    ],
)
def test_types_decide_how_a_case_is_written(operator: str, signature: str, variant: str, form: str) -> None:
    assert build.form(case(operator, said(signature), variant)) == form


@pytest.mark.parametrize(
    ("operator", "variant", "opset"),
    [
        ("Conv", "", 21),
        ("Conv", "opset 7", 7),
        ("Conv", "opset 26", 26),
        ("Conv", "opset 26 or so", 21),
        ("CumProd", "", 26),
        ("Upsample", "", 9),
        ("Scatter", "", 10),
        ("Scatter", "opset 11", 11),
    ],
)
def test_a_model_has_the_newest_opset_that_its_operator_allows(operator: str, variant: str, opset: int) -> None:
    assert build.opset_of(case(operator, said("float32"), variant)) == opset


@pytest.mark.parametrize(
    ("opset", "version"), [(7, 9), (18, 9), (19, 10), (20, 10), (21, 11), (23, 12), (24, 12), (25, 13)]
)
def test_a_file_says_the_oldest_version_that_has_its_opset(opset: int, version: int) -> None:
    graph = parts.Parts()
    graph.outputs = [graph.node("Relu", [graph.feed("x", "float32", (1, 2))], ["y"])]
    model = onnx.load_from_string(parts.content(graph, opset))
    assert model.ir_version == version
    assert {one.domain: one.version for one in model.opset_import} == {"": opset, "com.microsoft": 1}
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


# --- recipes ---------------------------------------------------------------------------------

PLAIN = Recipe((data(2, 3), weights(3, 4)), {"a": 1, "b": 2}, variants={
    "attributes": {"b": 3, "c": 4},
    "operands": (data(5, 3), weights(3, 4)),
    "both": ((data(6, 3), weights(3, 4)), {"a": 7}),
})  # fmt: skip


@pytest.mark.parametrize(
    ("variant", "rows", "attributes"),
    [
        ("attributes", 2, {"a": 1, "b": 3, "c": 4}),
        ("operands", 5, {"a": 1, "b": 2}),
        ("both", 6, {"a": 7, "b": 2}),
    ],
)
def test_a_variant_changes_only_what_it_names(variant: str, rows: int, attributes: dict[str, int]) -> None:
    varied = PLAIN.varied(variant)
    assert varied.operands[0].shape == (rows, 3)
    assert varied.attributes == attributes
    assert dataclasses.replace(varied, operands=PLAIN.operands, attributes=PLAIN.attributes) == PLAIN


@settings(max_examples=40, deadline=None)
@given(
    dtype=st.sampled_from(["int8", "uint8", "int16", "uint16", "int32", "int64", "uint64"]),
    low=st.floats(-15, 15),
    span=st.floats(0, 15),
)
def test_plain_integers_stay_in_their_type_and_above_the_low_end(dtype: str, low: float, span: float) -> None:
    values = plain_values(Operand("data", (3, 5), low, low + span), dtype, "salt")
    floor = max(0.0 if dtype.startswith("u") else -4.0, low * 4)
    assert values.dtype.name == dtype
    assert values.min() >= np.floor(floor)
    assert values.max() <= max(np.round((low + span) * 4), np.ceil(floor))


# --- quantization parameters of static models ------------------------------------------------


@pytest.mark.parametrize("granularity", ["per-channel", "per-tensor"])
@pytest.mark.parametrize(("operator", "shape"), [("Conv", (1, 8, 8, 8)), ("Gemm", (4, 8))])
def test_a_bias_is_int32_on_the_scale_of_its_sums(operator: str, shape: tuple[int, ...], granularity: Any) -> None:
    held = static(operator, dataclasses.replace(STATIC, granularity=granularity), shape)
    assert held["x2_q"].dtype == np.int32
    assert not held["x2_zero"].any()
    np.testing.assert_allclose(held["x2_scale"], held["x0_scale"] * held["x1_scale"], rtol=1e-6)
    assert held["x1_scale"].shape == ((8,) if granularity == "per-channel" else ())


@pytest.mark.parametrize("symmetric", ["weights", "none", "both"])
@pytest.mark.parametrize(
    ("activations", "stored"), [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8"), ("int16", "int8")]
)
def test_zero_points_are_in_the_middle_where_the_signature_says_so(
    activations: str, stored: str, symmetric: Any
) -> None:
    held = static(
        "Conv", dataclasses.replace(STATIC, activations=activations, weights=stored, symmetric=symmetric), (1, 8, 8, 8)
    )
    middle = {"uint8": 128, "int8": 0, "int16": 0}
    assert held["x0_zero"].dtype == held["y0_zero"].dtype == np.dtype(activations)
    assert (set(held["x1_zero"].tolist()) == {middle[stored]}) == (symmetric != "none")
    is_centred = symmetric == "both" or activations == "int16"
    assert [held[name].item() == middle[activations] for name in ("x0_zero", "y0_zero")] == [is_centred] * 2


@pytest.mark.parametrize("signature", ["uint8 int8 int32 per-channel weights", "int8 int8 int32 per-tensor none"])
def test_the_twin_has_the_weights_that_the_integers_stand_for(signature: str) -> None:
    twin = onnx.load_from_string(generator.twin(case("Conv", said(signature))).content)
    reals = next(onnx.numpy_helper.to_array(one) for one in twin.graph.initializer if one.name == "x1")
    held = static("Conv", said(signature), (1, 8, 8, 8))
    shape = (-1, 1, 1, 1) if held["x1_scale"].ndim else ()
    steps = held["x1_q"].astype(np.float32) - held["x1_zero"].astype(np.float32).reshape(shape)
    np.testing.assert_allclose(steps * held["x1_scale"].reshape(shape), reals, rtol=1e-5, atol=1e-7)


def test_an_operator_that_moves_values_keeps_the_scale_of_its_input() -> None:
    held = static("Resize", said("uint8"), (1, 4, 8, 8))
    assert (held["y0_scale"], held["y0_zero"]) == (held["x0_scale"], held["x0_zero"])
    own = static("Relu", said("uint8"), (1, 4, 4, 4))
    assert own["y0_scale"] != own["x0_scale"]


def test_an_output_that_the_signature_fixes_is_fixed() -> None:
    signature = Signature(activations="uint8", output=OutputSpec(dtype="uint8", scale=1 / 256, zero_point=3))
    held = static("Softmax", signature, (1, 4, 4, 4))
    assert (held["y0_scale"].item(), held["y0_zero"].item()) == (1 / 256, 3)
    free = dataclasses.replace(signature, output=OutputSpec(dtype="uint8"))
    assert static("Softmax", free, (1, 4, 4, 4))["y0_scale"].item() == pytest.approx(4 / 255)


# --- what a row claims -----------------------------------------------------------------------

LAYER = Recipe((data(1, 3), weights(3, 4), bias(4)))


@pytest.mark.parametrize(
    ("claim", "asked", "claimed"),
    [
        ("uint8 int8", "uint8 int8 int32 per-channel none", True),
        ("uint8", "uint8 int8 int32 per-channel none", True),
        ("uint8 int8", "int8 int8 int32 per-channel none", False),
        ("uint8 int8", "uint8 uint8 int32 per-channel none", False),
        ("uint8 int8 int32", "uint8 int8 int32 per-tensor both", True),
        ("uint8 int8 int64", "uint8 int8 int32 per-tensor both", False),
        ("uint8 int8 int64", "uint8 int8 - per-tensor both", True),
        ("uint8 int8 - per-tensor", "uint8 int8 int32 per-channel both", False),
        ("uint8 int8 - - both", "uint8 int8 int32 per-tensor both", True),
        ("uint8 int8 - - both", "uint8 int8 int32 per-tensor weights", False),
        ("uint8 int8 - - none", "uint8 int8 int32 per-tensor weights", True),
    ],
)
def test_a_row_claims_what_it_leaves_open(claim: str, asked: str, claimed: bool) -> None:
    row = OperatorRow(signatures=(said("float16"), said(claim)))
    assert universe.claims(row, said(asked), LAYER) is claimed


def test_a_row_of_any_types_claims_all_and_no_row_claims_nothing() -> None:
    assert universe.claims(OperatorRow(signatures=None), said("int64"), LAYER)
    assert not universe.claims(OperatorRow(signatures=()), said("int64"), LAYER)
    assert not universe.claims(None, said("int64"), LAYER)


@pytest.mark.parametrize(
    ("limit", "within"),
    [
        ({}, [True, True, True]),
        ({"equals": 2}, [False, True, False]),
        ({"minimum": 2}, [False, True, True]),
        ({"maximum": 2}, [True, True, False]),
        ({"minimum": 2, "maximum": 2}, [False, True, False]),
        ({"one_of": (1, 3)}, [True, False, True]),
        ({"one_of": (1, 3), "maximum": 2}, [True, False, False]),
    ],
)
@pytest.mark.parametrize("of", ["input", "weights", "bias"])
def test_ranks_of_each_operand_are_held_against_a_limit(of: str, limit: dict[str, Any], within: list[bool]) -> None:
    makers: dict[str, Callable[..., Operand]] = {"input": data, "weights": weights, "bias": bias}
    made = makers[of]
    others = [one(1, 1, 1, 1, 1) for one in makers.values() if one is not made]
    found = [
        universe.holds(Constraint(rule="rank", of=of, **limit), Recipe((made(*(2,) * rank), *others)))
        for rank in (1, 2, 3)
    ]
    assert found == within


@pytest.mark.parametrize("rule", ["attribute", "rank", "a rule of tomorrow"])
def test_a_limit_on_what_a_recipe_does_not_have_holds(rule: str) -> None:
    assert universe.holds(Constraint(rule=rule, of="weights", equals=99), Recipe(()))


@pytest.mark.parametrize("without", ["", "Conv", "DequantizeLinear"])
def test_weights_only_is_claimed_where_the_table_has_the_layer_and_what_expands_it(without: str) -> None:
    rows = {name: row for name, row in TABLE.operators.items() if name in ("Conv", "Relu", "DequantizeLinear")}
    if without:
        rows[without] = OperatorRow(signatures=(said("bool"),))
    tried = universe.cases(dataclasses.replace(TABLE, operators=rows), (), build.OPSET)
    found = [one for one in tried if one.variant == "weights only"]
    assert {one.operator for one in found} == {"Conv"}
    assert len(found) == 4
    assert {one.claimed for one in found} == {not without}


@pytest.mark.parametrize("operator", ["Conv", "MatMul", "Relu", "Cast", "Upsample", "ConstantOfShape"])
def test_a_table_without_a_row_denies_everything_of_an_operator(operator: str) -> None:
    empty = dataclasses.replace(TABLE, operators={})
    found = universe.cases(empty, (operator,), build.OPSET)
    assert found
    assert not any(one.claimed or one.variant for one in found)
    assert all((one.signature.bias is None) or RECIPES[operator].has("bias") for one in found)
