"""What the tests of the firmware's kernels share: strategies of hypothesis, random bytes, the comparison."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.testing.single_op import Grid

Array = NDArray[Any]
COMPARED: dict[str, int] = {}
"""Bytes compared, by operator."""

scales = st.floats(-9, 3).map(lambda power: float(np.float32(2.0**power)))
zero_points = st.one_of(st.integers(-128, 127), st.sampled_from([-128, 0, 127]))
grids = st.builds(Grid, scales, zero_points)
seeds = st.integers(0, 2**32 - 1)


def cases(count: int) -> Any:
    """Hypothesis' settings for `count` operators, the same ones each time."""
    if os.environ.get("EDGEQ_KERNELS_SANITIZED"):
        count = min(count // 10, 20)
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=count, deadline=None, suppress_health_check=quiet, derandomize=True)


def random_s8(seed: int, shape: tuple[int, ...]) -> Array:
    """Bytes; one seed in four uses extremes only."""
    made = np.random.default_rng(seed)
    if seed % 4 == 0:
        return made.choice(np.array([-128, 127], np.int8), shape)
    return made.integers(-128, 128, shape).astype(np.int8)


def random_s16(seed: int, shape: tuple[int, ...]) -> Array:
    """The same with 16 bits; one seed in four uses small values only."""
    made = np.random.default_rng(seed)
    if seed % 4 == 0:
        return made.choice(np.array([-32768, 32767], np.int16), shape)
    return (made.integers(-32768, 32768, shape) >> (8 if seed % 4 == 1 else 0)).astype(np.int16)


def check(operator: str, want: Array, got: Array, which: str = "portable") -> None:
    """Not one byte may differ; counts what was compared."""
    if want.dtype != got.dtype or want.shape != got.shape:
        raise AssertionError(f"{operator}: {got.dtype} {got.shape} is not {want.dtype} {want.shape}")
    COMPARED[operator] = COMPARED.get(operator, 0) + want.nbytes
    differing = want != got
    if differing.any():
        wrong = f"{want[differing][:5]} became {got[differing][:5]}"
        raise AssertionError(f"{operator}, {which}: {int(differing.sum())} of {want.size} differ: {wrong}")
