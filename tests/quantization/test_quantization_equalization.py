"""Equalization: what is computed stays, and channels that share a range use it alike."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.quantization import equalization, rounding
from edgeq.quantization.equalization import Site, as_maker, as_reader, factors
from edgeq.quantization.layers import Layer, Statistics
from edgeq.quantization.observers import rounded

Array = NDArray[Any]
WIDTH = 8


def dense(name: str, outputs: int, inputs: int, seed: int) -> Layer:
    random = np.random.default_rng(seed)
    return Layer(
        name=name,
        source=f"into {name}",
        result=f"out of {name}",
        weights=random.normal(size=(outputs, inputs, 1)).astype(np.float32),
        bias=random.normal(size=outputs).astype(np.float32),
        groups=1,
        window=None,
        channels_last=True,
    )


def run(layer: Layer, rows: Array) -> Array:
    return np.asarray(rows @ layer.weights[:, :, 0].T + (0 if layer.bias is None else layer.bias))


def pair(spread: Array, seed: int = 0, limit: float | None = None) -> tuple[Layer, Layer, Array, Statistics, Site]:
    """A maker whose channels differ by `spread`, a reader that makes it good, rows, and what the reader reads."""
    first, second = dense("first", WIDTH, 4, seed), dense("second", 5, WIDTH, seed + 1)
    weights, bias = as_maker(first, spread)
    first = replace(first, weights=weights, bias=bias)
    second = replace(second, weights=as_reader(second, spread))
    rows = np.random.default_rng(seed + 2).normal(size=(100, 4)).astype(np.float32)
    seen = Statistics(second)
    seen.update(np.maximum(run(first, rows), 0).astype(np.float32))
    return first, second, rows, seen, Site(("first",), ("second",), WIDTH, limit)


def made_of(first: Layer, second: Layer, seen: Statistics, site: Site) -> Array | None:
    return factors(site, {"first": first, "second": second}, {"second": seen})


SPREADS = st.lists(st.floats(1 / 64, 64), min_size=WIDTH, max_size=WIDTH).map(np.array)


@settings(max_examples=50, deadline=None)
@given(SPREADS, st.integers(0, 10**6))
def test_the_network_computes_the_same(spread: Array, seed: int) -> None:
    first, second, rows, seen, site = pair(spread, seed)
    made = made_of(first, second, seen, site)
    if made is None:
        return
    weights, bias = as_maker(first, made)
    after = replace(first, weights=weights, bias=bias), replace(second, weights=as_reader(second, made))
    wanted = run(second, np.maximum(run(first, rows), 0))
    found = run(after[1], np.maximum(run(after[0], rows), 0))
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-3 * np.abs(wanted).max())


@settings(max_examples=50, deadline=None)
@given(SPREADS, st.integers(0, 10**6))
def test_the_range_stays_and_every_factor_is_bounded(spread: Array, seed: int) -> None:
    first, second, _, seen, site = pair(spread, seed)
    made = made_of(first, second, seen, site)
    if made is not None:
        reach = np.maximum(-seen.low, seen.high)
        assert 1 / equalization.MOST <= made.min() <= made.max() <= equalization.MOST
        assert (reach * made).max() <= reach.max() * (1 + 1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_a_wide_spread_of_channels_costs_little_after(seed: int) -> None:
    """8-bit activations with one range: the error of a rescaled network falls to that of the plain one."""
    spread = np.geomspace(1, 64, WIDTH)
    plain, wide = (pair(one, seed) for one in (np.ones(WIDTH), spread))
    made = made_of(*wide[:2], wide[3], wide[4])
    assert made is not None
    weights, bias = as_maker(wide[0], made)
    mended = replace(wide[0], weights=weights, bias=bias), replace(wide[1], weights=as_reader(wide[1], made))
    errors = [loss(*layers, rows) for *layers, rows in (plain[:3], wide[:3], (*mended, wide[2]))]
    assert errors[1] > 10 * errors[0]
    assert errors[2] < 3 * errors[0]


def loss(first: Layer, second: Layer, rows: Array) -> float:
    """Mean square error of a network whose activations and weights have 8 bits."""
    hidden = np.maximum(run(first, rows), 0)
    scales = np.abs(second.weights).max(axis=(1, 2)) / 127
    grid = rounding.Grid(scales, np.zeros(1, np.int64), -127, 127)
    stored = replace(second, weights=rounding.nearest(second.weights, grid) * scales[:, None, None])
    coarse = rounded(hidden, (0.0, float(hidden.max())))
    return float(((run(stored, coarse) - run(second, hidden)) ** 2).mean())


def test_channels_that_are_alike_are_left_alone() -> None:
    first, second, _, _, site = pair(np.ones(WIDTH))
    second = replace(second, weights=np.sign(second.weights))
    seen = Statistics(second)
    seen.update(np.random.default_rng(1).uniform(0, 1, size=(500, WIDTH)).astype(np.float32))
    assert made_of(first, second, seen, site) is None


@settings(max_examples=50, deadline=None)
@given(SPREADS, st.floats(0.5, 20))
def test_a_clip_keeps_its_distance(spread: Array, limit: float) -> None:
    first, second, rows, _, site = pair(spread, limit=limit)
    hidden = np.clip(run(first, rows), 0, limit).astype(np.float32)
    seen = Statistics(second)
    seen.update(hidden)
    made = made_of(first, second, seen, site)
    if made is not None:
        raised = made > 1
        assert made.min() >= 1
        assert (hidden.max(axis=0) * made * equalization.HEADROOM)[raised].max(initial=0) <= limit * (1 + 1e-6)


def test_a_channel_that_reaches_the_clip_stays() -> None:
    first, second, rows, _, site = pair(np.geomspace(1, 64, WIDTH), limit=1.0)
    hidden = np.clip(run(first, rows), 0, 1.0).astype(np.float32)
    seen = Statistics(second)
    seen.update(hidden)
    made = made_of(first, second, seen, site)
    assert (hidden.max(axis=0) == 1).any()
    assert made is None or (made[hidden.max(axis=0) == 1] == 1).all()


def with_dead(spread: Array, weight: float) -> tuple[Layer, Layer, Statistics, Site]:
    """A pair whose fourth channel is always 0 and is read by weights multiplied by `weight`."""
    first, second, rows, _, site = pair(spread)
    stretched = second.weights.copy()
    stretched[:, 3] *= np.float32(weight)
    second = replace(second, weights=stretched)
    hidden = np.maximum(run(first, rows), 0).astype(np.float32)
    hidden[:, 3] = 0
    seen = Statistics(second)
    seen.update(hidden)
    return first, second, seen, site


def test_dead_channels_are_raised_only_as_far_as_their_weights_are_wider() -> None:
    first, second, seen, site = with_dead(np.geomspace(1, 64, WIDTH), 1.0)
    made = made_of(first, second, seen, site)
    assert made is not None
    assert np.isfinite(made).all()
    read = np.abs(as_reader(second, made))[:, :, 0]
    assert read[:, 3].max() <= 3 * np.delete(read, 3, axis=1).max()
    narrow = with_dead(np.geomspace(1, 64, WIDTH), 1e-3)
    kept = made_of(*narrow)
    assert kept is not None
    assert kept[3] == 1


@pytest.mark.parametrize("weight", [1.0, 1e3, 1e6])
def test_weights_of_dead_channels_do_not_stand_in_the_way(weight: float) -> None:
    """They add nothing to the answers, whatever they are, and share a scale with those that do."""
    first, second, seen, site = with_dead(np.geomspace(1 / 64, 64, WIDTH), weight)
    made = made_of(first, second, seen, site)
    assert made is not None
    reach = np.maximum(-seen.low, seen.high) * made
    alive = np.arange(WIDTH) != 3
    assert reach[alive].max() / reach[alive].min() < 300, "it was 4096 at least"


def test_dead_channels_of_depthwise_readers_do_not_stand_in_the_way() -> None:
    """Each channel has weights of its own; those of a channel that is always 0 decide nothing."""
    random = np.random.default_rng(0)
    spread = np.geomspace(1 / 64, 64, WIDTH)
    weights = (random.normal(size=WIDTH) / spread).astype(np.float32).reshape(WIDTH, 1, 1)  # all answers matter alike
    weights[3] = 1e6
    reader = replace(dense("second", WIDTH, 1, 1), weights=weights, groups=WIDTH)
    hidden = (random.uniform(0, 1, (200, WIDTH)) * spread).astype(np.float32)
    hidden[:, 3] = 0
    seen = Statistics(reader)
    seen.update(hidden)
    made = made_of(dense("first", WIDTH, 4, 0), reader, seen, Site(("first",), ("second",), WIDTH, None))
    assert made is not None
    reach = np.delete(seen.high * made, 3)
    assert reach.max() / reach.min() < 1.1


def test_what_was_never_seen_decides_nothing() -> None:
    first, second, _, _, site = pair(np.ones(WIDTH))
    assert made_of(first, second, Statistics(second), site) is None


def test_nothing_but_zeros_changes_nothing() -> None:
    first, second, _, _, site = pair(np.ones(WIDTH))
    seen = Statistics(second)
    seen.update(np.zeros((10, WIDTH), np.float32))
    assert made_of(first, second, seen, site) is None


def test_a_reader_in_groups_divides_its_own_channels() -> None:
    layer = replace(dense("second", 4, 2, 3), groups=2)
    made = np.array([1.0, 2.0, 4.0, 8.0])
    divided = as_reader(layer, made)
    np.testing.assert_allclose(divided[:2, :, 0], layer.weights[:2, :, 0] / made[:2])
    np.testing.assert_allclose(divided[2:, :, 0], layer.weights[2:, :, 0] / made[2:])
