"""What layers read, summed up: held against the layers' own arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.quantization import layers
from edgeq.quantization.layers import Layer, Statistics, Window

Array = NDArray[Any]
RANDOM = np.random.default_rng


def dense(outputs: int = 3, inputs: int = 5, seed: int = 0) -> Layer:
    weights = RANDOM(seed).normal(size=(outputs, inputs, 1)).astype(np.float32)
    bias = RANDOM(seed + 1).normal(size=outputs).astype(np.float32)
    return Layer(
        name="dense", source="x", result="y", weights=weights, bias=bias, groups=1, window=None, channels_last=True
    )


def convolution(
    window: Window, *, outputs: int, inputs: int, groups: int, channels_last: bool = False, seed: int = 0
) -> Layer:
    shape = (outputs, inputs // groups, window.kernel[0] * window.kernel[1])
    weights = RANDOM(seed).normal(size=shape).astype(np.float32)
    return Layer(
        name="conv",
        source="x",
        result="y",
        weights=weights,
        bias=None,
        groups=groups,
        window=window,
        channels_last=channels_last,
    )


def slowly(layer: Layer, picture: Array) -> Array:
    """A convolution by its definition; picture and result are (channels, rows, columns)."""
    window = layer.window
    assert window is not None
    padded = np.pad(picture, ((0, 0), *zip(window.before, window.after, strict=True)))
    sizes = [
        (padded.shape[axis + 1] - (window.kernel[axis] - 1) * window.dilations[axis] - 1) // window.strides[axis] + 1
        for axis in (0, 1)
    ]
    kernel = layer.weights.reshape(*layer.weights.shape[:2], *window.kernel)
    each = len(kernel) // layer.groups
    found = np.zeros((len(kernel), *sizes))
    for output, row, column in np.ndindex(*found.shape):
        first = output // each * kernel.shape[1]
        for channel, down, across in np.ndindex(*kernel.shape[1:]):
            value = padded[
                first + channel,
                row * window.strides[0] + down * window.dilations[0],
                column * window.strides[1] + across * window.dilations[1],
            ]
            found[output, row, column] += kernel[output, channel, down, across] * value
    return found


PLAIN = Window((3, 3), (1, 1), (1, 1), (1, 1), (1, 1))
SMALL = st.integers(1, 3)
PAIRS = st.tuples(SMALL, SMALL)
WINDOWS = st.builds(Window, PAIRS, PAIRS, st.tuples(st.integers(1, 2), st.integers(1, 2)), PAIRS, PAIRS)


@settings(max_examples=60, deadline=None)
@given(WINDOWS, st.sampled_from([(1, 4, 2), (2, 4, 4), (4, 4, 4), (4, 8, 4)]), st.booleans())
def test_columns_are_what_the_weights_meet(window: Window, sizes: tuple[int, int, int], channels_last: bool) -> None:
    groups, outputs, inputs = sizes
    layer = convolution(window, outputs=outputs, inputs=inputs, groups=groups, channels_last=channels_last)
    picture = RANDOM(3).normal(size=(1, inputs, 8, 7)).astype(np.float32)
    given_values = picture.transpose(0, 2, 3, 1) if channels_last else picture
    seen = layers.columns(layer, given_values, RANDOM(0), most=10**6)
    made = (layer.matrix() @ seen).reshape(outputs, -1)
    np.testing.assert_allclose(made, slowly(layer, picture[0]).reshape(outputs, -1), rtol=1e-4, atol=1e-4)


def test_columns_of_a_dense_layer_are_its_rows() -> None:
    rows = RANDOM(1).normal(size=(2, 4, 5)).astype(np.float32)
    seen = layers.columns(dense(), rows, RANDOM(0))
    np.testing.assert_array_equal(seen[0].T, rows.reshape(8, 5))


def test_a_picture_that_a_dense_layer_flattens_is_one_row() -> None:
    seen = layers.columns(dense(inputs=12), np.arange(12, dtype=np.float32).reshape(1, 2, 2, 3), RANDOM(0))
    assert seen.shape == (1, 12, 1)
    np.testing.assert_array_equal(seen[0, :, 0], np.arange(12))


def test_only_some_positions_are_looked_at() -> None:
    layer = convolution(PLAIN, outputs=2, inputs=1, groups=1)
    assert layers.columns(layer, np.ones((1, 1, 50, 50), np.float32), RANDOM(0)).shape == (1, 9, layers.POSITIONS)


def test_statistics_are_those_of_all_samples_together() -> None:
    layer, samples = dense(), RANDOM(2).normal(size=(30, 5)).astype(np.float32)
    seen = Statistics(layer)
    for sample in samples:
        seen.update(sample[None])
    assert seen.count == 30
    np.testing.assert_allclose(seen.means()[0], samples.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(seen.products[0][0], samples.T @ samples, rtol=1e-4)
    np.testing.assert_allclose(seen.squares(), (samples.astype(np.float64) ** 2).mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(seen.high, np.maximum(samples.max(axis=0), 0))
    np.testing.assert_allclose(seen.low, np.minimum(samples.min(axis=0), 0))


@pytest.mark.parametrize("groups", [1, 2, 4])
def test_ranges_are_those_of_the_channels(groups: int) -> None:
    layer = convolution(PLAIN, outputs=4, inputs=4, groups=groups, channels_last=True)
    picture = RANDOM(4).normal(size=(1, 6, 6, 4)).astype(np.float32) * np.array([1, 10, 100, 1000], np.float32)
    seen = Statistics(layer)
    seen.update(picture)
    np.testing.assert_array_equal(seen.high, picture.max(axis=(0, 1, 2)))
    np.testing.assert_array_equal(seen.low, picture.min(axis=(0, 1, 2)))
    assert seen.squares().shape == (4,)
    assert (np.diff(seen.squares()) > 0).all()


def test_memory_does_not_grow_with_samples_and_wide_layers_are_cut() -> None:
    layer = dense(outputs=2, inputs=layers.WIDEST + 7)
    seen = Statistics(layer)
    sizes = [product.nbytes for product in seen.products]
    assert [end - start for start, end in seen.blocks] == [layers.WIDEST, 7]
    for _ in range(20):
        seen.update(np.ones((1, layer.inputs), np.float32))
    assert [product.nbytes for product in seen.products] == sizes


@pytest.mark.parametrize("groups", [1, 3])
def test_multiplied_statistics_are_those_of_multiplied_channels(groups: int) -> None:
    layer = convolution(PLAIN, outputs=3, inputs=3, groups=groups)
    made = np.array([1.0, 4.0, 0.5])
    picture = RANDOM(5).normal(size=(1, 3, 5, 5)).astype(np.float32)
    plain, scaled = Statistics(layer), Statistics(layer)
    plain.update(picture)
    scaled.update((picture * made.reshape(1, 3, 1, 1)).astype(np.float32))
    found = plain.multiplied(made)
    np.testing.assert_allclose(found.products[0], scaled.products[0], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.sums, scaled.sums, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found.high, scaled.high, rtol=1e-6)
    np.testing.assert_allclose(found.low, scaled.low, rtol=1e-6)
    assert found.count == scaled.count


def test_nothing_read_changes_nothing() -> None:
    seen = Statistics(dense())
    seen.update(np.zeros((0, 5), np.float32))
    assert seen.count == 0
    assert not seen.means().any()
