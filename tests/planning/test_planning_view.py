"""The planner's look at a graph: constants, weights, data operands, channels."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.planning import view as views
from edgeq.types import Operator, TensorSpec


def _tensor(*shape: int) -> TensorSpec:
    return TensorSpec(index=0, name="w", shape=shape, dtype="float32", size_bytes=0)


def _operator(kind: str, **attributes: Any) -> Operator:
    return Operator(index=0, type=kind, version=1, inputs=(), outputs=(), attributes=attributes)


@pytest.mark.parametrize(
    ("kind", "shape", "channels"),
    [
        ("CONV_2D", (16, 3, 3, 8), 16),
        ("DEPTHWISE_CONV_2D", (1, 3, 3, 8), 8),
        ("FULLY_CONNECTED", (10, 64), 10),
        ("Conv", (16, 8, 3, 3), 16),
        ("ConvTranspose", (16, 8, 3, 3), 8),
        ("MatMul", (64, 10), 10),
        ("Gemm", (64, 10), 10),
        ("Conv", (), 1),
        ("ConvTranspose", (4,), 1),
        ("Conv", (-1, 8), 1),
    ],
)
def test_output_channels_of_weights(kind: str, shape: tuple[int, ...], channels: int) -> None:
    assert views.channels(_operator(kind), _tensor(*shape)) == channels


def test_a_transposed_gemm_has_its_channels_first() -> None:
    assert views.channels(_operator("Gemm", transB=1), _tensor(10, 64)) == 10


@pytest.mark.parametrize(("shape", "count"), [((), 1), ((2, 3), 6), ((-1, 5), 5), ((0, 7), 0)])
def test_elements_count_a_dynamic_axis_as_one(shape: tuple[int, ...], count: int) -> None:
    assert views.elements(_tensor(*shape)) == count


def test_results_of_constants_are_constant_all_the_way(tiny: Any) -> None:
    graph = (
        tiny.Graph("onnx")
        .tensor("k", (4,), constant=True)
        .tensor("a", (4,))
        .tensor("b", (4,))
        .tensor("c", (4,))
        .tensor("x", (4,))
        .tensor("y", (4,))
        .operator("Transpose", "k", "a")
        .operator("Cast", "a missing", "b")
        .operator("Constant", "", "c")
        .operator("Add", "x b", "y")
    )
    look = views.view(graph.done("x", "y"))
    names = {name for name, index in graph.names.items() if index in look.constants}
    assert names == {"k", "a", "b", "c"}
    assert [views.on_constants(look, operator) for operator in graph.operators] == [True, True, True, False]


def test_a_product_of_activations_has_no_weights(tiny: Any) -> None:
    graph = tiny.Graph("onnx").tensor("x", (4, 4)).tensor("k", (4, 4), constant=True).tensor("y", (4, 4))
    graph.operator("MatMul", "x x", "y").operator("MatMul", "x k", "y").operator("MatMul", "k x", "y")
    look = views.view(graph.done("x", "y"))
    assert [len(views.weights(look, operator)) for operator in graph.operators] == [0, 1, 1]


def test_lstm_has_other_operands_in_each_format(tiny: Any) -> None:
    for model_format, count in (("tflite", 8), ("onnx", 2)):
        graph = tiny.Graph(model_format).tensor("x", (1, 4)).tensor("y", (1, 4))
        names = [f"w{number}" for number in range(9)]
        for name in names:
            graph.tensor(name, (4, 4), constant=True)
        graph.operator("LSTM", f"x {' '.join(names)}", "y")
        look = views.view(graph.done("x", "y"))
        assert len(views.weights(look, graph.operators[0])) == count


def test_the_data_operand_of_a_transposed_convolution_is_the_third(tiny: Any) -> None:
    graph = (
        tiny.Graph()
        .tensor("shape", (4,), "int32")
        .tensor("w", (4, 3, 3, 8), constant=True)
        .tensor("x", (1, 4, 4, 8))
        .tensor("y", (1, 8, 8, 4))
        .operator("TRANSPOSE_CONV", "shape w x", "y")
    )
    look = views.view(graph.done("x", "y"))
    found = views.data(look, graph.operators[0])
    assert found is not None
    assert found.name == "x"
    assert views.bias(look, graph.operators[0]) is None


def test_stored_looks_through_a_dequantizer_and_no_further(tiny: Any) -> None:
    graph = (
        tiny.Graph()
        .tensor("q", (4, 4), "int8", constant=True)
        .tensor("w", (4, 4))
        .tensor("t", (4, 4))
        .operator("DEQUANTIZE", "q", "w")
        .operator("TRANSPOSE", "w", "t")
    )
    look = views.view(graph.done("w", "t"))
    assert views.stored(look, graph.tensors[1]).name == "q"
    assert views.stored(look, graph.tensors[2]).name == "t"
    assert views.stored(look, graph.tensors[0]).name == "q"


@pytest.mark.parametrize(
    ("kinds", "real"), [(("int64", "int64"), False), (("int64", "float32"), True), (("float16", "bool"), True)]
)
def test_real_operators_touch_floats(tiny: Any, kinds: tuple[str, str], real: bool) -> None:
    graph = tiny.Graph("onnx")
    for name, kind in zip("xy", kinds, strict=True):
        graph.tensor(name, (2,), "int8" if kind == "bool" else kind)
    graph.operator("Cast", "x", "y")
    assert views.is_real(views.view(graph.done("x", "y")), graph.operators[0]) == real
