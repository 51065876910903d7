"""The generator of one-operator ONNX models: valid files, quantization parameters that hold, and right float twins."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx.reference import ReferenceEvaluator

from edgeq import targets
from edgeq.conformance import onnx as generator
from edgeq.conformance import onnxruntime as prover
from edgeq.conformance.onnx import dynamic, numbers, universe
from edgeq.conformance.onnx.operands import Operand, Recipe, data, plain_values, real_values, weights
from edgeq.conformance.onnx.recipes import RECIPES, UNTRIED
from edgeq.types import Case, Constraint, OperatorRow, Signature

TABLE = targets.load_table("onnx-ort-cpu")
FLOAT = Signature(activations="float32", weights="float32")
DATA = sorted(name for name, one in RECIPES.items() if one.has("data") and not one.plain and one.until is None)
LAYERS = sorted(name for name, one in RECIPES.items() if one.has("weights"))
STATIC = Signature(activations="uint8", weights="int8", bias="int32", granularity="per-channel", symmetric="weights")


def case(operator: str, signature: Signature, variant: str = "") -> Case:
    return Case(operator=operator, signature=signature, claimed=True, variant=variant)


def checked(model: onnx.ModelProto) -> None:
    """The checker wants shapes, which onnx does not infer for operators that it composes of others."""
    kinds = [node.op_type for node in model.graph.node if onnx.defs.has(node.op_type)]
    if all(onnx.defs.get_schema(kind).has_type_and_shape_inference_function for kind in kinds):
        onnx.checker.check_model(model)


def ran(model: generator.OneOperator, folder: Path) -> list[numbers.Array]:
    return prover.run(model, folder, fuse=False)[0]


# --- coverage --------------------------------------------------------------------------------


def test_every_row_of_the_table_has_a_recipe() -> None:
    assert set(TABLE.operators) <= RECIPES.keys()


def test_no_operator_is_both_known_and_untried() -> None:
    assert not RECIPES.keys() & UNTRIED.keys()


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_variants_change_something(name: str) -> None:
    recipe = RECIPES[name]
    assert all(recipe.varied(variant) != recipe for variant in recipe.variants)


def test_operators_without_a_recipe_say_why() -> None:
    with pytest.raises(generator.NoModel, match="strings"):
        generator.twin(case("StringConcat", FLOAT))
    with pytest.raises(generator.NoModel, match="no recipe"):
        generator.twin(case("NoSuchOperator", FLOAT))


# --- the models are valid ----------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_float_twin_is_a_valid_model_of_one_operator(name: str) -> None:
    model = onnx.load_from_string(generator.twin(case(name, Signature(activations="float32"))).content)
    if name not in ("QuantizeLinear", "QLinearConv", "QLinearMatMul"):  # float32 is none of their integer types
        checked(model)
    assert [node.op_type for node in model.graph.node] == [name]


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("name", DATA)
def test_static_model_is_valid_and_every_real_tensor_is_quantized(name: str, dtype: str, tmp_path: Path) -> None:
    one = case(name, Signature(activations=dtype, weights="int8", bias="int32", granularity="per-tensor"))
    wanted = ran(generator.twin(one), tmp_path)
    model = onnx.load_from_string(generator.quantized(one, wanted).content)
    checked(model)
    types = [node.op_type for node in model.graph.node]
    reals = sum(values.dtype == np.float32 for values in wanted)
    fed = sum(operand.kind == "data" for operand in RECIPES[name].operands)
    assert types.count("QuantizeLinear") == fed + reals
    assert types.count(name) == 1


@pytest.mark.parametrize("name", sorted(dynamic.WRITERS))
@pytest.mark.parametrize("stored", ["int8", "uint8"])
def test_dynamic_model_holds_integer_weights_and_float_ports(name: str, stored: str, tmp_path: Path) -> None:
    one = case(name, Signature(activations="float32", weights=stored, granularity="per-tensor", symmetric="none"))
    plain = generator.twin(one)
    made = generator.quantized(one, ran(plain, tmp_path))
    graph = onnx.load_from_string(made.content).graph
    assert stored.upper() in {onnx.TensorProto.DataType.Name(item.data_type) for item in graph.initializer}
    assert all(values.dtype == np.float32 for values in made.feeds.values())
    wanted, found = ran(plain, tmp_path), ran(made, tmp_path)
    assert all(prover.apart(first, second) < prover.NEAR for first, second in zip(wanted, found, strict=True))


def test_dynamic_form_that_onnx_does_not_have() -> None:
    with pytest.raises(generator.NoModel, match="no form"):
        generator.quantized(case("GRU", Signature(activations="float32", weights="int8")), [])


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize(("stored", "kind"), [("float16", "Cast"), ("int4", "DequantizeLinear")])
def test_small_weights_stand_behind_what_expands_them(name: str, stored: str, kind: str, tmp_path: Path) -> None:
    one = case(name, Signature(activations="float32", weights=stored, granularity="per-channel", symmetric="weights"))
    plain = generator.twin(one)
    made = generator.quantized(one, ran(plain, tmp_path))
    model = onnx.load_from_string(made.content)
    checked(model)
    assert [node.op_type for node in model.graph.node].count(kind) == sum(
        operand.kind == "weights" for operand in RECIPES[name].operands
    )
    for first, second in zip(ran(plain, tmp_path), ran(made, tmp_path), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [13, 17, 26])
def test_a_variant_names_the_opset(opset: int) -> None:
    model = onnx.load_from_string(generator.twin(case("Relu", FLOAT, f"opset {opset}")).content)
    assert model.opset_import[0].version == opset


def test_models_are_the_same_in_every_run() -> None:
    first, second = (generator.twin(case("Conv", STATIC)) for _ in range(2))
    assert first.content == second.content
    assert all(np.array_equal(first.feeds[name], second.feeds[name]) for name in first.feeds)


BY_DEFINITION = "Add AveragePool Clip Concat Conv Cos DepthToSpace Div Erf Gather Gemm GlobalAveragePool HardSwish LRN "
BY_DEFINITION += "LayerNormalization LeakyRelu MatMul MaxPool Mish PRelu Pad Pow ReduceL2 Resize Selu Sigmoid Slice "
BY_DEFINITION += "Softmax Softplus SpaceToDepth Split Sub Tile Transpose Trilu Where CumSum Einsum Hardmax"


@pytest.mark.parametrize("name", BY_DEFINITION.split())
def test_onnxruntime_computes_a_twin_as_onnx_defines_it(name: str, tmp_path: Path) -> None:
    """onnx's own evaluator shares no code with onnxruntime."""
    plain = generator.twin(case(name, FLOAT))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = ReferenceEvaluator(onnx.load_from_string(plain.content)).run(None, dict(plain.feeds))
    for first, second in zip(wanted, ran(plain, tmp_path), strict=True):
        np.testing.assert_allclose(first, second, rtol=1e-4, atol=1e-5)


