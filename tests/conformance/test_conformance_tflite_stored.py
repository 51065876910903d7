"""Parameters of TFLite cases: each tensor's scales and zero points hold, and cases differ as their variants say."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgeq import targets
from edgeq.conformance.tflite import cases, model, quantized, trying, variants
from edgeq.conformance.tflite.operands import Recipe
from edgeq.conformance.tflite.quantized import QUANTIZED, Array
from edgeq.conformance.tflite.recipes import RECIPES
from edgeq.models.write_tflite import Graph, Tensor
from edgeq.types import Case, Constraint, OperatorRow, Signature

LIMITS = {"int4": (-8, 7), "int8": (-128, 127), "uint8": (0, 255), "int16": (-32768, 32767)}
LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
REALS = st.floats(-50, 50, width=32).filter(lambda one: one == 0 or abs(one) > 1e-3)
Built = list[tuple[Case, model.Trial]]


@pytest.fixture(scope="module")
def built() -> Built:
    """Layers in every way to store them, and other operators in each type of activations, two by two."""
    todo = [
        Case(operator=name, signature=one, claimed=True) for name in LAYERS for one in cases.universe(RECIPES[name])
    ]
    others = sorted(RECIPES.keys() - set(LAYERS))
    for name, kind in zip(others, itertools.cycle(("int8", "int16", "uint8", "float32"))):
        found = [one for one in cases.universe(RECIPES[name]) if one.activations == kind]
        todo += [Case(operator=name, signature=one, claimed=True) for one in found[:1]]
    trials = [(case, trying.prepared(trying.Job(case, 1))) for case in todo]
    return [(case, trial) for case, trial in trials if isinstance(trial, model.Trial)]


def tensors(built: Built) -> list[tuple[str, Tensor]]:
    return [(f"{case.operator} {case.signature}", one) for case, trial in built for one in trial.graph.tensors]


def operand(graph: Graph, number: int) -> Tensor:
    return next(one for one in graph.tensors if one.name == f"in{number}")


# --- built models ----------------------------------------------------------------------------


def test_a_case_of_nearly_every_operator_is_built(built: Built) -> None:
    assert len({case.operator for case, _ in built}) > 0.6 * len(RECIPES)
    assert {case.signature.activations for case, _ in built} >= {"int8", "int16", "uint8", "float32"}


def test_scales_are_positive_and_zero_points_lie_in_their_type(built: Built) -> None:
    for where, one in tensors(built):
        assert len(one.scales) == len(one.zero_points), where
        assert all(math.isfinite(scale) and scale > 0 for scale in one.scales), where
        low, high = LIMITS.get(one.dtype, (0, 0))
        assert all(low <= zero <= high for zero in one.zero_points), where


def test_there_is_one_scale_or_one_for_each_channel(built: Built) -> None:
    for where, one in tensors(built):
        assert len(one.scales) <= 1 or len(one.scales) == one.shape[one.axis], where


def test_16_bit_tensors_are_centred_on_zero(built: Built) -> None:
    found = [(where, one) for where, one in tensors(built) if one.dtype == "int16" and one.scales]
    assert found
    assert all(set(one.zero_points) == {0} for _, one in found)


def test_constants_have_as_many_bytes_as_their_shape_and_type_want(built: Built) -> None:
    for where, one in tensors(built):
        if one.data is not None and one.dtype != "string":
            count = math.prod(one.shape)
            wanted = (count + 1) // 2 if one.dtype == "int4" else count * np.dtype(one.dtype).itemsize
            assert one.data.nbytes == wanted, where


def test_feeds_are_the_graphs_inputs_in_order_type_and_shape(built: Built) -> None:
    for case, trial in built:
        ports = [next(one for one in trial.graph.tensors if one.name == name) for name in trial.graph.inputs]
        found = [(values.dtype.name, values.shape) for values in trial.feeds]
        assert found == [(one.dtype, one.shape) for one in ports], case


def test_nodes_name_tensors_that_are_there_once(built: Built) -> None:
    for case, trial in built:
        names = [one.name for one in trial.graph.tensors]
        assert len(names) == len(set(names)), case
        for node in trial.graph.nodes:
            assert {*node.inputs, *node.outputs, *node.intermediates} <= {*names, ""}, case


def test_computed_outputs_have_a_grid_that_reaches_what_is_wanted(built: Built) -> None:
    checked = 0
    for case, trial in built:
        recipe = RECIPES[case.operator]
        for result, one, wanted in zip(recipe.results, trial.outputs, trial.wanted, strict=True):
            if result == "computed" and one.dtype in QUANTIZED and case.signature.output is None:
                low, high = ((limit - one.zero_points[0]) * one.scales[0] for limit in LIMITS[one.dtype])
                assert low - one.scales[0] <= wanted.min(initial=0.0), case
                assert wanted.max(initial=0.0) <= high + one.scales[0], case
                checked += 1
    assert checked > 40


@pytest.mark.parametrize("operator", LAYERS)
def test_a_bias_has_the_scale_of_the_products_it_is_added_to(built: Built, operator: str) -> None:
    roles = [one.role for one in RECIPES[operator].operands]
    found = [(case.signature, trial) for case, trial in built if case.operator == operator]
    integer = [(signature, trial) for signature, trial in found if signature.activations in QUANTIZED]
    assert len(integer) >= 8
    for signature, trial in integer:
        data, weights, bias = (operand(trial.graph, roles.index(role)) for role in ("data", "weights", "bias"))
        assert bias.dtype == signature.bias
        assert set(bias.zero_points) == {0}
        np.testing.assert_allclose(bias.scales, data.scales[0] * np.array(weights.scales), rtol=1e-6)


@pytest.mark.parametrize("operator", LAYERS)
def test_weights_are_stored_as_their_signature_says(built: Built, operator: str) -> None:
    recipe = RECIPES[operator]
    place = next(number for number, one in enumerate(recipe.operands) if one.role == "weights")
    for case, trial in built:
        said = case.signature
        if case.operator != operator or said.weights not in QUANTIZED:
            continue
        one = operand(trial.graph, place)
        per_channel = said.granularity == "per-channel"
        assert one.dtype == said.weights
        assert len(one.scales) == (one.shape[one.axis] if per_channel else 1)
        assert one.axis == (recipe.operands[place].axis if per_channel else 0)
        assert (set(one.zero_points) == {0}) == (said.symmetric != "none" and said.weights != "uint8")


@pytest.mark.parametrize("operator", LAYERS)
def test_float16_weights_are_read_through_dequantize_and_no_others_are(built: Built, operator: str) -> None:
    for case, trial in built:
        if case.operator == operator:
            types = [node.type for node in trial.graph.nodes]
            assert types == (["DEQUANTIZE"] if case.signature.weights == "float16" else []) + [operator]


# --- numbers ---------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(
    values=arrays.arrays(np.int8, arrays.array_shapes(max_dims=3, max_side=7), elements=st.integers(-8, 7)),
)
def test_packed_int4_values_are_all_there(values: Array) -> None:
    data = quantized.packed(quantized.Stored(values, "int4", (1.0,), (0,), values))
    halves = np.stack([data & 15, data >> 4], axis=1).ravel()
    signed = ((halves.astype(np.int8) + 8) % 16) - 8
    assert data.dtype == np.uint8
    assert signed[: values.size].tolist() == values.ravel().tolist()
    assert not signed[values.size :].any()


@settings(max_examples=60, deadline=None)
@given(low=REALS, span=st.floats(0, 100, width=32), dtype=st.sampled_from(["int8", "uint8", "int16"]))
def test_activations_are_within_half_a_step_and_a_rounded_zero_point(low: float, span: float, dtype: str) -> None:
    on = quantized.grid(dtype, low, low + span)
    values = np.linspace(low, low + span, 17).astype(np.float32)
    stored = quantized.activations(values, dtype, on)
    bottom, top = LIMITS[dtype]
    assert on.scale > 0
    assert bottom <= on.zero <= top
    assert stored.values.dtype.name == dtype
    assert np.abs(stored.real - values).max() <= on.scale * 1.001


@settings(max_examples=60, deadline=None)
@given(
    values=arrays.arrays(np.float32, (3, 4), elements=st.floats(0.125, 8, width=32)),
    dtype=st.sampled_from(["int4", "int8", "uint8", "int16"]),
    axis=st.integers(0, 1),
)
def test_symmetric_weights_are_half_a_step_away_in_their_own_channel(values: Array, dtype: str, axis: int) -> None:
    whole = quantized.weights(values, dtype, axis=axis, per_channel=False, symmetric=True)
    apart = quantized.weights(values, dtype, axis=axis, per_channel=True, symmetric=True)
    assert (len(whole.scales), len(apart.scales)) == (1, values.shape[axis])
    assert max(apart.scales) == pytest.approx(whole.scales[0])
    steps = np.expand_dims(np.array(apart.scales), 1 - axis)
    assert (np.abs(apart.real - values) <= steps * 0.501).all()
    assert set(whole.zeros) | set(apart.zeros) == {0}


@pytest.mark.parametrize(
    ("dtype", "stored"),
    [
        ("bool", [False, False, True, True]),
        ("int32", [-10, 2, 3, 14]),
        ("int64", [-10, 2, 3, 14]),
        ("float32", [-1.0, 0.2, 0.26, 1.4]),
    ],
)
def test_what_has_no_scale_is_stored_as_it_is(dtype: str, stored: list[float]) -> None:
    found = quantized.activations(np.array([-1.0, 0.2, 0.26, 1.4], np.float32), dtype, None)
    assert (found.scales, found.zeros, found.values.dtype.name) == ((), (), dtype)
    np.testing.assert_allclose(found.values.astype(np.float64), stored, rtol=1e-6)


@pytest.mark.parametrize(
    ("dtype", "scales", "stored", "real"),
    [
        ("int32", (0.1,), [3, -20], [0.3, -2.0]),
        ("int64", (0.1, 0.5), [3, -4], [0.3, -2.0]),
        ("float32", (0.1,), [0.32, -2.0], [0.32, -2.0]),
    ],
)
def test_a_bias_is_rounded_to_its_steps(
    dtype: str, scales: tuple[float, ...], stored: list[float], real: list[float]
) -> None:
    found = quantized.bias(np.array([0.32, -2.0], np.float32), dtype, scales)
    np.testing.assert_allclose(found.values, stored, rtol=1e-6)
    np.testing.assert_allclose(found.real, real, rtol=1e-6)
    assert found.zeros == (() if dtype == "float32" else (0,) * len(scales))


# --- signatures and variants -----------------------------------------------------------------


@pytest.mark.parametrize("operator", sorted(RECIPES))
def test_signatures_of_an_operator_are_distinct_and_cover_themselves(operator: str) -> None:
    found = list(cases.universe(RECIPES[operator]))
    assert found
    assert len(found) == len(set(found))
    assert all(cases.covers(one, one) for one in found)


def test_covering_hands_on() -> None:
    layers = list(cases.universe(RECIPES["CONV_2D"]))
    for first, second, third in itertools.product(layers, repeat=3):
        if cases.covers(first, second) and cases.covers(second, third):
            assert cases.covers(first, third)


def ranked(operator: str, number: int) -> Recipe:
    said = Signature(activations="float32")
    case = Case(operator=operator, signature=said, claimed=True, variant=variants.rank(number))
    return variants.applied(case, RECIPES[operator])


@pytest.mark.parametrize(
    ("operator", "number", "shape"),
    [
        ("FULLY_CONNECTED", 1, (64,)),
        ("FULLY_CONNECTED", 2, (2, 32)),
        ("FULLY_CONNECTED", 5, (1, 1, 1, 2, 32)),
        ("BATCH_MATMUL", 2, (4, 8)),
        ("BATCH_MATMUL", 1, (32,)),
        ("CONV_3D", 3, (12, 4, 2)),
        ("CONV_3D", 6, (1, 1, 3, 4, 4, 2)),
    ],
)
def test_another_rank_keeps_the_values_and_the_other_operands(
    operator: str, number: int, shape: tuple[int, ...]
) -> None:
    before, after = RECIPES[operator], ranked(operator, number)
    assert after.operands[0].values.shape == shape
    np.testing.assert_array_equal(after.operands[0].values.ravel(), before.operands[0].values.ravel())
    assert all(one is other for one, other in zip(after.operands[1:], before.operands[1:], strict=True))


def test_the_first_data_is_ranked_also_where_it_is_not_the_first_operand() -> None:
    before, after = RECIPES["TRANSPOSE_CONV"].operands, ranked("TRANSPOSE_CONV", 3).operands
    assert [one is other for one, other in zip(before, after, strict=True)] == [True, True, False, True]
    assert after[2].values.ndim == 3


@pytest.mark.parametrize(
    ("variant", "version", "is_unknown"),
    [
        ("", 3, False),
        ("version 7", 7, False),
        ("version 12", 12, False),
        ("a version 7", 3, False),
        ("version 7 of it", 3, False),
        ("version x", 3, False),
        ("rank of input 4", 3, False),
        ("outside of attribute of stride", 3, True),
    ],
)
def test_a_variant_says_its_version_or_nothing(variant: str, version: int, is_unknown: bool) -> None:
    case = Case(operator="ADD", signature=Signature(activations="int8"), claimed=True, variant=variant)
    assert variants.version_of(case, 3) == version
    assert variants.is_unknown(variant) is is_unknown


def test_two_activations_are_fed_where_there_were_weights() -> None:
    said = Signature(activations="int8")
    case = Case(operator="BATCH_MATMUL", signature=said, claimed=True, variant=variants.TWO_ACTIVATIONS)
    assert [one.role for one in variants.applied(case, RECIPES["BATCH_MATMUL"]).operands] == ["data", "data"]
    assert variants.applied(dataclasses.replace(case, variant=""), RECIPES["BATCH_MATMUL"]).has_weights


@pytest.mark.parametrize(
    ("limit", "around"),
    [
        ({"equals": 4}, {4: True, 3: False, 5: False}),
        ({"minimum": 2}, {2: True, 1: False}),
        ({"minimum": 1}, {1: True}),
        ({"maximum": 3}, {3: True, 4: False}),
        ({"minimum": 2, "maximum": 4}, {2: True, 4: True, 1: False, 5: False}),
        ({"one_of": (2, 3)}, {2: True, 3: True, 1: False, 4: False}),
        ({"one_of": ("NHWC",)}, {}),
    ],
)
def test_ranks_around_a_limit_are_tried(limit: dict[str, int], around: dict[int, bool]) -> None:
    row = OperatorRow(
        signatures=(Signature(activations="int8"),),
        constraints=(Constraint(rule="rank", of="input", **limit),),  # type: ignore[arg-type]
    )
    table = dataclasses.replace(targets.load_table("tflite-litert-cpu"), operators={"LOGISTIC": row})
    found = {case.variant: case.claimed for case in cases.cases(table, ()) if case.variant.startswith("rank")}
    assert found == {variants.rank(number): claimed for number, claimed in around.items()}
