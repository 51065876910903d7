"""Metrics against scikit-learn and SciPy, against definitions, and at their limits."""

from __future__ import annotations

import typing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.datasets.loading import MetricName
from edgeq.errors import DatasetError
from edgeq.evaluation import classification, images
from edgeq.evaluation.metrics import METRICS
from edgeq.types import LabelSpec

PLAIN = LabelSpec()
SCORES = hnp.arrays(np.float32, st.tuples(st.integers(2, 30), st.integers(6, 9)), elements=st.floats(-5, 5, width=32))


def score(metric: str, outputs: Any, labels: Any, spec: LabelSpec = PLAIN) -> float:
    return METRICS[metric].score(np.asarray(outputs), np.asarray(labels), spec)


def draw_labels(data: st.DataObject, count: int, classes: int) -> Any:
    return np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=count, max_size=count)))


def test_every_metric_that_a_dataset_may_name_is_there() -> None:
    assert set(METRICS) == set(typing.get_args(MetricName))
    assert {name for name, metric in METRICS.items() if not metric.needs_labels} == {"cosine"}
    assert {name for name, metric in METRICS.items() if not metric.higher_is_better} == {"mse", "mae"}


# --- classes ---------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(SCORES, st.data())
def test_top1_and_f1_are_scikit_learns(outputs: Any, data: st.DataObject) -> None:
    from sklearn.metrics import accuracy_score, f1_score

    labels = draw_labels(data, *outputs.shape)
    chosen = outputs.argmax(1)
    assert score("top1", outputs, labels) == pytest.approx(accuracy_score(labels, chosen))
    assert score("f1", outputs, labels) == pytest.approx(f1_score(labels, chosen, average="macro", zero_division=0))


@settings(deadline=None, max_examples=60)
@given(SCORES, st.data())
def test_top5_is_a_stable_sort(outputs: Any, data: st.DataObject) -> None:
    outputs = outputs.round()  # with many ties
    labels = draw_labels(data, *outputs.shape)
    first = np.argsort(-outputs, axis=1, kind="stable")[:, :5]
    assert score("top5", outputs, labels) == pytest.approx(np.mean((first == labels[:, None]).any(1)))
    assert score("top5", outputs, labels) >= score("top1", outputs, labels)


def test_top5_is_not_fooled_by_a_constant_output() -> None:
    assert score("top5", np.zeros((100, 10)), np.arange(100) % 10) == 0.5


@settings(deadline=None, max_examples=60)
@given(hnp.arrays(np.float32, 12, elements=st.integers(0, 4)), st.lists(st.booleans(), min_size=12, max_size=12))
def test_auc_is_scikit_learns_with_ties(scores: Any, truth: list[bool]) -> None:
    from sklearn.metrics import roc_auc_score

    labels = np.array(truth, int)
    if len(set(truth)) == 1:
        with pytest.raises(DatasetError, match="both kinds"):
            score("auc", scores[:, None], labels)
        return
    expected = roc_auc_score(labels, scores)
    assert score("auc", scores[:, None], labels) == pytest.approx(expected)
    assert score("auc", np.stack([-scores, scores], 1), labels) == pytest.approx(expected)


def test_auc_of_many_classes_is_one_against_the_rest() -> None:
    from sklearn.metrics import roc_auc_score

    rng = np.random.default_rng(0)
    outputs, labels = rng.dirichlet(np.ones(4), 60), np.arange(60) % 4
    assert score("auc", outputs, labels) == pytest.approx(roc_auc_score(labels, outputs, multi_class="ovr"))


def test_one_value_is_the_score_of_class_one() -> None:
    assert score("top1", [[0.2], [0.7], [0.5], [0.9]], [0, 1, 0, 0]) == 0.75


def test_integer_outputs_are_classes_themselves() -> None:
    assert score("top1", np.array([3, 1, -7, 1 << 40]), np.array([3, 1, 0, 2])) == 0.5


@pytest.mark.parametrize("shape", [(6, 4), (6, 1, 1, 4), (6, 4, 1, 1)])
def test_axes_of_one_do_not_matter(shape: tuple[int, ...]) -> None:
    outputs = np.eye(6, 4, dtype=np.float32)
    assert score("top1", outputs.reshape(shape), np.array([[0], [1], [2], [3], [0], [1]])) == pytest.approx(5 / 6)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 4), st.booleans(), st.integers(0, 1000))
def test_miou_over_all_samples_is_the_confusion_matrixs(classes: int, first: bool, seed: int) -> None:
    from sklearn.metrics import jaccard_score

    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, (3, 5, 7)).astype(np.uint8)
    labels[rng.random(labels.shape) < 0.1] = 255
    outputs = rng.normal(size=(3, 5, 7, classes)).astype(np.float32)
    chosen = outputs.argmax(-1)
    kept = labels != 255
    expected = jaccard_score(labels[kept], chosen[kept], average="macro")
    given_outputs = np.moveaxis(outputs, -1, 1) if first else outputs
    assert score("miou", given_outputs, labels, LabelSpec(ignore=255)) == pytest.approx(expected)


def test_labels_that_are_all_ignored_or_misshapen_are_refused() -> None:
    with pytest.raises(DatasetError, match="no label is left"):
        score("miou", np.zeros((2, 3, 3, 2)), np.full((2, 3, 3), 255), LabelSpec(ignore=255))
    with pytest.raises(DatasetError, match="labels of 3x4 for an output of 3x3x2"):
        score("miou", np.zeros((2, 3, 3, 2)), np.zeros((2, 3, 4), int))


