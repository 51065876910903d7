"""Each rule of the doctor on samples that have the fault, and on samples that have not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import datasets, models
from edgeq.evaluation.doctor import activations, answers, coverage, labels, preparation, samples, sketches
from edgeq.evaluation.doctor.answers import Answers
from edgeq.runtimes import litert, onnxruntime
from edgeq.testing import models as tiny
from edgeq.types import Dataset, LabelSpec, ModelGraph

Array = np.ndarray[Any, Any]
CLASSES = 4
COUNT = 120


@pytest.fixture
def graph(tmp_path: Path) -> ModelGraph:
    return models.read(tiny.conv_tflite(tmp_path))


def _bound(folder: Path, graph: ModelGraph, x: Array, y: Array | None = None, **changes: Any) -> Dataset:
    folder.mkdir(exist_ok=True)
    own = tiny.tiny_samples(tiny.CONV_SHAPE, CLASSES, len(x))[1]
    np.savez(folder / "samples.npz", x=x, y=own if y is None else y)
    (folder / "dataset.yaml").write_text(
        "inputs:\n  - {npz: samples.npz, array: x}\nlabels: {npz: samples.npz, array: y}\nmetric: top1\n"
        f'calibration: "0:{len(x) // 4}"\nevaluation: "{len(x) // 4}:{len(x)}"\n'
    )
    return datasets.bind(dataclasses.replace(datasets.load(folder / "dataset.yaml"), **changes), graph)


def _x(count: int = COUNT) -> Array:
    return np.asarray(tiny.tiny_samples(tiny.CONV_SHAPE, CLASSES, count)[0])


def _looked(dataset: Dataset, graph: ModelGraph) -> list[str]:
    sides = [sketches.sketch(dataset, graph, numbers) for numbers in (dataset.calibration, dataset.evaluation)]
    classes = [datasets.labels(dataset, side.numbers) for side in sides]
    return [one.rule for one in samples.findings(samples.Samples(dataset, *sides, *classes))]


def test_good_samples_have_no_fault(tmp_path: Path, graph: ModelGraph) -> None:
    assert _looked(_bound(tmp_path / "d", graph, _x()), graph) == []


def _first_again(x: Array) -> Array:
    x[:30] = x[np.arange(30) % 3]
    return x


def _grey(x: Array) -> Array:
    return np.full_like(x, 0.5)


def _flat(x: Array) -> Array:
    return np.broadcast_to(x.mean(axis=(1, 2, 3), keepdims=True), x.shape).copy()


def _clipped(x: Array) -> Array:
    return np.clip((x - 0.5) * 4 + 0.5, 0.01, 1).astype(np.float32)


def _brighter(x: Array) -> Array:
    x[:30] *= 4
    return x


def _in_evaluation_too(x: Array) -> Array:
    x[60:90] = x[:30]
    return x


SPOILT: list[tuple[str, Callable[[Array], Array]]] = [
    ("copied-samples", _first_again),
    ("constant-input", _grey),
    ("constant-input", _flat),
    ("clipped-values", _clipped),
    ("unlike-scored", _brighter),
    ("calibration-is-scored", _in_evaluation_too),
]


@pytest.mark.parametrize(("rule", "spoil"), SPOILT)
def test_spoilt_samples(tmp_path: Path, graph: ModelGraph, rule: str, spoil: Callable[[Array], Array]) -> None:
    assert rule in _looked(_bound(tmp_path / "d", graph, spoil(_x())), graph)


def test_samples_far_beyond_all_others_are_told_and_make_no_copies_of_them(tmp_path: Path, graph: ModelGraph) -> None:
    x = _x()
    x[5] *= 1e6
    dataset = _bound(tmp_path / "d", graph, x)
    assert _looked(dataset, graph) == ["outlying-samples"]
    x[[7, 9]] *= -1e9
    assert _looked(_bound(tmp_path / "e", graph, x), graph) == ["outlying-samples"]
    x = _x()
    x[5] *= 100
    assert "outlying-samples" not in _looked(_bound(tmp_path / "f", graph, x), graph)


def test_one_sample(tmp_path: Path, graph: ModelGraph) -> None:
    assert "one-sample" in _looked(_bound(tmp_path / "d", graph, _x(), calibration=(3,)), graph)
    x = _x()
    x[:30] = x[0]
    assert {"one-sample", "copied-samples"} <= set(_looked(_bound(tmp_path / "e", graph, x), graph))


def test_one_class(tmp_path: Path, graph: ModelGraph) -> None:
    one = tuple(range(0, COUNT, CLASSES))
    rest = tuple(number for number in range(COUNT) if number not in one)
    assert "classes-missing" in _looked(_bound(tmp_path / "d", graph, _x(), calibration=one, evaluation=rest), graph)
    two = (0, 4)  # may well be of one class by chance
    assert "classes-missing" not in _looked(_bound(tmp_path / "e", graph, _x(), calibration=two), graph)


def test_shared_numbers(tmp_path: Path, graph: ModelGraph) -> None:
    every = tuple(range(COUNT))
    found = _bound(tmp_path / "d", graph, _x(), evaluation=every)
    assert _looked(found, graph) == ["calibration-is-scored"]


def test_a_background_of_zeros_is_not_clipped(tmp_path: Path, graph: ModelGraph) -> None:
    x = np.maximum(_x() - 0.5, 0)
    assert (x == 0).mean() > 0.3
    assert "clipped-values" not in _looked(_bound(tmp_path / "d", graph, x), graph)


def _answers(
    outputs: Array, truth: Array, folder: Path, graph: ModelGraph, metric: str = "top1", y: Array | None = None
) -> Answers:
    """Made-up answers beside labels that are read from a real file."""
    count = len(truth)
    dataset = _bound(folder, graph, _x(count), truth if y is None else y, evaluation=tuple(range(count)))
    dataset = dataclasses.replace(dataset, metric=metric)
    return Answers(dataset, tuple(range(count)), outputs, truth)


def _good(truth: Array, random: np.random.Generator, hits: float = 0.8) -> Array:
    """Probabilities of a model that is right so often, and not too sure."""
    chosen = np.where(random.uniform(size=len(truth)) < hits, truth, random.integers(0, CLASSES, len(truth)))
    return np.asarray(0.1 + 0.6 * np.eye(CLASSES)[chosen])


def _told(found: Answers) -> set[str]:
    return {one.rule for one in labels.findings(found)}


@pytest.mark.parametrize("seed", range(5))
def test_labels_that_fit(tmp_path: Path, graph: ModelGraph, seed: int) -> None:
    random = np.random.default_rng(seed)
    truth = random.integers(0, CLASSES, COUNT)
    for hits in (0.4, 0.8, 1.0):
        assert _told(_answers(_good(truth, random, hits), truth, tmp_path / "d", graph)) == set()


@pytest.mark.parametrize(
    ("rule", "spoil"),
    [
        ("labels-shifted", lambda truth: (truth + 1) % CLASSES),
        ("labels-shifted", lambda truth: (truth - 1) % CLASSES),
        ("labels-displaced", lambda truth: np.roll(truth, 1)),
        ("labels-displaced", lambda truth: np.roll(truth, -1)),
        ("classes-renamed", lambda truth: np.array([2, 3, 1, 0])[truth]),
        ("at-chance", lambda truth: np.random.default_rng(9).permutation(truth)),
    ],
)
def test_labels_that_do_not_fit(tmp_path: Path, graph: ModelGraph, rule: str, spoil: Callable[[Array], Array]) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, CLASSES, COUNT)
    wrong = np.asarray(spoil(truth))
    assert rule in _told(_answers(_good(truth, random), wrong, tmp_path / "d", graph))


def test_labels_that_a_sure_model_contradicts(tmp_path: Path, graph: ModelGraph) -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, CLASSES, COUNT)
    half = np.where(random.uniform(size=COUNT) < 0.5, truth, random.integers(0, CLASSES, COUNT))
    sure = 0.01 + 0.96 * np.eye(CLASSES)[truth]
    assert _told(_answers(sure, half, tmp_path / "d", graph)) == {"labels-contradicted"}
    assert _told(_answers(sure, truth, tmp_path / "d", graph)) == set()


def test_a_model_that_says_always_the_same_renames_nothing(tmp_path: Path, graph: ModelGraph) -> None:
    truth = np.random.default_rng(0).integers(0, CLASSES, COUNT)
    same = np.tile([[0.94, 0.02, 0.02, 0.02]], (COUNT, 1))
    assert _told(_answers(same, truth, tmp_path / "d", graph)) == {
        "constant-answers",
        "labels-contradicted",
        "at-chance",
    }


def test_few_labels_prove_nothing(tmp_path: Path, graph: ModelGraph) -> None:
    truth = np.array([0, 1, 2, 3, 0, 1])
    assert _told(_answers(_good(truth[::-1], np.random.default_rng(0)), truth, tmp_path / "d", graph)) == set()


def test_real_values_at_chance(tmp_path: Path, graph: ModelGraph) -> None:
    random = np.random.default_rng(0)
    truth = random.normal(0, 1, (COUNT, 3))
    good, bad = truth + random.normal(0, 0.3, truth.shape), random.normal(0, 1, truth.shape)
    kept = np.zeros(COUNT, np.int64)
    assert _told(_answers(good, truth, tmp_path / "d", graph, "mse", kept)) == set()
    found = _answers(bad, truth, tmp_path / "d", graph, "mse", kept)
    assert labels.at_chance(found) is not None


def test_broken_and_constant_answers(tmp_path: Path, graph: ModelGraph) -> None:
    truth = np.arange(40) % CLASSES
    broken = np.full((40, CLASSES), 0.25)
    broken[7, 2] = np.nan
    assert _told(_answers(broken, truth, tmp_path / "d", graph)) == {"broken-answers"}
    same = np.tile([[0.4, 0.3, 0.2, 0.1]], (40, 1))
    assert {"constant-answers", "at-chance"} <= _told(_answers(same, truth, tmp_path / "d", graph))


def test_every_finding_is_a_sentence_with_figures(tmp_path: Path, graph: ModelGraph) -> None:
    truth = np.arange(40) % CLASSES
    same = np.tile([[0.4, 0.3, 0.2, 0.1]], (40, 1))
    for one in labels.findings(_answers(same, truth, tmp_path / "d", graph)):
        assert one.why.endswith(".")
        assert "\n" not in one.why
        assert one.evidence
        assert all(isinstance(value, float) for value in one.evidence.values())


def _preferred(tmp_path: Path, x: Array, channels_first: bool = False) -> dict[str, str]:
    """Rule to what would be right, by the tiny convolutional model."""
    path = tiny.conv_onnx(tmp_path) if channels_first else tiny.conv_tflite(tmp_path)
    graph = models.read(path)
    if channels_first:
        x = np.ascontiguousarray(np.moveaxis(x, 3, 1))
    session = (onnxruntime if channels_first else litert).open(path)
    dataset = _bound(tmp_path / "d", graph, x)
    found = preparation.findings(preparation.rivals(preparation.set_up(session, dataset, graph)))
    return {one.rule: one.hint or "" for one in found}


@pytest.mark.parametrize(
    ("rule", "spoil", "channels_first"),
    [
        ("other-colours", lambda x: np.ascontiguousarray(x[..., ::-1]), False),
        ("other-colours", lambda x: np.ascontiguousarray(x[..., ::-1]), True),
        ("other-layout", lambda x: np.ascontiguousarray(x.transpose(0, 2, 1, 3)), False),
        ("other-scaling", lambda x: x / 255, False),
        ("other-scaling", lambda x: x * 255, False),
        ("", lambda x: x, False),
    ],
)
def test_other_preparations(tmp_path: Path, rule: str, spoil: Callable[[Array], Array], channels_first: bool) -> None:
    found = _preferred(tmp_path, np.asarray(spoil(_x()), np.float32), channels_first)
    assert set(found) == ({rule} if rule else set())
    assert all(found.values())


def test_only_so_much_is_held_in_memory(tmp_path: Path, graph: ModelGraph) -> None:
    dataset = _bound(tmp_path / "d", graph, _x())
    bench = preparation.set_up(litert.open(Path(graph.path)), dataset, graph, most=10)
    assert len(bench.stored) == 10
    assert bench.numbers[0] == dataset.evaluation[0]
    assert bench.numbers[-1] == dataset.evaluation[-1]


@pytest.mark.parametrize("make", [tiny.conv_tflite, tiny.conv_onnx])
def test_activations_are_seen_in_both_formats(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    graph = models.read(make(tmp_path))
    x = _x() if graph.format == "tflite" else np.ascontiguousarray(np.moveaxis(_x(), 3, 1))
    dataset = _bound(tmp_path / "d", graph, x)
    with activations.probing(graph) as probe:
        rows = np.array([probe.read(sample) for sample in datasets.samples(dataset, graph, range(8))])
    assert rows.shape == (8, len(probe.names), 2)
    assert len(probe.names) >= 5
    assert (rows[..., 1] >= rows[..., 0]).all()
    assert (rows[..., 1] > rows[..., 0]).any()
    outputs = [litert, onnxruntime][graph.format == "onnx"].open(Path(graph.path)).outputs
    assert outputs[0].name in probe.names


def _reach(calibration: Array, scored: Array) -> coverage.Reach:
    names = tuple(f"a{place}" for place in range(calibration.shape[1]))
    return coverage.Reach(names, calibration, scored, len(calibration), len(calibration))


def _extremes(count: int, random: np.random.Generator, gain: float = 1.0) -> Array:
    high = gain * random.gamma(4, 1, (count, 30))
    return np.stack([-high / 2, high], axis=2)


@pytest.mark.parametrize("seed", range(10))
def test_ranges_of_enough_samples(seed: int) -> None:
    random = np.random.default_rng(seed)
    assert list(coverage.findings(_reach(_extremes(64, random), _extremes(64, random)))) == []


def test_ranges_of_too_few_samples() -> None:
    random = np.random.default_rng(0)
    (found,) = coverage.findings(_reach(_extremes(2, random), _extremes(64, random)))
    assert found.rule == "ranges-too-narrow"
    assert "too few" in found.why
    assert found.evidence["enough"] in coverage.SIZES


def test_ranges_of_samples_that_are_too_much_alike() -> None:
    random = np.random.default_rng(0)
    (found,) = coverage.findings(_reach(_extremes(64, random, 0.4), _extremes(64, random)))
    assert found.rule == "ranges-too-narrow"
    assert "too much alike" in found.why


def test_ranges_that_nobody_needs() -> None:
    random = np.random.default_rng(0)
    (found,) = coverage.findings(_reach(_extremes(64, random, 3), _extremes(64, random)))
    assert found.rule == "ranges-too-wide"


def test_activations_that_break() -> None:
    rows = _extremes(8, np.random.default_rng(0))
    broken = rows.copy()
    broken[3, 5] = np.nan
    (found,) = coverage.findings(_reach(broken, rows))
    assert (found.rule, found.severity) == ("not-finite", "stop")
    assert "'a5' is the first of 1" in found.why
    numbered = _reach(broken, rows)._replace(numbers=tuple(range(50, 66)))
    assert "sample 53" in next(coverage.findings(numbered)).why
    assert "sample 61" in next(coverage.findings(_reach(rows, broken)._replace(numbers=numbered.numbers))).why
    masked = rows.copy()
    masked[:, 4, 0] = -np.inf  # as attention masks have it
    assert list(coverage.findings(_reach(masked, masked))) == []


@pytest.mark.parametrize(("moving", "first"), [(29, 29), (12, 12), (1, 1)])
def test_the_first_activation_from_which_on_nothing_changes(moving: int, first: int) -> None:
    rows = _extremes(8, np.random.default_rng(0))
    rows[:, moving:] = rows[0, moving:]
    rows[:, :1] = rows[0, :1]  # one that is constant for itself, as a branch of constants is
    found = next(one for one in coverage.findings(_reach(rows, rows)) if one.rule == "constant-activations")
    assert found.severity == "warning"
    first = 0 if moving == 1 else first
    assert f"'a{first}' is the first" in found.why
    assert (f"behind 'a{first - 1}'" in found.why) == (first > 0)
    assert found.evidence["activations"] == 30 - first


def test_what_changes_at_the_end_is_not_constant() -> None:
    rows = _extremes(8, np.random.default_rng(0))
    rows[:, :29] = rows[0, :29]
    assert coverage.constant_activations(_reach(rows, rows)) is None
    rows[:, 29] = rows[0, 29]
    assert coverage.constant_activations(_reach(rows, rows)) is not None
    assert coverage.constant_activations(_reach(rows[:3], rows[:4])) is None  # so few may well be alike
    assert coverage.constant_activations(_reach(rows[:, :0], rows[:, :0])) is None
    rows[:, 29] = np.inf
    assert coverage.constant_activations(_reach(rows, rows)) is None


def test_nothing_to_compare() -> None:
    rows = _extremes(4, np.random.default_rng(0))
    assert list(coverage.findings(_reach(rows[:0], rows))) == []
    assert list(coverage.findings(_reach(rows, rows[:1]))) == []
    assert list(coverage.findings(_reach(rows[:, :0], rows[:, :0]))) == []


def test_pairs_stay_together(tmp_path: Path, graph: ModelGraph) -> None:
    dataset = dataclasses.replace(
        _bound(tmp_path / "d", graph, _x()), metric="pair_spearman", evaluation=tuple(range(40))
    )
    numbers = answers.chosen(dataset, 11)
    assert len(numbers) == 10
    assert all(b == a + 1 and a % 2 == 0 for a, b in zip(numbers[::2], numbers[1::2], strict=True))
    found = Answers(dataset, tuple(range(8)), np.arange(8.0)[:, np.newaxis], np.arange(4.0))
    kept = answers.part(found, [2, 3, 6, 7])
    assert kept.labels is not None
    assert kept.labels.tolist() == [1.0, 3.0]
    assert kept.numbers == (2, 3, 6, 7)


def test_an_output_of_another_shape_is_no_rival(tmp_path: Path, graph: ModelGraph) -> None:
    truth = np.arange(20) % CLASSES
    found = _answers(np.eye(CLASSES)[truth], truth, tmp_path / "d", graph)
    assert found.fit(None) is not None
    assert dataclasses.replace(found.dataset, labels=LabelSpec()).labels == LabelSpec()
    assert Answers(found.dataset, found.numbers, found.outputs, None).fit() is None
