"""The doctor's arithmetic: quality of answers, comparison in pairs, ranges, distances, other preparations."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from scipy import stats

from edgeq import datasets
from edgeq.evaluation.doctor import coverage, quality, samples, sketches
from edgeq.evaluation.doctor.findings import explained
from edgeq.evaluation.doctor.variants import Extent, variants
from edgeq.types import Finding, InputSpec, LabelSpec

Floats = NDArray[np.float64]
SPEC = LabelSpec()
finite = st.floats(-1e6, 1e6, width=32)
BYTES = Extent(0.0, 255.0, 120.0, 70.0)


@given(
    arrays.arrays(np.float32, st.tuples(st.integers(1, 8), st.just(5)), elements=finite),
    st.integers(0, 4),
)
def test_fit_to_classes_is_a_probability(outputs: Floats, label: int) -> None:
    found = quality.of_classes(outputs, np.full(len(outputs), label), SPEC)
    assert found.shape == (len(outputs),)
    assert (found >= 0).all()
    assert (found <= 1).all()


def test_logits_and_probabilities_fit_alike() -> None:
    logits = np.random.default_rng(0).normal(0, 3, (20, 6))
    likely = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = np.arange(20) % 6
    np.testing.assert_allclose(
        quality.of_classes(logits, labels, SPEC), quality.of_classes(likely, labels, SPEC), rtol=1e-6
    )
    np.testing.assert_allclose(quality.of_classes(likely, labels, SPEC), likely[np.arange(20), labels])


def test_one_score_for_two_classes() -> None:
    outputs = np.array([[0.9], [0.2]])
    np.testing.assert_allclose(quality.of_classes(outputs, np.array([1, 0]), SPEC), [0.9, 0.8])


def test_ignored_labels_do_not_count() -> None:
    outputs = np.array([[[[0.9, 0.1], [0.5, 0.5]]]])
    labels = np.array([[[0, 255]]])
    np.testing.assert_allclose(quality.of_classes(outputs, labels, LabelSpec(ignore=255)), [0.9])
    np.testing.assert_allclose(quality.of_classes(outputs, np.full_like(labels, 255), LabelSpec(ignore=255)), [0.5])


def test_class_numbers_as_outputs() -> None:
    outputs = np.array([[1, 2], [0, 0]])
    np.testing.assert_allclose(quality.of_classes(outputs, np.array([[1, 1], [0, 0]]), SPEC), [0.5, 1.0])


@given(arrays.arrays(np.float64, st.tuples(st.integers(2, 8), st.just(3)), elements=st.floats(-100, 100)))
def test_fit_to_values_is_one_where_equal_and_between_0_and_1(labels: Floats) -> None:
    np.testing.assert_allclose(quality.of_values(labels, labels, SPEC), 1.0)
    found = quality.of_values(labels + 7, labels, SPEC)
    assert (found >= 0).all()
    assert (found < 1).all()


def test_the_mean_of_the_labels_is_worth_a_half() -> None:
    labels = np.random.default_rng(0).normal(5, 2, (500, 4))
    found = quality.of_values(np.broadcast_to(labels.mean(axis=0), labels.shape), labels, SPEC)
    assert abs(np.median(found) - 0.5) < 0.06


def test_pictures_may_have_their_channels_first() -> None:
    labels = np.random.default_rng(0).uniform(0, 1, (3, 8, 8, 3))
    np.testing.assert_allclose(quality.of_values(np.moveaxis(labels, 3, 1), labels, SPEC), 1.0)


def test_pairs_fit_by_rank() -> None:
    random = np.random.default_rng(0)
    first = random.normal(0, 1, (20, 16))
    mixed = np.linspace(0, 2, 20)[:, np.newaxis] * random.normal(0, 1, (20, 16))
    outputs = np.empty((40, 16))
    outputs[::2], outputs[1::2] = first, first + mixed
    flat = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    alike = (flat[::2] * flat[1::2]).sum(axis=1)
    np.testing.assert_allclose(quality.of_pairs(outputs, alike, SPEC), 1.0)
    assert quality.of_pairs(outputs, -alike, SPEC).mean() < 0.6


@given(arrays.arrays(np.float64, st.integers(2, 40), elements=st.floats(0, 1)))
def test_pairs_of_equals_differ_by_nothing(values: Floats) -> None:
    same = quality.paired(values, values)
    assert (same.mean, same.z, same.samples) == (0.0, 0.0, len(values))
    shifted = quality.paired(values + 0.5, values)
    assert shifted.mean == pytest.approx(0.5)
    assert shifted.z <= len(values) + 1e-9  # a few samples that all agree prove little


@given(arrays.arrays(np.float64, st.integers(2, 40), elements=st.floats(0, 1)), st.integers(0, 2**32 - 1))
def test_a_comparison_turned_round_changes_its_sign_only(values: Floats, seed: int) -> None:
    other = np.random.default_rng(seed).uniform(0, 1, len(values))
    one, two = quality.paired(values, other), quality.paired(other, values)
    assert one.mean == pytest.approx(-two.mean)
    assert one.z == pytest.approx(-two.z)


def test_one_sample_proves_nothing() -> None:
    assert quality.paired(np.ones(1), np.zeros(1)).z == 0.0


def test_answers_that_are_all_the_same_are_not_distinct() -> None:
    same = np.tile([[0.2, 0.8]], (5, 1))
    np.testing.assert_allclose(quality.distinctness(same), 0, atol=1e-12)
    own = np.eye(5)
    assert quality.distinctness(own).min() > 0.7
    assert quality.confidence(own).min() == 1
    assert not quality.confidence(own * 100 - 150).any()  # nothing there is a probability


@given(
    arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(-5, 5)),
    arrays.arrays(np.float64, st.integers(1, 30), elements=st.floats(-5, 5)),
)
def test_kolmogorov_smirnov_is_the_largest_gap_of_the_distributions(one: Floats, other: Floats) -> None:
    distance, chance = samples.kolmogorov_smirnov(one, other)
    assert distance == pytest.approx(max(abs((one <= x).mean() - (other <= x).mean()) for x in (*one, *other)))
    assert samples.kolmogorov_smirnov(other, one) == pytest.approx((distance, chance))
    assert 0 <= chance <= 1


def test_smirnovs_limit_is_no_smaller_than_the_exact_chance() -> None:
    random = np.random.default_rng(0)
    for shift in (0.5, 1.0, 2.0):
        one, other = random.normal(0, 1, 40), random.normal(shift, 1, 60)
        assert samples.kolmogorov_smirnov(one, other)[0] == pytest.approx(stats.ks_2samp(one, other).statistic)
        assert samples.kolmogorov_smirnov(one, other)[1] >= 0.9 * stats.ks_2samp(one, other, method="exact").pvalue


def test_no_samples_are_like_any() -> None:
    assert samples.kolmogorov_smirnov(np.empty(0), np.ones(3)) == (0.0, 1.0)


extremes = arrays.arrays(np.float64, st.tuples(st.integers(2, 12), st.integers(1, 4)), elements=st.floats(0, 100))


@given(extremes, st.integers(0, 2**32 - 1))
def test_shares_lie_between_0_and_1_and_more_samples_give_more(high: Floats, seed: int) -> None:
    rows = np.stack([-np.roll(high, 1, axis=1), high], axis=2)
    order = np.random.default_rng(seed).permutation(len(rows))
    half = rows[order[: len(rows) // 2]]
    few, all_of_them = coverage.shares(half, rows), coverage.shares(rows, rows)
    assert (few >= 0).all()
    assert (few <= 1).all()
    np.testing.assert_allclose(all_of_them, 1)
    assert (coverage.shares(rows, half) >= few - 1e-12).all() or len(half) < coverage.WITNESSES


def test_one_odd_sample_does_not_make_ranges_narrow() -> None:
    rows = np.tile([[-1.0, 1.0]], (20, 3, 1))
    odd = rows.copy()
    odd[0] *= 100
    np.testing.assert_allclose(coverage.shares(rows, odd), 1)
    odd[1] *= 100
    np.testing.assert_allclose(coverage.shares(rows, odd), 0.01)


def test_how_many_samples_would_do() -> None:
    random = np.random.default_rng(0)
    heavy = np.stack([-random.pareto(1.5, (128, 20)), random.pareto(1.5, (128, 20))], axis=2)
    light = np.stack([-random.uniform(0.9, 1, (128, 20)), random.uniform(0.9, 1, (128, 20))], axis=2)
    assert coverage.sufficient(light) == coverage.SIZES[0]
    assert (coverage.sufficient(heavy) or 999) > 16


@pytest.mark.parametrize(
    ("stored", "fed"),
    [
        *[(shape, shape) for shape in ((12, 12, 3), (49, 10, 1), (28, 28), (8,))],
        ((12, 12, 3), (3, 12, 12)),
    ],
)
def test_other_preparations_keep_the_shape_and_the_values(stored: tuple[int, ...], fed: tuple[int, ...]) -> None:
    sample = np.random.default_rng(0).normal(0, 1, fed)
    found = variants(InputSpec(npz="x.npz", array="x"), stored, fed, BYTES)
    for variant in found:
        turned = variant.turn(sample)
        assert turned.shape == sample.shape
        np.testing.assert_allclose(np.sort(turned, axis=None), np.sort(sample, axis=None))
        assert variant.right
    kinds = {variant.kind for variant in found}
    assert ("colour" in kinds) == (3 in (fed[0], fed[-1]) and len(fed) == 3)
    assert ("layout" in kinds) == (len(fed) > 1)


def test_what_undoes_a_layout_is_among_them() -> None:
    right = np.random.default_rng(0).normal(0, 1, (12, 12, 3))
    wrong = np.ascontiguousarray(np.moveaxis(right, 2, 0)).reshape(right.shape)
    found = variants(InputSpec(), right.shape, right.shape, BYTES)
    assert any(np.array_equal(variant.turn(wrong), right) for variant in found)
    assert any(np.array_equal(variant.turn(right.transpose(1, 0, 2)), right) for variant in found)
    first = variants(InputSpec(transpose=(2, 0, 1)), right.shape, (3, 12, 12), BYTES)
    fed = [picture.transpose(2, 0, 1) for picture in (wrong, right)]
    assert any(np.array_equal(variant.turn(fed[0]), fed[1]) for variant in first)
    assert any(np.array_equal(variant.turn(right[..., ::-1]), right) for variant in found if variant.kind == "colour")


scalings = [
    InputSpec(),
    InputSpec(scale=1 / 255),
    InputSpec(scale=1 / 127.5, mean=1.0),
    InputSpec(scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
]


@pytest.mark.parametrize("spec", scalings)
def test_the_scaling_as_given_is_not_tried_again_and_the_others_are(spec: InputSpec) -> None:
    found = [one.spec for one in variants(spec, (8, 8, 3), (8, 8, 3), BYTES) if one.kind == "scaling"]
    steps = [(one.scale, one.mean, one.std) for one in found]
    assert (spec.scale, spec.mean, spec.std) not in steps
    for other in scalings:
        assert other is spec or (other.scale, other.mean, other.std) in [
            (scale if scale is None else pytest.approx(scale), mean, std) for scale, mean, std in steps
        ]


@given(st.integers(2, 6), st.integers(16, 400), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_copies_are_counted_once(count: int, width: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = random.uniform(-1, 1, (count, width))
    assert samples.different(_sketch(rows)) == count
    assert samples.different(_sketch(np.concatenate([rows, rows]))) == count
    near = rows + 1e-3 * rows.std() * random.normal(0, 1, rows.shape)
    assert samples.different(_sketch(np.concatenate([rows, near]))) == count


def test_few_values_may_lie_near_one_another_by_chance() -> None:
    rows = np.linspace(0, 1, 500)[:, np.newaxis]
    assert samples.different(_sketch(rows)) == 500


def _sketch(rows: Floats) -> sketches.Sketch:
    digests = np.array([hash(row.tobytes()) & 0xFFFFFFFFFFFF for row in rows], np.uint64)
    return sketches.Sketch(tuple(range(len(rows))), (), digests, np.asarray(rows, np.float64))


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300, unique=True), st.integers(1, 50))
def test_a_spread_keeps_ends_and_order(numbers: list[int], most: int) -> None:
    found = datasets.spread(numbers, most)
    assert len(found) == min(len(numbers), most)
    assert found[0] == numbers[0]
    assert [numbers.index(one) for one in found] == sorted(numbers.index(one) for one in found)
    assert most == 1 or found[-1] == numbers[-1]


def _finding(rule: str, other: float | None = None) -> Finding:
    return Finding(rule=rule, severity="warning", why="", evidence={} if other is None else {"other": other})


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ([], []),
        ([("at-chance", None)], ["at-chance"]),
        ([("labels-contradicted", None)], ["labels-contradicted"]),
        ([("labels-contradicted", None), ("other-scaling", 0.9)], ["other-scaling"]),
        ([("classes-renamed", 0.3), ("other-layout", 0.9), ("at-chance", None)], ["other-layout", "at-chance"]),
        ([("labels-shifted", 0.9), ("classes-renamed", 0.8), ("other-layout", 0.5)], ["labels-shifted"]),
        ([("other-scaling", 0.9), ("other-colours", 0.7)], ["other-scaling", "other-colours"]),
    ],
)
def test_the_best_explanation_is_told(told: list[tuple[str, float | None]], kept: list[str]) -> None:
    assert [one.rule for one in explained(_finding(*one) for one in told)] == kept
