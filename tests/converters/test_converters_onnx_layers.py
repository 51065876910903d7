"""ONNX layers as numbers: they compute what onnxruntime computes, and their channels may be multiplied where found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeq.converters.onnx.layers import channel_sites, layers, stored, written
from edgeq.quantization.equalization import as_maker, as_reader
from edgeq.quantization.layers import Layer, columns

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT
PICTURE = (1, 4, 7, 6)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def model(
    nodes: Sequence[Any], constants: Mapping[str, Array], shape: Sequence[int], result: str, opset: int = 17
) -> Any:
    """A checked model that reads `x`, with the shapes of all that it computes."""
    graph = helper.make_graph(
        nodes,
        "odd",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info(result, FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)
    made = onnx.shape_inference.infer_shapes(made, strict_mode=True)
    onnx.checker.check_model(made)
    return made


def run(made: Any, x: Array) -> Array:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(made.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def computed(layer: Layer, x: Array) -> Array:
    """(outputs, positions) by the layer's numbers alone."""
    seen = columns(layer, x, np.random.default_rng(0), most=100_000)
    bias = 0 if layer.bias is None else layer.bias[:, None]
    return np.asarray((layer.matrix() @ seen).reshape(len(layer.weights), -1) + bias)


def conv(weights: Array, *, bias: Array | None = None, shape: Sequence[int] = PICTURE, **settings: Any) -> Any:
    read = ["x", "w"] + (["b"] if bias is not None else [])
    constants = {"w": weights} | ({"b": bias} if bias is not None else {})
    return model([helper.make_node("Conv", read, ["y"], "conv", **settings)], constants, shape, "y")


