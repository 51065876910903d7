"""Sums that stream, and what follows from them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edgeq.analysis import fresh, gains, judging, measuring
from edgeq.analysis.constants import limits
from edgeq.analysis.sums import Energy, Spread
from edgeq.quantization import quantizers
from edgeq.types import Port, Quantization, TensorSpec

everyday = st.floats(-100, 100, width=32)
arrays_ = arrays(np.float32, st.tuples(st.integers(1, 3), st.integers(1, 8)), elements=everyday)


@given(st.lists(st.tuples(arrays_, st.floats(-1, 1)), min_size=1, max_size=5))
@settings(suppress_health_check=[HealthCheck.too_slow], max_examples=50)
def test_energy_is_that_of_all_values_together(pieces: list[tuple[Any, float]]) -> None:
    energy = Energy()
    for values, shift in pieces:
        energy.add(values, values + shift)
    together = np.concatenate([values.reshape(-1) for values, _ in pieces]).astype(np.float64)
    found = np.concatenate([(values + shift).reshape(-1) for values, shift in pieces]).astype(np.float64)
    assert energy.count == together.size
    assert energy.signal == pytest.approx(float((together**2).sum()))
    assert energy.noise == pytest.approx(float(((together - found) ** 2).sum()), rel=1e-6, abs=1e-9)
    wanted = quantizers.sqnr_db(together, found)
    assert (energy.sqnr_db is None) == (wanted is None)
    if wanted is not None:
        assert energy.sqnr_db == pytest.approx(wanted, abs=1e-3)


def test_energy_of_nothing_and_of_masks_is_unknown() -> None:
    energy = Energy()
    assert energy.sqnr_db is None
    energy.add(np.array([-math.inf]), np.array([0.0]))
    assert energy.sqnr_db is None


@given(st.lists(arrays(np.float32, (2, 6, 3), elements=everyday), min_size=1, max_size=4))
def test_a_spread_knows_the_ends_of_all_and_of_each_channel(samples: list[Any]) -> None:
    spread = Spread(keep=1000, axis=2)
    for sample in samples:
        spread.add(sample)
    together = np.stack(samples)
    assert (spread.low, spread.high) == (together.min(), together.max())
    assert spread.lows is not None
    np.testing.assert_array_equal(spread.lows, together.min(axis=(0, 1, 2)))
    np.testing.assert_array_equal(np.sort(spread.values().reshape(-1)), np.sort(together.reshape(-1)))
    assert spread.histogram.counts.sum() == together.size


def test_a_spread_keeps_few_values_of_large_tensors_and_their_true_ends() -> None:
    spread = Spread(keep=64, axis=1)
    random = np.random.default_rng(1)
    samples = [random.normal(size=(4, 8, 500)).astype(np.float32) for _ in range(10)]
    for sample in samples:
        spread.add(sample)
    kept = spread.values()
    assert kept.size <= 10 * 64 + 2 * 8
    together = np.moveaxis(np.stack(samples), 2, 0).reshape(8, -1)
    np.testing.assert_array_equal(kept.max(axis=1), together.max(axis=1))
    np.testing.assert_array_equal(kept.min(axis=1), together.min(axis=1))


def test_values_that_are_not_finite_are_passed_over() -> None:
    spread = Spread(keep=8)
    spread.add(np.array([1.0, math.nan], np.float32))
    assert spread.kept == []
    assert spread.values().size == 0


@pytest.mark.parametrize(
    ("port", "low", "high", "wanted"),
    [
        (Port(name="", shape=(), dtype="int8", scale=1.0, zero_point=-128), 0.0, 25.5, 0.1),
        (Port(name="", shape=(), dtype="uint8", scale=1.0, zero_point=7), -5.5, 20.0, 0.1),
        (Port(name="", shape=(), dtype="int8", scale=1.0, zero_point=0), -12.7, 3.0, 0.1),
        (Port(name="", shape=(), dtype="int16", scale=1.0, zero_point=0), 0.0, 32.767, 0.001),
        (Port(name="", shape=(), dtype="int8", scale=1.0, zero_point=-128), 5.0, 25.5, 0.1),
    ],
)
def test_a_sound_step_covers_the_range_and_zero(port: Port, low: float, high: float, wanted: float) -> None:
    assert judging.sound_step(low, high, port) == pytest.approx(wanted)


def test_excess_is_what_goes_beyond() -> None:
    assert judging.excess_db(1.0, 10.0) == 0
    assert judging.excess_db(10.0, 1.0) == pytest.approx(10)
    assert judging.excess_db(0.0, 0.0) == 0
    assert judging.excess_db(1.0, 0.0) > 100
    assert judging.excess_db(math.inf, 1.0) == 200


@given(st.floats(0.01, 4), st.integers(-100, 100), arrays(np.float32, 20, elements=everyday))
def test_clipped_values_are_those_that_come_back_far_off(scale: float, zero: int, values: Any) -> None:
    port = Port(name="", shape=(20,), dtype="int8", scale=scale, zero_point=zero)
    from edgeq import runtimes

    back = runtimes.decode(port, runtimes.encode(port, values)).astype(np.float64)
    far = np.abs(back - values.astype(np.float64)) > scale * (0.5 + 1e-4) + 1e-4
    near = np.abs(back - values.astype(np.float64)) > scale * (0.5 - 1e-4) - 1e-4
    assert int(far.sum()) <= measuring.clipped(port, values) <= int(near.sum())
    assert measuring.clipped(Port(name="", shape=(20,), dtype="float32"), values) == 0


def spec(dtype: str, **quantization: Any) -> TensorSpec:
    found = Quantization(**quantization)
    return TensorSpec(index=0, name="w", shape=(4, 6), dtype=dtype, size_bytes=24, quantization=found)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int4"])
def test_fresh_weights_are_as_good_as_rounding_allows(dtype: str) -> None:
    values = np.random.default_rng(1).normal(size=(4, 6)).astype(np.float32)
    bits = fresh.BITS[dtype]
    middle = 2 ** (bits - 1) if dtype.startswith("u") else 0
    made = fresh.fresh(values, spec(dtype, scales=(1.0,) * 4, zero_points=(middle,) * 4, axis=0))
    assert made is not None
    steps = np.abs(values).max(axis=1) / (2 ** (bits - 1) - 1)
    assert (np.abs(made - values).max(axis=1) <= steps / 2 * 1.001).all()
    turned = fresh.fresh(values, spec(dtype, scales=(1.0,) * 6, zero_points=(middle,) * 6, axis=1))
    assert turned is not None
    assert not np.array_equal(made, turned)


def test_what_is_no_weight_is_not_quantized_anew() -> None:
    values = np.ones((4, 6), np.float32)
    assert fresh.fresh(values, spec("int32", scales=(1.0,), zero_points=(0,))) is None
    assert fresh.fresh(values * math.nan, spec("int8", scales=(1.0,), zero_points=(0,))) is None
    assert fresh.fresh(values, TensorSpec(index=0, name="", shape=(4, 6), dtype="int8", size_bytes=24)) is None


def test_limits_are_what_codes_reach() -> None:
    ends = limits(Quantization(scales=(0.5, 1.0), zero_points=(0, 2), axis=0), "int8")
    assert ends is not None
    assert ends[0].tolist() == [-64, -130]
    assert ends[1].tolist() == [63.5, 125]
    assert limits(None, "int8") is None
    assert limits(Quantization(scales=(1.0,), zero_points=(0,)), "int32") is None


positive = arrays(np.float64, 3, elements=st.floats(0.1, 50))


def gain_of(pairs: list[tuple[Any, Any]], axis: int | None) -> Any:
    products = gains.Products(axis)
    for original, prepared in pairs:
        products.add(original, prepared)
    return products.gain()


@given(positive, arrays(np.float32, (2, 3, 4, 5), elements=st.floats(0.5, 9, width=32)))
def test_channels_that_were_multiplied_are_found(factors: Any, samples: Any) -> None:
    along = gains.shaped(factors, 1, 4)
    found = gain_of([(one[None], (one[None] * along).astype(np.float32)) for one in samples], 1)
    if np.abs(factors - 1).max() < gains.UNCHANGED / 2:
        assert found is None
    elif np.abs(factors - 1).max() > 2 * gains.UNCHANGED:
        assert found is not None
        np.testing.assert_allclose(found, factors, rtol=1e-4)


def test_other_changes_are_no_gains() -> None:
    random = np.random.default_rng(1)
    original = random.normal(size=(1, 3, 4, 5)).astype(np.float32)
    assert gain_of([], 1) is None
    assert gain_of([(original, original)], 1) is None
    assert gain_of([(original, original + random.normal(size=original.shape).astype(np.float32))], 1) is None
    assert gain_of([(original, -original)], 1) is None
    assert gain_of([(original, original[:, :2])], 1) is None
    assert gain_of([(original, 2 * original), (original[:, :2], original[:, :2])], 1) is None
    assert gain_of([(original, 2 * original)], None) is None
    shifted = [(original + number, original + number + 1) for number in range(3)]
    assert gain_of(shifted, 1) is None
