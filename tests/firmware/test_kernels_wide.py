"""int16 activations: every operator as it is lowered, byte for byte as LiteRT's reference kernels."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.codegen import multipliers, tables
from edgeq.codegen.twins import int16 as twins
from edgeq.codegen.twins.part import scaled
from edgeq.errors import BuildError
from edgeq.testing.kernel_cases import cases, check, random_s8, random_s16, seeds
from edgeq.testing.single_op import Grid, channels, constant, reference, single, tensor
from edgeq.testing.steps import Stepper
from edgeq.testing.tflite import Graph, Tensor

Array = NDArray[Any]
Libraries = dict[str, ctypes.CDLL]
ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
UNIT = Grid(2.0**-15)

scales = st.floats(-15, -4).map(lambda power: float(np.float32(2.0**power)))
shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)
activations = st.sampled_from(sorted(ACTIVATIONS))


def wide(name: str, shape: tuple[int, ...], scale: float) -> Tensor:
    return tensor(name, shape, Grid(scale), "int16")


def compare(libraries: Libraries, graph: Graph, *feeds: Array, want: list[Array] | None = None) -> None:
    """Both paths of the kernels against LiteRT, or against `want`."""
    wanted = want or reference(graph, *feeds)
    with tempfile.TemporaryDirectory() as folder:
        stepper = Stepper(Path(folder), graph)
    for variant in ("portable", "dsp"):
        for expected, got in zip(wanted, stepper.run(libraries[variant], feeds), strict=True):
            check(f"{graph.nodes[0].type} int16", expected, got, variant)


# --- layers with weights ---------------------------------------------------------------------


class Case(NamedTuple):
    """A convolution's geometry and scales; output scales follow from what the sums reach."""

    size: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    same: bool
    batches: int
    in_c: int
    out_c: int
    per_channel: bool
    activation: str
    scale: float
    fit: float
    seed: int

    def output(self) -> tuple[int, int]:
        return tuple(
            -(-size // stride) if self.same else (size - (kernel - 1) * dilation - 1) // stride + 1
            for size, kernel, stride, dilation in zip(self.size, self.kernel, self.stride, self.dilation, strict=True)
        )  # type: ignore[return-value]

    def weights(self, shape: tuple[int, ...], count: int, axis: int) -> tuple[Tensor, Tensor, float]:
        """Weights, biases, and an output scale that the outputs fill more or less."""
        random = np.random.default_rng(self.seed)
        count = count if self.per_channel else 1
        own = tuple(float(one) for one in np.float32(2.0 ** random.uniform(-10, -5, count)))
        values = np.maximum(random_s8(self.seed + 1, shape), -127).astype(np.int8)
        size = shape[axis]
        bias = random.integers(-(2**20), 2**20, size) * random.choice([1, 2**11], size)
        depth = values.size / size
        out = float(np.float32(self.scale * max(own) * 74 * depth**0.5 * self.fit))
        names = channels("w", values, own, axis), channels("b", bias, [self.scale * one for one in own])
        return *names, out

    def options(self) -> dict[str, Any]:
        return {
            "padding": int(not self.same), "strideH": self.stride[0], "strideW": self.stride[1],
            "dilationHFactor": self.dilation[0], "dilationWFactor": self.dilation[1],
            "fusedActivationFunction": ACTIVATIONS[self.activation],
        }  # fmt: skip


def two(most: int) -> Any:
    return st.tuples(st.integers(1, most), st.integers(1, most))


layers = st.builds(
    Case, two(7), two(4), two(3), two(2), st.booleans(), st.integers(1, 2), st.integers(1, 9), st.integers(1, 11),
    st.booleans(), activations, scales, st.sampled_from([0.1, 0.5, 1, 2, 40]), seeds,
).filter(lambda one: min(one.output()) > 0)  # fmt: skip


@given(case=layers, groups=st.sampled_from([1, 1, 1, 2, 3]))
@cases(600)
def test_conv2d(libraries: Libraries, case: Case, groups: int) -> None:
    in_c, out_c = case.in_c * groups, case.out_c * groups
    weights, bias, out = case.weights((out_c, *case.kernel, case.in_c), out_c, 0)
    feed = random_s16(case.seed, (case.batches, *case.size, in_c))
    output = wide("y", (case.batches, *case.output(), out_c), out)
    inputs = [wide("x", feed.shape, case.scale), weights, bias]
    compare(libraries, single("CONV_2D", inputs, [output], "Conv2DOptions", case.options(), version=5), feed)


@given(case=layers, factor=st.sampled_from([1, 1, 1, 2]), has_bias=st.booleans())
@cases(600)
def test_depthwise_conv2d(libraries: Libraries, case: Case, factor: int, has_bias: bool) -> None:
    assume(case.dilation == (1, 1) or case.stride == (1, 1))
    channels_out = case.in_c * factor
    weights, bias, out = case.weights((1, *case.kernel, channels_out), channels_out, 3)
    feed = random_s16(case.seed, (case.batches, *case.size, case.in_c))
    output = wide("y", (case.batches, *case.output(), channels_out), out)
    inputs = [wide("x", feed.shape, case.scale), weights, *([bias] if has_bias else [])]
    options = {**case.options(), "depthMultiplier": factor}
    compare(
        libraries, single("DEPTHWISE_CONV_2D", inputs, [output], "DepthwiseConv2DOptions", options, version=6), feed
    )


@given(case=layers, has_bias=st.booleans())
@cases(300)
def test_transpose_conv(libraries: Libraries, case: Case, has_bias: bool) -> None:
    """Output sizes are those that the convolution which it turns around takes."""
    sizes = tuple(
        size * stride if case.same else (size - 1) * stride + kernel
        for size, stride, kernel in zip(case.size, case.stride, case.kernel, strict=True)
    )
    weights, bias, out = case.weights((case.out_c, *case.kernel, case.in_c), case.out_c, 0)
    feed = random_s16(case.seed, (case.batches, *case.size, case.in_c))
    shape = (case.batches, *sizes, case.out_c)
    inputs = [constant("s", np.array(shape, np.int32)), weights, wide("x", feed.shape, case.scale)]
    options = {key: value for key, value in case.options().items() if key in ("padding", "strideH", "strideW")}
    graph = single(
        "TRANSPOSE_CONV", [*inputs, *([bias] if has_bias else [])], [wide("y", shape, out)],
        "TransposeConvOptions", options, version=4,
    )  # fmt: skip
    compare(libraries, graph, feed)


@given(case=layers, rows=st.integers(1, 4), depth=st.integers(1, 70), has_bias=st.booleans())
@cases(500)
def test_fully_connected(libraries: Libraries, case: Case, rows: int, depth: int, has_bias: bool) -> None:
    """Multipliers of 16 bits, as in convolutions; LiteRT 2.3 multiplies by 31 bits, else it computes the same."""
    weights, bias, out = case.weights((case.out_c, depth), case.out_c, 0)
    feed = random_s16(case.seed, (rows, depth))
    options = {"fusedActivationFunction": ACTIVATIONS[case.activation]}
    inputs = [wide("x", feed.shape, case.scale), weights, *([bias] if has_bias else [])]
    output = wide("y", (rows, case.out_c), out)
    graph = single("FULLY_CONNECTED", inputs, [output], "FullyConnectedOptions", options, version=7)
    sums = feed.astype(np.int64) @ np.asarray(weights.data, np.int64).T
    sums += np.asarray(bias.data, np.int64) if has_bias else 0
    made = multipliers.dense(case.scale, weights.scales, out) * (case.out_c // len(weights.scales))
    limits = multipliers.clamp(case.activation, out, 0, "int16")
    if has_bias:
        exact = [multiplied(sums[:, c], m, s + 31) for c, (m, s) in enumerate(made)]
        theirs = np.clip(np.stack(exact, axis=1), *limits).astype(np.int16)
        check("FULLY_CONNECTED int16", reference(graph, feed)[0], theirs, "NumPy against LiteRT")
    rounded = [multiplied(sums[:, c], *multipliers.wide_output(one)) for c, one in enumerate(made)]
    compare(libraries, graph, feed, want=[np.clip(np.stack(rounded, axis=1), *limits).astype(np.int16)])


def multiplied(sums: Array, mantissa: int, shift: int) -> Array:
    """sums * mantissa / 2^shift, halves up, in Python's integers."""
    return np.array([(int(one) * mantissa + (1 << shift >> 1)) >> shift for one in sums])


@pytest.mark.parametrize("depth", [503, 504, 505, 508, 1008, 1012, 1500])
@pytest.mark.parametrize("out_c", [1, 4, 6])
def test_sums_that_leave_32_bits(libraries: Libraries, depth: int, out_c: int) -> None:
    """All values at an end of their range: a row's products need more than 32 bits."""
    feed = np.where(np.arange(2 * depth).reshape(1, 2, 1, depth) % 2, -32768, 32767).astype(np.int16)
    values = np.where(np.arange(out_c * depth).reshape(out_c, 1, 1, depth) % 2, -128, 127).astype(np.int8)
    bias = np.full(out_c, 2**33, np.int64)
    inputs = [wide("x", feed.shape, 0.001), channels("w", values, [0.001]), channels("b", bias, [1e-6])]
    output = wide("y", (1, 2, 1, out_c), float(np.float32(1e-6 * depth * 127)))
    options = {"padding": 1, "strideH": 1, "strideW": 1}
    compare(libraries, single("CONV_2D", inputs, [output], "Conv2DOptions", options, version=5), feed)


# --- pools, two operands, one operand --------------------------------------------------------


@given(case=layers, operator=st.sampled_from(["AVERAGE_POOL_2D", "MAX_POOL_2D"]))
@cases(300)
def test_pools(libraries: Libraries, case: Case, operator: str) -> None:
    case = case._replace(dilation=(1, 1))
    assume(min(case.output()) > 0)
    feed = random_s16(case.seed, (case.batches, *case.size, case.in_c))
    options = {key: value for key, value in case.options().items() if not key.startswith("dilation")}
    options |= {"filterHeight": case.kernel[0], "filterWidth": case.kernel[1]}
    ends = [wide("x", feed.shape, case.scale)], [wide("y", (case.batches, *case.output(), case.in_c), case.scale)]
    compare(libraries, single(operator, *ends, "Pool2DOptions", options, version=3), feed)


@st.composite
def pairs(draw: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast."""
    whole = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    other = [size if draw(st.booleans()) else 1 for size in whole]
    return tuple(whole), tuple(other[draw(st.integers(0, len(other) - 1)) :])


def feeds_of(shape: tuple[tuple[int, ...], tuple[int, ...]], seed: int) -> list[Array]:
    return [random_s16(seed + number, one) for number, one in enumerate(shape)]


def not_a_power_of_two(scale: float) -> bool:
    return multipliers.power_of_two(scale) is None


@given(
    shape=pairs(), a=scales, b=scales, fit=st.floats(0.3, 4), activation=activations,
    operator=st.sampled_from(["ADD", "SUB"]), seed=seeds,
)  # fmt: skip
@cases(500)
def test_add_and_sub(
    libraries: Libraries, shape: Any, a: float, b: float, fit: float, activation: str, operator: str, seed: int
) -> None:
    assume(any(map(not_a_power_of_two, (a, b))))
    feeds, out = feeds_of(shape, seed), float(np.float32(max(a, b) * fit))
    ends = [wide("a", shape[0], a), wide("b", shape[1], b)], [wide("y", shape[0], out)]
    options = {"fusedActivationFunction": ACTIVATIONS[activation]}
    compare(libraries, single(operator, *ends, f"{operator.title()}Options", options, version=3), *feeds)


@pytest.mark.parametrize("operator", ["ADD", "SUB"])
def test_scales_that_are_powers_of_two_are_nothing_special(libraries: Libraries, operator: str) -> None:
    """LiteRT has an arithmetic of its own for them, tflite-micro has not."""
    a, b = random_s16(1, (500,)), random_s16(2, (500,))
    ends = [wide("a", a.shape, 2**-8), wide("b", b.shape, 2**-10)], [wide("y", a.shape, 2**-7)]
    sign = 1 if operator == "ADD" else -1
    halves = (a.astype(np.int64) << 14) + sign * (b.astype(np.int64) << 12)
    want = np.clip((halves + (1 << 14) - (halves < 0)) >> 15, -32768, 32767).astype(np.int16)
    compare(libraries, single(operator, *ends, f"{operator.title()}Options"), a, b, want=[want])


@given(shape=pairs(), a=scales, b=scales, fit=st.floats(10, 60000), activation=activations, seed=seeds)
@cases(300)
def test_mul(libraries: Libraries, shape: Any, a: float, b: float, fit: float, activation: str, seed: int) -> None:
    """LiteRT takes the scales' product in float32, tflite-micro in float64; else they agree."""
    feeds, out = feeds_of(shape, seed), float(np.float32(a * b * fit))
    ends = [wide("a", shape[0], a), wide("b", shape[1], b)], [wide("y", shape[0], out)]
    options = {"fusedActivationFunction": ACTIVATIONS[activation]}
    graph, limits = (
        single("MUL", *ends, "MulOptions", options, version=2),
        multipliers.clamp(activation, out, 0, "int16"),
    )
    product = feeds[0].astype(np.int64) * feeds[1]
    narrow = multipliers.multiplier(float(np.float32(a) * np.float32(b) / np.float32(out)))
    theirs, ours = (
        np.clip(scaled(product, made), *limits).astype(np.int16) for made in (narrow, multipliers.mul(a, b, out))
    )
    check("MUL int16", reference(graph, *feeds)[0], theirs, "NumPy against LiteRT")
    compare(libraries, graph, *feeds, want=[ours])


@given(shape=pairs(), scale=scales, operator=st.sampled_from(["MAXIMUM", "MINIMUM"]), seed=seeds)
@cases(200)
def test_maximum_and_minimum(libraries: Libraries, shape: Any, scale: float, operator: str, seed: int) -> None:
    ends = [wide("a", shape[0], scale), wide("b", shape[1], scale)], [wide("y", shape[0], scale)]
    compare(libraries, single(operator, *ends, "MaximumMinimumOptions", version=4), *feeds_of(shape, seed))


@given(shape=shapes, scale=scales, fit=st.floats(0.2, 5), operator=st.sampled_from(["RELU", "RELU6"]), seed=seeds)
@cases(300)
def test_relus(
    libraries: Libraries, shape: tuple[int, ...], scale: float, fit: float, operator: str, seed: int
) -> None:
    """RELU6 keeps its grid here, as tflite-micro does; LiteRT has it for int8 only, so NumPy clips."""
    out = float(np.float32(scale * (fit if operator == "RELU" else 1)))
    feed, ends = random_s16(seed, shape), ([wide("x", shape, scale)], [wide("y", shape, out)])
    want = None
    if operator == "RELU6":
        want = [np.clip(feed, *multipliers.clamp("RELU6", scale, 0, "int16")).astype(np.int16)]
    compare(libraries, single(operator, *ends, version=3), feed, want=want)


@given(shape=shapes, scale=scales, fit=st.floats(0.2, 5), alpha=st.floats(-2, 2), seed=seeds)
@cases(300)
def test_leaky_relu(
    libraries: Libraries, shape: tuple[int, ...], scale: float, fit: float, alpha: float, seed: int
) -> None:
    feed, out = random_s16(seed, shape), float(np.float32(scale * fit))
    ends = [wide("x", shape, scale)], [wide("y", shape, out)]
    options = {"alpha": float(np.float32(alpha))}
    compare(libraries, single("LEAKY_RELU", *ends, "LeakyReluOptions", options, version=2), feed)


@given(
    scale=st.one_of(st.floats(-16, 1).map(lambda power: 2.0**power), st.sampled_from([2.0**-12, 2.0**-11, 2.0**-10])),
    operator=st.sampled_from(["LOGISTIC", "TANH"]),
    seed=seeds,
)
@cases(300)
def test_curves(libraries: Libraries, scale: float, operator: str, seed: int) -> None:
    feed = random_s16(seed, (300,))
    ends = [wide("x", feed.shape, float(np.float32(scale)))], [wide("y", feed.shape, UNIT.scale)]
    compare(libraries, single(operator, *ends, version=3), feed)


@given(
    scale=st.floats(-16, -5).map(lambda power: float(np.float32(2.0**power))), beta=st.floats(0.2, 3),
    rows=st.integers(1, 4), depth=st.integers(1, 20), seed=seeds,
)  # fmt: skip
@cases(500)
def test_softmax(libraries: Libraries, scale: float, beta: float, rows: int, depth: int, seed: int) -> None:
    """The arithmetic is LiteRT's where its tables are: it makes them in float64, tflite-micro in float32."""
    feed = random_s16(seed, (rows, depth))
    feed = (feed >> seed % 9).astype(np.int16)
    beta = float(np.float32(beta))
    ends = [wide("x", feed.shape, scale)], [wide("y", feed.shape, UNIT.scale)]
    graph = single("SOFTMAX", *ends, "SoftmaxOptions", {"beta": beta}, version=3)
    made = multipliers.softmax_s16(scale, beta)
    theirs = twins.softmax(feed, made, tables.exponential(np.float64), tables.reciprocal(np.float64))
    check("SOFTMAX int16", reference(graph, feed)[0], theirs, "NumPy against LiteRT")
    ours = twins.softmax(feed, made, tables.exponential(), tables.reciprocal())
    compare(libraries, graph, feed, want=[ours])
    assert abs(ours.astype(int) - theirs).max() <= 1


def test_the_softmax_tables_are_a_step_apart_in_two_places() -> None:
    assert np.array_equal(tables.exponential(), tables.exponential(np.float64))
    apart = tables.reciprocal().astype(int) - tables.reciprocal(np.float64)
    assert np.flatnonzero(apart).tolist() == [160, 294]
    assert abs(apart).max() == 1


@given(
    shape=st.lists(st.integers(1, 6), min_size=2, max_size=4).map(tuple), keeps=st.booleans(),
    scale=scales, fit=st.sampled_from([1.0, 0.37, 1.9]), seed=seeds,
)  # fmt: skip
@cases(300)
def test_mean(libraries: Libraries, shape: tuple[int, ...], keeps: bool, scale: float, fit: float, seed: int) -> None:
    axes = sorted({seed % len(shape), seed // 7 % len(shape)})
    feed, out = random_s16(seed, shape), float(np.float32(scale * fit))
    kept = feed.mean(axis=tuple(axes), keepdims=keeps).shape
    inputs = [wide("x", shape, scale), constant("a", np.array(axes, np.int32))]
    compare(
        libraries,
        single("MEAN", inputs, [wide("y", kept, out)], "ReducerOptions", {"keepDims": keeps}, version=3),
        feed,
    )


@given(shape=shapes, keeps=st.booleans(), scale=scales, seed=seeds)
@cases(100)
def test_reduce_max_and_arg_max(
    libraries: Libraries, shape: tuple[int, ...], keeps: bool, scale: float, seed: int
) -> None:
    feed, axis = random_s16(seed, shape), seed % len(shape)
    inputs = [wide("x", shape, scale), constant("a", np.array([axis], np.int32))]
    kept = feed.max(axis=axis, keepdims=keeps).shape
    largest = single("REDUCE_MAX", inputs, [wide("y", kept, scale)], "ReducerOptions", {"keepDims": keeps}, version=3)
    compare(libraries, largest, feed)
    place = tensor("y", feed.max(axis=axis).shape, dtype="int32")
    first = single("ARG_MAX", inputs, [place], "ArgMaxOptions", {"outputType": 2})
    compare(libraries, first, feed, want=[np.asarray(feed.argmax(axis=axis), np.int32)])


# --- from and to real numbers ----------------------------------------------------------------


@given(
    values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=40),
    scale=st.floats(-16, 3).map(lambda power: float(np.float32(2.0**power))),
    zero=st.integers(-128, 127), dtype=st.sampled_from(["int8", "int16"]), seed=seeds,
)  # fmt: skip
@cases(600)
def test_quantize_from_float32(
    libraries: Libraries, values: list[float], scale: float, zero: int, dtype: str, seed: int
) -> None:
    """Quotients that the reference can hold in 32 bits; half of them lie next to a half."""
    limit = np.float32(2.0**30 * scale)
    near = np.random.default_rng(seed).integers(-70000, 70000, 20) + np.float32(0.5)
    feed = np.concatenate([np.clip(np.float32(values), -limit, limit), np.float32(near * np.float32(scale))])
    nudged = np.concatenate([feed, np.nextafter(feed, np.float32(np.inf)), np.nextafter(feed, np.float32(-np.inf))])
    grid = Grid(scale, zero if dtype == "int8" else 0)
    ends = [tensor("x", nudged.shape, dtype="float32")], [tensor("y", nudged.shape, grid, dtype)]
    compare(libraries, single("QUANTIZE", *ends, "QuantizeOptions", version=2), nudged.astype(np.float32))


@pytest.mark.parametrize(("dtype", "ends"), [("int8", (-128, 127)), ("int16", (-32768, 32767))])
def test_numbers_without_a_quotient(libraries: Libraries, dtype: str, ends: tuple[int, int]) -> None:
    feed = np.array([np.nan, -np.nan, np.inf, -np.inf, 3e38, -3e38, 1e-40, -1e-40, 0.0, -0.0], np.float32)
    want = np.array([0, 0, ends[1], ends[0], ends[1], ends[0], 0, 0, 0, 0], dtype)
    sides = [tensor("x", feed.shape, dtype="float32")], [tensor("y", feed.shape, Grid(0.01), dtype)]
    compare(libraries, single("QUANTIZE", *sides, "QuantizeOptions"), feed, want=[want])


@given(scale=st.floats(-30, 20).map(lambda power: float(np.float32(2.0**power))))
@cases(30)
def test_dequantize_every_value(libraries: Libraries, scale: float) -> None:
    feed = np.arange(-32768, 32768).astype(np.int16)
    ends = [wide("x", feed.shape, scale)], [tensor("y", feed.shape, dtype="float32")]
    compare(libraries, single("DEQUANTIZE", *ends, "DequantizeOptions", version=3), feed)


@given(shape=shapes, scale=scales, out=scales, wider=st.booleans(), seed=seeds)
@cases(200)
def test_quantize_between_widths(
    libraries: Libraries, shape: tuple[int, ...], scale: float, out: float, wider: bool, seed: int
) -> None:
    feed: Array = random_s8(seed, shape) if wider else random_s16(seed, shape)
    assume(scale / out < 2**10)
    kinds = ("int8", "int16") if wider else ("int16", "int8")
    grids = Grid(scale, seed % 200 - 100 if wider else 0), Grid(out, 0 if wider else seed % 200 - 100)
    ends = [tensor("x", shape, grids[0], kinds[0])], [tensor("y", shape, grids[1], kinds[1])]
    compare(libraries, single("QUANTIZE", *ends, "QuantizeOptions", version=2), feed)


# --- movers ----------------------------------------------------------------------------------

SHAPE = (2, 4, 6, 3)
X = wide("x", SHAPE, 0.01)
PADS = constant("p", np.array([[0, 0], [1, 0], [1, 2], [0, 3]], np.int32))


def ints(*values: int) -> Array:
    return np.array(values, np.int32)


MOVERS = {
    "PAD": single("PAD", [X, PADS], [wide("y", (2, 5, 9, 6), 0.01)], "PadOptions", version=2),
    "PADV2": single(
        "PADV2", [X, PADS, constant("v", np.array([-777], np.int16), Grid(0.01))], [wide("y", (2, 5, 9, 6), 0.01)],
        "PadV2Options", version=2,
    ),
    "TRANSPOSE": single(
        "TRANSPOSE", [X, constant("o", ints(3, 0, 2, 1))], [wide("y", (3, 2, 6, 4), 0.01)], "TransposeOptions",
        version=4,
    ),
    "RESHAPE": single("RESHAPE", [X, constant("s", ints(12, 12))], [wide("y", (12, 12), 0.01)]),
    "SLICE": single(
        "SLICE", [X, constant("b", ints(0, 1, 0, 2)), constant("s", ints(2, 2, -1, 1))],
        [wide("y", (2, 2, 6, 1), 0.01)], "SliceOptions", version=4,
    ),
    "STRIDED_SLICE": single(
        "STRIDED_SLICE", [X, constant("b", ints(0, 0, 5, 0)), constant("e", ints(2, 4, 0, 3)),
        constant("s", ints(1, 2, -2, 1))], [wide("y", (2, 2, 3, 3), 0.01)], "StridedSliceOptions", version=4,
    ),
    "SPLIT": single(
        "SPLIT", [constant("a", ints(2)), X], [wide(f"y{n}", (2, 4, 2, 3), 0.01) for n in range(3)], "SplitOptions",
        {"numSplits": 3}, version=4,
    ),
    "UNPACK": single(
        "UNPACK", [X], [wide(f"y{n}", (2, 4, 6), 0.01) for n in range(3)], "UnpackOptions", {"num": 3, "axis": 3},
        version=4,
    ),
    "CONCATENATION": single(
        "CONCATENATION", [X, wide("z", (2, 4, 1, 3), 0.01)], [wide("y", (2, 4, 7, 3), 0.01)], "ConcatenationOptions",
        {"axis": 2}, version=3,
    ),
    "PACK": single(
        "PACK", [X, wide("z", SHAPE, 0.01)], [wide("y", (2, 4, 2, 6, 3), 0.01)], "PackOptions",
        {"valuesCount": 2, "axis": 2}, version=3,
    ),
    "GATHER": single(
        "GATHER", [X, constant("i", ints(3, 0, 3))], [wide("y", (2, 3, 6, 3), 0.01)], "GatherOptions", {"axis": 1},
        version=4,
    ),
}  # fmt: skip


@pytest.mark.parametrize("operator", MOVERS)
def test_movers(libraries: Libraries, operator: str) -> None:
    graph = MOVERS[operator]
    known = {one.name: one for one in graph.tensors}
    feeds = [random_s16(number + 1, known[name].shape) for number, name in enumerate(graph.inputs)]
    compare(libraries, graph, *feeds)


# --- refusals --------------------------------------------------------------------------------

KERNEL = channels("w", np.ones((2, 1, 1, 3), np.int8), [0.01])
SHORT = channels("b", np.ones(2, np.int32), [1e-4])
STRIDES = {"strideH": 1, "strideW": 1}
Y = wide("y", (2, 4, 6, 2), 0.01)


@pytest.mark.parametrize(
    ("graph", "what"),
    [
        (single("CONV_2D", [X, KERNEL], [Y], "Conv2DOptions", STRIDES), "has no bias"),
        (single("CONV_2D", [X, KERNEL, SHORT], [Y], "Conv2DOptions", STRIDES), "a bias of 2 int32"),
        (single("RELU", [tensor("x", SHAPE, Grid(0.01, 5), "int16")], [wide("y", SHAPE, 0.01)]), "zero point of 0"),
        (single("RELU", [X], [tensor("y", SHAPE, Grid(0.01))]), "has a kernel for int16, not for int8"),
        (single("RELU_N1_TO_1", [X], [wide("y", SHAPE, 0.01)]), "has a kernel for int8, not for int16"),
        (single("HARD_SWISH", [X], [wide("y", SHAPE, 0.01)]), "has a kernel for int8, not for int16"),
        (single("LOGISTIC", [X], [wide("y", SHAPE, 0.01)]), "not 1/32768"),
        (single("SOFTMAX", [X], [wide("y", SHAPE, 0.01)], "SoftmaxOptions", {"beta": 1.0}), "not 1/32768"),
        (single("LOGISTIC", [wide("x", SHAPE, 3.0)], [wide("y", SHAPE, 2**-15)]), "too large for a 16-bit curve"),
        (
            single("SOFTMAX", [wide("x", SHAPE, 9.0)], [wide("y", SHAPE, 2**-15)], "SoftmaxOptions", {"beta": 1.0}),
            "too large for a 16-bit softmax",
        ),
        (
            single("DEPTHWISE_CONV_2D", [wide("x", (1, 30, 30, 1), 0.01),
                   channels("w", np.ones((1, 30, 30, 1), np.int8), [0.01], 3)], [wide("y", (1, 1, 1, 1), 0.01)],
                   "DepthwiseConv2DOptions", {**STRIDES, "padding": 1, "depthMultiplier": 1}),
            "900 taps",
        ),
        (
            single("MEAN", [wide("x", (1, 300, 300), 0.01), constant("a", ints(1, 2))], [wide("y", (1,), 0.01)],
                   "ReducerOptions"),
            "adds 90000 values",
        ),
    ],
)  # fmt: skip
def test_what_has_no_16_bit_kernel_is_refused_by_name(tmp_path: Path, graph: Graph, what: str) -> None:
    with pytest.raises(BuildError, match=r"^operator 0 \(" + graph.nodes[0].type) as caught:
        Stepper(tmp_path, graph)
    assert what in caught.value.message


def test_multipliers_refuse_what_the_reference_asserts() -> None:
    with pytest.raises(ValueError, match="left shift of 8"):
        multipliers.wide_output(multipliers.multiplier(200.0))
    with pytest.raises(ValueError, match="out of range"):
        multipliers.f32(2.0**-100)