# --- a layer's numbers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "settings"),
    [
        ((3, 4, 3, 3), {}),
        ((3, 4, 3, 2), {"pads": [1, 0, 2, 1]}),
        ((3, 4, 2, 3), {"pads": [0, 2, 0, 0]}),
        ((3, 4, 3, 3), {"strides": [2, 1]}),
        ((3, 4, 3, 3), {"strides": [3, 2], "pads": [2, 1, 0, 3]}),
        ((3, 4, 3, 2), {"dilations": [2, 3]}),
        ((3, 4, 2, 2), {"dilations": [3, 1], "strides": [1, 2], "pads": [1, 1, 2, 0]}),
        ((3, 4, 1, 1), {"strides": [2, 3]}),
        ((6, 2, 3, 3), {"group": 2}),
        ((6, 2, 2, 3), {"group": 2, "dilations": [2, 1], "pads": [1, 1, 1, 1]}),
        ((4, 1, 3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
        ((8, 1, 3, 3), {"group": 4, "strides": [2, 2]}),
        ((3, 4, 3, 3), {"auto_pad": "VALID"}),
        ((3, 4, 3, 3), {"auto_pad": "VALID", "strides": [2, 2], "dilations": [2, 1]}),
        ((3, 4, 3, 3), {"auto_pad": "NOTSET", "pads": [0, 1, 1, 0]}),
        ((3, 4, 3, 2), {"kernel_shape": [3, 2]}),
    ],
    ids=str,
)
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_convolution_computes_what_the_runtime_computes(
    kernel: tuple[int, ...], settings: dict[str, Any], has_bias: bool
) -> None:
    made = conv(numbers(*kernel), bias=numbers(kernel[0], seed=1) if has_bias else None, **settings)
    x = numbers(*PICTURE, seed=2)
    (layer,) = layers(made).values()
    assert (layer.name, layer.source, layer.result, layer.channels_last) == ("conv", "x", "y", False)
    np.testing.assert_allclose(computed(layer, x), run(made, x)[0].reshape(kernel[0], -1), rtol=1e-4, atol=1e-4)


@settings(max_examples=40, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 3), st.integers(1, 3)),
    st.tuples(st.integers(1, 2), st.integers(1, 2)),
    st.lists(st.integers(0, 2), min_size=4, max_size=4),
    st.sampled_from([1, 2, 4]),
)
def test_any_window_of_numbers_is_the_runtimes(
    kernel: tuple[int, int], strides: tuple[int, int], dilations: tuple[int, int], pads: list[int], group: int
) -> None:
    assume(all(pad < size for pad, size in zip(pads, kernel * 2, strict=True)))
    made = conv(numbers(4, 4 // group, *kernel), group=group, strides=strides, dilations=dilations, pads=pads)
    x = numbers(*PICTURE, seed=3)
    (layer,) = layers(made).values()
    np.testing.assert_allclose(computed(layer, x), run(made, x)[0].reshape(4, -1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rule", ["SAME_UPPER", "SAME_LOWER"])
def test_padding_by_a_rule_is_no_layer(rule: str) -> None:
    assert layers(conv(numbers(3, 4, 3, 3), auto_pad=rule)) == {}


@pytest.mark.parametrize("extents", [(9,), (3, 4, 5)])
def test_a_convolution_over_no_picture_is_no_layer(extents: tuple[int, ...]) -> None:
    assert layers(conv(numbers(3, 4, *(2 for _ in extents)), shape=(1, 4, *extents))) == {}


@pytest.mark.parametrize("transposed", [0, 1])
@pytest.mark.parametrize("has_bias", [False, True])
def test_a_gemm_computes_what_the_runtime_computes(transposed: int, has_bias: bool) -> None:
    weights = numbers(5, 3) if transposed else numbers(3, 5)
    names, constants = ["x", "w"], {"w": weights}
    if has_bias:
        names, constants = [*names, "b"], constants | {"b": numbers(5, seed=1)}
    made = model([helper.make_node("Gemm", names, ["y"], "gemm", transB=transposed)], constants, (4, 3), "y")
    x = numbers(4, 3, seed=2)
    (layer,) = layers(made).values()
    assert layer.weights.shape == (5, 3, 1)
    assert layer.window is None
    np.testing.assert_allclose(computed(layer, x), run(made, x).T, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(stored(layer, made.graph.node[0], layer.weights), weights)


@pytest.mark.parametrize(
    "settings", [{"alpha": 0.5}, {"beta": 2.0}, {"transA": 1}, {"transA": 1, "transB": 1}], ids=str
)
def test_a_gemm_that_does_more_than_a_product_is_no_layer(settings: dict[str, Any]) -> None:
    weights = numbers(3, 3)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", **settings)]
    assert layers(model(nodes, {"w": weights, "b": numbers(3)}, (3, 3), "y")) == {}


@pytest.mark.parametrize("settings", [{"alpha": 1.0}, {"beta": 1.0}, {"transA": 0}], ids=str)
def test_defaults_written_out_change_nothing(settings: dict[str, Any]) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", **settings)]
    assert list(layers(model(nodes, {"w": numbers(3, 3), "b": numbers(3)}, (3, 3), "y"))) == ["gemm"]


@pytest.mark.parametrize("shape", [(1, 3), (3, 1), (3, 3)])
def test_a_bias_that_is_a_matrix_is_no_layer(shape: tuple[int, int]) -> None:
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm")]
    assert layers(model(nodes, {"w": numbers(3, 3), "b": numbers(*shape)}, (3, 3), "y")) == {}


@pytest.mark.parametrize("shape", [(4, 3), (1, 4, 3), (2, 4, 3), (2, 2, 2, 3)], ids=str)
def test_a_product_is_one_whatever_the_rank_it_reads(shape: tuple[int, ...]) -> None:
    made = model([helper.make_node("MatMul", ["x", "w"], ["y"], "product")], {"w": numbers(3, 5)}, shape, "y")
    x = numbers(*shape, seed=1)
    (layer,) = layers(made).values()
    np.testing.assert_allclose(computed(layer, x), run(made, x).reshape(-1, 5).T, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("read", "shape", "weights"),
    [
        (["w", "x"], (3, 4), (5, 3)),  # the constant on the left
        (["x", "x"], (3, 3), (3, 3)),  # no constant at all
        (["x", "w"], (2, 4, 3), (2, 3, 5)),  # one matrix for each of a batch
        (["x", "w"], (4, 3), (3,)),  # a vector
    ],
)
def test_products_that_are_no_layers(read: list[str], shape: tuple[int, ...], weights: tuple[int, ...]) -> None:
    made = model([helper.make_node("MatMul", read, ["y"], "product")], {"w": numbers(*weights)}, shape, "y")
    assert layers(made) == {}


def test_weights_that_two_nodes_read_belong_to_neither() -> None:
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["a"], "first"),
        helper.make_node("MatMul", ["a", "w"], ["b"], "second"),
        helper.make_node("MatMul", ["b", "v"], ["y"], "third"),
    ]
    assert list(layers(model(nodes, {"w": numbers(3, 3), "v": numbers(3, 3)}, (2, 3), "y"))) == ["third"]


def test_weights_that_are_a_port_or_read_in_a_body_are_no_layer() -> None:
    nodes = [helper.make_node("MatMul", ["x", "w"], ["y"], "first")]
    plain = model(nodes, {"w": numbers(3, 3)}, (2, 3), "y")
    assert list(layers(plain)) == ["first"]
    for ports in (plain.graph.output, plain.graph.input):
        ports.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, (3, 3)))
        assert layers(plain) == {}
        del ports[-1]
    body = helper.make_graph([helper.make_node("Neg", ["w"], ["n"])], "body", [], [])
    plain.graph.node.append(helper.make_node("If", ["x"], ["z"], "if", then_branch=body, else_branch=body))
    assert layers(plain) == {}


def test_a_bias_that_two_nodes_read_belongs_to_neither() -> None:
    nodes = [
        helper.make_node("Gemm", ["x", "w", "b"], ["a"], "first"),
        helper.make_node("Gemm", ["a", "v", "b"], ["y"], "second"),
    ]
    constants = {"w": numbers(3, 3), "v": numbers(3, 3), "b": numbers(3)}
    assert layers(model(nodes, constants, (2, 3), "y")) == {}


def test_weights_that_are_computed_are_no_layer() -> None:
    nodes = [helper.make_node("Relu", ["w"], ["v"], "relu"), helper.make_node("MatMul", ["x", "v"], ["y"], "product")]
    assert layers(model(nodes, {"w": numbers(3, 3)}, (2, 3), "y")) == {}


def test_doubles_and_halves_are_no_layers() -> None:
    for kind in (np.float64, np.float16):
        made = conv(numbers(3, 4, 3, 3))
        made.graph.initializer[0].CopyFrom(numpy_helper.from_array(numbers(3, 4, 3, 3).astype(kind), "w"))
        assert layers(made) == {}


# --- written back ---------------------------------------------------------------------------------


def test_unchanged_layers_leave_every_byte() -> None:
    made = chain(["Relu"])
    assert written(made, layers(made).values()).SerializeToString() == made.SerializeToString()


def test_writing_leaves_the_model_that_was_read() -> None:
    made = chain(["Relu"])
    before = made.SerializeToString()
    doubled = [dataclasses.replace(one, weights=one.weights * 2) for one in layers(made).values()]
    assert written(made, doubled).SerializeToString() != before
    assert made.SerializeToString() == before


@pytest.mark.parametrize("transposed", [0, 1])
def test_doubled_weights_and_biases_double_the_answer(transposed: int) -> None:
    weights = numbers(5, 3) if transposed else numbers(3, 5)
    nodes = [helper.make_node("Gemm", ["x", "w", "b"], ["y"], "gemm", transB=transposed)]
    made = model(nodes, {"w": weights, "b": numbers(5)}, (2, 3), "y")
    (layer,) = layers(made).values()
    assert layer.bias is not None
    doubled = dataclasses.replace(layer, weights=layer.weights * 2, bias=layer.bias * 2)
    x = numbers(2, 3, seed=1)
    np.testing.assert_allclose(run(written(made, [doubled]), x), 2 * run(made, x), rtol=1e-6)


# --- channels that may be multiplied --------------------------------------------------------------

HELD = {
    "w1": numbers(4, 4, 3, 3, seed=1),
    "b1": numbers(4, seed=2),
    "w2": numbers(3, 4, 1, 1, seed=3),
    "zero": np.array(0, np.float32),
    "six": np.array(6, np.float32),
    "minus": np.array(-1, np.float32),
    "each": np.abs(numbers(1, 4, 1, 1, seed=4)),
    "slope": np.abs(numbers(4, 1, 1, seed=5)),
}


def chain(between: Sequence[str], **settings: Any) -> Any:
    """A convolution, one operator after another, a convolution; `Clip a b` also reads constants."""
    nodes = [helper.make_node("Conv", ["x", "w1", "b1"], ["t0"], "first", pads=[1, 1, 1, 1])]
    for place, words in enumerate(between):
        kind, *constants = words.split()
        nodes.append(helper.make_node(kind, [f"t{place}", *constants], [f"t{place + 1}"], f"n{place}", **settings))
    nodes.append(helper.make_node("Conv", [f"t{len(between)}", "w2"], ["y"], "last"))
    read = {name for node in nodes for name in node.input}
    return model(nodes, {name: value for name, value in HELD.items() if name in read}, PICTURE, "y")


def multiplied(made: Any) -> Any:
    """The model with channels of every site multiplied by powers of two, which round nothing."""
    known = layers(made)
    for site in channel_sites(made, known):
        factors = 2.0 ** -(np.arange(site.channels) % 4)
        for name in site.makers:
            weights, bias = as_maker(known[name], factors)
            known[name] = dataclasses.replace(known[name], weights=weights, bias=bias)
        for name in site.readers:
            known[name] = dataclasses.replace(known[name], weights=as_reader(known[name], factors))
    return written(made, known.values())


@pytest.mark.parametrize(
    ("between", "settings", "limit"),
    [
        ([], {}, None),
        (["Relu"], {}, None),
        (["LeakyRelu"], {"alpha": 0.25}, None),
        (["Identity", "Relu"], {}, None),
        (["MaxPool"], {"kernel_shape": [2, 3], "strides": [2, 1]}, None),
        (["AveragePool"], {"kernel_shape": [2, 2], "pads": [1, 1, 0, 0]}, None),
        (["GlobalAveragePool"], {}, None),
        (["GlobalMaxPool"], {}, None),
        (["Clip zero six"], {}, 6.0),
        (["Relu", "Clip zero six", "Relu"], {}, 6.0),
    ],
    ids=str,
)
def test_channels_between_two_convolutions_are_free(
    between: list[str], settings: dict[str, Any], limit: float | None
) -> None:
    made = chain(between, **settings)
    (site,) = channel_sites(made, layers(made))
    assert site == (("first",), ("last",), 4, limit)
    x = 0.01 * numbers(*PICTURE, seed=6)  # far below every clip
    changed = multiplied(made)
    assert changed.SerializeToString() != made.SerializeToString()
    np.testing.assert_allclose(run(changed, x), run(made, x), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "between",
    [
        ["Sigmoid"],
        ["Tanh"],
        ["Elu"],
        ["HardSwish"],
        ["Softmax"],
        ["Relu", "Sigmoid"],
        ["Mul each"],
        ["Add each"],
        ["PRelu slope"],
        ["Clip minus six"],  # no ReLU
        ["Clip zero zero"],  # ends nowhere above 0
        ["Clip"],
        ["Clip zero"],
    ],
    ids=str,
)
def test_what_is_not_known_to_keep_channels_apart_forbids_it(between: list[str]) -> None:
    made = chain(between)
    assert set(layers(made)) == {"first", "last"}
    assert channel_sites(made, layers(made)) == []


def test_a_graph_output_between_layers_forbids_it() -> None:
    made = chain(["Relu"])
    made.graph.output.append(helper.make_tensor_value_info("t1", FLOAT, None))
    assert channel_sites(made, layers(made)) == []


def test_a_residual_sum_binds_both_its_makers() -> None:
    held = {name: numbers(4, 4, 1, 1, seed=place) for place, name in enumerate(("wa", "wb", "wc"))}
    nodes = [
        helper.make_node("Conv", ["x", "wa"], ["a"], "a"),
        helper.make_node("Conv", ["a", "wb"], ["b"], "b"),
        helper.make_node("Add", ["a", "b"], ["sum"], "add"),
        helper.make_node("Conv", ["sum", "wc"], ["y"], "c"),
    ]
    made = model(nodes, held, PICTURE, "y")
    (site,) = channel_sites(made, layers(made))
    assert site == (("a", "b"), ("b", "c"), 4, None)
    x = numbers(*PICTURE)
    np.testing.assert_allclose(run(multiplied(made), x), run(made, x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("flattener", ["Flatten", "Reshape"])
def test_a_flattened_pool_leads_channels_into_a_product(flattener: str) -> None:
    read = ["pooled"] if flattener == "Flatten" else ["pooled", "shape"]
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["t"], "first"),
        helper.make_node("GlobalAveragePool", ["t"], ["pooled"], "pool"),
        helper.make_node(flattener, read, ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "v"], ["y"], "last"),
    ]
    held = {"w1": HELD["w1"], "v": numbers(4, 3)}
    held |= {"shape": np.array([1, 4], np.int64)} if flattener == "Reshape" else {}
    made = model(nodes, held, PICTURE, "y")
    (site,) = channel_sites(made, layers(made))
    assert site == (("first",), ("last",), 4, None)
    x = numbers(*PICTURE)
    np.testing.assert_allclose(run(multiplied(made), x), run(made, x), rtol=1e-4, atol=1e-4)


