"""What the planner knows of the converters: it must be what they do."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq import planning
from edgeq.converters.onnx import floating, static
from edgeq.converters.tflite import stand_in
from edgeq.planning import view as views
from edgeq.planning.placement import FRAMED
from edgeq.planning.written import WRITTEN, WRITTEN_BY_SCHEME, before_weights, why_float
from edgeq.types import FLOAT32, ModelGraph, OperatorRow, Placement, Plan, Scheme, Signature

STATIC = Signature(activations="uint8", weights="int8", bias="int32", granularity="per-channel")
HALF = Signature(activations="float32", weights="float16")


def scheme(default: Signature) -> Scheme:
    return Scheme(name="any", default=default)


def test_the_onnx_list_is_the_converters() -> None:
    assert WRITTEN["onnx"] == static.KINDS | static.CLIPS


def test_the_onnx_list_of_the_dynamic_scheme_is_the_converters() -> None:
    assert WRITTEN_BY_SCHEME["onnx", "dynamic_wi8_af32"] == set(floating.DYNAMIC)


def test_the_dynamic_scheme_leaves_convolutions_in_float(tiny: Any) -> None:
    """onnxruntime has ConvInteger, but edgeq's converter does not write it."""
    dynamic = Signature(activations="float32", weights="int8", bias="float32", granularity="per-channel")
    look = views.view(head(tiny))
    found = {
        operator.type: why_float(look, operator, Scheme(name="dynamic_wi8_af32", default=dynamic), frozenset(), {})
        for operator in look.graph.operators
    }
    assert found["Gemm" if "Gemm" in found else "MatMul"] is None
    assert found["Conv"] is not None


def test_the_tflite_list_is_what_the_quantizer_knows_and_what_is_shown_to_it_as_others() -> None:
    from litert_quantizer.utils.tfl_flatbuffer_utils import TFL_OP_CODE_TO_NAME

    from edgeq.converters._flatbuffer import builtin_number

    shown = set(stand_in._STAND_INS)
    assert shown <= WRITTEN["tflite"]
    unknown = {name for name in WRITTEN["tflite"] - shown if builtin_number(name) not in TFL_OP_CODE_TO_NAME}
    assert unknown == set()
    assert set(stand_in._STAND_INS.values()) <= WRITTEN["tflite"], "a stand-in must be known itself"


@pytest.mark.parametrize("kind", ["UNIDIRECTIONAL_SEQUENCE_LSTM", "LSTM", "SVDF", "RNN", "CUMSUM", "TOPK_V2"])
def test_recurrent_cells_and_rare_operators_are_written_in_float(kind: str) -> None:
    assert kind not in WRITTEN["tflite"]


def head(tiny: Any) -> ModelGraph:
    """Transpose, convolution, Relu, product with a bias, sigmoid, softmax."""
    return (  # type: ignore[no-any-return]
        tiny.Graph("onnx")
        .tensor("x", (1, 8, 8, 3))
        .tensor("turned", (1, 3, 8, 8))
        .tensor("w1", (4, 3, 8, 8), constant=True)
        .tensor("a", (1, 4))
        .tensor("r", (1, 4))
        .tensor("w2", (4, 10), constant=True)
        .tensor("p", (1, 10))
        .tensor("b", (10,), constant=True)
        .tensor("d", (1, 10))
        .tensor("s", (1, 10))
        .tensor("y", (1, 10))
        .operator("Transpose", "x", "turned")
        .operator("Conv", "turned w1", "a", macs=768)
        .operator("Relu", "a", "r")
        .operator("MatMul", "r w2", "p", macs=40)
        .operator("Add", "p b", "d")
        .operator("Sigmoid", "d", "s")
        .operator("Softmax", "s", "y")
        .done("x", "y")
    )


def tables(tiny: Any) -> dict[str, Any]:
    plain = tiny.onnx_rows()["Relu"]
    moves = OperatorRow(signatures=None, passes_quantization=True)
    rows = {**tiny.onnx_rows(), "Add": plain, "Softmax": plain, "Sigmoid": plain, "Transpose": moves}
    return {**tiny.tables(), "tiny-onnx": tiny.table(rows, "tiny-onnx")}


def by_type(plan: Plan) -> dict[str, Placement]:
    return {one.type: one for one in plan.operators}


def test_before_weights_is_everything_that_leads_to_them(tiny: Any) -> None:
    graph = head(tiny)
    names = {graph.tensors[index].name for index in before_weights(views.view(graph))}
    assert names == {"x", "turned", "w1", "a", "r", "w2"}


