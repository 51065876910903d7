"""Quantizers against their plain definitions."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgeq.quantization import codebook as codebooks
from edgeq.quantization import quantizers

Floats = NDArray[np.float64]
everyday = st.floats(-1000, 1000, allow_subnormal=False).map(lambda x: 0.0 if abs(x) < 1e-6 else x)
shapes = st.tuples(st.integers(1, 4), st.integers(1, 30))
matrices = arrays(np.float64, shapes, elements=everyday)
few_bits = st.integers(2, 8)


def rows(values: Floats) -> list[list[float]]:
    return [[float(value) for value in row] for row in values]


def nearest_level(value: float, levels: list[float]) -> float:
    return min(abs(level - value) for level in levels)


@given(matrices, few_bits)
def test_symmetric_takes_the_nearest_of_its_levels(values: Floats, bits: int) -> None:
    found = quantizers.symmetric(values, bits)
    steps = 2 ** (bits - 1) - 1
    for row, made in zip(rows(values), rows(found), strict=True):
        scale = max(map(abs, row)) / steps
        levels = [code * scale for code in range(-steps, steps + 1)]
        for value, one in zip(row, made, strict=True):
            assert abs(one - value) <= nearest_level(value, levels) + 1e-9 * (1 + abs(value))
            assert nearest_level(one, levels) <= 1e-9 * (1 + abs(one))


@given(matrices, few_bits)
def test_asymmetric_takes_the_nearest_of_its_levels_and_keeps_zero(values: Floats, bits: int) -> None:
    padded = np.concatenate([values, np.zeros((len(values), 1))], axis=1)
    found = quantizers.asymmetric(padded, bits)
    assert (found[:, -1] == 0).all()
    for row, made in zip(rows(padded), rows(found), strict=True):
        scale = (max(*row, 0) - min(*row, 0)) / (2**bits - 1)
        if not scale:
            assert made == [0] * len(made)
            continue
        zero = round(-min(*row, 0) / scale)
        levels = [(code - zero) * scale for code in range(2**bits)]
        for value, one in zip(row, made, strict=True):
            assert abs(one - value) <= nearest_level(value, levels) + 1e-9 * (1 + abs(value))
        assert len({round(one / scale) for one in made}) <= 2**bits


@given(matrices, few_bits)
def test_a_power_of_two_is_the_smallest_that_clips_nothing(values: Floats, bits: int) -> None:
    assume(np.abs(values).max() > 0)
    found = quantizers.power_of_two(values, bits)
    steps = 2 ** (bits - 1) - 1
    for row, made in zip(rows(values), rows(found), strict=True):
        largest = max(map(abs, row))
        if not largest:
            continue
        exponent = math.ceil(math.log2(largest / steps) - 1e-12)
        scale = 2.0**exponent
        assert steps * scale >= largest * (1 - 1e-9)
        assert steps * scale / 2 < largest * (1 + 1e-9)
        assert all(abs(one - value) <= scale / 2 * (1 + 1e-9) for value, one in zip(row, made, strict=True))
        assert all((one / scale).is_integer() for one in made)


@given(matrices)
def test_logarithmic_levels_are_eighths_of_octaves(values: Floats) -> None:
    found = quantizers.logarithmic(values)
    for row, made in zip(rows(values), rows(found), strict=True):
        largest = max(map(abs, row))
        smallest = largest * 2 ** (-126 / 8)
        for value, one in zip(row, made, strict=True):
            assert one == 0 or (one > 0) == (value > 0)
            if abs(value) > smallest:
                assert abs(math.log2(one / value)) <= 1 / 16 + 1e-9
            else:
                assert abs(one - value) <= smallest / 2 * (1 + 1e-9)


@given(st.lists(everyday, min_size=1, max_size=60), st.integers(1, 5))
def test_a_codebook_is_small_and_each_value_takes_its_nearest_entry(values: list[float], size: int) -> None:
    array = np.array(values)
    entries = codebooks.codebook(array, size)
    assert 1 <= entries.size <= size or entries.size == np.unique(array).size <= size
    assert (np.diff(entries) >= 0).all()
    found = codebooks.nearest(array, entries)
    for value, one in zip(values, found.tolist(), strict=True):
        assert abs(one - value) <= min(abs(entry - value) for entry in entries.tolist()) * (1 + 1e-12) + 1e-12


@given(st.lists(everyday, min_size=2, max_size=60), st.lists(everyday, min_size=1, max_size=5, unique=True))
def test_a_round_of_lloyd_moves_entries_to_their_means(values: list[float], start: list[float]) -> None:
    points, counts = codebooks.condensed(np.array(values))
    entries = np.sort(np.array(start))
    cells: list[list[float]] = [[] for _ in start]
    for value in values:
        best = min(range(len(start)), key=lambda place: (abs(entries[place] - value), place))
        cells[best].append(value)
    ties = any(
        abs(abs(value - a) - abs(value - b)) < 1e-9 for value in values for a in entries for b in entries if a < b
    )
    assume(not ties)
    wanted = [sum(cell) / len(cell) if cell else float(entries[place]) for place, cell in enumerate(cells)]
    np.testing.assert_allclose(codebooks.centroids(points, counts, entries), wanted, rtol=1e-9, atol=1e-9)


@given(arrays(np.float64, st.integers(10, 200), elements=everyday), st.integers(2, 8))
def test_rounds_never_make_the_error_larger(values: Floats, size: int) -> None:
    assume(np.unique(values).size > size)
    errors = []
    for rounds in range(6):
        entries = codebooks.codebook(values, size, rounds=rounds)
        errors.append(float(np.square(values - codebooks.nearest(values, entries)).sum()))
    assert all(after <= before * (1 + 1e-9) + 1e-9 for before, after in itertools.pairwise(errors))


def test_many_different_values_are_condensed_to_bins() -> None:
    values = np.random.default_rng(1).normal(size=100_000)
    points, counts = codebooks.condensed(values)
    assert points.size <= codebooks.BINS
    assert counts.sum() == values.size
    assert float((points * counts).sum()) == pytest.approx(float(values.sum()), abs=1e-6)
    assert (np.diff(points) > 0).all()


def test_a_codebook_beats_even_steps_on_gaussian_values() -> None:
    values = np.random.default_rng(2).normal(size=(1, 50_000))
    costs = quantizers.costs(values)
    even = quantizers.sqnr_db(values, quantizers.symmetric(values, 4))
    assert costs["k_means_4_bit"] is not None
    assert even is not None
    assert 20.0 < costs["k_means_4_bit"] < 20.5  # Lloyd and Max, 16 levels on a Gaussian: 20.22 dB
    assert costs["k_means_4_bit"] > even + 1


@given(matrices)
@settings(max_examples=40)
def test_costs_follow_from_the_quantizers(values: Floats) -> None:
    costs = quantizers.costs(values)
    assert list(costs) == list(quantizers.QUANTIZERS)
    if not np.square(values).sum():
        assert set(costs.values()) == {None}
        return
    for name, quantizer in quantizers.QUANTIZERS.items():
        noise = float(np.square(values - quantizer(values)).sum())
        signal = float(np.square(values).sum())
        cost = costs[name]
        assert cost is not None
        assert cost == pytest.approx(min(200, 10 * math.log10(signal / noise)) if noise else 200, abs=1e-6)


def test_a_scale_for_each_channel_is_worth_most_where_channels_differ() -> None:
    random = np.random.default_rng(3)
    values = random.normal(size=(8, 1000)) * (2.0 ** np.arange(8))[:, np.newaxis]
    small = values[0]
    per_tensor = quantizers.QUANTIZERS["symmetric_per_tensor"](values)[0]
    per_channel = quantizers.QUANTIZERS["symmetric_per_channel"](values)[0]
    one, other = quantizers.sqnr_db(small, per_tensor), quantizers.sqnr_db(small, per_channel)
    assert one is not None
    assert other is not None
    assert other > one + 30
    assert quantizers.channel_spread(values) == pytest.approx(128, rel=0.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_have_no_costs(bad: float) -> None:
    assert set(quantizers.costs(np.array([[1.0, bad]])).values()) == {None}
    assert quantizers.ratio_db(bad, 1.0) is None


solids = arrays(np.float32, st.tuples(*[st.integers(1, 4)] * 3), elements=st.floats(-9, 9, width=32))


@given(solids, st.integers(0, 2))
def test_channels_come_out_of_an_array_and_go_back(values: Any, axis: int) -> None:
    from edgeq.analysis.fresh import unfolded

    made = quantizers.by_channel(values, axis)
    assert made.shape[0] == values.shape[axis]
    assert np.array_equal(unfolded(made, values.shape, axis), values)
    assert np.array_equal(made[0].reshape(-1), np.take(values, 0, axis).reshape(-1))


def test_no_channel_has_a_spread_where_all_are_zero() -> None:
    assert quantizers.channel_spread(np.zeros((3, 4))) is None
    assert quantizers.channel_spread(np.array([[0.0, 0.0], [2.0, -4.0], [1.0, 0.0]])) == 4


def test_empty_values_cost_nothing_and_break_nothing() -> None:
    assert set(quantizers.costs(np.zeros((1, 0))).values()) == {None}
