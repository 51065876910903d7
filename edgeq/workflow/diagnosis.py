"""The calibration doctor: samples, labels and float model looked at before anything is converted."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq import datasets
from edgeq.errors import AtChance, ModelError
from edgeq.types import Dataset, Finding, ModelGraph, Progress, silent
from edgeq.workflow.plan import read_model

if TYPE_CHECKING:
    from edgeq.evaluation.doctor.activations import Probe
    from edgeq.evaluation.doctor.answers import Answers
    from edgeq.evaluation.doctor.coverage import Reach
    from edgeq.evaluation.doctor.samples import Samples
    from edgeq.evaluation.doctor.sketches import Sketch
    from edgeq.evaluation.scoring import Outputs

CALIBRATION = 64
SCORED = 64
LABELLED = 256
GLANCE = 32
"""Samples of each kind that a conversion looks at; the full examination reads all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """What was found, and over how many samples."""

    findings: tuple[Finding, ...]
    calibration: int
    scored: int


def diagnose(model: Path, data: str, *, progress: Progress = silent) -> Diagnosis:
    """Examine a dataset with a float model as the judge; nothing is written."""
    from edgeq.runtimes import preflight

    with tempfile.TemporaryDirectory(prefix="edgeq-doctor-") as folder:
        graph = read_model(model, Path(folder), progress)
        dataset = datasets.bind(datasets.load(data), graph)
        preflight.check(Path(graph.path), graph.format)
        found = tuple(examine(graph, dataset, progress))
    return Diagnosis(findings=found, calibration=len(dataset.calibration), scored=len(dataset.evaluation))


def examine(graph: ModelGraph, dataset: Dataset, progress: Progress = silent) -> Iterator[Finding]:
    """All rules: those about weights, samples, the float model's answers, other preparations, ranges of activations."""
    from edgeq import search
    from edgeq.evaluation.doctor import coverage, findings, labels, preparation, samples, sketches

    weights = _broken_weights(graph)
    if weights is not None:
        yield weights
    calibration = sketches.sketch(dataset, graph, dataset.calibration, progress, "reading calibration samples")
    scored = sketches.sketch(dataset, graph, dataset.evaluation, progress, "reading scored samples")
    yield from samples.findings(_samples(dataset, calibration, scored))
    if weights is not None:
        return  # all else would follow from them
    session = search.open_session(graph.format, Path(graph.path))
    told = list(labels.findings(_answers(session, dataset, graph, progress)))
    broken = any(one.rule == "broken-answers" for one in told)
    if not broken:
        told += preparation.findings(preparation.rivals(preparation.set_up(session, dataset, graph), progress))
    yield from findings.explained(told)
    yield from coverage.findings(_reach(graph, dataset, samples.different(calibration), progress))


def _broken_weights(graph: ModelGraph) -> Finding | None:
    from edgeq.evaluation.doctor.weights import broken_weights
    from edgeq.models import finite

    return broken_weights(finite.first_broken(graph))


def _samples(dataset: Dataset, calibration: Sketch, scored: Sketch) -> Samples:
    from edgeq.evaluation.doctor.samples import Samples

    classes = [_classes(dataset, sketch.numbers) for sketch in (calibration, scored)]
    return Samples(dataset, calibration, scored, *classes)


def _classes(dataset: Dataset, numbers: Sequence[int]) -> Any:
    """The class of each sample, where a sample has one."""
    from edgeq.datasets.truth import CLASS_METRICS

    if dataset.metric not in CLASS_METRICS or dataset.labels is None:
        return None
    found = datasets.labels(dataset, numbers)
    return found.reshape(-1) if found is not None and found.size == len(numbers) else None


def _answers(session: Any, dataset: Dataset, graph: ModelGraph, progress: Progress) -> Answers:
    from edgeq.evaluation.doctor import answers

    numbers = answers.chosen(dataset, LABELLED)
    outputs = (
        answers.first_output(session, sample)
        for sample in _shown(
            datasets.samples(dataset, graph, numbers), len(numbers), progress, "asking the float model"
        )
    )
    return answers.answers(dataset, numbers, outputs)


