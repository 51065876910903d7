"""CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, pooling, ADD, SOFTMAX: byte for byte as LiteRT's reference kernels."""

from __future__ import annotations

import ctypes
from typing import Any, NamedTuple

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.codegen import layouts, multipliers
from edgeq.testing import kernels
from edgeq.testing.kernel_cases import cases, check, grids, random_s8, scales, seeds, zero_points
from edgeq.testing.single_op import Grid, channels, reference, single, tensor

Array = NDArray[Any]
PADDINGS = ("SAME", "VALID")
ACTIVATIONS = ("NONE", "RELU", "RELU_N1_TO_1", "RELU6")
_ACTIVATION_NUMBERS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
activations = st.sampled_from(ACTIVATIONS)


class Axis(NamedTuple):
    """One axis of a convolution: input size, kernel, stride, dilation; output size and padding before."""

    size: int
    kernel: int
    stride: int
    dilation: int

    def out(self, padding: str) -> tuple[int, int]:
        reach = (self.kernel - 1) * self.dilation + 1
        if padding == "VALID":
            return (self.size - reach) // self.stride + 1, 0
        out = -(-self.size // self.stride)
        return out, max(0, (out - 1) * self.stride + reach - self.size) // 2


axes = st.builds(Axis, st.integers(1, 9), st.integers(1, 4), st.integers(1, 3), st.integers(1, 2))


def random_weights(seed: int, shape: tuple[int, ...]) -> Array:
    return np.maximum(random_s8(seed + 1, shape), -127).astype(np.int8)


def fitting(seed: int, depth: int, count: int, in_scale: float, out_scale: float) -> tuple[float, ...]:
    """Weight scales that use the output's range more or less; some channels are far off."""
    made = np.random.default_rng(seed + 2)
    middle = out_scale * 128 / (in_scale * 127 * 74 * max(depth, 1) ** 0.5)
    powers = made.normal(0, 1.5, count)
    return tuple(float(one) for one in np.float32(middle * 2.0**powers))


def usable(variant: str, made: list[multipliers.Multiplier], bounds: list[int]) -> bool:
    """Whether the generator would compile this layer with the variant's macros."""
    return "narrow" not in variant or multipliers.is_narrow(made, bounds)


# --- convolutions ----------------------------------------------------------------------------


class ConvCase(NamedTuple):
    """A convolution of either kind."""

    y: Axis
    x: Axis
    padding: str
    batches: int
    in_c: int
    out_c: int
    groups: int
    per_channel: bool
    activation: str
    grid_in: Grid
    grid_out: Grid
    seed: int


def conv_cases(depthwise: bool) -> Any:
    return st.builds(
        ConvCase,
        axes,
        axes,
        st.sampled_from(PADDINGS),
        st.integers(1, 2),
        st.integers(1, 13),
        st.integers(1, 11),
        st.sampled_from([1] if depthwise else [1, 1, 1, 2, 3]),
        st.booleans(),
        activations,
        grids,
        grids,
        seeds,
    ).filter(lambda one: one.y.out(one.padding)[0] > 0 and one.x.out(one.padding)[0] > 0)


class Layer(NamedTuple):
    """A convolution ready to run in both places."""

    params: kernels.Conv2dParams
    feed: Array
    weights: Array
    bias: Array
    made: list[multipliers.Multiplier]
    weight_scales: tuple[float, ...]


def layer(case: ConvCase, depth: int, weight_shape: tuple[int, ...], groups: int) -> Layer:
    (out_h, top), (out_w, left) = case.y.out(case.padding), case.x.out(case.padding)
    count = case.out_c if case.per_channel else 1
    weight_scales = fitting(case.seed, depth, count, case.grid_in.scale, case.grid_out.scale)
    made = multipliers.conv(case.grid_in.scale, weight_scales, case.grid_out.scale)
    clamp = multipliers.clamp(case.activation, *case.grid_out)
    params = kernels.Conv2dParams(
        case.batches, case.y.size, case.x.size, case.in_c, out_h, out_w, case.out_c, groups,
        case.y.kernel, case.x.kernel, case.y.stride, case.x.stride, case.y.dilation, case.x.dilation, top, left,
        -case.grid_in.zero_point, kernels.output_s8(made, case.grid_out.zero_point, clamp),
    )  # fmt: skip
    rng = np.random.default_rng(case.seed + 3)
    bias = rng.integers(-(2**13), 2**13, case.out_c).astype(np.int32)
    feed = random_s8(case.seed, (case.batches, case.y.size, case.x.size, case.in_c))
    return Layer(params, feed, random_weights(case.seed, weight_shape), bias, made, weight_scales)


def reference_conv(case: ConvCase, one: Layer, operator: str, axis: int) -> Array:
    options: dict[str, Any] = {
        "padding": PADDINGS.index(case.padding),
        "strideH": case.y.stride, "strideW": case.x.stride,
        "dilationHFactor": case.y.dilation, "dilationWFactor": case.x.dilation,
        "fusedActivationFunction": _ACTIVATION_NUMBERS[case.activation],
    }  # fmt: skip
    table = "Conv2DOptions"
    if operator == "DEPTHWISE_CONV_2D":
        table = "DepthwiseConv2DOptions"
        options["depthMultiplier"] = case.out_c // case.in_c
    biases = tuple(float(np.float32(case.grid_in.scale) * np.float32(scale)) for scale in one.weight_scales)
    shape = (case.batches, one.params.out_h, one.params.out_w, case.out_c)
    graph = single(
        operator,
        (
            tensor("in", one.feed.shape, case.grid_in),
            channels("weights", one.weights, one.weight_scales, axis),
            channels("bias", one.bias, biases),
        ),
        (tensor("out", shape, case.grid_out),),
        table,
        options,
        version=3,
    )
    return reference(graph, one.feed)[0]


def run_conv(library: ctypes.CDLL, one: Layer, packed: Array) -> Array:
    params = ctypes.byref(one.params)
    output = np.full((one.params.batches, one.params.out_h, one.params.out_w, one.params.out_c), 99, np.int8)
    scratch = kernels.exact_buffer(library.eq_conv2d_s8_get_buffer_size(params))
    pointers = [kernels.pointer(array) for array in (one.feed, packed, one.bias, output, scratch)]
    library.eq_conv2d_s8(params, *pointers)
    return output


def with_groups(case: ConvCase) -> ConvCase:
    return case._replace(in_c=case.in_c * case.groups, out_c=case.out_c * case.groups)


@given(case=conv_cases(depthwise=False).map(with_groups))
@cases(500)
def test_conv2d(libraries: dict[str, ctypes.CDLL], case: ConvCase) -> None:
    per_group = case.in_c // case.groups
    shape = (case.out_c, case.y.kernel, case.x.kernel, per_group)
    one = layer(case, case.y.kernel * case.x.kernel * per_group, shape, case.groups)
    want = reference_conv(case, one, "CONV_2D", 0)
    packed = layouts.pack_conv(one.weights, case.groups)
    bounds = multipliers.accumulator_bounds(one.weights, one.bias, case.grid_in.zero_point)
    scratch = layouts.conv_scratch_bytes(case.y.kernel, case.x.kernel, case.in_c, case.groups)
    for variant, library in libraries.items():
        assert library.eq_conv2d_s8_get_buffer_size(ctypes.byref(one.params)) == scratch
        if usable(variant, one.made, bounds):
            check("CONV_2D", want, run_conv(library, one, packed), variant)


@given(case=conv_cases(depthwise=True))
@cases(500)
def test_depthwise_conv2d(libraries: dict[str, ctypes.CDLL], case: ConvCase) -> None:
    case = case._replace(out_c=case.in_c)
    one = layer(case, case.y.kernel * case.x.kernel, (1, case.y.kernel, case.x.kernel, case.in_c), 1)
    want = reference_conv(case, one, "DEPTHWISE_CONV_2D", 3)
    packed = layouts.pack_depthwise(one.weights)
    bounds = multipliers.accumulator_bounds(one.weights.transpose(3, 0, 1, 2), one.bias, case.grid_in.zero_point)
    for variant, library in libraries.items():
        if usable(variant, one.made, bounds):
            output = np.full(want.shape, 99, np.int8)
            pointers = [kernels.pointer(array) for array in (one.feed, packed, one.bias, output)]
            library.eq_depthwise_conv2d_s8(ctypes.byref(one.params), *pointers)
            check("DEPTHWISE_CONV_2D", want, output, variant)


@given(case=conv_cases(depthwise=True), factor=st.integers(2, 3))
@cases(150)
def test_depthwise_of_a_larger_multiplier_is_a_grouped_convolution(
    libraries: dict[str, ctypes.CDLL], case: ConvCase, factor: int
) -> None:
    case = case._replace(in_c=min(case.in_c, 6))
    case = case._replace(out_c=case.in_c * factor)
    one = layer(case, case.y.kernel * case.x.kernel, (1, case.y.kernel, case.x.kernel, case.out_c), case.in_c)
    want = reference_conv(case, one, "DEPTHWISE_CONV_2D", 3)
    packed = layouts.pack_conv(layouts.multiplied_depthwise(one.weights, case.in_c), case.in_c)
    for variant in ("portable", "dsp"):
        check("DEPTHWISE_CONV_2D", want, run_conv(libraries[variant], one, packed), variant)


# --- dense -----------------------------------------------------------------------------------


def columns(made: list[multipliers.Multiplier]) -> tuple[Array, Array, Array]:
    """Mantissas, left shifts and right shifts as rows, for arrays whose last axis is the channel."""
    mantissas = np.array([one.mantissa for one in made], np.int64)
    shifts = np.array([one.right_shift for one in made], np.int64)
    return mantissas, np.maximum(-shifts, 0), np.maximum(shifts, 0)


def rounded_twice(sums: Array, made: list[multipliers.Multiplier]) -> Array:
    """tflite-micro's rescaling: the product is rounded to 32 bits, then shifted with rounding away from zero."""
    mantissas, left, right = columns(made)
    high = ((sums << left) * mantissas + (1 << 30)) >> 31
    mask = (np.int64(1) << right) - 1
    rounded: Array = (high >> right) + ((high & mask) > (mask >> 1) + (high < 0))
    return rounded


def rounded_once(sums: Array, made: list[multipliers.Multiplier]) -> Array:
    """LiteRT 2.3's FULLY_CONNECTED, and nothing else of it: one rounding, halves up."""
    mantissas, left, right = columns(made)
    total = 31 + right - left
    rounded: Array = (sums * mantissas + (np.int64(1) << (total - 1))) >> total
    return rounded


@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 70), st.integers(1, 21)),
    ends=st.tuples(grids, grids),
    per_channel=st.booleans(),
    activation=activations,
    seed=seeds,
)
@cases(500)
def test_fully_connected(
    libraries: dict[str, ctypes.CDLL],
    sizes: tuple[int, int, int],
    ends: tuple[Grid, Grid],
    per_channel: bool,
    activation: str,
    seed: int,
) -> None:
    batches, in_c, out_c = sizes
    weights, feed = random_weights(seed, (out_c, in_c)), random_s8(seed, (batches, in_c))
    bias = np.random.default_rng(seed + 3).integers(-(2**13), 2**13, out_c).astype(np.int32)
    weight_scales = fitting(seed, in_c, out_c if per_channel else 1, ends[0].scale, ends[1].scale)
    made = multipliers.dense(ends[0].scale, weight_scales, ends[1].scale)
    biases = tuple(float(np.float32(ends[0].scale) * np.float32(scale)) for scale in weight_scales)
    graph = single(
        "FULLY_CONNECTED",
        (
            tensor("in", feed.shape, ends[0]),
            channels("weights", weights, weight_scales),
            channels("bias", bias, biases),
        ),
        (tensor("out", (batches, out_c), ends[1]),),
        "FullyConnectedOptions",
        {"fusedActivationFunction": _ACTIVATION_NUMBERS[activation]},
        version=4,
    )
    clamp = multipliers.clamp(activation, *ends[1])
    sums = (feed.astype(np.int64) - ends[0].zero_point) @ weights.T.astype(np.int64) + bias
    once = np.clip(rounded_once(sums, made) + ends[1].zero_point, *clamp).astype(np.int8)
    check("FULLY_CONNECTED", reference(graph, feed)[0], once, "LiteRT against its own rounding")
    want = np.clip(rounded_twice(sums, made) + ends[1].zero_point, *clamp).astype(np.int8)
    out = kernels.output_s8(made, ends[1].zero_point, clamp)
    params = ctypes.byref(kernels.FullyConnectedParams(batches, in_c, out_c, -ends[0].zero_point, out))
    packed = layouts.pack_dense(weights)
    bounds = multipliers.accumulator_bounds(weights, bias, ends[0].zero_point)
    for variant, library in libraries.items():
        if not usable(variant, made, bounds):
            continue
        size = library.eq_fully_connected_s8_get_buffer_size(params)
        assert size == layouts.dense_scratch_bytes(in_c)
        output, scratch = np.full(want.shape, 99, np.int8), kernels.exact_buffer(size)
        pointers = [kernels.pointer(array) for array in (feed, packed, bias, output, scratch)]
        library.eq_fully_connected_s8(params, *pointers)
        check("FULLY_CONNECTED", want, output, variant)


