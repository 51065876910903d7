"""TFLite layers as numbers: they compute what LiteRT computes, and their channels may be multiplied where found."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters.tflite.layers import as_stored, channel_sites, layers, write
from edgeq.quantization.equalization import as_maker, as_reader
from edgeq.quantization.layers import Layer, columns
from edgeq.runtimes import litert
from edgeq.testing.tflite import Graph, Node, Tensor, tflite_bytes

Array = NDArray[Any]
SAME, VALID = 0, 1
NONE, RELU, RELU_N1_TO_1, RELU6, TANH = range(5)
PICTURE = (1, 7, 6, 4)


def numbers(*shape: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def constant(name: str, value: Array) -> Tensor:
    return Tensor(name=name, shape=value.shape, dtype=str(value.dtype), data=value)


def graph(tensors: Sequence[Tensor], nodes: Sequence[Node], outputs: Sequence[str] = ("y",)) -> Graph:
    return Graph(tensors=tuple(tensors), nodes=tuple(nodes), inputs=("x",), outputs=tuple(outputs))


def parsed(*graphs: Graph) -> Any:
    return flatbuffer.parse(tflite_bytes(*graphs))


def run(content: bytes, x: Array, folder: Path) -> Array:
    path = folder / "model.tflite"
    path.write_bytes(content)
    return np.asarray(litert.open(path, kernels="reference").run([x])[0])


def computed(layer: Layer, x: Array) -> Array:
    """(outputs, positions) by the layer's numbers alone."""
    seen = columns(layer, x, np.random.default_rng(0), most=100_000)
    bias = 0 if layer.bias is None else layer.bias[:, None]
    return np.asarray((layer.matrix() @ seen).reshape(len(layer.weights), -1) + bias)