def _shown(samples: Iterator[Any], count: int, progress: Progress, step: str) -> Iterator[Any]:
    for done, sample in enumerate(samples):
        progress(step, done, count)
        yield sample
    progress(step, count, count)


def _reach(graph: ModelGraph, dataset: Dataset, different: int, progress: Progress) -> Reach:
    """Extremes of every activation for some calibration and some scored samples."""
    from edgeq.evaluation.doctor import activations
    from edgeq.evaluation.doctor.coverage import Reach

    sides = datasets.spread(dataset.calibration, CALIBRATION), datasets.spread(dataset.evaluation, SCORED)
    numbers = [*sides[0], *sides[1]]
    step = "watching activations"
    with activations.probing(graph) as probe:
        rows = _extremes(probe, _shown(datasets.samples(dataset, graph, numbers), len(numbers), progress, step))
    count = len(sides[0])
    return Reach(probe.names, rows[:count], rows[count:], different, len(dataset.calibration), tuple(numbers))


def _extremes(probe: Probe, samples: Iterator[Any]) -> Any:
    """(samples, activations, 2)"""
    import numpy as np

    return np.array([probe.read(sample) for sample in samples]).reshape(-1, len(probe.names), 2)


def glance(graph: ModelGraph, dataset: Dataset, progress: Progress = silent) -> Iterator[Finding]:
    """The rules about samples, over a few of them; no model is run. Raises ModelError for broken weights."""
    from edgeq.evaluation.doctor import samples, sketches

    weights = _broken_weights(graph)
    if weights is not None:
        raise ModelError(weights.why, where=graph.path, hint=weights.hint)
    calibration, scored = (
        sketches.sketch(dataset, graph, datasets.spread(numbers, GLANCE), progress, "looking at samples")
        for numbers in (dataset.calibration, dataset.evaluation)
    )
    yield from samples.findings(_samples(dataset, calibration, scored))


def listener(dataset: Dataset, where: str, into: list[Finding]) -> Callable[[Outputs], None]:
    """What a search tells the float model's answers to; raises AtChance or ModelError where none is worth keeping."""

    def hear(outputs: Outputs) -> None:
        from edgeq.evaluation.doctor import answers, findings, labels

        numbers = answers.chosen(dataset, LABELLED)
        places = {number: place for place, number in enumerate(dataset.evaluation)}
        found = answers.answers(dataset, numbers, (outputs[0][places[number]] for number in numbers))
        told = findings.explained(labels.findings(found))
        into.extend(told)
        for one in told:
            if one.severity == "stop":
                kind = AtChance if one.rule == "at-chance" else ModelError
                why = one.why + (_first_not_finite(dataset, where, one) if one.rule == "broken-answers" else "")
                raise kind(why, where=where, hint=f"edgeq doctor {where} --data {_ref(dataset)}")

    return hear


def _first_not_finite(dataset: Dataset, where: str, found: Finding) -> str:
    """A sentence on where in the model the first broken answer begins; nothing where the model cannot be asked."""
    from edgeq import models
    from edgeq.evaluation.doctor import activations, coverage
    from edgeq.evaluation.doctor.coverage import Reach

    number, graph = int(found.evidence["first"]), models.read(Path(where))
    with activations.probing(graph) as probe:
        rows = _extremes(probe, datasets.samples(dataset, graph, [number]))
    broken = coverage.not_finite(Reach(probe.names, rows, rows[:0], 1, 1, (number,)))
    return f" {broken.why}" if broken is not None else ""


def _ref(dataset: Dataset) -> str:
    """The dataset as it is named on the command line."""
    return dataset.path if dataset.function is None else f"{dataset.path}:{dataset.function}"
