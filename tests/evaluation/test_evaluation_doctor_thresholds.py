"""The doctor's rules right below and right above the numbers at which they begin to speak."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeq.evaluation.doctor import coverage, labels, preparation, samples
from edgeq.evaluation.doctor.answers import Answers, chosen
from edgeq.evaluation.doctor.preparation import Rival
from edgeq.evaluation.doctor.quality import Paired
from edgeq.evaluation.doctor.samples import Samples
from edgeq.evaluation.doctor.sketches import InputSketch, Sketch
from edgeq.evaluation.doctor.variants import Variant
from edgeq.types import Dataset, Finding, InputSpec, LabelSpec

Array = NDArray[Any]
SEEN = InputSketch("x", True, 64, np.zeros((0, 4)), -1.0, 1.0, 0.0, 0.0)


def dataset(
    calibration: Sequence[int] = range(20), evaluation: Sequence[int] = range(100, 200), **changes: Any
) -> Dataset:
    made = Dataset(
        path="d.yaml", root=".", inputs=(InputSpec(),), labels=LabelSpec(), metric="top1", count=1000,
        calibration=tuple(calibration), evaluation=tuple(evaluation),
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def sketch(digests: Sequence[int], seed: int = 0, **changes: Any) -> Sketch:
    """Samples that are equal where their digests are."""
    random = np.random.default_rng(seed)
    rows = {one: random.normal(size=64) for one in digests}
    signatures = np.array([rows[one] for one in digests])
    figures = np.array([(row.mean(), row.std(), row.min(), row.max()) for row in signatures])
    seen = SEEN._replace(**{"figures": figures, **changes})
    return Sketch(tuple(range(len(digests))), (seen,), np.array(digests, np.uint64), signatures)


def pair(calibration: Sketch, scored: Sketch | None = None, **changes: Any) -> Samples:
    return Samples(dataset(), calibration, scored or sketch(range(1000, 1040), seed=1), **changes)


def severity(found: Finding | None) -> str | None:
    return None if found is None else found.severity


# --- samples alone --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digests", "told"),
    [((1,), "warning"), ((1, 1, 1), "warning"), ((1, 2), None), ((1, 1, 2), None)],
)
def test_two_different_samples_are_more_than_one(digests: tuple[int, ...], told: str | None) -> None:
    assert severity(samples.one_sample(pair(sketch(digests)))) == told


@pytest.mark.parametrize(
    ("count", "copies", "told"),
    [
        (1, 0, None),
        (20, 0, None),
        (20, 1, None),
        (20, 2, "warning"),  # a tenth
        (29, 2, None),
        (30, 3, "warning"),
        (2, 1, "warning"),
    ],
)
def test_copies_matter_from_a_tenth_on(count: int, copies: int, told: str | None) -> None:
    found = samples.copied_samples(pair(sketch([max(place, copies) for place in range(count)])))
    assert severity(found) == told
    if found is not None:
        assert found.evidence == {"samples": count, "distinct": count - copies}


@pytest.mark.parametrize(("distance", "copies"), [(0.5, 1), (0.9, 1), (1.1, 0), (2.0, 0)])
def test_samples_are_near_copies_below_a_hundredth_of_the_spread(distance: float, copies: int) -> None:
    made = sketch(range(12))
    rows = made.signatures.copy()
    for _ in range(4):  # the spread moves a little with the row
        rows[7] = rows[3] + distance * samples.COPY_DISTANCE * rows.std()
    assert samples.different(made._replace(signatures=rows)) == 12 - copies


@pytest.mark.parametrize(("width", "distinct"), [(samples.WIDE - 1, 2), (samples.WIDE, 1)])
def test_few_values_are_compared_by_digest_only(width: int, distinct: int) -> None:
    made = sketch([1, 2])
    rows = np.tile(np.arange(width, dtype=np.float64), (2, 1))
    assert samples.different(made._replace(signatures=rows)) == distinct


@pytest.mark.parametrize(("shared", "told"), [(0, None), (1, "note"), (4, "note"), (5, "warning"), (100, "warning")])
@pytest.mark.parametrize("by_number", [False, True])
def test_shared_samples_matter_from_a_twentieth_on(shared: int, told: str | None, by_number: bool) -> None:
    own = range(100)
    others = range(100 - shared, 300 - shared)
    looked = Samples(
        dataset(own, others if by_number else range(500, 700)),
        sketch(own),
        sketch(range(1000, 1200) if by_number else others),
    )
    found = samples.calibration_is_scored(looked)
    assert severity(found) == told
    if found is not None:
        assert found.evidence == {"shared": shared, "same_numbers": shared if by_number else 0}
        assert ("other numbers, the same content" in found.why) != by_number


@pytest.mark.parametrize(
    ("low", "share_low", "share_high", "told"),
    [
        (-1.0, 0.0, 0.049, None),
        (-1.0, 0.0, 0.051, "note"),
        (-1.0, 0.026, 0.026, "note"),
        (-1.0, 0.0, 0.199, "note"),
        (-1.0, 0.0, 0.201, "warning"),
        (-1.0, 0.11, 0.11, "warning"),
        (0.0, 0.9, 0.049, None),  # a background of zeros
        (0.0, 0.5, 0.06, "note"),
        (0.0, 0.5, 0.25, "warning"),
        (-1.0, 0.5, 0.4985, "warning"),
        (-1.0, 0.5, 0.4995, None),  # drawn in two values
    ],
)
def test_clipping_is_a_note_from_a_twentieth_and_a_warning_from_a_fifth(
    low: float, share_low: float, share_high: float, told: str | None
) -> None:
    made = sketch(range(20), low=low, share_low=share_low, share_high=share_high)
    assert severity(samples.clipped_values(pair(made))) == told
    assert severity(samples.clipped_values(pair(sketch(range(20)), made))) == told


def test_narrow_calibration_inputs_and_integers_are_not_clipped() -> None:
    clipped = {"share_high": 0.5}
    assert samples.clipped_values(pair(sketch(range(20), values_per_sample=samples.WIDE - 1, **clipped))) is None
    assert samples.clipped_values(pair(sketch(range(20), values_per_sample=samples.WIDE, **clipped))) is not None
    assert samples.clipped_values(pair(sketch(range(20), is_real=False, **clipped))) is None


@pytest.mark.parametrize(
    ("changes", "flat"),
    [
        ({}, True),
        ({"is_real": False}, False),
        ({"values_per_sample": 1}, False),  # one value may well have no spread
    ],
)
def test_an_input_of_one_value_never_changes(changes: dict[str, Any], flat: bool) -> None:
    levels = np.arange(1.0, 21.0)
    figures = np.stack([levels, 0 * levels, levels, levels], axis=1)
    assert (samples.constant_input(pair(sketch(range(20), figures=figures, **changes))) is not None) == flat


@pytest.mark.parametrize(("wobble", "still"), [(0.0, True), (0.5e-6, True), (2e-6, False)])
def test_rounding_is_no_change(wobble: float, still: bool) -> None:
    figures = np.tile([0.5, 0.25, 0.0, 1.0], (20, 1))
    figures[3, 0] += wobble
    found = samples.constant_input(pair(sketch(range(20), figures=figures)))
    assert (found is not None) == still
    assert found is None or "all its samples are the same" in found.why


@pytest.mark.parametrize(
    ("own", "told"),
    [
        (np.arange(40) % 10, None),
        (np.arange(40) % 9, None),  # by chance
        (np.arange(40) % 6, "warning"),
        (np.zeros(40), "warning"),
        (np.zeros(1), None),  # one sample has one class
        (np.zeros(0), None),
    ],
)
def test_missing_classes_are_those_that_chance_would_bring(own: Array, told: str | None) -> None:
    looked = pair(sketch(range(40)), calibration_classes=own, scored_classes=np.arange(500) % 10)
    assert severity(samples.classes_missing(looked)) == told
    assert samples.classes_missing(looked._replace(scored_classes=None)) is None


@pytest.mark.parametrize(("shift", "told"), [(0.0, None), (0.05, None), (3.0, "warning"), (-3.0, "warning")])
def test_samples_of_another_kind_lie_apart(shift: float, told: str | None) -> None:
    own, other = sketch(range(60)), sketch(range(1000, 1060), seed=1)
    moved = other.inputs[0]._replace(figures=other.inputs[0].figures + shift)
    found = samples.unlike_scored(pair(own, other._replace(inputs=(moved,))))
    assert severity(found) == told
    assert found is None or found.evidence["distance"] >= samples.UNLIKE


def test_copies_are_no_evidence_of_another_kind() -> None:
    copied, other = sketch([1] * 60), sketch(range(1000, 1060), seed=1)
    moved = other._replace(inputs=(other.inputs[0]._replace(figures=other.inputs[0].figures + 3),))
    assert samples.unlike_scored(pair(copied, moved)) is None


# --- answers and labels ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mean", "z", "sure"),
    [(0.1, 3.5, True), (0.0999, 99.0, False), (0.5, 3.49, False), (-0.5, -9.0, False), (0.1, float("inf"), True)],
)
def test_a_gain_is_certain_when_it_matters_and_is_no_chance(mean: float, z: float, sure: bool) -> None:
    assert labels.certain(Paired(mean, mean / z, 50), labels.BETTER) == sure


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 20), st.floats(0.2, 1))
def test_few_samples_that_all_agree_are_certain_only_when_there_are_four(count: int, gain: float) -> None:
    found = labels.paired(np.full(count, gain), np.zeros(count))
    assert labels.certain(found, labels.BETTER) == (count >= 4)


def answered(outputs: Array, truth: Array | None, **changes: Any) -> Answers:
    return Answers(dataset(**changes), tuple(range(len(outputs))), outputs, truth)


@pytest.mark.parametrize(
    ("spread", "count", "told"),
    [(0.0, 8, "warning"), (0.5e-6, 8, "warning"), (2e-6, 8, None), (0.0, 1, None)],
)
def test_answers_are_constant_below_a_millionth(spread: float, count: int, told: str | None) -> None:
    outputs = np.tile([0.25, 0.5, 1.0], (count, 1))
    outputs[0, 0] += spread
    assert severity(labels.constant_answers(answered(outputs, None))) == told


def test_broken_answers_are_counted_by_sample_and_end_the_examination() -> None:
    outputs = np.ones((6, 3))
    outputs[1], outputs[4, 0], outputs[4, 1] = np.nan, np.inf, -np.inf
    (found,) = labels.findings(answered(outputs, np.zeros(6, int)))
    assert (found.rule, found.severity, found.evidence) == ("broken-answers", "stop", {"samples": 2, "first": 1})
    assert "sample 1." in found.why
    assert labels.broken_answers(answered(np.ones((6, 3), np.int64), None)) is None


def sure(count: int, wrong: int, certainty: float = 0.95) -> Answers:
    """A model of two classes that is sure of class 0, and labels of which some say otherwise."""
    return answered(np.tile([certainty, 1 - certainty], (count, 1)), (np.arange(count) < wrong).astype(int))


@pytest.mark.parametrize(
    ("count", "wrong", "certainty", "told"),
    [
        (labels.LEAST - 1, labels.LEAST - 1, 0.95, None),
        (labels.LEAST, labels.LEAST, 0.95, "warning"),
        (100, 100, 0.89, None),
        (100, 100, 0.91, "warning"),
        (100, 30, 0.95, None),  # 95 % sure, 70 % right: 0.25 apart
        (100, 40, 0.95, "warning"),
        (100, 0, 0.95, None),
    ],
)
def test_labels_are_contradicted_by_models_that_are_sure_often(
    count: int, wrong: int, certainty: float, told: str | None
) -> None:
    assert severity(labels.labels_contradicted(sure(count, wrong, certainty))) == told


@pytest.mark.parametrize(("count", "told"), [(labels.FEWEST - 1, None), (64, "stop")])
def test_chance_is_told_from_enough_labels_only(count: int, told: str | None) -> None:
    outputs = np.random.default_rng(0).dirichlet(np.ones(4), count)
    assert severity(labels.at_chance(answered(outputs, np.arange(count) % 4))) == told


@pytest.mark.parametrize(("skill", "told"), [(0.0, "stop"), (0.5, None), (1.0, None)])
def test_skill_is_not_chance(skill: float, told: str | None) -> None:
    truth = np.arange(200) % 4
    noise = np.random.default_rng(1).dirichlet(np.ones(4), 200)
    assert severity(labels.at_chance(answered(skill * np.eye(4)[truth] + (1 - skill) * noise, truth))) == told


@pytest.mark.parametrize("step", [-1, 1])
def test_a_shift_is_named_with_its_sign_and_wraps_round(step: int) -> None:
    truth = np.arange(80) % 5
    found = labels.labels_shifted(answered(np.eye(5)[(truth + step) % 5], truth))
    assert found is not None
    assert found.evidence["step"] == step
    assert f"{step:+d}" in str(found.hint)
    assert labels.labels_shifted(answered(np.eye(5)[truth], truth)) is None
    assert labels.labels_shifted(answered(np.eye(5)[(truth + 2 * step) % 5], truth)) is None


def test_labels_without_a_partner_keep_a_name_of_their_own() -> None:
    true, told = np.array([0, 0, 0, 1, 1, 2]), np.array([1, 1, 1, 1, 1, 0])
    assert labels._names(true, told) == {0: 1, 1: 2, 2: 0}


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=40))
def test_no_class_is_named_twice(pairs: list[tuple[int, int]]) -> None:
    true, told = np.array(pairs).T
    names = labels._names(true, told)
    assert set(names) == set(true.tolist())
    assert len(set(names.values())) == len(names)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 60), st.integers(1, 80), st.sampled_from(["top1", "pair_spearman"]))
def test_chosen_samples_are_few_in_order_and_whole(count: int, most: int, metric: str) -> None:
    width = 2 if metric == "pair_spearman" else 1
    found = chosen(dataset(evaluation=range(100, 100 + width * count), metric=metric), most)
    assert found == sorted(set(found))
    assert len(found) <= max(most, width)
    assert len(found) == width * min(count, max(1, most // width))


# --- other preparations ---------------------------------------------------------------------------


def rival(name: str = "x", merit: float = 1.0, mean: float = 0.1, z: float = 9.0, kind: Any = "scaling") -> Rival:
    gain = Paired(mean, mean / z, 50)
    return Rival(Variant(kind, InputSpec(), f"scale: {merit:g}"), name, 0.5, 0.5 + mean, gain, "fit", merit)


@pytest.mark.parametrize(
    ("mean", "z", "told"),
    [(0.02, 3.5, "warning"), (0.019, 99.0, None), (0.5, 3.4, None), (-0.3, -20.0, None)],
)
def test_a_preparation_is_preferred_when_surely_better(mean: float, z: float, told: str | None) -> None:
    found = next(preparation.findings([rival(mean=mean, z=z)]), None)
    assert severity(found) == told


@pytest.mark.parametrize(
    ("kind", "rule"), [("scaling", "other-scaling"), ("colour", "other-colours"), ("layout", "other-layout")]
)
def test_each_kind_of_preparation_has_its_rule(kind: str, rule: str) -> None:
    assert [one.rule for one in preparation.findings([rival(kind=kind)])] == [rule]


def test_each_input_is_told_its_best_preparation_only() -> None:
    found = preparation.findings(
        [rival("a", 0.5), rival("a", 0.9), rival("a", 0.7), rival("b", 0.2), rival("b", 2.0, mean=0.001)]
    )
    assert [one.hint for one in found] == ["scale: 0.9", "scale: 0.2"]


# --- ranges ---------------------------------------------------------------------------------------


def reach(*highs: float) -> Array:
    """One activation, from 0 to a number for each sample."""
    return np.array([[(0.0, high)] for high in highs])


@pytest.mark.parametrize(
    ("given_", "needed", "share"),
    [
        ((1.0,), (1.0, 1.0), 1.0),
        ((1.0,), (2.0, 2.0), 0.5),
        ((1.0,), (2.0, 9.0), 0.5),  # one odd sample does not count
        ((4.0,), (2.0, 2.0), 1.0),
        ((0.0,), (0.0, 0.0), 1.0),  # nothing has a width
        ((0.0,), (2.0, 2.0), 0.0),
        ((1.0,), (np.inf, np.inf), 1.0),
    ],
)
def test_a_share_is_of_what_two_samples_need(
    given_: tuple[float, ...], needed: tuple[float, ...], share: float
) -> None:
    np.testing.assert_allclose(coverage.shares(reach(*given_), reach(*needed)), [share])


@pytest.mark.parametrize(("high", "told"), [(0.86, None), (0.84, "warning")])
def test_ranges_are_narrow_below_85_percent(high: float, told: str | None) -> None:
    own, scored = reach(*[high] * 40), reach(*[1.0] * 40)
    looked = coverage.Reach(("a",), own, scored, 40, 40)
    assert severity(coverage.ranges_too_narrow(looked)) == told
    turned = coverage.Reach(("a",), scored, own, 40, 40)
    assert severity(coverage.ranges_too_wide(turned)) == told


@pytest.mark.parametrize(("value", "broken"), [(np.nan, True), (np.inf, True), (-np.inf, False), (1e300, False)])
@pytest.mark.parametrize("side", [0, 1])
def test_masks_of_minus_infinity_are_whole(value: float, broken: bool, side: int) -> None:
    rows = reach(1.0, 2.0, 3.0)
    rows[1, 0] = (min(value, 0.0), value)
    sides = [rows, reach(1.0, 2.0)]
    looked = coverage.Reach(("a",), sides[side], sides[1 - side], 3, 3)
    assert (coverage.not_finite(looked) is not None) == broken


@pytest.mark.parametrize(("count", "size"), [(15, None), (16, 8), (200, 8)])
def test_samples_that_are_all_alike_would_do_in_the_least_number(count: int, size: int | None) -> None:
    assert coverage.sufficient(reach(*[1.0] * count)) == size
