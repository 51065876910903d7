"""Quantizers and codebooks at their limits: nothing, one value, constants, ties, and what must not matter."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgeq.quantization import codebook as codebooks
from edgeq.quantization import quantizers

Floats = NDArray[np.float64]
Quantizer = Callable[[Floats], Floats]
everyday = st.floats(-1000, 1000).map(lambda x: 0.0 if abs(x) < 1e-6 else x)
matrices = arrays(np.float64, st.tuples(st.integers(1, 4), st.integers(1, 20)), elements=everyday)
BY_ROW: dict[str, Quantizer] = {
    "symmetric": quantizers.symmetric,
    "asymmetric": quantizers.asymmetric,
    "power_of_two": quantizers.power_of_two,
    "logarithmic": quantizers.logarithmic,
}
ODD = [name for name in BY_ROW if name != "asymmetric"]


@pytest.mark.parametrize("name", ODD)
@given(matrices)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_what_is_quantized_already_stays_as_it_is(name: str, values: Floats) -> None:
    once = BY_ROW[name](values)
    np.testing.assert_allclose(BY_ROW[name](once), once, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ODD)
@given(matrices)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_grid_around_zero_treats_both_signs_alike(name: str, values: Floats) -> None:
    np.testing.assert_array_equal(BY_ROW[name](-values), -BY_ROW[name](values))


@pytest.mark.parametrize("name", BY_ROW)
@given(matrices, st.integers(-20, 20))
@settings(max_examples=25, deadline=None, derandomize=True)
def test_the_unit_of_the_values_does_not_matter(name: str, values: Floats, power: int) -> None:
    unit = 2.0**power
    np.testing.assert_array_equal(BY_ROW[name](values * unit), BY_ROW[name](values) * unit)


@pytest.mark.parametrize("name", BY_ROW)
@given(matrices)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_a_row_is_quantized_as_if_it_were_alone(name: str, values: Floats) -> None:
    alone = np.concatenate([BY_ROW[name](row[np.newaxis]) for row in values])
    np.testing.assert_array_equal(BY_ROW[name](values), alone)


@pytest.mark.parametrize("name", BY_ROW)
@given(matrices)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_rows_of_zeros_stay_zeros_among_others(name: str, values: Floats) -> None:
    padded = np.concatenate([np.zeros((1, values.shape[1])), values])
    assert not BY_ROW[name](padded)[0].any()


@pytest.mark.parametrize(
    ("name", "bits", "levels"),
    [
        ("symmetric", 2, [-3, 0, 3]),
        ("symmetric", 3, [-3, -2, -1, 0, 1, 2, 3]),
        ("asymmetric", 2, [-4, -2, 0, 2]),
        ("power_of_two", 2, [-4, 0, 4]),
        ("power_of_two", 3, [-3, -2, -1, 0, 1, 2, 3]),
    ],
)
def test_few_bits_leave_these_levels(name: str, bits: int, levels: list[float]) -> None:
    makers: dict[str, Any] = BY_ROW
    values = np.linspace(-3, 3, 601)[np.newaxis]
    found = np.unique(np.round(makers[name](values, bits), 9))
    assert found.tolist() == levels


@pytest.mark.parametrize("shape", [(1, 0), (3, 0), (0, 4), (0, 0)])
@pytest.mark.parametrize("name", quantizers.QUANTIZERS)
def test_no_values_come_out_as_no_values(name: str, shape: tuple[int, int]) -> None:
    assert quantizers.QUANTIZERS[name](np.zeros(shape)).shape == shape


@pytest.mark.parametrize("constant", [1e-12, -1e-12, 0.3, -0.3, 1.0, 7e20, -7e20])
@pytest.mark.parametrize("name", sorted(set(quantizers.QUANTIZERS) - {"power_of_two"}))
def test_a_constant_is_an_end_of_its_own_range(name: str, constant: float) -> None:
    values = np.full((2, 5), constant)
    np.testing.assert_allclose(quantizers.QUANTIZERS[name](values), values, rtol=1e-12)


@pytest.mark.parametrize(
    ("values", "known"),
    [
        ([[0.0]], False),
        ([[0.0, -0.0], [0.0, 0.0]], False),
        ([[1.0]], True),
        ([[1.0], [0.0]], True),
        ([[3.4e38, -3.4e38]], True),
        ([[1e-30, 0.0]], True),
        ([[1.0, math.nan]], False),
        ([[math.inf], [0.0]], False),
    ],
)
def test_costs_are_all_known_or_all_unknown(values: list[list[float]], known: bool) -> None:
    costs = quantizers.costs(np.array(values))
    assert {cost is not None for cost in costs.values()} == {known}
    assert costs["k_means"] == (200.0 if known else None)


@pytest.mark.parametrize(
    ("signal", "noise", "wanted"),
    [
        (1.0, 1.0, 0.0),
        (100.0, 1.0, 20.0),
        (1.0, 100.0, -20.0),
        (1.0, 0.0, 200.0),
        (1.0, -1.0, 200.0),
        (1e300, 1e-300, 200.0),
        (1e-300, 1e300, -200.0),
        (5e-324, 5e-324, 0.0),
        (0.0, 0.0, None),
        (0.0, 1.0, None),
        (-1.0, 1.0, None),
        (math.nan, 1.0, None),
        (1.0, math.nan, None),
        (math.inf, 1.0, None),
        (1.0, math.inf, None),
    ],
)
def test_a_ratio_of_energies_is_bounded_or_unknown(signal: float, noise: float, wanted: float | None) -> None:
    assert quantizers.ratio_db(signal, noise) == wanted


@given(st.floats(1e-300, 1e300), st.floats(1e-300, 1e300))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_swapping_signal_and_noise_turns_the_sign(signal: float, noise: float) -> None:
    one, other = quantizers.ratio_db(signal, noise), quantizers.ratio_db(noise, signal)
    assert one is not None
    assert other is not None
    assert one == pytest.approx(-other, abs=1e-9)
    assert -200 <= one <= 200


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([[1.0, -2.0], [0.0, 4.0]], 2.0),
        ([[-8.0], [2.0], [0.0]], 4.0),
        ([[5.0, 5.0]], 1.0),
        ([[], []], None),
        ([[0.0], [0.0]], None),
    ],
)
def test_the_spread_of_channels_is_of_magnitudes_and_without_dead_ones(
    values: list[list[float]], wanted: float | None
) -> None:
    assert quantizers.channel_spread(np.array(values, np.float64)) == wanted


@pytest.mark.parametrize(
    ("shape", "axis", "wanted"),
    [
        ((), None, (1, 1)),
        ((), 0, (1, 1)),
        ((5,), None, (1, 5)),
        ((5,), 0, (5, 1)),
        ((2, 3), -1, (3, 2)),
        ((2, 3, 4), -2, (3, 8)),
        ((2, 3, 4), None, (1, 24)),
        ((1, 1, 1, 1), 3, (1, 1)),
    ],
)
def test_every_rank_becomes_channels_by_values(
    shape: tuple[int, ...], axis: int | None, wanted: tuple[int, ...]
) -> None:
    made = quantizers.by_channel(np.ones(shape, np.float32), axis)
    assert made.shape == wanted
    assert made.dtype == np.float64


@given(st.lists(everyday, min_size=1, max_size=40), st.integers(1, 50))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_codebook_does_not_depend_on_the_order_and_stays_between_the_ends(values: list[float], size: int) -> None:
    entries = codebooks.codebook(np.array(values), size)
    np.testing.assert_array_equal(codebooks.codebook(np.array(values[::-1]), size), entries)
    slack = 1e-9 * max(map(abs, values))
    assert min(values) - slack <= entries.min()
    assert entries.max() <= max(values) + slack
    if len(set(values)) <= size:
        assert entries.tolist() == sorted(set(values))


@given(st.lists(everyday, min_size=2, max_size=40, unique=True))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_a_codebook_of_one_is_the_mean(values: list[float]) -> None:
    assert codebooks.codebook(np.array(values), 1) == pytest.approx(np.mean(values), rel=1e-9, abs=1e-9)


def test_two_heaps_get_an_entry_each_at_their_means() -> None:
    heaps = np.concatenate([np.linspace(-11, -9, 300), np.linspace(4, 6, 100)])
    np.testing.assert_allclose(codebooks.codebook(heaps, 2), [-10, 5], rtol=1e-9)


@pytest.mark.parametrize("different", [1, 2, codebooks.BINS - 1, codebooks.BINS])
def test_values_are_taken_as_they_are_up_to_the_number_of_bins(different: int) -> None:
    values = np.arange(different, dtype=np.float64) ** 2
    points, counts = codebooks.condensed(np.repeat(values, 2))
    np.testing.assert_array_equal(points, values)
    assert (counts == 2).all()


def test_one_value_more_than_bins_loses_none_of_the_mass() -> None:
    values = np.arange(codebooks.BINS + 1, dtype=np.float64)
    points, counts = codebooks.condensed(values)
    assert points.size <= codebooks.BINS
    assert counts.sum() == values.size
    assert float(points @ counts) == pytest.approx(values.sum())
    assert points[0] == 0
    assert points[-1] == pytest.approx(codebooks.BINS - 0.5)


@given(st.lists(everyday, min_size=1, max_size=40), st.lists(everyday, min_size=1, max_size=6, unique=True))
@settings(max_examples=40, deadline=None, derandomize=True)
def test_the_means_of_cells_hold_the_mean_of_all(values: list[float], start: list[float]) -> None:
    points, counts = codebooks.condensed(np.array(values))
    entries = np.sort(np.array(start))
    middles = (entries[1:] + entries[:-1]) / 2
    held = np.bincount(np.searchsorted(middles, points, side="right"), weights=counts, minlength=entries.size)
    moved = codebooks.centroids(points, counts, entries)
    assert float(held @ moved) == pytest.approx(sum(values), rel=1e-9, abs=1e-6)
    assert (moved[held == 0] == entries[held == 0]).all()


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(-9.0, -1.0), (-1.0, -1.0), (0.0, -1.0), (0.1, 1.0), (1.9, 1.0), (2.0, 1.0), (2.1, 3.0), (99.0, 3.0)],
)
def test_a_value_between_two_entries_takes_the_lower_one(value: float, wanted: float) -> None:
    entries = np.array([-1.0, 1.0, 3.0])
    assert codebooks.nearest(np.array(value), entries) == wanted
    assert codebooks.nearest(np.full((2, 1), value), entries).tolist() == [[wanted], [wanted]]
    assert codebooks.nearest(np.array([value]), entries[:1]).tolist() == [-1.0]


@pytest.mark.parametrize("shape", ["uniform", "laplace", "normal", "exponential"])
def test_sixteen_chosen_values_are_never_worse_than_sixteen_even_steps(shape: str) -> None:
    values = getattr(np.random.default_rng(5), shape)(size=(1, 20_000))
    chosen = quantizers.sqnr_db(values, quantizers.k_means(values, 4))
    even = quantizers.sqnr_db(values, quantizers.asymmetric(values, 4))
    assert chosen is not None
    assert even is not None
    assert chosen >= even - 0.01
