"""Ranges from streams: exact, bounded, never without zero."""

from __future__ import annotations

import tracemalloc
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from edgeq.errors import ConvertError, EdgeqError, UsageError
from edgeq.quantization.observers import BINS, Histogram, RangeObserver, rounded
from edgeq.types import RangeMethod

METHODS: tuple[RangeMethod, ...] = get_args(RangeMethod)
Floats = NDArray[np.float32]
finite = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=True)
no_underflow = finite.filter(lambda x: x == 0 or abs(x) > 2.0**-20)  # others may count on zero's other side
everyday = st.floats(-1000, 1000, width=32)


def streams(values: st.SearchStrategy[float]) -> st.SearchStrategy[list[Floats]]:
    one = arrays(np.float32, st.integers(1, 40), elements=values)
    return st.lists(one, min_size=1, max_size=6)


def observe(method: RangeMethod, stream: list[Any], **options: Any) -> tuple[float, float]:
    observer = RangeObserver(method, **options)
    for values in stream:
        observer.update("t", values)
    return observer.ranges()["t"]


def counted(stream: list[Floats]) -> Histogram:
    histogram = Histogram()
    for values in stream:
        histogram.add(values, float(np.abs(values).max()))
    return histogram


def width_of(stream: list[Floats]) -> float:
    return counted(stream).width


def rms_error(values: Floats, ends: tuple[float, float], symmetric: bool = False) -> float:
    return float(np.sqrt(np.mean((values - rounded(values, ends, symmetric)) ** 2)))


# --- histogram -------------------------------------------------------------------------------


@given(streams(finite))
def test_no_count_is_lost_however_often_bins_merge(stream: list[Floats]) -> None:
    histogram = counted(stream)
    assert histogram.counts.sum() == sum(values.size for values in stream)
    assert histogram.counts.min() >= 0


@given(streams(no_underflow))
def test_merged_bins_equal_bins_of_the_whole_at_once(stream: list[Floats]) -> None:
    whole = np.concatenate(stream)
    piecewise, at_once = counted(stream), counted([whole])
    assert piecewise.limit == at_once.limit
    np.testing.assert_array_equal(piecewise.counts, at_once.counts)


@given(streams(no_underflow))
def test_each_value_lies_in_its_bin(stream: list[Floats]) -> None:
    histogram = counted(stream)
    whole = np.concatenate(stream).astype(np.float64)
    expected, _ = np.histogram(whole, bins=histogram.edges())
    np.testing.assert_array_equal(histogram.counts, expected)


@given(streams(finite))
def test_width_keeps_the_stated_bound(stream: list[Floats]) -> None:
    largest = max(float(np.abs(values).max()) for values in stream)
    assert width_of(stream) <= max(4 * largest, 2 * 2.0**-100) / BINS


def test_limit_doubles_from_the_smallest_to_the_largest_float() -> None:
    stream = [np.array([v], np.float32) for v in (1e-45, -1e-20, 1.0, 3.4028e38)]
    histogram = counted(stream)
    assert histogram.limit == 2.0**128
    assert histogram.counts.sum() == 4
    assert histogram.counts[-1] == 1


@pytest.mark.parametrize("edge", [0.5, 1.0, 2.0, 1024.0])
def test_powers_of_two_stay_inside(edge: float) -> None:
    histogram = counted([np.array([edge, -edge], np.float32)])
    assert histogram.counts.sum() == 2
    assert histogram.limit == 2 * edge


# --- ranges ----------------------------------------------------------------------------------


@given(streams(finite))
def test_min_max_is_exact_and_holds_zero(stream: list[Floats]) -> None:
    whole = np.concatenate(stream)
    assert observe("min-max", stream) == (min(float(whole.min()), 0.0), max(float(whole.max()), 0.0))


@settings(max_examples=60)
@given(streams(finite), st.sampled_from(METHODS), st.booleans())
def test_every_range_holds_zero_and_stays_inside_what_was_seen(
    stream: list[Floats], method: RangeMethod, symmetric: bool
) -> None:
    low, high = observe(method, stream, symmetric=symmetric)
    widest_low, widest_high = observe("min-max", stream, symmetric=symmetric)
    assert widest_low <= low <= 0 <= high <= widest_high
    assert not symmetric or low == -high


