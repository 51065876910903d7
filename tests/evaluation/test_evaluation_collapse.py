"""Collapse is noticed whatever the metric says, and models that work are left alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.evaluation import collapse
from edgeq.evaluation.likeness import SQNR_LIMIT_DB, likeness

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(size=(64, 10)).astype(np.float32)
CLASSES = LOGITS.argmax(1)


def reason(reference: Any, candidate: Any, metric: str = "mse", labels: Any = None) -> str | None:
    reference = None if reference is None else (np.asarray(reference),)
    return collapse.reason(metric, reference, (np.asarray(candidate),), labels, None)


def noisy(values: Any, sqnr_db: float) -> Any:
    noise = RNG.normal(size=values.shape)
    wanted = np.sqrt((values**2).sum() / 10 ** (sqnr_db / 10))
    return (values + noise * wanted / np.linalg.norm(noise)).astype(np.float32)


@pytest.mark.parametrize("sqnr_db", [2.5, 5, 8, 12, 20, 40])
def test_noise_that_leaves_a_signal_is_no_collapse(sqnr_db: float) -> None:
    assert reason(LOGITS, noisy(LOGITS, sqnr_db), "top1", CLASSES) is None


@pytest.mark.parametrize("sqnr_db", [1.5, 0, -3, -20])
def test_as_much_noise_as_signal_is_collapse(sqnr_db: float) -> None:
    assert "next to nothing" in str(reason(LOGITS, noisy(LOGITS, sqnr_db)))


def test_an_output_near_zero_everywhere_is_collapse() -> None:
    """SQNR of silence is 0 dB, whatever direction it has."""
    assert "SQNR 0.1 dB" in str(reason(LOGITS, LOGITS * 0.01))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_collapse(value: float) -> None:
    candidate = LOGITS.copy()
    candidate[3, 4] = value
    assert "NaN or infinity" in str(reason(LOGITS, candidate))
    assert "NaN or infinity" in str(reason(None, candidate))
    own = LOGITS.copy()
    own[3, 4] = value
    assert "NaN" not in str(reason(own, candidate))


def test_the_same_answer_for_every_sample_is_collapse() -> None:
    reference = 10 + LOGITS  # a large offset hides it from SQNR
    constant = np.broadcast_to(reference.mean(0), reference.shape)
    assert likeness(reference, constant).sqnr_db > 15  # type: ignore[operator]
    assert "the same for every sample" in str(reason(reference, constant))
    assert "the same for every sample" in str(reason(None, constant))


def test_a_constant_that_float_shares_is_none() -> None:
    saturated = np.tile(np.float32([1, 0]), (20, 1))
    assert reason(saturated, saturated) is None
    assert reason(saturated + RNG.normal(0, 1e-4, saturated.shape), saturated) is None
    assert reason(None, saturated[:2]) is None
    assert reason(LOGITS[:1], LOGITS[:1]) is None


def test_one_class_everywhere_is_collapse_unless_float_nearly_does_so() -> None:
    stuck = LOGITS.copy()
    stuck[:, 3] = LOGITS.max(1) + 0.01
    assert likeness(LOGITS, stuck).sqnr_db > 2  # type: ignore[operator]
    assert "always chooses class 3" in str(reason(LOGITS, stuck, "top1", CLASSES))
    assert reason(LOGITS, stuck, "mse", CLASSES) is None
    rare = np.tile(np.float32([1, 0.9]), (64, 1)) + RNG.normal(0, 0.01, (64, 2))
    reference = rare.copy()
    reference[0] = [0.9, 1.1]
    assert reason(reference, rare, "top1", np.zeros(64, int)) is None


def test_every_output_is_looked_at_and_named() -> None:
    found = collapse.reason("mse", (LOGITS, LOGITS), (LOGITS, -LOGITS), None, None)
    assert "output 1 has next to nothing" in str(found)


def test_class_numbers_and_silent_outputs_are_not_compared() -> None:
    assert reason(np.arange(20), np.arange(20)[::-1]) is None
    silent = np.full((20, 3), 1e-9, np.float32)
    assert reason(silent, silent + RNG.normal(0, 1e-3, silent.shape)) is None


FLOATS = hnp.arrays(np.float32, (6, 3), elements=st.floats(-(2.0**99), 2.0**99, width=32))


@settings(deadline=None)
@given(FLOATS, FLOATS)
def test_likeness_is_finite_symmetric_in_cosine_and_perfect_with_itself(one: Any, other: Any) -> None:
    found, back, own = likeness(one, other), likeness(other, one), likeness(one, one)
    assert own.sqnr_db == SQNR_LIMIT_DB
    assert own.max_abs_error == 0
    for value in (found.cosine, found.sqnr_db, found.max_abs_error):
        assert value is None or np.isfinite(value)
    if found.cosine is not None and back.cosine is not None:
        assert found.cosine == pytest.approx(back.cosine)
        assert -1 <= found.cosine <= 1
    assert reason(one, one) is None


@settings(deadline=None)
@given(
    hnp.arrays(np.float32, (6, 3), elements=st.floats(width=32)),
    hnp.arrays(np.float32, (6, 3), elements=st.floats(width=32)),
)
def test_any_floats_are_judged(one: Any, other: Any) -> None:
    found = reason(one, other)
    assert found is None or found.startswith("the conversion collapsed")


def test_likeness_is_its_formula() -> None:
    found = likeness(np.float32([[3, 4]]), np.float32([[3, 3.5]]))
    assert found.sqnr_db == pytest.approx(20)
    assert found.max_abs_error == 0.5
    assert found.cosine == pytest.approx(23 / (5 * np.hypot(3, 3.5)))
    assert likeness(np.zeros((1, 2)), np.ones((1, 2))) == (0.0, None, 1.0)


@settings(deadline=None)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 7), st.integers(1, 4)), elements=st.floats(-100, 100, width=32)))
def test_extent_is_the_largest_value_and_the_widest_movement(values: Any) -> None:
    found = collapse.extent(values)
    assert found.largest == pytest.approx(np.abs(values).max())
    assert found.spread == pytest.approx(np.ptp(values, axis=0).max(), abs=1e-4)
    hurt = values.astype(np.float64)
    hurt[0, 0] = np.nan
    assert collapse.extent(hurt).largest <= found.largest


def test_outputs_larger_than_a_piece_are_read_whole() -> None:
    values = np.zeros((40, 200_000), np.float32)  # three pieces
    values[:, 0] = np.arange(40)
    candidate = values.copy()
    candidate[39, 1] = 2
    assert likeness(values, candidate).max_abs_error == 2
    assert collapse.extent(values) == (39, 39)
    candidate[39, 1] = np.nan
    assert "NaN" in str(reason(values, candidate))
