"""Operators of one and two operands: byte for byte as LiteRT's reference kernels."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.codegen import multipliers, strides, tables
from edgeq.testing import kernels
from edgeq.testing.kernel_cases import cases, check, grids, random_s8, scales, seeds, zero_points
from edgeq.testing.single_op import Grid, constant, reference, single, tensor

Array = NDArray[Any]
Library = ctypes.CDLL
ACTIVATIONS = {"NONE": 0, "RELU": 1, "RELU_N1_TO_1": 2, "RELU6": 3}
EVERY = np.arange(-128, 128).astype(np.int8)

shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@st.composite
def pairs(draw: Any, most: int = 4) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two shapes that broadcast."""
    whole = draw(st.lists(st.integers(1, 4), min_size=1, max_size=most))
    made = []
    for _ in range(2):
        shape = [size if draw(st.booleans()) else 1 for size in whole]
        made.append(tuple(shape[draw(st.integers(0, len(shape) - 1)) if draw(st.booleans()) else 0 :]))
    if draw(st.booleans()):
        made[0] = tuple(whole)
    return made[0], made[1]


def broadcast(one: tuple[int, ...], other: tuple[int, ...]) -> kernels.Broadcast:
    made = strides.broadcast(one, other)
    return kernels.Broadcast(*((ctypes.c_uint32 * 5)(*part) for part in made))


def run_two(library: Library, name: str, params: ctypes.Structure, a: Array, b: Array, shape: tuple[int, ...]) -> Array:
    output = np.full(shape, 99, np.int8)
    getattr(library, name)(ctypes.byref(params), *(kernels.pointer(array) for array in (a, b, output)))
    return output


def fits(shape: tuple[tuple[int, ...], tuple[int, ...]]) -> tuple[int, ...]:
    return np.broadcast_shapes(*shape)


@given(
    shape=pairs(), a=grids, b=grids, out=grids, activation=st.sampled_from(sorted(ACTIVATIONS)),
    operator=st.sampled_from(["ADD", "SUB"]), seed=seeds,
)  # fmt: skip
@cases(800)
def test_add_and_sub(
    libraries: dict[str, Library], shape: Any, a: Grid, b: Grid, out: Grid, activation: str, operator: str, seed: int
) -> None:
    feeds = [random_s8(seed + number, one) for number, one in enumerate(shape)]
    made = multipliers.add(a.scale, b.scale, out.scale)
    ends = [tensor("a", shape[0], a), tensor("b", shape[1], b)], [tensor("out", fits(shape), out)]
    options = {"fusedActivationFunction": ACTIVATIONS[activation]}
    want = reference(single(operator, *ends, f"{operator.title()}Options", options, version=2), *feeds)[0]
    params = kernels.AddParams(
        broadcast(*shape), made.a.mantissa, made.b.mantissa, made.out.mantissa,
        made.a.right_shift, made.b.right_shift, made.out.right_shift, 1 if operator == "ADD" else -1,
        -a.zero_point, -b.zero_point, out.zero_point, *multipliers.clamp(activation, *out),
    )  # fmt: skip
    for variant in ("portable", "dsp"):
        got = run_two(libraries[variant], "eq_add_s8", params, feeds[0], feeds[1], fits(shape))
        check(operator, want, got, variant)


def test_add_refuses_what_the_reference_refuses() -> None:
    with pytest.raises(ValueError, match="scale is too small"):
        multipliers.add(1.0, 1.0, 2.0**-20)


@given(shape=pairs(), a=grids, b=grids, out=grids, activation=st.sampled_from(sorted(ACTIVATIONS)), seed=seeds)
@cases(600)
def test_mul(library: Library, shape: Any, a: Grid, b: Grid, out: Grid, activation: str, seed: int) -> None:
    assume(a.scale * b.scale / out.scale < 1)
    feeds = [random_s8(seed + number, one) for number, one in enumerate(shape)]
    made = multipliers.mul(a.scale, b.scale, out.scale)
    ends = [tensor("a", shape[0], a), tensor("b", shape[1], b)], [tensor("out", fits(shape), out)]
    options = {"fusedActivationFunction": ACTIVATIONS[activation]}
    want = reference(single("MUL", *ends, "MulOptions", options, version=2), *feeds)[0]
    params = kernels.MulParams(
        broadcast(*shape), *made, -a.zero_point, -b.zero_point, out.zero_point, *multipliers.clamp(activation, *out)
    )
    check("MUL", want, run_two(library, "eq_mul_s8", params, feeds[0], feeds[1], fits(shape)))