# --- pooling, addition, softmax --------------------------------------------------------------


@given(
    y=axes, x=axes, padding=st.sampled_from(PADDINGS), sizes=st.tuples(st.integers(1, 2), st.integers(1, 7)),
    grid=grids, activation=activations, kind=st.sampled_from(["AVERAGE", "MAX"]), seed=seeds,
)  # fmt: skip
@cases(400)
def test_pooling(
    libraries: dict[str, ctypes.CDLL],
    y: Axis,
    x: Axis,
    padding: str,
    sizes: tuple[int, int],
    grid: Grid,
    activation: str,
    kind: str,
    seed: int,
) -> None:
    y, x = y._replace(dilation=1), x._replace(dilation=1)
    (out_h, top), (out_w, left) = y.out(padding), x.out(padding)
    if out_h < 1 or out_w < 1:
        return
    feed = random_s8(seed, (sizes[0], y.size, x.size, sizes[1]))
    shape = (sizes[0], out_h, out_w, sizes[1])
    options = {
        "padding": PADDINGS.index(padding), "strideH": y.stride, "strideW": x.stride,
        "filterHeight": y.kernel, "filterWidth": x.kernel,
        "fusedActivationFunction": _ACTIVATION_NUMBERS[activation],
    }  # fmt: skip
    ends = (tensor("in", feed.shape, grid),), (tensor("out", shape, grid),)
    want = reference(single(f"{kind}_POOL_2D", *ends, "Pool2DOptions", options, version=2), feed)[0]
    params = kernels.PoolParams(
        sizes[0], y.size, x.size, sizes[1], out_h, out_w, y.kernel, x.kernel, y.stride, x.stride, top, left,
        *multipliers.clamp(activation, *grid),
    )  # fmt: skip
    output = np.full(shape, 99, np.int8)
    run = getattr(libraries["portable"], f"eq_{kind.lower()}_pool_s8")
    run(ctypes.byref(params), kernels.pointer(feed), kernels.pointer(output))
    check(f"{kind}_POOL_2D", want, output, "portable")


@given(
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 40)),
    scale=scales,
    zero=zero_points,
    beta=st.floats(0.1, 4),
    seed=seeds,
)
@cases(400)
def test_softmax(
    libraries: dict[str, ctypes.CDLL], sizes: tuple[int, int], scale: float, zero: int, beta: float, seed: int
) -> None:
    feed = random_s8(seed, sizes)
    if seed % 3 == 0:
        feed = (feed // 16).astype(np.int8)
    ends = (tensor("in", sizes, Grid(scale, zero)),), (tensor("out", sizes, Grid(1 / 256, -128)),)
    want = reference(single("SOFTMAX", *ends, "SoftmaxOptions", {"beta": beta}, version=2), feed)[0]
    params = kernels.SoftmaxParams(*sizes, *multipliers.softmax(scale, beta))
    output = np.full(sizes, 99, np.int8)
    libraries["portable"].eq_softmax_s8(ctypes.byref(params), kernels.pointer(feed), kernels.pointer(output))
    check("SOFTMAX", want, output, "portable")
    libraries["portable"].eq_softmax_s8(ctypes.byref(params), kernels.pointer(feed), kernels.pointer(feed))
    check("SOFTMAX", want, feed, "in place")