# --- numbers -----------------------------------------------------------------------------------

REALS = arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-1e4, 1e4, width=32))


@given(values=REALS, dtype=st.sampled_from(["int8", "uint8", "int16", "uint16"]), symmetric=st.booleans())
def test_a_step_covers_its_values_and_holds_zero(values: numbers.Array, dtype: str, symmetric: bool) -> None:
    own = numbers.step(values, dtype, symmetric=symmetric)
    low, high = numbers.RANGES[dtype]
    assert low <= own.zero_point <= high
    integers = np.clip(np.round(values / own.scale) + own.zero_point, low, high)
    errors = np.abs((integers - own.zero_point) * own.scale - values)
    assert errors.max() <= own.scale * 1.01 + 1e-6
    if symmetric:
        assert own.zero_point == (low + high + 1) // 2


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple),
    place=st.integers(0, 3),
    dtype=st.sampled_from(["int4", "int8", "uint8"]),
    granularity=st.sampled_from(["per-channel", "per-tensor"]),
    symmetric=st.sampled_from(["weights", "none", "both"]),
)
def test_stored_weights_leave_a_bit_free_and_keep_their_layout(
    shape: tuple[int, ...], place: int, dtype: str, granularity: str, symmetric: str
) -> None:
    axis = place % len(shape)
    signature = Signature(activations="uint8", weights=dtype, granularity=granularity, symmetric=symmetric)  # type: ignore[arg-type]
    found = numbers.stored(weights(*shape, axis=axis), signature, "w")
    low, high = numbers.RANGES[dtype]
    middle = (low + high + 1) // 2
    assert found.integers.shape == found.reals.shape == shape
    assert np.abs(found.integers.astype(int) - middle).max() <= (7 if dtype == "int4" else 64)
    assert len(found.scales) == len(found.zero_points) == (shape[axis] if granularity == "per-channel" else 1)
    assert (found.scales > 0).all()
    if symmetric != "none":
        assert set(found.zero_points.tolist()) == {middle}


