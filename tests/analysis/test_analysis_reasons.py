"""What a row says of its range, weights and histogram, and the reasons that it gives."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeq.analysis import attribution, constants, describing, fresh, gains, measuring
from edgeq.analysis.net import real_values
from edgeq.analysis.sums import Energy, Spread
from edgeq.types import OperatorAnalysis, Port, Quantization, TensorSpec, WeightAnalysis

WEIGHT = WeightAnalysis(
    operand=1, name="w", dtype="int8", granularity="per-tensor", sqnr_db=40.0, expected_db=41.0, clipped_share=0.0,
    channel_spread=1.0, range=(-1.0, 1.0),
)  # fmt: skip
ROW = OperatorAnalysis(index=0, type="OP", name="t", range=(-1.0, 1.0), used=(-4.0, 4.0))
PORT = Port(name="t", shape=(4,), dtype="int8", scale=0.5, zero_point=0)
ELSE = "it computes something else than the float operator"


@pytest.mark.parametrize(
    ("weight", "wanted"),
    [
        ({}, []),
        ({"sqnr_db": 35.0}, []),
        ({"sqnr_db": 34.9}, ["operand 1 (int8) has SQNR 34.9 dB where 41.0 dB is possible"]),
        ({"sqnr_db": None, "clipped_share": 1.0}, []),
        ({"sqnr_db": None, "expected_db": None}, []),
        ({"sqnr_db": 30.0, "expected_db": None}, []),
        ({"sqnr_db": 29.0, "expected_db": None}, ["operand 1 (int8) differs from the float one: SQNR 29.0 dB"]),
        ({"sqnr_db": 99.0, "expected_db": None, "clipped_share": 1.0}, []),
        ({"clipped_share": 0.001}, []),
        ({"clipped_share": 0.25}, ["25.0% of operand 1 (int8) is clipped"]),
        (
            {"sqnr_db": -3.0, "clipped_share": 0.5, "operand": 2, "dtype": "uint8"},
            ["operand 2 (uint8) has SQNR -3.0 dB where 41.0 dB is possible", "50.0% of operand 2 (uint8) is clipped"],
        ),
    ],
)
def test_a_weight_is_a_reason_only_where_it_could_be_better(weight: dict[str, Any], wanted: list[str]) -> None:
    assert list(describing._why_weight(dataclasses.replace(WEIGHT, **weight))) == wanted


@pytest.mark.parametrize(
    ("row", "step", "wanted"),
    [
        ({}, 0.5, [ELSE]),
        ({"clipped_share": 0.001}, 0.5, [ELSE]),
        ({"clipped_share": 0.2}, 0.5, ["its range [-1, 1] is narrower than [-4, 4]: 20.0% is clipped"]),
        ({"clipped_share": 0.2, "used": None}, 0.5, [ELSE]),
        ({"clipped_share": 0.2, "range": None}, 0.5, [ELSE]),
        ({}, 0.25, [ELSE]),
        ({}, 0.125, ["its range is 4 times what is used: 2.0 bits are lost"]),
        ({}, 0.0, [ELSE]),
        ({"weights": (WEIGHT,)}, 0.5, [ELSE]),
    ],
)
def test_a_quantized_result_tells_narrow_wide_and_other(row: dict[str, Any], step: float, wanted: list[str]) -> None:
    made = dataclasses.replace(ROW, **row)
    assert describing._why_quantized(made, PORT, step, measuring.Sums()) == wanted


def test_reasons_are_given_for_the_steps_that_are_wrong_and_no_other() -> None:
    row = dataclasses.replace(ROW, excess_db={"quantized": 9.0, "runtime": 30.0, "prepared": 10.0}, runtime_db=12.34)
    made = describing._with_reasons(row, PORT, 0.5, measuring.Sums())
    assert made.why == (
        "this host's kernel answers otherwise than the file's arithmetic: SQNR 12.3 dB",
        "it computes something else than the original: SQNR unknown",
    )
    assert describing._with_reasons(ROW, PORT, 0.5, measuring.Sums()).why == ()


@pytest.mark.parametrize(
    ("dtype", "scale", "zero", "wanted"),
    [
        ("int8", 0.5, 0, (-64.0, 63.5)),
        ("int8", 0.5, -128, (0.0, 127.5)),
        ("uint8", 1.0, None, (0.0, 255.0)),
        ("uint8", 2.0, 255, (-510.0, 0.0)),
        ("int16", 1.0, 0, (-32768.0, 32767.0)),
        ("float32", None, None, None),
    ],
)
def test_a_stored_range_is_what_all_codes_reach(
    dtype: str, scale: float | None, zero: int | None, wanted: tuple[float, float] | None
) -> None:
    assert describing._range(Port(name="", shape=(), dtype=dtype, scale=scale, zero_point=zero)) == wanted


@pytest.mark.parametrize(
    ("dtype", "zero", "values", "wanted"),
    [
        ("int8", 0, [-128.5, -128.0, 127.0, 127.5], 0),
        ("int8", 0, [-128.6, 127.6, 0.0], 2),
        ("uint8", 0, [-0.5, 255.5], 0),
        ("uint8", None, [-0.6, 255.6], 2),
        ("int8", -128, [-1.0, 256.0, 255.0], 2),
        ("int8", 0, [math.inf, -math.inf], 2),
        ("int8", 0, [math.nan], 0),
        ("int8", 0, [], 0),
    ],
)
def test_values_are_clipped_beyond_half_a_step(dtype: str, zero: int | None, values: list[float], wanted: int) -> None:
    port = Port(name="", shape=(), dtype=dtype, scale=1.0, zero_point=zero)
    assert measuring.clipped(port, np.array(values, np.float32)) == wanted


@pytest.mark.parametrize("sums", [measuring.Sums(), measuring.Sums(alone=Energy(count=8), clipped=2)])
def test_a_result_without_a_spread_has_no_numbers_of_one(sums: measuring.Sums) -> None:
    for spread in (None, Spread(keep=4)):
        made = describing._result(PORT, sums, spread)
        assert (made["used"], made["quantizers"], made["histogram"]) == (None, {}, None)
        assert made["clipped_share"] == (0.25 if sums.clipped else 0)


@given(
    st.lists(arrays(np.float32, st.integers(1, 30), elements=st.floats(-1e6, 1e6, width=32)), min_size=1, max_size=4)
)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_few_bars_count_every_value_between_their_ends(samples: list[Any]) -> None:
    spread = Spread(keep=64)
    for sample in samples:
        spread.add(sample)
    made = describing.bars(spread)
    assert made is not None
    assert 1 <= len(made.counts) <= constants.BARS
    assert sum(made.counts) == sum(sample.size for sample in samples)
    assert made.counts[0] > 0
    assert made.low <= spread.low
    assert spread.high <= made.high
    width = spread.histogram.width
    assert spread.low - made.low <= width


@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 3e38, 1e-40])
def test_a_constant_is_one_bar_around_it(value: float) -> None:
    spread = Spread(keep=4)
    spread.add(np.full((2, 3), value, np.float32))
    made = describing.bars(spread)
    assert made is not None
    assert made.counts == (6,)
    assert made.low <= value <= made.high


@pytest.mark.parametrize(
    ("values", "low", "high", "places"),
    [
        ([5.0], 5.0, 5.0, {0: 1}),
        ([0.0, 0.0], 0.0, 0.0, {0: 2}),
        ([-1.0, 1.0], -1.0, 1.0, {0: 1, 63: 1}),
        ([0.0, 32.0, 64.0, 64.0], 0.0, 64.0, {0: 1, 32: 1, 63: 2}),
    ],
)
def test_a_weights_histogram_has_its_ends_in_the_outer_bars(
    values: list[float], low: float, high: float, places: dict[int, int]
) -> None:
    made = constants.histogram(np.array(values, np.float32))
    assert made is not None
    assert (made.low, made.high) == (low, high)
    assert {place: count for place, count in enumerate(made.counts) if count} == places


@pytest.mark.parametrize(
    "values",
    [[1.0, np.nextafter(np.float32(1), np.float32(2))], [1e20, 1e20], [0.0, 1e-45], [-0.0, 0.0], [3.4e38, -3.4e38]],
)
def test_a_histogram_of_values_that_hardly_differ_counts_them_all(values: list[float]) -> None:
    """MiniLM's attention mask and LayerNorms hold such constants; float32 has no room for 64 bins between them."""
    made = constants.histogram(np.array(values, np.float32))
    assert made is not None
    assert (sum(made.counts), len(made.counts)) == (len(values), constants.BARS)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_weight_that_is_not_finite_has_no_histogram(bad: float) -> None:
    assert constants.histogram(np.array([1.0, bad], np.float32)) is None


