"""Random INT8 networks: the generated C, compiled here, gives the reference's bytes, in the arena that was planned."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.codegen import generate, reference
from edgeq.testing import c_models
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite

IMAGE = (1, 9, 7, 4)
UNDEFINED = ("-fsanitize=undefined", "-fno-sanitize-recover=all")


@dataclass
class Network:
    """A graph that grows by one operator at a time; `open` are the activations so far, by shape."""

    draw: Any
    tensors: list[Tensor] = field(default_factory=list)
    nodes: list[Node] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def seed(self) -> np.random.Generator:
        return np.random.default_rng(self.draw(st.integers(0, 2**31)))

    def activation(self, shape: tuple[int, ...], scale: float | None = None, zero: int | None = None) -> str:
        name = f"a{len(self.tensors)}"
        scale = self.draw(st.sampled_from((0.02, 0.05, 0.11))) if scale is None else scale
        zero = self.draw(st.integers(-20, 20)) if zero is None else zero
        self.tensors.append(Tensor(name=name, shape=shape, dtype="int8", scales=(scale,), zero_points=(zero,)))
        self.shapes[name] = shape
        return name

    def grid(self, name: str) -> tuple[float, int]:
        found = next(tensor for tensor in self.tensors if tensor.name == name)
        return found.scales[0], found.zero_points[0]

    def constant(self, values: np.ndarray, scales: tuple[float, ...] = (), axis: int = 0) -> str:
        name = f"c{len(self.tensors)}"
        zeros = (0,) * len(scales)
        made = Tensor(
            name=name,
            shape=values.shape,
            dtype=values.dtype.name,
            data=values,
            scales=scales,
            zero_points=zeros,
            axis=axis if len(scales) > 1 else 0,
        )
        self.tensors.append(made)
        return name

    def add(self, type: str, inputs: tuple[str, ...], output: str, table: str = "", **options: object) -> str:
        node = Node(type=type, inputs=inputs, outputs=(output,), options_table=table, options=options)
        self.nodes.append(node)
        return output

    def weights(self, shape: tuple[int, ...], axis: int, source: str) -> tuple[str, str]:
        """Per-channel weights and a bias for them."""
        random = self.seed()
        count = shape[axis]
        scales = tuple(float(np.float32(one)) for one in random.uniform(0.002, 0.02, count))
        values = random.integers(-127, 128, shape).astype(np.int8)
        bias = random.integers(-3000, 3000, count).astype(np.int32)
        input_scale = self.grid(source)[0]
        bias_scales = tuple(float(np.float32(input_scale) * np.float32(one)) for one in scales)
        return self.constant(values, scales, axis), self.constant(bias, bias_scales)

    def graph(self, source: str, *outputs: str) -> Graph:
        return Graph(tensors=tuple(self.tensors), nodes=tuple(self.nodes), inputs=(source,), outputs=outputs)


def _size(size: int, kernel: int, stride: int, same: bool) -> int:
    return -(-size // stride) if same else (size - kernel) // stride + 1


def _window(net: Network, source: str) -> tuple[tuple[int, int], tuple[int, int], bool, tuple[int, int]]:
    _, height, width, _ = net.shapes[source]
    same = net.draw(st.booleans())
    kernel = net.draw(st.integers(1, min(3, height))), net.draw(st.integers(1, min(3, width)))
    stride = net.draw(st.integers(1, 2)), net.draw(st.integers(1, 2))
    return kernel, stride, same, (_size(height, kernel[0], stride[0], same), _size(width, kernel[1], stride[1], same))


def convolution(net: Network, source: str) -> str:
    kernel, stride, same, (height, width) = _window(net, source)
    out_c = net.draw(st.integers(1, 9))
    weights, bias = net.weights((out_c, *kernel, net.shapes[source][3]), 0, source)
    options = {"strideH": stride[0], "strideW": stride[1], "padding": int(not same)}
    options["fusedActivationFunction"] = net.draw(st.sampled_from((0, 1, 3)))
    output = net.activation((net.shapes[source][0], height, width, out_c))
    return net.add("CONV_2D", (source, weights, bias), output, "Conv2DOptions", **options)


def depthwise(net: Network, source: str) -> str:
    kernel, stride, same, (height, width) = _window(net, source)
    multiplier = net.draw(st.sampled_from((1, 1, 1, 2)))
    channels = net.shapes[source][3] * multiplier
    weights, bias = net.weights((1, *kernel, channels), 3, source)
    options = {"strideH": stride[0], "strideW": stride[1], "padding": int(not same), "depthMultiplier": multiplier}
    output = net.activation((net.shapes[source][0], height, width, channels))
    return net.add("DEPTHWISE_CONV_2D", (source, weights, bias), output, "DepthwiseConv2DOptions", **options)


def pool(net: Network, source: str) -> str:
    kernel, stride, same, (height, width) = _window(net, source)
    type = net.draw(st.sampled_from(("AVERAGE_POOL_2D", "MAX_POOL_2D")))
    options = {"strideH": stride[0], "strideW": stride[1], "padding": int(not same)}
    options |= {"filterHeight": kernel[0], "filterWidth": kernel[1]}
    batch, _, _, channels = net.shapes[source]
    output = net.activation((batch, height, width, channels), *net.grid(source))
    return net.add(type, (source,), output, "Pool2DOptions", **options)


def residual(net: Network, source: str) -> str:
    """ADD of what is there and something of the same shape, which may be older."""
    same = [name for name, shape in net.shapes.items() if shape == net.shapes[source]]
    other = net.draw(st.sampled_from(same))
    return net.add("ADD", (source, other), net.activation(net.shapes[source]), "AddOptions")


def product(net: Network, source: str) -> str:
    other = net.draw(st.sampled_from([name for name, shape in net.shapes.items() if shape == net.shapes[source]]))
    return net.add("MUL", (other, source), net.activation(net.shapes[source]), "MulOptions")


def joined(net: Network, source: str) -> str:
    """CONCATENATION with itself or another on the same grid."""
    batch, height, width, channels = net.shapes[source]
    output = net.activation((batch, height, width, 2 * channels), *net.grid(source))
    return net.add("CONCATENATION", (source, source), output, "ConcatenationOptions", axis=3)


def padded(net: Network, source: str) -> str:
    amounts = np.array([[0, 0], [1, 0], [0, 2], [0, 0]], np.int32)
    batch, height, width, channels = net.shapes[source]
    output = net.activation((batch, height + 1, width + 2, channels), *net.grid(source))
    return net.add("PAD", (source, net.constant(amounts)), output, "PadOptions")


def curve(net: Network, source: str) -> str:
    output = net.activation(net.shapes[source], 1 / 256, -128)
    return net.add("LOGISTIC", (source,), output)


def turned(net: Network, source: str) -> str:
    """A reshape that joins rows and columns, and one that parts them again."""
    batch, height, width, channels = net.shapes[source]
    grid = net.grid(source)
    flat = net.activation((batch, height * width, 1, channels), *grid)
    net.add("RESHAPE", (source, net.constant(np.array(net.shapes[flat], np.int32))), flat)
    back = net.activation((batch, width, height, channels), *grid)
    return net.add("RESHAPE", (flat, net.constant(np.array(net.shapes[back], np.int32))), back)


LAYERS = (convolution, depthwise, pool, residual, product, joined, padded, curve, turned)


def dense(net: Network, source: str) -> str:
    batch = net.shapes[source][0]
    values = int(np.prod(net.shapes[source])) // batch
    out_c = net.draw(st.integers(1, 12))
    random = net.seed()
    scale = 0.004
    weights = net.constant(random.integers(-127, 128, (out_c, values)).astype(np.int8), (scale,))
    bias_scale = float(np.float32(net.grid(source)[0]) * np.float32(scale))
    bias = net.constant(random.integers(-3000, 3000, out_c).astype(np.int32), (bias_scale,))
    output = net.activation((batch, out_c))
    return net.add("FULLY_CONNECTED", (source, weights, bias), output, "FullyConnectedOptions")


def softmax(net: Network, source: str) -> str:
    output = net.activation(net.shapes[source], 1 / 256, -128)
    return net.add("SOFTMAX", (source,), output, "SoftmaxOptions", beta=1.0)


@st.composite
def networks(draw: st.DrawFn) -> Graph:
    """Two to six layers over an image, then perhaps a classifier; perhaps an inner activation as second output."""
    net = Network(draw)
    source = at = net.activation((draw(st.integers(1, 2)), *IMAGE[1:]))
    for layer in draw(st.lists(st.sampled_from(LAYERS), min_size=2, max_size=6)):
        if np.prod(net.shapes[at]) < 6000:
            at = layer(net, at)
    ends = [at]
    if draw(st.booleans()):
        at = softmax(net, dense(net, at))
        ends = [at, *([ends[0]] if draw(st.booleans()) else [])]
    return net.graph(source, *ends)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(networks())
def test_random_networks_give_the_references_bytes(graph: Graph) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = write_tflite(Path(folder) / "model.tflite", graph)
        compiled = generate.compile_model(path)
        model = c_models.Model(compiled, Path(folder), "-O1", *UNDEFINED)
        oracle = reference.open(path)
        random = np.random.default_rng(3)
        for _ in range(4):
            feed = [random.integers(-128, 128, port.shape).astype(np.int8) for port in compiled.inputs]
            assert c_models.differing_bytes(model.run(feed), oracle.run(feed)) == 0