@given(
    shape=st.lists(st.integers(1, 6), min_size=1, max_size=3).map(tuple), low=st.floats(-5, 0), span=st.floats(0.1, 9)
)
def test_values_reach_both_ends(shape: tuple[int, ...], low: float, span: float) -> None:
    values = real_values(data(*shape, low=low, high=low + span), "x")
    assert values.shape == shape
    assert values.dtype == np.float32
    assert values.min() >= np.float32(low) - 1e-5
    assert values.max() <= np.float32(low + span) + 1e-5
    if math.prod(shape) > 1:
        assert {values.min(), values.max()} == {np.float32(low), np.float32(low + span)}


@pytest.mark.parametrize("dtype", universe.PLAIN)
def test_plain_values_have_the_type_that_is_asked_for(dtype: str) -> None:
    values = plain_values(Operand("data", (4, 4)), dtype, "x")
    assert values.dtype == np.dtype(dtype)
    assert len(np.unique(values)) > 1


# --- what is tried -------------------------------------------------------------------------------

ROW = OperatorRow(signatures=(Signature(activations="uint8", weights="int8", symmetric="weights"),))


@pytest.mark.parametrize(("symmetric", "claimed"), [("weights", True), ("both", True), ("none", False)])
def test_a_row_for_symmetric_weights_does_not_claim_others(symmetric: str, claimed: bool) -> None:
    asked = Signature(activations="uint8", weights="int8", granularity="per-tensor", symmetric=symmetric)  # type: ignore[arg-type]
    assert universe.claims(ROW, asked, RECIPES["Conv"]) == claimed


def test_rows_with_weights_hold_for_two_activations_of_their_type() -> None:
    two = RECIPES["MatMul"].varied("two activations")
    row = OperatorRow(signatures=(Signature(activations="int8", weights="int8"),))
    assert universe.claims(row, Signature(activations="int8"), two)
    assert not universe.claims(ROW, Signature(activations="uint8"), two)


CONSTRAINED = [
    (Constraint(rule="attribute", of="mode", equals="nearest"), "Resize", "", True),
    (Constraint(rule="attribute", of="mode", equals="nearest"), "Resize", "linear", False),
    (Constraint(rule="attribute", of="mode", one_of=("linear", "nearest")), "Resize", "cubic", False),
    (Constraint(rule="rank", of="input", equals=4), "Conv", "", True),
    (Constraint(rule="rank", of="input", maximum=4), "Conv", "three axes", False),
    (Constraint(rule="rank", of="weights", minimum=4), "Conv", "one axis", False),
    (Constraint(rule="dilation_with_stride"), "Conv", "dilated", True),
]


@pytest.mark.parametrize(("constraint", "operator", "variant", "within"), CONSTRAINED)
def test_constraints_sort_variants(constraint: Constraint, operator: str, variant: str, within: bool) -> None:
    recipe = RECIPES[operator].varied(variant) if variant else RECIPES[operator]
    assert universe.holds(constraint, recipe) == within


def test_dilation_with_stride_is_outside_a_constraint_that_forbids_it() -> None:
    recipe = Recipe((data(1, 4, 4, 4),), {"dilations": [2, 2], "strides": [2, 2]})
    assert not universe.holds(Constraint(rule="dilation_with_stride"), recipe)


def test_every_claim_of_the_table_is_tried() -> None:
    tried = universe.cases(TABLE, (), 26)
    claimed = {one.operator for one in tried if one.claimed}
    assert claimed == set(TABLE.operators)
    assert len({(one.operator, one.signature, one.variant) for one in tried}) == len(tried)


def test_operators_that_the_table_lacks_are_denials() -> None:
    found = [one for one in universe.cases(TABLE, ("Tanh", "NoSuchOperator"), 26) if one.operator == "NoSuchOperator"]
    assert [one.claimed for one in found] == [False]


def test_both_sides_of_a_version_limit_are_tried() -> None:
    found = {one.variant: one.claimed for one in universe.cases(TABLE, (), 26) if one.operator == "RoiAlign"}
    assert found["opset 21"]
    assert not found["opset 22"]
    assert not found["opset 26"]