@pytest.mark.parametrize(
    ("values", "share"),
    [
        ([[0.0, 127.0]], 0.0),
        ([[127.5, -128.5]], 0.0),
        ([[127.6, -128.6]], 1.0),
        ([[127.6, 0.0], [0.0, 0.0]], 0.25),
    ],
)
def test_the_clipped_share_of_a_weight(values: list[list[float]], share: float) -> None:
    ends = constants.limits(Quantization(scales=(1.0,), zero_points=(0,)), "int8")
    assert constants._clipped(np.array(values), ends) == share
    assert constants._clipped(np.array(values), None) == 0


def test_each_channel_is_clipped_at_its_own_ends() -> None:
    ends = constants.limits(Quantization(scales=(1.0, 0.1), zero_points=(0, 0), axis=0), "int8")
    assert constants._clipped(np.array([[100.0, 20.0], [100.0, 20.0]]), ends) == 0.5
    assert constants._reach(ends, np.zeros(1)) == (-128.0, 127.0)
    assert constants._reach(None, np.array([3.0, -2.0])) == (-2.0, 3.0)


@pytest.mark.parametrize(
    ("dtype", "zero", "wanted"),
    [
        ("int2", 0, (-2.0, 1.0)),
        ("uint2", 1, (-1.0, 2.0)),
        ("int4", 0, (-8.0, 7.0)),
        ("uint4", 8, (-8.0, 7.0)),
        ("uint8", 128, (-128.0, 127.0)),
        ("uint16", 0, (0.0, 65535.0)),
    ],
)
def test_limits_of_every_width(dtype: str, zero: int, wanted: tuple[float, float]) -> None:
    ends = constants.limits(Quantization(scales=(1.0,), zero_points=(zero,)), dtype)
    assert ends is not None
    assert (float(ends[0][0]), float(ends[1][0])) == wanted


