"""Which operators a mixed scheme keeps in float, pattern by pattern."""

from __future__ import annotations

from typing import Any

import pytest

from edgeq.planning.sensitive import always_float, sensitive
from edgeq.planning.view import view


def _chain(
    tiny: Any, *steps: tuple[str, str, str], model_format: str = "tflite", constants: str = "", **words: Any
) -> Any:
    """A graph of elementwise steps (type, inputs, output); every name is a tensor of one shape."""
    graph = tiny.Graph(model_format)
    names = dict.fromkeys(name for _, inputs, output in steps for name in (*inputs.split(), output))
    for name in names:
        graph.tensor(name, (1, 4), constant=name in constants.split())
    for kind, inputs, output in steps:
        graph.operator(kind, inputs, output, **words.get(output, {}))
    return view(graph.done("x", steps[-1][2]))


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("SOFTMAX", "exponential"),
        ("Softmax", "exponential"),
        ("LOG_SOFTMAX", "exponential"),
        ("UNIDIRECTIONAL_SEQUENCE_LSTM", "step to step"),
        ("GRU", "step to step"),
        ("LSTM", "step to step"),
        ("InstanceNormalization", "statistic"),
        ("L2_NORMALIZATION", "statistic"),
        ("HARD_SWISH", "gate"),
        ("HardSigmoid", "gate"),
        ("TANH", "gate"),
    ],
)
def test_sensitive_kinds_have_a_reason(tiny: Any, kind: str, words: str) -> None:
    found = sensitive(_chain(tiny, ("RELU", "x", "a"), (kind, "a", "y")))
    assert list(found) == [1]
    assert words in found[1]


@pytest.mark.parametrize("kind", ["RELU", "ADD", "MEAN", "MAX_POOL_2D", "AveragePool", "Relu"])
def test_plain_kinds_are_not_sensitive(tiny: Any, kind: str) -> None:
    assert sensitive(_chain(tiny, (kind, "x", "y"))) == {}


def test_operators_on_constants_are_never_sensitive(tiny: Any) -> None:
    assert sensitive(_chain(tiny, ("SOFTMAX", "k", "s"), ("ADD", "x s", "y"), constants="k")) == {}


@pytest.mark.parametrize("gate", ["LOGISTIC", "Sigmoid", "HardSigmoid"])
def test_squeeze_and_excite_keeps_the_gate_and_its_product(tiny: Any, gate: str) -> None:
    product = "MUL" if gate == "LOGISTIC" else "Mul"
    found = sensitive(_chain(tiny, ("RELU", "x", "a"), (gate, "a", "g"), (product, "x g", "y")))
    assert set(found) == {1, 2}
    assert found[2] == "it multiplies by a gate"


def test_a_hard_swish_written_out_is_found(tiny: Any) -> None:
    look = _chain(
        tiny,
        ("ADD", "x three", "a"),
        ("RELU6", "a", "b"),
        ("MUL", "b sixth", "c"),
        ("MUL", "x c", "y"),
        constants="three sixth",
    )
    assert set(sensitive(look)) == {2, 3}


def test_a_hard_swish_with_a_fused_clip_is_found(tiny: Any) -> None:
    look = _chain(
        tiny,
        ("ADD", "x three", "a"),
        ("MUL", "a sixth", "c"),
        ("MUL", "x c", "y"),
        constants="three sixth",
        a={"fused_activation_function": "RELU6"},
    )
    assert set(sensitive(look)) == {1, 2}


def test_an_onnx_hard_swish_is_found(tiny: Any) -> None:
    look = _chain(
        tiny,
        ("Add", "x three", "a"),
        ("Clip", "a", "b"),
        ("Mul", "x b", "c"),
        ("Div", "c six", "y"),
        model_format="onnx",
        constants="three six",
    )
    assert set(sensitive(look)) == {2}


