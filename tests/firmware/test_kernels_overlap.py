"""Output and input in the same memory, as far apart as `edgeq.codegen.layouts` says and no farther."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.codegen import layouts, multipliers
from edgeq.testing import kernels
from edgeq.testing.kernel_cases import cases, random_s8, random_s16, seeds

Array = NDArray[Any]
Library = ctypes.CDLL


@st.composite
def windows(draw: Any) -> layouts.Window:
    """Convolutions with any geometry that has an output."""
    in_h, in_w = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, 3), st.integers(1, 3)))
    dilation = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
    pad = draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    out_h, out_w = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    in_c, out_c = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    batches = draw(st.integers(1, 2))
    return layouts.Window(batches, in_h, in_w, in_c, out_h, out_w, out_c, *kernel, *stride, *dilation, *pad)


def params_of(window: layouts.Window) -> kernels.Conv2dParams:
    made = [multipliers.multiplier(0.003)] * window.out_c
    head, tail = window[:7], window[7:]
    return kernels.Conv2dParams(*head, 1, *tail, 5, kernels.output_s8(made, -3, (-128, 127)))


def together(feed: Array, output_size: int, lag: int) -> tuple[Array, Array, Array]:
    """One memory with the output `lag` bytes before the input: the memory, its input, its output."""
    memory = np.full(max(lag + feed.size, output_size), 77, np.int8)
    memory[lag : lag + feed.size] = feed.ravel()
    return memory, memory[lag:], memory[:output_size]


Run = Callable[[Library, layouts.Window, Array, Array, tuple[Array, Array]], None]


def convolve(
    library: Library, window: layouts.Window, feed: Array, output: Array, constants: tuple[Array, Array]
) -> None:
    params = ctypes.byref(params_of(window))
    scratch = kernels.exact_buffer(library.eq_conv2d_s8_get_buffer_size(params))
    library.eq_conv2d_s8(params, *(kernels.pointer(array) for array in (feed, *constants, output, scratch)))


def depthwise(
    library: Library, window: layouts.Window, feed: Array, output: Array, constants: tuple[Array, Array]
) -> None:
    params = ctypes.byref(params_of(window))
    library.eq_depthwise_conv2d_s8(params, *(kernels.pointer(array) for array in (feed, *constants, output)))


def compare(
    libraries: dict[str, Library], window: layouts.Window, lag: int, weights: Array, seed: int, run: Run = convolve
) -> None:
    feed = random_s8(seed, (window.batches, window.in_h, window.in_w, window.in_c))
    bias = np.random.default_rng(seed).integers(-999, 999, window.out_c).astype(np.int32)
    size = window.batches * window.out_h * window.out_w * window.out_c
    for variant in ("portable", "dsp"):
        apart = np.zeros(size, np.int8)
        run(libraries[variant], window, feed, apart, (weights, bias))
        _, source, output = together(feed, size, lag)
        run(libraries[variant], window, source, output, (weights, bias))
        assert np.array_equal(output, apart)


@given(window=windows(), seed=seeds)
@cases(400)
def test_conv_runs_into_its_input(libraries: dict[str, Library], window: layouts.Window, seed: int) -> None:
    shape = (window.out_c, window.kernel_h, window.kernel_w, window.in_c)
    weights = layouts.pack_conv(random_s8(seed + 1, shape))
    compare(libraries, window, layouts.conv_overlap(window), weights, seed)


@given(window=windows(), seed=seeds)
@cases(400)
def test_depthwise_runs_into_its_input(libraries: dict[str, Library], window: layouts.Window, seed: int) -> None:
    window = window._replace(out_c=window.in_c)
    weights = layouts.pack_depthwise(random_s8(seed + 1, (1, window.kernel_h, window.kernel_w, window.in_c)))
    compare(libraries, window, layouts.depthwise_overlap(window), weights, seed, depthwise)


def test_a_pointwise_convolution_writes_in_place() -> None:
    window = layouts.Window(1, 25, 5, 64, 25, 5, 64, 1, 1, 1, 1, 1, 1, 0, 0)
    assert layouts.conv_overlap(window) == 0
    assert layouts.depthwise_overlap(window) == 0


def test_a_three_by_three_needs_two_rows_at_most() -> None:
    window = layouts.Window(1, 32, 32, 16, 32, 32, 16, 3, 3, 1, 1, 1, 1, 1, 1)
    assert 0 < layouts.conv_overlap(window) <= 2 * 32 * 16
    assert 0 < layouts.depthwise_overlap(window) <= 2 * 32 * 16


def test_less_distance_than_that_spoils_the_output(libraries: dict[str, Library]) -> None:
    """The distance is the least one: with a byte less an input is overwritten that is still needed."""
    window = layouts.Window(1, 6, 6, 4, 6, 6, 4, 3, 3, 1, 1, 1, 1, 1, 1)
    weights = layouts.pack_conv(random_s8(5, (4, 3, 3, 4)))
    with pytest.raises(AssertionError):
        compare(libraries, window, layouts.conv_overlap(window) - 1, weights, 1)


# --- int16 -----------------------------------------------------------------------------------


def compare_wide(
    libraries: dict[str, Library], window: layouts.Window, lag: int, weights: Array, seed: int, run: str
) -> None:
    """As `compare`, in values of 16 bits."""
    feed = random_s16(seed, (window.batches, window.in_h, window.in_w, window.in_c))
    bias = np.random.default_rng(seed).integers(-(2**20), 2**20, window.out_c)
    made = [multipliers.wide_output(multipliers.multiplier(0.003))] * window.out_c
    output = kernels.output_s8(made, 0, (-32768, 32767))
    params = ctypes.byref(kernels.Conv2dParams(*window[:7], 1, *window[7:], 0, output))
    size = window.batches * window.out_h * window.out_w * window.out_c
    for variant in ("portable", "dsp"):
        library = libraries[variant]
        scratch = kernels.exact_buffer(library.eq_conv2d_s16_get_buffer_size(params))
        apart, memory = np.zeros(size, np.int16), np.full(max(lag + feed.size, size), 77, np.int16)
        memory[lag : lag + feed.size] = feed.ravel()
        for source, made_here in ((feed, apart), (memory[lag:], memory)):
            arrays = [source, weights, bias, made_here, *([scratch] if run == "conv2d" else [])]
            getattr(library, f"eq_{run}_s16")(params, *map(kernels.pointer, arrays))
        assert np.array_equal(memory[:size], apart)


@given(window=windows(), seed=seeds)
@cases(200)
def test_wide_conv_runs_into_its_input(libraries: dict[str, Library], window: layouts.Window, seed: int) -> None:
    shape = (window.out_c, window.kernel_h, window.kernel_w, window.in_c)
    weights = layouts.pack_conv(random_s8(seed + 1, shape), wide=True)
    compare_wide(libraries, window, layouts.conv_overlap(window), weights, seed, "conv2d")


@given(window=windows(), seed=seeds)
@cases(200)
def test_wide_depthwise_runs_into_its_input(libraries: dict[str, Library], window: layouts.Window, seed: int) -> None:
    window = window._replace(out_c=window.in_c)
    shape = (1, window.kernel_h, window.kernel_w, window.in_c)
    weights = layouts.pack_depthwise(random_s8(seed + 1, shape), wide=True)
    compare_wide(libraries, window, layouts.depthwise_overlap(window), weights, seed, "depthwise_conv2d")


def test_less_distance_spoils_a_wide_output(libraries: dict[str, Library]) -> None:
    window = layouts.Window(1, 6, 6, 4, 6, 6, 4, 3, 3, 1, 1, 1, 1, 1, 1)
    weights = layouts.pack_conv(random_s8(5, (4, 3, 3, 4)), wide=True)
    with pytest.raises(AssertionError):
        compare_wide(libraries, window, layouts.conv_overlap(window) - 1, weights, 1, "conv2d")


@pytest.mark.parametrize("count", [1, 2, 5, 8, 33])
@pytest.mark.parametrize("lag", range(0, 40, 3))
def test_scratch_of_a_wide_dense_layer_lies_anywhere_over_its_row(library: Library, count: int, lag: int) -> None:
    """The row is moved, whichever way: the memory plan lets scratch begin anywhere, even over the row itself."""
    feed, weights = random_s16(2, (1, count)), random_s8(3, (5, count))
    made = [multipliers.wide_output(multipliers.multiplier(0.01))]
    output = kernels.output_s8(made, 0, (-32768, 32767))
    params = ctypes.byref(kernels.FullyConnectedParams(1, count, 5, 0, output))
    packed, bias, results = layouts.pack_dense(weights, wide=True), np.arange(5, dtype=np.int64), []
    depth = layouts.depth4(count)
    for scratch_at, row_at in ((0, depth + 60), (20, 20 + lag - min(lag, 20)), (20 + lag - lag % 2, 20)):
        memory = np.zeros(2 * depth + 130, np.int16)
        memory[row_at : row_at + count] = feed.ravel()
        answer = np.zeros(5, np.int16)
        places = (memory[row_at:], packed, bias, answer, memory[scratch_at:])
        library.eq_fully_connected_s16(params, *map(kernels.pointer, places))
        results.append(answer.tolist())
    assert results[1] == results[0] == results[2]