@pytest.mark.parametrize(
    ("scales", "axis", "rank", "wanted"),
    [
        (None, None, 4, None),
        ((), 0, 4, None),
        ((1.0,), 3, 4, None),
        ((1.0, 2.0), 3, 4, 3),
        ((1.0, 2.0), -1, 4, 3),
        ((1.0, 2.0), None, 4, 0),
        ((1.0, 2.0), 0, 0, None),
    ],
)
def test_the_axis_of_a_scale_counts_from_either_end(
    scales: tuple[float, ...] | None, axis: int | None, rank: int, wanted: int | None
) -> None:
    found = None if scales is None else Quantization(scales=scales, zero_points=(0,) * len(scales), axis=axis)
    assert fresh.axis_of(found, rank) == wanted


def stored(dtype: str, scales: tuple[float, ...], zeros: tuple[int, ...], axis: int | None = None) -> TensorSpec:
    found = Quantization(scales=scales, zero_points=zeros, axis=axis)
    return TensorSpec(index=0, name="w", shape=(), dtype=dtype, size_bytes=1, quantization=found)


@pytest.mark.parametrize(
    ("dtype", "zeros", "values", "wanted"),
    [
        ("int2", (0,), [-1.0, -0.4, 0.6, 1.0], [-1.0, 0.0, 1.0, 1.0]),
        ("uint2", (2,), [-1.0, -0.4, 0.6, 1.0], [-1.0, 0.0, 1.0, 1.0]),
        ("uint2", (1,), [-1.0, -0.4, 0.6, 2.0], [-1.0, 0.0, 1.0, 2.0]),
        ("int4", (0,), [-7.0, 3.4, 3.6], [-7.0, 3.0, 4.0]),
        ("int4", (1,), [0.0, 7.4, 15.0], [0.0, 7.0, 15.0]),
        ("int8", (0,), [0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_fresh_weights_keep_the_symmetry_of_the_file(
    dtype: str, zeros: tuple[int, ...], values: list[float], wanted: list[float]
) -> None:
    made = fresh.fresh(np.array(values, np.float32), stored(dtype, (1.0,), zeros))
    assert made is not None
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (1, 1, 1)])
def test_fresh_weights_have_the_shape_that_they_had(shape: tuple[int, ...]) -> None:
    made = fresh.fresh(np.full(shape, -2.5, np.float32), stored("int8", (1.0,), (0,)))
    assert made is not None
    assert made.shape == shape
    np.testing.assert_allclose(made, -2.5)


@given(st.integers(0, 2), st.integers(0, 2**31))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_operands_are_decoded_channel_by_channel(axis: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    codes = random.integers(-128, 128, (2, 3, 4)).astype(np.int8)
    scales = tuple(float(random.uniform(0.01, 2)) for _ in range(codes.shape[axis]))
    zeros = tuple(int(zero) for zero in random.integers(-9, 9, size=len(scales)))
    found = real_values(codes, Quantization(scales=scales, zero_points=zeros, axis=axis))
    for place, (scale, zero) in enumerate(zip(scales, zeros, strict=True)):
        plain = (np.take(codes, place, axis).astype(np.float64) - zero) * scale
        np.testing.assert_allclose(np.take(found, place, axis), plain, rtol=1e-6)


@pytest.mark.parametrize(
    ("codes", "scales", "zeros", "wanted"),
    [
        (np.int8(5), (0.5,), (1,), 2.0),
        (np.uint8(0), (1.0,), (255,), -255.0),
        (np.int32(-(2**20)), (2.0**-20,), (0,), -1.0),
        (np.int16(-32768), (1.0,), (1,), -32769.0),
    ],
)
def test_scalar_operands_are_decoded_without_wrapping(
    codes: Any, scales: tuple[float, ...], zeros: tuple[int, ...], wanted: float
) -> None:
    made = real_values(np.asarray(codes), Quantization(scales=scales, zero_points=zeros))
    assert made.shape == ()
    assert made == wanted


def test_operands_without_values_are_decoded_to_none() -> None:
    made = real_values(np.zeros((0, 2), np.int8), Quantization(scales=(1.0, 2.0), zero_points=(0, 0), axis=1))
    assert made.shape == (0, 2)


@pytest.mark.parametrize(
    ("shape", "model_format", "wanted"),
    [
        ((), "onnx", None),
        ((4,), "tflite", None),
        ((1, 4), "onnx", 1),
        ((1, 5, 4), "onnx", 2),
        ((1, 4, 5, 5), "onnx", 1),
        ((1, 5, 5, 4), "tflite", 3),
        ((1, 4, 2, 5, 5), "onnx", 1),
    ],
)
def test_channels_stand_where_the_format_has_them(
    shape: tuple[int, ...], model_format: str, wanted: int | None
) -> None:
    assert gains.axis_of(np.zeros(shape), model_format) == wanted


def test_a_dead_channel_keeps_a_gain_of_one() -> None:
    original = np.array([[1.0, 0.0], [2.0, 0.0]], np.float32)
    products = gains.Products(axis=1)
    products.add(original, original * 3)
    found = products.gain()
    assert found is not None
    assert found.tolist() == [3.0, 1.0]
    revived = gains.Products(axis=1)
    revived.add(original, np.array([[3.0, 1.0], [6.0, 1.0]], np.float32))
    assert revived.gain() is None


def test_integers_have_no_gain() -> None:
    products = gains.Products(axis=1)
    products.add(np.ones((2, 2), np.float32), np.full((2, 2), 2, np.int8))
    assert products.gain() is None


@pytest.mark.parametrize(
    ("samples", "low", "high", "kept"),
    [
        ([[]], math.inf, -math.inf, 0),
        ([[1.0], []], 1.0, 1.0, 1),
        ([[math.nan], [2.0, 3.0]], 2.0, 3.0, 2),
        ([[math.inf, 0.0]], math.inf, -math.inf, 0),
        ([[-1.0], [-1.0]], -1.0, -1.0, 2),
        ([list(range(9))], 0.0, 8.0, 4 + 2),
    ],
)
def test_a_spread_of_odd_samples(samples: list[list[float]], low: float, high: float, kept: int) -> None:
    spread = Spread(keep=4)
    for sample in samples:
        spread.add(np.array(sample, np.float32))
    assert (spread.low, spread.high) == (low, high)
    assert spread.values().size == kept


def test_a_spread_of_scalars_is_one_channel() -> None:
    spread = Spread(keep=4, axis=0)
    for value in (3.0, -1.0):
        spread.add(np.array(value, np.float32))
    assert spread.values().tolist() == [[3.0, -1.0]]


def test_a_spread_of_more_channels_than_it_keeps_holds_the_first_ones() -> None:
    spread = Spread(keep=3, axis=1)
    spread.add(np.arange(10, dtype=np.float32).reshape(2, 5))
    assert spread.values().tolist() == [[0.0, 0.0, 5.0], [1.0, 1.0, 6.0], [2.0, 2.0, 7.0]]
    assert (spread.low, spread.high) == (0.0, 9.0)


@pytest.mark.parametrize(
    ("reference", "found", "wanted"),
    [
        ([], [], None),
        ([0.0], [1.0], None),
        ([1.0], [1.0], 200.0),
        ([1.0], [2.0], 0.0),
        ([3.0, 1.0], [2.0, 1.0], 10.0),
        ([1.0], [math.nan], None),
        ([math.nan], [math.nan], None),
        ([math.inf], [math.inf], None),
        ([1e200], [0.0], None),
    ],
)
def test_the_energy_of_odd_arrays(reference: list[float], found: list[float], wanted: float | None) -> None:
    energy = Energy()
    energy.add(np.array(reference), np.array(found))
    assert energy.sqnr_db == wanted
    assert energy.count == len(reference)


def test_integers_are_compared_without_wrapping() -> None:
    energy = Energy()
    energy.add(np.array([[-128], [127]], np.int8), np.array([127, -128], np.int8))
    assert (energy.signal, energy.noise) == (128.0**2 + 127.0**2, 2 * 255.0**2)


def test_notes_count_operators_by_the_reason_that_hides_them() -> None:
    rows = [dataclasses.replace(ROW, unavailable=why) for why in ("a", "", "b", "a")]
    assert list(attribution._notes(rows)) == [
        "not measured, 2 of the operators: a",
        "not measured, 1 of the operators: b",
    ]
    assert list(attribution._notes([])) == []