def test_a_residual_sum_with_relu6_is_no_gate(tiny: Any) -> None:
    look = _chain(tiny, ("ADD", "x z", "a"), ("MUL", "a x", "y"), a={"fused_activation_function": "RELU6"})
    assert sensitive(look) == {}


def test_onnx_layer_normalization_is_found_whole(tiny: Any) -> None:
    look = _chain(
        tiny,
        ("Add", "x x", "r"),
        ("ReduceMean", "r", "mu"),
        ("Sub", "r mu", "d"),
        ("Pow", "d two", "sq"),
        ("ReduceMean", "sq", "var"),
        ("Add", "var eps", "e"),
        ("Sqrt", "e", "root"),
        ("Div", "d root", "n"),
        ("Mul", "n gamma", "g"),
        ("Add", "g beta", "b"),
        ("Relu", "b", "y"),
        model_format="onnx",
        constants="two eps gamma beta",
    )
    assert {0, 9, 10}.isdisjoint(sensitive(look))
    assert set(sensitive(look)) == {1, 2, 3, 4, 5, 6, 7, 8}


def test_squared_difference_form_is_found(tiny: Any) -> None:
    look = _chain(
        tiny,
        ("MEAN", "x", "mu"),
        ("SQUARED_DIFFERENCE", "x mu", "sq"),
        ("MEAN", "sq", "var"),
        ("ADD", "var eps", "e"),
        ("RSQRT", "e", "root"),
        ("MUL", "x root", "y"),
        constants="eps",
    )
    assert set(sensitive(look)) == {0, 1, 2, 3, 4, 5}


def test_a_root_that_reads_itself_ends(tiny: Any) -> None:
    assert set(sensitive(_chain(tiny, ("SQRT", "x y", "y")))) == {0}


def test_first_and_last_layers_are_told_apart(tiny: Any) -> None:
    found = sensitive(view(tiny.conv_net().done("x", "y")))
    assert found[0] == "it is the first layer"
    assert found[3] == "it is the last layer"
    assert 1 not in found


def test_the_only_layer_is_the_first(tiny: Any) -> None:
    graph = (
        tiny.Graph()
        .tensor("x", (1, 4))
        .tensor("w", (4, 4), constant=True)
        .tensor("y", (1, 4))
        .operator("FULLY_CONNECTED", "x w", "y")
        .done("x", "y")
    )
    assert sensitive(view(graph)) == {0: "it is the first layer"}


@pytest.mark.parametrize(
    "steps",
    [
        (("MatMul", "x x", "a"), ("LayerNormalization", "a", "y")),
        (("MatMul", "x x", "a"), ("Softmax", "a", "s"), ("MatMul", "s x", "b"), ("Sqrt", "b", "y")),
    ],
)
def test_an_onnx_transformer_keeps_all_but_products_always(tiny: Any, steps: Any) -> None:
    look = _chain(tiny, *steps, model_format="onnx")
    products = {number for number, (kind, _, _) in enumerate(steps) if kind == "MatMul"}
    assert set(always_float(look)) == set(range(len(steps))) - products
    assert always_float(look).keys() <= sensitive(look).keys()


@pytest.mark.parametrize(
    "steps",
    [
        (("MatMul", "x k", "a"), ("Softmax", "a", "y")),
        (("Softmax", "x", "a"), ("Sqrt", "a", "y")),
        (("MatMul", "x x", "a"), ("Sqrt", "a", "y")),
    ],
)
def test_what_only_looks_like_a_transformer_is_none(tiny: Any, steps: Any) -> None:
    assert always_float(_chain(tiny, *steps, model_format="onnx", constants="k")) == {}


def test_a_tflite_transformer_is_kept_in_float_by_mixed_alone(tiny: Any) -> None:
    look = _chain(
        tiny,
        ("BATCH_MATMUL", "x x", "a"),
        ("SOFTMAX", "a", "s"),
        ("ADD", "s x", "r"),
        ("RSQRT", "r", "y"),
    )
    assert always_float(look) == {}
    assert set(sensitive(look)) == {1, 2, 3}
