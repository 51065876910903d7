"""Rounding by what layers read: never worse than each weight's nearest integer on what was seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.quantization import layers, rounding
from edgeq.quantization.layers import Layer, Statistics, Window
from edgeq.quantization.rounding import Grid

Array = NDArray[Any]


def layer_of(weights: Array, *, groups: int = 1, window: Window | None = None) -> Layer:
    return Layer(
        name="layer",
        source="x",
        result="y",
        weights=weights.astype(np.float32),
        bias=np.zeros(len(weights), np.float32),
        groups=groups,
        window=window,
        channels_last=False,
    )


def seen_of(layer: Layer, *samples: Array) -> Statistics:
    found = Statistics(layer)
    for sample in samples:
        found.update(sample.astype(np.float32))
    return found


def symmetric(layer: Layer, steps: int = 7, *, per_channel: bool = True) -> Grid:
    flat = np.abs(layer.weights.reshape(len(layer.weights), -1)).max(axis=1)
    scales = (flat if per_channel else flat.max(keepdims=True)) / steps
    return Grid(np.where(scales > 0, scales, 1.0), np.zeros(1, np.int64), -steps, steps)


def back(grid: Grid, integers: Array) -> Array:
    along = (-1, *([1] * (integers.ndim - 1)))
    return np.asarray((integers - grid.zeros.reshape(along)) * grid.scales.reshape(along))


def error(layer: Layer, grid: Grid, integers: Array, rows: Array, *, is_mended: bool = False) -> float:
    gap = (layer.weights - back(grid, integers))[:, :, 0] @ rows.T
    return float(((gap - gap.mean(axis=1, keepdims=True) if is_mended else gap) ** 2).sum())


def correlated(random: np.random.Generator, count: int, width: int) -> Array:
    """Rows of a few hidden causes, as activations are."""
    return random.normal(size=(count, 3)) @ random.normal(size=(3, width)) + 0.1 * random.normal(size=(count, width))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 24), st.booleans(), st.booleans())
def test_answers_are_nearer_than_by_the_nearest_integers(
    seed: int, width: int, per_channel: bool, is_centred: bool
) -> None:
    random = np.random.default_rng(seed)
    layer = layer_of(random.normal(size=(6, width, 1)))
    rows = correlated(random, 200, width) + 2 * is_centred
    grid = symmetric(layer, per_channel=per_channel)
    made = rounding.rounded(layer, grid, seen_of(layer, rows[: layers.POSITIONS]), is_centred=is_centred)
    used = rows[: layers.POSITIONS]
    plain = error(layer, grid, rounding.nearest(layer.weights, grid), used, is_mended=is_centred)
    assert error(layer, grid, made, used, is_mended=is_centred) <= plain * 1.001 + 1e-9


def test_correlated_inputs_gain_a_lot() -> None:
    random = np.random.default_rng(1)
    layer, rows = layer_of(random.normal(size=(16, 32, 1))), correlated(random, 190, 32)
    grid = symmetric(layer)
    made = rounding.rounded(layer, grid, seen_of(layer, rows), is_centred=False)
    assert error(layer, grid, made, rows) < 0.2 * error(layer, grid, rounding.nearest(layer.weights, grid), rows)


def test_other_samples_of_the_same_kind_gain_too() -> None:
    random = np.random.default_rng(2)
    layer, rows = layer_of(random.normal(size=(16, 24, 1))), correlated(random, 2000, 24)
    grid = symmetric(layer)
    made = rounding.rounded(layer, grid, seen_of(layer, *np.split(rows[:1000], 10)), is_centred=False)
    later = rows[1000:]
    assert error(layer, grid, made, later) < 0.3 * error(layer, grid, rounding.nearest(layer.weights, grid), later)


def test_inputs_that_have_nothing_to_do_with_one_another_are_rounded_to_the_nearest() -> None:
    random = np.random.default_rng(3)
    layer = layer_of(random.normal(size=(4, 6, 1)))
    grid = symmetric(layer)
    made = rounding.rounded(layer, grid, seen_of(layer, np.eye(6)), is_centred=False)
    np.testing.assert_array_equal(made, rounding.nearest(layer.weights, grid))


@pytest.mark.parametrize("rows", [np.zeros((5, 8)), np.ones((5, 8)), np.eye(8)[:1], np.full((3, 8), 1e-20)])
@pytest.mark.parametrize("is_centred", [False, True])
def test_dead_and_constant_inputs_do_no_harm(rows: Array, is_centred: bool) -> None:
    layer = layer_of(np.random.default_rng(4).normal(size=(3, 8, 1)))
    grid = symmetric(layer)
    made = rounding.rounded(layer, grid, seen_of(layer, rows), is_centred=is_centred)
    assert made.shape == layer.weights.shape
    assert np.abs(made).max() <= 7
    assert np.abs(back(grid, made) - layer.weights).max() < 7 * grid.scales.max()


@pytest.mark.parametrize("large", [1e25, 3e38])
@pytest.mark.parametrize("is_centred", [False, True])
def test_inputs_whose_squares_overflow_are_rounded_to_the_nearest(large: float, is_centred: bool) -> None:
    layer, random = layer_of(np.random.default_rng(4).normal(size=(3, 8, 1))), np.random.default_rng(5)
    grid, rows = symmetric(layer), random.normal(size=(40, 8))
    rows[3] *= large / np.abs(rows[3]).max()
    made = rounding.rounded(layer, grid, seen_of(layer, rows), is_centred=is_centred)
    np.testing.assert_array_equal(made, rounding.nearest(layer.weights, grid))


def test_integers_stay_within_the_grid() -> None:
    layer = layer_of(np.random.default_rng(5).normal(size=(4, 10, 1)))
    grid = Grid(np.full(4, 0.05), np.full(4, 128), 121, 135)
    made = rounding.rounded(
        layer, grid, seen_of(layer, np.random.default_rng(6).normal(size=(50, 10))), is_centred=True
    )
    assert made.min() >= 121
    assert made.max() <= 135


def test_a_zero_point_moves_integers_only() -> None:
    layer = layer_of(np.random.default_rng(7).normal(size=(4, 10, 1)))
    rows = correlated(np.random.default_rng(8), 60, 10)
    plain = symmetric(layer, 127)
    moved = Grid(plain.scales, np.full(4, 128), 1, 255)
    made = [rounding.rounded(layer, grid, seen_of(layer, rows), is_centred=False) for grid in (plain, moved)]
    np.testing.assert_array_equal(made[0] + 128, made[1])


def test_groups_are_rounded_each_by_its_own_inputs() -> None:
    window = Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
    random = np.random.default_rng(9)
    both = layer_of(random.normal(size=(2, 1, 9)), groups=2, window=window)
    picture = random.normal(size=(1, 2, 9, 9)).cumsum(axis=3)
    grid = symmetric(both)
    made = rounding.rounded(both, grid, seen_of(both, picture), is_centred=False)
    for channel in (0, 1):
        one = layer_of(both.weights[channel : channel + 1], window=window)
        alone = Grid(grid.scales[channel : channel + 1], grid.zeros, grid.low, grid.high)
        seen = seen_of(one, picture[:, channel : channel + 1])
        np.testing.assert_array_equal(made[channel], rounding.rounded(one, alone, seen, is_centred=False)[0])


def test_blocks_do_not_change_the_answer() -> None:
    """More inputs than one block of the algorithm: the same as one input after the other."""
    random = np.random.default_rng(10)
    width = 2 * rounding._BLOCK + 5
    layer, rows = layer_of(random.normal(size=(3, width, 1))), correlated(random, 190, width)
    grid = symmetric(layer, 127)
    seen = seen_of(layer, rows)
    made = rounding.rounded(layer, grid, seen, is_centred=False)
    np.testing.assert_array_equal(made, plainly(layer, grid, seen))


def plainly(layer: Layer, grid: Grid, seen: Statistics) -> Array:
    """The textbook's loop, without blocks."""
    spread = rounding._correlation(seen.products[0], seen.count, None)[0]
    spread = spread + rounding.DAMPING * np.eye(len(spread))
    order = np.argsort(-np.diag(spread), kind="stable")
    upper = np.linalg.cholesky(np.linalg.inv(spread[np.ix_(order, order)])).T
    left = layer.weights[:, order, 0].astype(np.float64)
    made = np.zeros(left.shape, np.int32)
    for place in range(left.shape[1]):
        made[:, place] = np.clip(np.rint(left[:, place] / grid.scales), grid.low, grid.high)
        gap = (left[:, place] - made[:, place] * grid.scales) / upper[place, place]
        left[:, place + 1 :] -= np.outer(gap, upper[place, place + 1 :])
    return made[:, np.argsort(order), None]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_the_bias_takes_what_the_mean_lost(seed: int) -> None:
    random = np.random.default_rng(seed)
    layer, rows = layer_of(random.normal(size=(5, 7, 1))), random.normal(size=(100, 7)) + 3
    grid = symmetric(layer, 3)
    integers = rounding.nearest(layer.weights, grid)
    shift = rounding.bias_shift(layer, grid, integers, seen_of(layer, rows))
    wanted = (layer.weights[:, :, 0] @ rows.T).mean(axis=1)
    mended = (back(grid, integers)[:, :, 0] @ rows.T).mean(axis=1) + shift
    np.testing.assert_allclose(mended, wanted, rtol=1e-4, atol=1e-4)