def made_size(padding: int, size: int, kernel: int, stride: int, dilation: int) -> int:
    span = (kernel - 1) * dilation + 1
    return -(-size // stride) if padding == SAME else (size - span) // stride + 1


def convolved(
    kernel: Array,
    *,
    depthwise: bool = False,
    padding: int = VALID,
    strides: tuple[int, int] = (1, 1),
    dilations: tuple[int, int] = (1, 1),
    fused: int = NONE,
    shape: tuple[int, ...] = PICTURE,
) -> Graph:
    """One convolution with a bias."""
    outputs = kernel.shape[3] if depthwise else kernel.shape[0]
    sizes = [made_size(padding, *each) for each in zip(shape[1:3], kernel.shape[1:3], strides, dilations, strict=True)]
    options: dict[str, int] = {
        "padding": padding,
        "strideH": strides[0],
        "strideW": strides[1],
        "dilationHFactor": dilations[0],
        "dilationWFactor": dilations[1],
        "fusedActivationFunction": fused,
    }
    if depthwise:
        options["depthMultiplier"] = outputs // shape[3]
    kind = "DepthwiseConv2D" if depthwise else "Conv2D"
    node = Node(
        type="DEPTHWISE_CONV_2D" if depthwise else "CONV_2D",
        inputs=("x", "w", "b"),
        outputs=("y",),
        options_table=f"{kind}Options",
        options=options,
        version=3,
    )
    tensors = (
        Tensor(name="x", shape=shape),
        constant("w", kernel),
        constant("b", numbers(outputs, seed=1)),
        Tensor(name="y", shape=(1, *sizes, outputs)),
    )
    return graph(tensors, [node])


WINDOWS = [
    ((3, 3), {}),
    ((3, 3), {"padding": SAME}),
    ((2, 3), {"padding": SAME}),
    ((2, 2), {"padding": SAME, "strides": (2, 2)}),
    ((3, 3), {"padding": SAME, "strides": (2, 2)}),
    ((5, 4), {"padding": SAME, "strides": (2, 2)}),
    ((1, 1), {"padding": SAME, "strides": (3, 3)}),  # nothing is missing, some is skipped
    ((1, 1), {"strides": (2, 2)}),
    ((3, 2), {"strides": (2, 2)}),
    ((3, 2), {"padding": SAME, "dilations": (2, 2)}),
    ((2, 2), {"dilations": (2, 2)}),
    ((7, 6), {}),
]


@pytest.mark.parametrize(("size", "settings"), [*WINDOWS, ((3, 3), {"padding": SAME, "strides": (2, 1)})], ids=str)
def test_a_convolution_computes_what_the_runtime_computes(
    tmp_path: Path, size: tuple[int, int], settings: dict[str, Any]
) -> None:
    made = tflite_bytes(convolved(numbers(5, *size, 4), **settings))
    x = numbers(*PICTURE, seed=2)
    (layer,) = layers(flatbuffer.parse(made)).values()
    assert (layer.name, layer.source, layer.result, layer.groups, layer.channels_last) == ("y", "x", "y", 1, True)
    np.testing.assert_allclose(computed(layer, x), run(made, x, tmp_path).reshape(-1, 5).T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("multiplier", [1, 3])
@pytest.mark.parametrize(("size", "settings"), WINDOWS, ids=str)
def test_a_depthwise_convolution_computes_what_the_runtime_computes(
    tmp_path: Path, size: tuple[int, int], settings: dict[str, Any], multiplier: int
) -> None:
    made = tflite_bytes(convolved(numbers(1, *size, 4 * multiplier), depthwise=True, **settings))
    x = numbers(*PICTURE, seed=2)
    (layer,) = layers(flatbuffer.parse(made)).values()
    assert (layer.groups, layer.inputs) == (4, 4)
    wanted = run(made, x, tmp_path).reshape(-1, 4 * multiplier).T
    np.testing.assert_allclose(computed(layer, x), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("inputs", "outputs", "groups"), [(2, 6, 2), (2, 2, 2), (1, 4, 4), (1, 8, 4)])
def test_a_grouped_convolution_has_as_many_groups_as_its_kernel_is_narrow(
    inputs: int, outputs: int, groups: int
) -> None:
    (layer,) = layers(parsed(convolved(numbers(outputs, 3, 3, inputs)))).values()
    assert (layer.groups, layer.inputs, len(layer.weights)) == (groups, 4, outputs)


def test_a_kernel_whose_depth_does_not_divide_the_picture_is_no_layer() -> None:
    assert layers(parsed(convolved(numbers(5, 3, 3, 3)))) == {}


@pytest.mark.parametrize("shape", [(1, -1, 6, 4), (1, 7, -1, 4)])
def test_a_picture_of_open_size_is_no_layer(shape: tuple[int, ...]) -> None:
    model = parsed(convolved(numbers(5, 1, 1, 4), shape=PICTURE))
    model.subgraphs[0].tensors[0].shape = list(shape)
    assert layers(model) == {}


@pytest.mark.parametrize(
    ("shape", "depthwise"),
    [((5, 3, 2, 4), False), ((1, 3, 2, 4), False), ((1, 3, 2, 4), True), ((5, 1, 1, 4), False)],
)
def test_numbers_of_a_convolution_go_back_to_where_they_were(shape: tuple[int, ...], depthwise: bool) -> None:
    kernel = numbers(*shape)
    (layer,) = layers(parsed(convolved(kernel, depthwise=depthwise))).values()
    np.testing.assert_array_equal(as_stored(layer, shape, layer.weights), kernel)


# --- fully connected ------------------------------------------------------------------------------


def dense(
    weights: Array, bias: Array | None, shape: tuple[int, ...], *, fused: int = NONE, keep: bool = False
) -> Graph:
    read = ("x", "w", "b") if bias is not None else ("x", "w", "")
    outputs = (*shape[:-1], len(weights)) if keep else (int(np.prod(shape)) // weights.shape[1], len(weights))
    node = Node(
        type="FULLY_CONNECTED",
        inputs=read,
        outputs=("y",),
        options_table="FullyConnectedOptions",
        options={"keepNumDims": keep},
        version=5,
    )
    tensors = [Tensor(name="x", shape=shape), constant("w", weights), Tensor(name="y", shape=outputs)]
    return graph(tensors + ([constant("b", bias)] if bias is not None else []), [node])


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize(
    ("shape", "keep"), [((2, 6), False), ((2, 5, 6), True), ((2, 5, 6), False), ((1, 2, 3), False)]
)
def test_a_dense_layer_computes_what_the_runtime_computes(
    tmp_path: Path, has_bias: bool, shape: tuple[int, ...], keep: bool
) -> None:
    made = tflite_bytes(dense(numbers(5, 6), numbers(5, seed=1) if has_bias else None, shape, keep=keep))
    x = numbers(*shape, seed=2)
    (layer,) = layers(flatbuffer.parse(made)).values()
    assert (layer.window, layer.groups, layer.inputs, layer.bias is not None) == (None, 1, 6, has_bias)
    np.testing.assert_allclose(computed(layer, x), run(made, x, tmp_path).reshape(-1, 5).T, rtol=1e-4, atol=1e-4)


def test_doubled_weights_and_biases_double_the_answer(tmp_path: Path) -> None:
    made = tflite_bytes(dense(numbers(5, 6), numbers(5, seed=1), (2, 6)))
    model = flatbuffer.parse(made)
    (layer,) = layers(model).values()
    assert layer.bias is not None
    write(model, [dataclasses.replace(layer, weights=layer.weights * 2, bias=layer.bias * 2)])
    x = numbers(2, 6, seed=2)
    np.testing.assert_array_equal(run(flatbuffer.dump(model), x, tmp_path), 2 * run(made, x, tmp_path))


@pytest.mark.parametrize("kind", [np.int8, np.float16, np.float64])
def test_weights_that_are_no_plain_floats_are_no_layer(kind: type) -> None:
    assert layers(parsed(dense(np.ones((5, 6)).astype(kind), None, (2, 6)))) == {}


def test_weights_that_are_read_from_outside_are_no_layer() -> None:
    made = dense(numbers(5, 6), numbers(5), (2, 6))
    opened = tuple(dataclasses.replace(one, data=None) if one.name == "w" else one for one in made.tensors)
    assert layers(parsed(dataclasses.replace(made, tensors=opened, inputs=("x", "w")))) == {}


def two_dense(second: str = "v", bias: str = "c") -> Graph:
    """x -> t -> y; names of what the second layer reads."""
    settings: dict[str, Any] = {"type": "FULLY_CONNECTED", "options_table": "FullyConnectedOptions"}
    tensors = [
        Tensor(name="x", shape=(2, 4)),
        Tensor(name="t", shape=(2, 4)),
        Tensor(name="y", shape=(2, 4)),
        *(constant(name, numbers(4, 4, seed=place)) for place, name in enumerate(("w", "v"))),
        *(constant(name, numbers(4, seed=place)) for place, name in enumerate(("b", "c"))),
    ]
    nodes = [
        Node(inputs=("x", "w", "b"), outputs=("t",), **settings),
        Node(inputs=("t", second, bias), outputs=("y",), **settings),
    ]
    return graph(tensors, nodes)


@pytest.mark.parametrize(("second", "bias", "found"), [("v", "c", ["t", "y"]), ("w", "c", []), ("v", "b", [])])
def test_constants_that_two_layers_read_belong_to_neither(second: str, bias: str, found: list[str]) -> None:
    assert list(layers(parsed(two_dense(second, bias)))) == found


def test_weights_that_are_an_output_too_are_no_layer() -> None:
    made = two_dense()
    assert list(layers(parsed(graph(made.tensors, made.nodes, ("y", "v"))))) == ["t"]


def test_two_tensors_of_one_buffer_belong_to_neither() -> None:
    model = parsed(two_dense())
    tensors = {one.name.decode(): one for one in model.subgraphs[0].tensors}
    tensors["v"].buffer = tensors["w"].buffer
    assert layers(model) == {}


def test_a_buffer_that_another_subgraph_has_too_belongs_to_neither() -> None:
    model = parsed(two_dense(), two_dense())
    first, other = ({one.name.decode(): one for one in part.tensors} for part in model.subgraphs)
    other["v"].buffer = first["v"].buffer
    assert list(layers(model)) == ["t"]


def test_bodies_of_other_subgraphs_forbid_every_site() -> None:
    alone, beside = parsed(two_dense()), parsed(two_dense(), two_dense())
    assert len(channel_sites(alone, layers(alone))) == 1
    assert channel_sites(beside, layers(beside)) == []


# --- channels that may be multiplied --------------------------------------------------------------

POOLED = (1, 6, 5, 4)
POOL = {"padding": VALID, "strideH": 1, "strideW": 1, "filterHeight": 2, "filterWidth": 2}


def chain(
    between: Node | None = None, *, fused: int = NONE, held: Sequence[Tensor] = (), shape: Sequence[int] = ()
) -> Graph:
    """A convolution, perhaps an operator from `t` to `u` of that shape, a convolution of one pixel."""
    first, last = convolved(numbers(4, 3, 3, 4), padding=SAME, fused=fused), convolved(numbers(3, 1, 1, 4, seed=3))
    size = tuple(shape) or PICTURE
    tensors = [
        *(dataclasses.replace(one, name={"y": "t"}.get(one.name, one.name)) for one in first.tensors),
        *(dataclasses.replace(one, name=one.name + "2") for one in last.tensors if one.data is not None),
        Tensor(name="u", shape=size),
        Tensor(name="y", shape=(*size[:3], 3)),
        *held,
    ]
    nodes = [
        dataclasses.replace(first.nodes[0], outputs=("t",)),
        *([between] if between is not None else []),
        dataclasses.replace(last.nodes[0], inputs=("u" if between is not None else "t", "w2", "b2")),
    ]
    return graph(tensors, nodes)


def multiplied(content: bytes) -> bytes:
    """The model with channels of every site multiplied by powers of two, which round nothing."""
    model = flatbuffer.parse(content)
    known = layers(model)
    for site in channel_sites(model, known):
        factors = 2.0 ** -(np.arange(site.channels) % 4)
        for name in site.makers:
            weights, bias = as_maker(known[name], factors)
            known[name] = dataclasses.replace(known[name], weights=weights, bias=bias)
        for name in site.readers:
            known[name] = dataclasses.replace(known[name], weights=as_reader(known[name], factors))
    write(model, known.values())
    return flatbuffer.dump(model)


def through(kind: str, table: str = "", **options: Any) -> Node:
    return Node(type=kind, inputs=("t",), outputs=("u",), options_table=table, options=options, version=2)


def padded(*rows: tuple[int, int]) -> tuple[Node, list[Tensor]]:
    node = Node(type="PAD", inputs=("t", "rows"), outputs=("u",), options_table="PadOptions")
    return node, [constant("rows", np.array(rows, np.int32))]


PADDED = padded((0, 0), (1, 2), (0, 1), (0, 0))


@pytest.mark.parametrize(
    ("made", "limit"),
    [
        (chain(), None),
        (chain(fused=RELU), None),
        (chain(fused=RELU6), 6.0),
        (chain(through("RELU")), None),
        (chain(through("RELU6")), 6.0),
        (chain(through("RELU"), fused=RELU6), 6.0),
        (chain(through("LEAKY_RELU", "LeakyReluOptions", alpha=0.25)), None),
        (chain(through("MAX_POOL_2D", "Pool2DOptions", **POOL), shape=POOLED), None),
        (chain(through("AVERAGE_POOL_2D", "Pool2DOptions", **POOL), shape=POOLED), None),
        (
            chain(through("MAX_POOL_2D", "Pool2DOptions", **POOL, fusedActivationFunction=RELU6), shape=POOLED),
            6.0,
        ),
        (chain(PADDED[0], held=PADDED[1], shape=(1, 10, 7, 4)), None),
    ],
)
def test_channels_between_two_convolutions_are_free(tmp_path: Path, made: Graph, limit: float | None) -> None:
    content = tflite_bytes(made)
    model = flatbuffer.parse(content)
    (site,) = channel_sites(model, layers(model))
    assert site == (("t",), ("y",), 4, limit)
    changed = multiplied(content)
    assert changed != content
    x = 0.01 * numbers(*PICTURE, seed=6)
    found, before = run(changed, x, tmp_path), run(content, x, tmp_path)
    np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-6)


CROSSED = padded((0, 0), (0, 0), (0, 0), (0, 1))


@pytest.mark.parametrize(
    "made",
    [
        chain(fused=RELU_N1_TO_1),
        chain(fused=TANH),
        chain(through("LOGISTIC")),
        chain(through("TANH")),
        chain(through("HARD_SWISH", "HardSwishOptions")),
        chain(through("ELU")),
        chain(through("MAX_POOL_2D", "Pool2DOptions", **POOL, fusedActivationFunction=TANH), shape=POOLED),
        chain(CROSSED[0], held=CROSSED[1], shape=(1, 7, 6, 5)),
        chain(through("RESHAPE", "ReshapeOptions", newShape=[1, 6, 7, 4]), shape=(1, 6, 7, 4)),
    ],
)
def test_what_is_not_known_to_keep_channels_apart_forbids_it(made: Graph) -> None:
    model = parsed(made)
    assert channel_sites(model, layers(model)) == []


def test_an_output_of_the_model_between_layers_forbids_it() -> None:
    model = parsed(dataclasses.replace(chain(), outputs=("y", "t")))
    assert channel_sites(model, layers(model)) == []


@pytest.mark.parametrize(
    ("axes", "free"),
    [((1, 2), True), ((2, 1), True), ((-3, -2), True), ((1,), False), ((1, 3), False), ((2, 3), False)],
)
def test_a_mean_leads_channels_into_a_dense_layer_only_over_rows_and_columns(axes: tuple[int, ...], free: bool) -> None:
    first = convolved(numbers(4, 1, 1, 4))
    kept = tuple(size for axis, size in enumerate(PICTURE) if axis not in {one % 4 for one in axes})
    tensors = [
        *(dataclasses.replace(one, name={"y": "t"}.get(one.name, one.name)) for one in first.tensors),
        constant("axes", np.array(axes, np.int32)),
        Tensor(name="u", shape=kept),
        constant("v", numbers(3, kept[-1])),
        Tensor(name="y", shape=(int(np.prod(kept[:-1])), 3)),
    ]
    nodes = [
        dataclasses.replace(first.nodes[0], outputs=("t",)),
        Node(type="MEAN", inputs=("t", "axes"), outputs=("u",), options_table="ReducerOptions"),
        Node(type="FULLY_CONNECTED", inputs=("u", "v"), outputs=("y",), options_table="FullyConnectedOptions"),
    ]
    model = parsed(graph(tensors, nodes))
    assert len(layers(model)) == 2
    assert bool(channel_sites(model, layers(model))) == free