@given(streams(everyday), st.floats(50, 100))
def test_percentile_is_numpys_within_one_bin(stream: list[Floats], percentile: float) -> None:
    whole = np.concatenate(stream).astype(np.float64)
    low, high = observe("percentile", stream, percentile=percentile)
    share = (100 - percentile) / 2
    bottom = float(np.percentile(whole, share, method="inverted_cdf"))
    top = -float(np.percentile(-whole, share, method="inverted_cdf"))
    width = width_of(stream)
    assert min(bottom - width, 0) <= low <= min(bottom, 0)
    assert max(top, 0) <= high <= max(top + width, 0)


@given(streams(finite), st.floats(50, 100))
def test_no_end_is_further_from_numpys_than_the_stated_bound(stream: list[Floats], percentile: float) -> None:
    whole = np.concatenate(stream).astype(np.float64)
    low, high = observe("percentile", stream, percentile=percentile)
    share = (100 - percentile) / 2
    bound = 4 * max(float(np.abs(whole).max()), 2.0**-101) / BINS
    bottom = float(np.percentile(whole, share, method="inverted_cdf"))
    top = -float(np.percentile(-whole, share, method="inverted_cdf"))
    assert abs(low - min(bottom, 0)) <= bound
    assert abs(high - max(top, 0)) <= bound


def test_percentile_follows_numpy_on_many_values() -> None:
    rng = np.random.default_rng(7)
    stream = [rng.standard_normal(20_000).astype(np.float32) * (k + 1) for k in range(5)]
    whole = np.concatenate(stream)
    low, high = observe("percentile", stream, percentile=99.0)
    assert low == pytest.approx(np.percentile(whole, 0.5), abs=0.05)
    assert high == pytest.approx(np.percentile(whole, 99.5), abs=0.05)


def test_percentile_cuts_an_outlier_that_min_max_keeps() -> None:
    values = np.linspace(-1, 1, 100_000, dtype=np.float32)
    values[0] = 1000
    assert observe("min-max", [values])[1] == 1000
    assert observe("percentile", [values])[1] < 1.5


@settings(max_examples=60)
@given(streams(everyday), st.booleans())
def test_least_error_is_not_worse_than_min_max_beyond_one_bin(stream: list[Floats], symmetric: bool) -> None:
    whole = np.concatenate(stream)
    chosen = observe("mean-squared-error", stream, symmetric=symmetric)
    widest = observe("min-max", stream, symmetric=symmetric)
    slack = width_of(stream) + 1e-9
    assert rms_error(whole, chosen, symmetric) <= rms_error(whole, widest, symmetric) + slack


@pytest.mark.parametrize("symmetric", [False, True])
def test_least_error_beats_min_max_clearly_where_outliers_are_rare(symmetric: bool) -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(200_000).astype(np.float32)
    values[:2] = [20, -20]
    chosen = observe("mean-squared-error", [values], symmetric=symmetric)
    widest = observe("min-max", [values], symmetric=symmetric)
    assert rms_error(values, chosen, symmetric) < 0.85 * rms_error(values, widest, symmetric)


def test_least_error_keeps_a_uniform_range() -> None:
    values = np.linspace(-2, 6, 100_001, dtype=np.float32)
    low, high = observe("mean-squared-error", [values])
    assert low == pytest.approx(-2, rel=0.05)
    assert high == pytest.approx(6, rel=0.05)


def test_entropy_cuts_a_thin_tail_and_keeps_the_body() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal(200_000).astype(np.float32)
    values[:4] = [40, 41, 42, -40]
    low, high = observe("entropy", [values])
    assert -8 < low < -2
    assert 2 < high < 8


def test_entropy_keeps_a_uniform_range() -> None:
    values = np.linspace(-2, 6, 100_001, dtype=np.float32)
    low, high = observe("entropy", [values])
    assert (low, high) == pytest.approx((-2, 6), rel=0.05)


def test_entropy_cuts_only_the_side_that_is_longer_than_its_threshold() -> None:
    rng = np.random.default_rng(1)
    values = np.maximum(rng.standard_normal(200_000), -0.5).astype(np.float32)
    values[:3] = 50
    low, high = observe("entropy", [values])
    assert low == -0.5
    assert high < 8


