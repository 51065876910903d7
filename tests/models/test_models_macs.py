"""MAC formulas against counting every multiplication."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.models import macs
from edgeq.types import Shape

small = st.integers(1, 4)


def count(type: str, inputs: Mapping[int, Shape], outputs: Mapping[int, Shape], **attributes: Any) -> int | None:
    return macs.count(type, inputs, outputs, attributes, {})


def convolution_by_hand(height: int, width: int, kernel: int, channels: int, filters: int, group: int) -> int:
    """Valid convolution, stride 1, batch 1: count inner steps."""
    multiplications = 0
    for _ in itertools.product(range(height - kernel + 1), range(width - kernel + 1), range(filters)):
        for _ in itertools.product(range(kernel), range(kernel), range(channels // group)):
            multiplications += 1
    return multiplications


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 6), st.integers(3, 6), st.integers(1, 3), small, small, small)
def test_convolutions(height: int, width: int, kernel: int, inside: int, outside: int, group: int) -> None:
    channels, filters = inside * group, outside * group
    by_hand = convolution_by_hand(height, width, kernel, channels, filters, group)
    out_height, out_width = height - kernel + 1, width - kernel + 1
    tflite = {0: (1, height, width, channels), 1: (filters, kernel, kernel, inside)}
    assert count("CONV_2D", tflite, {0: (1, out_height, out_width, filters)}) == by_hand
    onnx = {0: (1, channels, height, width), 1: (filters, inside, kernel, kernel)}
    assert count("Conv", onnx, {0: (1, filters, out_height, out_width)}) == by_hand
    assert count("ConvInteger", onnx, {0: (1, filters, out_height, out_width)}) == by_hand
    assert count("QLinearConv", {0: onnx[0], 3: onnx[1]}, {0: (1, filters, out_height, out_width)}) == by_hand


@settings(max_examples=60, deadline=None)
@given(st.integers(3, 6), st.integers(1, 3), small, small)
def test_depthwise_convolutions(size: int, kernel: int, channels: int, multiplier: int) -> None:
    out = size - kernel + 1
    filters = channels * multiplier
    by_hand = convolution_by_hand(size, size, kernel, channels, filters, channels)
    inputs = {0: (1, size, size, channels), 1: (1, kernel, kernel, filters)}
    assert count("DEPTHWISE_CONV_2D", inputs, {0: (1, out, out, filters)}) == by_hand


@settings(max_examples=60, deadline=None)
@given(small, small, st.integers(1, 3), small, small, st.integers(1, 3))
def test_transposed_convolutions(
    height: int, width: int, kernel: int, channels: int, filters: int, stride: int
) -> None:
    by_hand = 0
    for _ in itertools.product(range(height), range(width), range(channels)):
        for _ in itertools.product(range(kernel), range(kernel), range(filters)):
            by_hand += 1
    out = (1, (height - 1) * stride + kernel, (width - 1) * stride + kernel, filters)
    tflite = {0: (4,), 1: (filters, kernel, kernel, channels), 2: (1, height, width, channels)}
    assert count("TRANSPOSE_CONV", tflite, {0: out}) == by_hand
    onnx = {0: (1, channels, height, width), 1: (channels, filters, kernel, kernel)}
    assert count("ConvTranspose", onnx, {0: (1, filters, out[1], out[2])}) == by_hand


@settings(max_examples=60, deadline=None)
@given(small, small, small, small)
def test_matrix_products(batch: int, rows: int, inner: int, columns: int) -> None:
    by_hand = sum(1 for _ in itertools.product(range(batch), range(rows), range(columns), range(inner)))
    out = {0: (batch, rows, columns)}
    straight = {0: (batch, rows, inner), 1: (batch, inner, columns)}
    turned = {0: (batch, inner, rows), 1: (batch, inner, columns)}
    assert count("MatMul", straight, out) == by_hand
    assert count("BATCH_MATMUL", straight, out) == by_hand
    assert count("BATCH_MATMUL", turned, out, adj_x=True) == by_hand
    assert count("FULLY_CONNECTED", {0: (batch * rows, inner), 1: (columns, inner)}, out) == by_hand
    assert count("Gemm", {0: (rows, inner), 1: (inner, columns)}, {0: (rows, columns)}) == by_hand // batch
    assert count("Gemm", {0: (inner, rows), 1: (inner, columns)}, {0: (rows, columns)}, transA=1) == by_hand // batch


def test_three_dimensional_convolutions() -> None:
    inputs = {0: (1, 5, 6, 7, 2), 1: (3, 3, 3, 2, 4)}
    assert count("CONV_3D", inputs, {0: (1, 3, 4, 5, 4)}) == 3 * 4 * 5 * 4 * 27 * 2
    turned = {0: (5,), 1: (3, 3, 3, 4, 2), 2: (1, 5, 6, 7, 2)}
    assert count("CONV_3D_TRANSPOSE", turned, {0: (1, 7, 8, 9, 4)}) == 5 * 6 * 7 * 2 * 27 * 4


def test_recurrent_layers_read_each_matrix_once_per_step() -> None:
    weights = {**dict.fromkeys(range(1, 5), (20, 28)), **dict.fromkeys(range(5, 9), (20, 20))}
    inputs = {0: (1, 28, 28), **weights, 12: (20,), 18: (1, 20)}
    assert macs.count("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, {}, {}, weights) == 28 * 4 * (20 * 28 + 20 * 20)
    svdf = {1: (8, 16), 2: (8, 10)}
    assert macs.count("SVDF", {0: (3, 16), **svdf, 4: (3, 80)}, {}, {}, svdf) == 3 * (8 * 16 + 8 * 10)
    gru = {1: (1, 30, 8), 2: (1, 30, 10)}
    assert macs.count("GRU", {0: (5, 2, 8), **gru}, {}, {}, gru) == 5 * 2 * 30 * 18


@pytest.mark.parametrize("type", ["ADD", "MEAN", "AVERAGE_POOL_2D", "SOFTMAX", "Relu", "LayerNormalization", "Clip"])
def test_what_multiplies_no_weights_counts_nothing(type: str) -> None:
    assert count(type, {0: (1, 9, 9, 4), 1: (1, 9, 9, 4)}, {0: (1, 9, 9, 4)}) == 0


@pytest.mark.parametrize("type", sorted({*macs.FORMULAS, *macs.RECURRENT}))
@pytest.mark.parametrize("inputs", [{}, {0: ()}, {0: (), 1: (), 2: (), 3: ()}, {0: (1, 2, 3)}])
def test_shapes_that_are_missing_or_too_short_give_no_figure(type: str, inputs: Mapping[int, Shape]) -> None:
    assert macs.count(type, inputs, {}, {}, inputs) is None
    assert macs.count(type, inputs, {0: ()}, {}, {}) in (None, 1, 3, 6)