@given(shape=pairs(), grid=grids, operator=st.sampled_from(["MAXIMUM", "MINIMUM"]), seed=seeds)
@cases(300)
def test_maximum_and_minimum(library: Library, shape: Any, grid: Grid, operator: str, seed: int) -> None:
    feeds = [random_s8(seed + number, one) for number, one in enumerate(shape)]
    ends = [tensor("a", shape[0], grid), tensor("b", shape[1], grid)], [tensor("out", fits(shape), grid)]
    want = reference(single(operator, *ends, "MaximumMinimumOptions", version=2), *feeds)[0]
    got = run_two(library, f"eq_{operator.lower()}_s8", broadcast(*shape), feeds[0], feeds[1], fits(shape))
    check(operator, want, got)


@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 4), st.integers(1, 5)),
    source=grids,
    alpha=grids,
    out=grids,
    seed=seeds,
)
@cases(300)
def test_prelu(library: Library, sizes: tuple[int, int, int], source: Grid, alpha: Grid, out: Grid, seed: int) -> None:
    assume(source.scale * alpha.scale / out.scale < 1 and source.scale / out.scale < 2**10)
    shape, slope = (1, *sizes), (1, 1, sizes[2]) if seed % 2 else sizes
    feed, values = random_s8(seed, shape), random_s8(seed + 1, slope)
    ends = [tensor("in", shape, source), constant("alpha", values, alpha)], [tensor("out", shape, out)]
    want = reference(single("PRELU", *ends), feed)[0]
    made = multipliers.prelu(source.scale, alpha.scale, out.scale)
    params = kernels.PreluParams(
        broadcast(shape, slope), made.positive.mantissa, made.negative.mantissa, made.positive.right_shift,
        made.negative.right_shift, -source.zero_point, -alpha.zero_point, out.zero_point,
    )  # fmt: skip
    check("PRELU", want, run_two(library, "eq_prelu_s8", params, feed, values, shape))


# --- tables ----------------------------------------------------------------------------------


def run_table(library: Library, table: Array, name: str = "eq_lookup_s8") -> Array:
    """The table's answers to all 256 values, through the kernel."""
    output = np.zeros(256, table.dtype)
    pointers = [kernels.pointer(array) for array in (table, EVERY, output)]
    getattr(library, name)(*pointers, ctypes.c_size_t(256))
    return output


def unary(operator: str, source: Grid, out: Grid, table: str = "", options: Any = None, version: int = 1) -> Array:
    ends = [tensor("in", (256,), source)], [tensor("out", (256,), out)]
    return reference(single(operator, *ends, table, options, version), EVERY)[0]


@given(scale=st.one_of(scales, st.floats(1e-4, 0.2)), zero=zero_points)
@cases(400)
def test_logistic_and_tanh(library: Library, scale: float, zero: int) -> None:
    """LiteRT 2.3 rounds a table of floats; tflite-micro's fixed point may differ next to a half, and outside a radius
    it saturates (up to 4 steps away).
    """
    source = Grid(float(np.float32(scale)), zero)
    steps = EVERY.astype(int) - zero
    radius = np.floor(15 * 2.0 ** (27 - np.frexp(source.scale * 2.0**27)[1]))
    inside = abs(steps) < radius
    with np.errstate(over="ignore"):
        reals = {"LOGISTIC": 256 / (1 + np.exp(-steps * source.scale)), "TANH": 128 * np.tanh(steps * source.scale)}
    makers = (("LOGISTIC", tables.logistic, Grid(1 / 256, -128)), ("TANH", tables.tanh, Grid(1 / 128)))
    for operator, table, out in makers:
        got, want = run_table(library, table(tables.Grid(*source))), unary(operator, source, out, version=2)
        decided = inside & (abs(reals[operator] % 1 - 0.5) > 1e-4)
        check(operator, want[decided], got[decided])
        assert abs(want[inside].astype(int) - got[inside]).max(initial=0) <= 1
        assert np.array_equal(got[~inside], np.where(steps[~inside] <= -radius, -128, 127))


@given(source=grids, out=grids)
@cases(400)
def test_hard_swish(library: Library, source: Grid, out: Grid) -> None:
    assume(source.scale / 128 <= out.scale <= source.scale * 128)
    table = tables.hard_swish(tables.Grid(*source), tables.Grid(*out))
    check("HARD_SWISH", unary("HARD_SWISH", source, out), run_table(library, table))