@given(hnp.arrays(np.float64, st.integers(1, 30), elements=st.integers(-4, 4)))
def test_ranks_are_scipys(values: Any) -> None:
    from scipy.stats import rankdata

    np.testing.assert_allclose(classification.ranks(values), rankdata(values))


# --- values ----------------------------------------------------------------------------------

VALUES = hnp.arrays(np.float32, st.tuples(st.integers(1, 5), st.just(4)), elements=st.floats(-100, 100, width=32))


@given(VALUES, st.integers(0, 100))
def test_mse_and_mae_are_numpys(outputs: Any, seed: int) -> None:
    labels = np.random.default_rng(seed).normal(size=outputs.shape)
    gap = outputs.astype(np.float64) - labels
    assert score("mse", outputs, labels) == pytest.approx(np.mean(gap**2))
    assert score("mae", outputs[..., None], labels) == pytest.approx(np.mean(np.abs(gap)))
    with pytest.raises(DatasetError, match="labels of"):
        score("mae", outputs, labels[:, :3])


@given(VALUES, st.floats(0.125, 8, width=32))
def test_cosine_ignores_size_and_stays_in_range(outputs: Any, factor: float) -> None:
    assert score("cosine", outputs * np.float32(factor), outputs) == pytest.approx(1, abs=1e-6)
    moving = np.abs(outputs).max(axis=1) > 1e-3
    expected = np.mean(np.where(moving, -1.0, 1.0))
    if moving.all() or not outputs.any():
        assert score("cosine", -outputs, outputs) == pytest.approx(expected if outputs.any() else 1)
    assert score("cosine", np.zeros_like(outputs), outputs) == pytest.approx(np.mean(~outputs.any(axis=1)))


@settings(deadline=None)
@given(st.integers(0, 1000), st.booleans())
def test_pair_spearman_is_scipys(seed: int, ties: bool) -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(seed)
    outputs, labels = rng.normal(size=(24, 5)), rng.normal(size=12)
    labels = labels.round() if ties else labels
    one, other = outputs[::2], outputs[1::2]
    alike = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1)
    expected = spearmanr(alike, labels).statistic if len(set(labels)) > 1 else 0.0
    assert score("pair_spearman", outputs, labels) == pytest.approx(expected)


def test_pair_spearman_of_a_constant_is_zero_and_counts_must_agree() -> None:
    assert score("pair_spearman", np.ones((8, 3)), np.arange(4)) == 0.0
    with pytest.raises(DatasetError, match="3 labels for 4 pairs"):
        score("pair_spearman", np.ones((8, 3)), np.arange(3))


# --- pictures --------------------------------------------------------------------------------


def test_psnr_is_its_formula_clipped_and_cut() -> None:
    labels = np.full((2, 12, 10, 1), 0.5)
    outputs = labels + np.array([0.1, 0.01])[:, None, None, None]
    assert score("psnr", outputs, labels) == pytest.approx((20 + 40) / 2)
    outputs[:, :2] = 99
    assert score("psnr", outputs, labels, LabelSpec(border=2)) == pytest.approx(30)
    assert score("psnr", labels + 5, np.ones_like(labels)) == images.PSNR_LIMIT_DB
    with pytest.raises(DatasetError, match="leaves nothing"):
        score("psnr", outputs, labels, LabelSpec(border=5))


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000), st.sampled_from([1, 3]), st.floats(0, 0.5))
def test_ssim_is_wangs_with_scipys_gaussian(seed: int, channels: int, noise: float) -> None:
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    x = rng.random((14, 17, channels))
    y = np.clip(x + rng.normal(0, noise, x.shape), 0, 1)

    def blur(values: Any) -> Any:
        planes = [gaussian_filter(values[..., c], 1.5, truncate=3.5)[5:-5, 5:-5] for c in range(channels)]
        return np.stack(planes, -1)

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    expected = np.mean((2 * mx * my + 1e-4) * (2 * cov + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))
    assert score("ssim", y[None], x[None]) == pytest.approx(expected)
    assert score("ssim", np.moveaxis(y, -1, 0)[None], x[None]) == pytest.approx(expected)
    assert score("ssim", x[None], x[None]) == pytest.approx(1)


def test_pictures_that_do_not_agree_are_refused() -> None:
    for outputs, labels, words in (
        (np.zeros((1, 12, 12, 1)), np.zeros((1, 12, 13, 1)), "labels of"),
        (np.zeros((1, 9, 9, 1)), np.zeros((1, 9, 9, 1)), "at least 11x11"),
        (np.zeros((1, 12)), np.zeros((1, 12)), "not a picture"),
    ):
        with pytest.raises(DatasetError, match=words):
            score("ssim", outputs, labels)


# --- tolerance -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "float_score", "labels", "expected"),
    [
        ("top1", 0.9, np.zeros(400), 0.01),
        ("top1", 0.9, np.zeros(50), 0.02),  # one sample
        ("miou", 0.9, [0, 1], 0.01),
        ("psnr", 28.0, [0, 1], 0.3),
        ("pair_spearman", 0.88, [0, 1], 0.02),
        ("cosine", 1.0, [0, 1], 0.05),
        ("mae", 0.0124, np.sin(np.linspace(0, 2 * np.pi, 1001)), 0.05 * 0.7068),
        ("mae", 1.0, [0, 1], 0.1),
        ("mse", 9.67, [0, 1], 0.967),
        ("mse", 0.0, [0, 2], 0.01),
    ],
)
def test_default_tolerances(metric: str, float_score: float, labels: Any, expected: float) -> None:
    assert METRICS[metric].tolerance(float_score, np.asarray(labels)) == pytest.approx(expected, rel=1e-3)