def test_the_peak_that_a_relu_leaves_at_zero_has_no_say_in_entropy() -> None:
    values = np.linspace(0, 6, 100_001, dtype=np.float32)
    alone = observe("entropy", [values])
    assert observe("entropy", [values, np.zeros(3_000_000, np.float32)]) == alone


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("values", "expected"),
    [([0, 0, 0], (0, 0)), ([3, 3, 3], (0, 3)), ([-2, -2], (-2, 0)), ([5], (0, 5)), ([-1, 4], (-1, 4))],
)
def test_constants_and_zeros(method: RangeMethod, values: list[float], expected: tuple[float, float]) -> None:
    low, high = observe(method, [np.array(values, np.float32)])
    assert (low, high) == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_refused_by_name(method: RangeMethod, bad: float) -> None:
    observer = RangeObserver(method)
    with pytest.raises(ConvertError, match="'conv_3'"):
        observer.update("conv_3", np.array([1, bad, 2], np.float32))


def test_doubles_beyond_float32_are_refused() -> None:
    with pytest.raises(EdgeqError, match="infinite"):
        RangeObserver("percentile").update("t", np.array([1e300]))


def test_mean_min_max_lets_every_sample_count_alike() -> None:
    calm, wild = np.array([-1.0, 2.0], np.float32), np.array([-100.0, 5.0], np.float32)
    assert observe("mean-min-max", [calm, calm, calm, wild]) == pytest.approx((-25.75, 2.75))


def test_mean_min_max_holds_zero() -> None:
    assert observe("mean-min-max", [np.array([3.0], np.float32), np.array([5.0], np.float32)]) == (0, 4)
    assert observe("mean-min-max", [np.array([-3.0], np.float32), np.array([1.0], np.float32)]) == (-1, 0)


@given(streams(finite))
def test_mean_min_max_is_never_wider_than_min_max(stream: list[Floats]) -> None:
    (low, high), (least, most) = observe("mean-min-max", stream), observe("min-max", stream)
    assert least - abs(least) * 1e-9 <= low <= 0 <= high <= most + abs(most) * 1e-9


@pytest.mark.parametrize("method", METHODS)
def test_nothing_seen_and_empty_arrays_give_no_range(method: RangeMethod) -> None:
    observer = RangeObserver(method)
    observer.update("t", np.zeros((0, 3), np.float32))
    assert observer.ranges() == {}


@pytest.mark.parametrize("method", METHODS)
def test_shapes_types_and_names(method: RangeMethod) -> None:
    observer = RangeObserver(method)
    observer.update("b", np.arange(24, dtype=np.int64).reshape(2, 3, 4))
    observer.update("a", np.array(-1.0))
    observer.update("b", np.ones((1, 5, 5), np.float64).transpose(2, 0, 1))
    ranges = observer.ranges()
    assert list(ranges) == ["b", "a"]
    assert ranges["b"] == pytest.approx((0, 12 if method == "mean-min-max" else 23), rel=0.05)
    assert ranges["a"] == (-1, 0)


@pytest.mark.parametrize("method", METHODS)
def test_order_of_samples_does_not_matter(method: RangeMethod) -> None:
    rng = np.random.default_rng(3)
    stream = [rng.standard_normal(500).astype(np.float32) * 4.0**k for k in range(6)]
    assert observe(method, stream) == observe(method, stream[::-1])


def test_options_are_checked() -> None:
    with pytest.raises(UsageError, match="'median'"):
        RangeObserver("median")  # type: ignore[arg-type]
    for percentile in (0, -1, 100.5, float("nan")):
        with pytest.raises(UsageError, match="percentile"):
            RangeObserver("percentile", percentile=percentile)


def peak_bytes(method: RangeMethod, samples: int) -> int:
    rng = np.random.default_rng(1)
    tracemalloc.start()
    observer = RangeObserver(method)
    for _ in range(samples):
        for name in ("a", "b", "c"):
            observer.update(name, rng.standard_normal(50_000).astype(np.float32))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


@pytest.mark.parametrize("method", METHODS)
def test_memory_does_not_grow_with_samples(method: RangeMethod) -> None:
    assert peak_bytes(method, 60) <= peak_bytes(method, 6) * 1.1 + 10_000


# --- rounding --------------------------------------------------------------------------------


@given(arrays(np.float32, 30, elements=everyday), st.floats(-1000, 0), st.floats(0, 1000))
def test_rounding_keeps_zero_and_the_number_of_steps(values: Floats, low: float, high: float) -> None:
    result = rounded(values, (low, high))
    scale = (high - low) / 255
    assert rounded(np.zeros(1), (low, high))[0] == 0
    if scale > 1e-6:
        assert np.ptp(result) <= (high - low) * (1 + 1e-9)
        inside = (values >= low + scale) & (values <= high - scale)
        assert np.all(np.abs(result - values)[inside] <= scale / 2 * (1 + 1e-6))