def test_a_flattened_picture_mixes_places_with_channels() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["t"], "first"),
        helper.make_node("Flatten", ["t"], ["flat"], "flat"),
        helper.make_node("Gemm", ["flat", "v"], ["y"], "last"),
    ]
    made = model(nodes, {"w1": HELD["w1"], "v": numbers(4 * 5 * 4, 3)}, PICTURE, "y")
    assert set(layers(made)) == {"first", "last"}
    assert channel_sites(made, layers(made)) == []


def test_products_over_pictures_have_their_channels_elsewhere() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["t"], "first"),
        helper.make_node("MatMul", ["t", "v"], ["y"], "last"),
    ]
    made = model(nodes, {"w": numbers(6, 4, 1, 1), "v": numbers(6, 3)}, PICTURE, "y")
    assert channel_sites(made, layers(made)) == []


def test_a_body_that_may_read_anything_forbids_all() -> None:
    def branch(name: str) -> Any:
        node = helper.make_node("Identity", ["t1"], [name], name + "_node")
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(name, FLOAT, None)])

    made = chain(["Relu"])
    assert len(channel_sites(made, layers(made))) == 1
    made.graph.initializer.append(numpy_helper.from_array(np.array(True), "yes"))
    made.graph.node.append(
        helper.make_node("If", ["yes"], ["z"], "if", then_branch=branch("then"), else_branch=branch("other"))
    )
    made.graph.output.append(helper.make_tensor_value_info("z", FLOAT, None))
    assert channel_sites(made, layers(made)) == []