@given(source=grids, out=grids, operator=st.sampled_from(["RELU", "RELU6", "RELU_N1_TO_1"]))
@cases(400)
def test_relu_family(library: Library, source: Grid, out: Grid, operator: str) -> None:
    out = source if operator == "RELU6" else out
    table = tables.relu(tables.Grid(*source), tables.Grid(*out), operator)
    version = 1 if operator == "RELU_N1_TO_1" else 2
    check(operator, unary(operator, source, out, version=version), run_table(library, table))


def test_tables_refuse_what_the_kernels_would_compute_otherwise() -> None:
    with pytest.raises(ValueError, match="input's grid"):
        tables.relu(tables.Grid(0.5, 0), tables.Grid(0.25, 0), "RELU6")
    for scale in (0.001, 1000.0):
        with pytest.raises(ValueError, match="output's scale"):
            tables.hard_swish(tables.Grid(0.5, 0), tables.Grid(scale, 0))


@given(source=grids, out=grids, alpha=st.floats(0, 1).map(lambda one: float(np.float32(one))))
@cases(300)
def test_leaky_relu(library: Library, source: Grid, out: Grid, alpha: float) -> None:
    want = unary("LEAKY_RELU", source, out, "LeakyReluOptions", {"alpha": alpha}, version=2)
    check("LEAKY_RELU", want, run_table(library, tables.leaky_relu(tables.Grid(*source), tables.Grid(*out), alpha)))


@given(source=grids, out=grids)
@cases(300)
def test_quantize_and_dequantize(library: Library, source: Grid, out: Grid) -> None:
    table = tables.requantize(tables.Grid(*source), tables.Grid(*out))
    check("QUANTIZE", unary("QUANTIZE", source, out, "QuantizeOptions", version=2), run_table(library, table))
    ends = [tensor("in", (256,), source)], [tensor("out", (256,), None, "float32")]
    want = reference(single("DEQUANTIZE", *ends, "DequantizeOptions", version=2), EVERY)[0]
    got = run_table(library, tables.dequantize(tables.Grid(*source)), "eq_lookup_s8_s32").view(np.float32)
    check("DEQUANTIZE", want, got)


@given(source=grids, scale=scales)
@cases(200)
def test_quantize_to_int16(library: Library, source: Grid, scale: float) -> None:
    ends = [tensor("in", (256,), source)], [tensor("out", (256,), Grid(scale), "int16")]
    want = reference(single("QUANTIZE", *ends, "QuantizeOptions", version=2), EVERY)[0]
    check("QUANTIZE", want, run_table(library, tables.widened(tables.Grid(*source), scale), "eq_lookup_s8_s16"))


@pytest.mark.parametrize("dtype", ["int32", "float32"])
def test_cast(library: Library, dtype: str) -> None:
    ends = [tensor("in", (256,))], [tensor("out", (256,), None, dtype)]
    number = {"int32": 2, "float32": 0}[dtype]
    options = {"inDataType": 9, "outDataType": number}
    want = reference(single("CAST", *ends, "CastOptions", options, version=2), EVERY)[0]
    check("CAST", want, run_table(library, tables.cast(dtype), "eq_lookup_s8_s32").view(want.dtype))


@given(scale=scales, out=grids, wide=st.booleans(), seed=seeds)
@cases(300)
def test_quantize_from_int16(library: Library, scale: float, out: Grid, wide: bool, seed: int) -> None:
    feed = np.random.default_rng(seed).integers(-32768, 32768, 99).astype(np.int16)
    out = Grid(out.scale, 0) if wide else out
    dtype = "int16" if wide else "int8"
    ends = [tensor("in", (99,), Grid(scale), "int16")], [tensor("out", (99,), out, dtype)]
    assume(scale / out.scale < 2**14)
    want = reference(single("QUANTIZE", *ends, "QuantizeOptions", version=2), feed)[0]
    params = kernels.RequantizeParams(*multipliers.requantize(scale, out.scale), 0, out.zero_point)
    output = np.zeros(99, dtype)
    run = library.eq_requantize_s16 if wide else library.eq_requantize_s16_s8
    run(ctypes.byref(params), kernels.pointer(feed), kernels.pointer(output), ctypes.c_size_t(99))
    check("QUANTIZE", want, output)