def test_a_graph_without_weights_leads_to_none(tiny: Any) -> None:
    graph = tiny.Graph("onnx").tensor("x", (1,)).tensor("y", (1,)).operator("Softmax", "x", "y").done("x", "y")
    assert before_weights(views.view(graph)) == frozenset()


def test_branches_that_lead_to_no_weights_are_ends_too(tiny: Any) -> None:
    graph = (
        tiny.Graph("onnx")
        .tensor("x", (1, 4))
        .tensor("s", (1, 4))
        .tensor("t", (1, 4))
        .tensor("w", (4, 4), constant=True)
        .tensor("y", (1, 4))
        .operator("Sigmoid", "x", "s")
        .operator("Sigmoid", "x", "t")
        .operator("MatMul", "s w", "y")
        .done("x", "t y")
    )
    look = views.view(graph)
    before = before_weights(look)
    reasons = [why_float(look, operator, scheme(STATIC), before, {}) for operator in graph.operators]
    assert reasons[0] is None
    assert reasons[1] is not None
    assert reasons[2] is None


def test_the_static_plan_of_a_head(tiny: Any) -> None:
    plan = planning.choose(head(tiny), tiny.target(), tables(tiny), scheme="static_wi8_ai8")
    found = by_type(plan)
    assert [found[kind].placement for kind in ("Conv", "Relu", "MatMul", "Add")] == ["cpu"] * 4
    assert found["Softmax"].rule == "left-in-float"
    assert found["Softmax"].why == "It runs in float: edgeq's converter does not write it in integers."
    assert found["Sigmoid"].rule == "left-in-float"
    assert found["Sigmoid"].why == "It runs in float: no weights follow it, and edgeq's converter leaves such ends."
    assert (found["Transpose"].placement, found["Transpose"].rule) == ("float", "passes-quantization")
    assert "left-in-float" in FRAMED
    left = [one.index for one in plan.operators if one.rule in FRAMED]
    assert not set(left) & set(plan.scheme.overrides)


def test_in_a_mixed_plan_clip_and_bias_follow_their_layer_into_float(tiny: Any) -> None:
    plan = planning.choose(head(tiny), tiny.target(), tables(tiny), scheme="static_wi8_ai8_mixed")
    found = by_type(plan)
    assert found["Conv"].rule == found["MatMul"].rule == "kept-in-float"
    for kind in ("Relu", "Add"):
        assert (found[kind].placement, found[kind].rule) == ("float", "left-in-float")
        assert "the layer before it" in found[kind].why


@pytest.mark.parametrize("default", [HALF, FLOAT32])
def test_schemes_with_float_activations_have_no_ends(tiny: Any, default: Signature) -> None:
    graph = head(tiny)
    look = views.view(graph)
    reasons = {why_float(look, operator, scheme(default), before_weights(look), {}) for operator in graph.operators}
    assert reasons == {None}


@pytest.mark.parametrize(
    ("shape", "constant", "is_bias"), [((1, 10), True, True), ((1, 10), False, False), ((1, 2, 10), True, False)]
)
def test_only_a_constant_added_to_a_matrix_is_a_bias(
    tiny: Any, shape: tuple[int, ...], constant: bool, is_bias: bool
) -> None:
    """onnxruntime makes one Gemm of a product and its bias where both are matrices."""
    graph = (
        tiny.Graph("onnx")
        .tensor("x", (*shape[:-1], 4))
        .tensor("w", (4, 10), constant=True)
        .tensor("p", shape)
        .tensor("b", (10,), constant=constant)
        .tensor("y", shape)
        .operator("MatMul", "x w", "p")
        .operator("Add", "p b", "y")
        .done("x", "y")
    )
    look = views.view(graph)
    product = graph.operators[0].outputs[0]
    reason = why_float(look, graph.operators[1], scheme(STATIC), before_weights(look), {product: "uint8"})
    assert (reason is None) is is_bias


def test_a_table_without_float_keeps_the_end_in_integers(tiny: Any) -> None:
    """What the runtime cannot run in float is planned by its signatures, as before."""
    only = OperatorRow(signatures=(Signature(activations="int8"), Signature(activations="uint8")))
    found = tables(tiny)
    rows = {**found["tiny-onnx"].operators, "Softmax": only}
    plan = planning.choose(
        head(tiny), tiny.target(), {**found, "tiny-onnx": tiny.table(rows, "tiny-onnx")}, scheme="static_wi8_ai8"
    )
    assert by_type(plan)["Softmax"].rule == "signature-supported"
