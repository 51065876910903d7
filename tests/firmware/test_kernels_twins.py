"""The Python twins by themselves: known values, limits, what they refuse."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.codegen import fixed_point, layouts, multipliers, strides, tables
from edgeq.codegen.multipliers import Multiplier


@pytest.mark.parametrize(
    ("real", "made"),
    [
        (0.0, Multiplier(0, 0)),
        (0.5, Multiplier(2**30, 0)),
        (1.0, Multiplier(2**30, -1)),
        (0.25, Multiplier(2**30, 1)),
        (1 - 2.0**-40, Multiplier(2**30, -1)),
        (2.0**-33, Multiplier(0, 0)),
    ],
)
def test_multiplier(real: float, made: Multiplier) -> None:
    assert multipliers.multiplier(real) == made


@given(st.floats(1e-9, 1e9))
def test_a_multiplier_is_within_its_last_bit(real: float) -> None:
    made = multipliers.multiplier(real)
    assert 2**30 <= made.mantissa < 2**31
    assert math.isclose(made.mantissa * 2.0 ** (-31 - made.right_shift), real, rel_tol=2.0**-30)


@pytest.mark.parametrize("real", [-1.0, math.nan, math.inf, 2.0**40])
def test_multiplier_refuses(real: float) -> None:
    with pytest.raises(ValueError, match="multiplier"):
        multipliers.multiplier(real)


@given(st.integers(-(2**30) + 1, 2**30 - 1), st.integers(2**30, 2**31 - 1), st.integers(0, 31))
def test_the_narrow_rounding_is_the_wide_one(value: int, mantissa: int, shift: int) -> None:
    """What EQ_NARROW_ACCUMULATORS rests on: one spare bit gives the same halves."""
    high = fixed_point.product(value, mantissa)
    narrow = (((high * 2 + (high >> 31)) >> shift) + 1) >> 1
    assert narrow == fixed_point.rescale(value, mantissa, shift)
    assert (2 * value * mantissa + 2**31) >> 32 == high


def test_narrow_needs_small_accumulators_and_no_left_shift() -> None:
    right, left = Multiplier(2**30, 3), Multiplier(2**30, -1)
    assert multipliers.is_narrow([right], [2**30 - 1])
    assert not multipliers.is_narrow([right], [2**30])
    assert not multipliers.is_narrow([left], [5])


def test_accumulator_bounds_are_reached() -> None:
    weights, bias = np.array([[127, -127]], np.int8), np.array([10], np.int32)
    assert multipliers.accumulator_bounds(weights, bias, -128) == [255 * 254 + 10]
    assert multipliers.accumulator_bounds(weights, bias, 0) == [128 * 254 + 10]


def test_clamp() -> None:
    assert multipliers.clamp("NONE", 0.1, 3) == (-128, 127)
    assert multipliers.clamp("RELU", 0.1, 3) == (3, 127)
    assert multipliers.clamp("RELU6", 0.1, 3) == (3, 63)
    assert multipliers.clamp("RELU_N1_TO_1", 0.1, 3) == (-7, 13)
    with pytest.raises(KeyError):
        multipliers.clamp("TANH", 0.1, 3)


def test_softmax_refuses_a_scale_of_nothing() -> None:
    with pytest.raises(ValueError, match="too small"):
        multipliers.softmax(1e-9, 1.0)


def test_shapes_that_the_kernels_cannot_walk() -> None:
    with pytest.raises(ValueError, match="do not broadcast"):
        strides.broadcast((2, 3), (4, 3))
    with pytest.raises(ValueError, match="6 axes"):
        strides.transpose((2, 2, 2, 2, 2, 2), (5, 4, 3, 2, 1, 0))
    with pytest.raises(ValueError, match="zero"):
        strides.strided_slice((4,), (0,), (4,), (0,))


def test_neighbouring_axes_become_one() -> None:
    assert strides.broadcast((2, 3, 4), (2, 3, 4)) == ((1, 1, 1, 1, 24), (0, 0, 0, 0, 1), (0, 0, 0, 0, 1))
    assert strides.broadcast((2, 3, 4), (4,)) == ((1, 1, 1, 6, 4), (0, 0, 0, 4, 1), (0, 0, 0, 0, 1))
    assert strides.broadcast((), ()).dims == (1, 1, 1, 1, 1)
    assert strides.reduce((1, 5, 6, 7), (1, 2)).gone == (1, 1, 1, 1, 30)


def test_packed_weights_are_all_there() -> None:
    weights = np.arange(6 * 7, dtype=np.int8).reshape(6, 7)
    packed = layouts.pack_dense(weights)
    assert packed.size == 6 * 8
    assert packed[:16].tolist() == [*range(4), *range(7, 11), *range(14, 18), *range(21, 25)]
    assert packed[32:40].tolist() == [*range(28, 35), 0]
    with pytest.raises(ValueError, match="no multiple"):
        layouts.multiplied_depthwise(np.zeros((1, 3, 3, 5), np.int8), 2)


def test_the_sigmoid_table_rises_from_a_half_to_one() -> None:
    table = tables.sigmoid().astype(int)
    assert (table[0], table[-1]) == (32768, 65535)
    assert (np.diff(table) >= 0).all()
