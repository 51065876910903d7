"""Rules about the float model's answers and their labels. A rule's docstring is the sentence that the user reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq import datasets
from edgeq.datasets.truth import PAIRED
from edgeq.evaluation import collapse
from edgeq.evaluation.doctor.answers import Answers
from edgeq.evaluation.doctor.findings import applied, finding
from edgeq.evaluation.doctor.quality import Paired, paired, probabilities
from edgeq.types import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Values = NDArray[np.float64]

SURE = 3.5
"""Standard errors: of the twenty comparisons or so in an examination, chance takes one so far in 200 examinations."""
BETTER = 0.1
LEAST = 16
"""Samples; from fewer, confidence says nothing."""
FEWEST = 8
"""Labels; from fewer, chance cannot be told from skill."""
DRAWS = 8
SKILL = 0.25
"""Of the way from chance to perfect: whoever is surely below it, and not surely above chance, is at chance."""
CONTRADICTION = 0.3
CERTAIN = 0.9
STEPS = (-1, 1)

Rule = Callable[[Answers], "Finding | None"]


def broken_answers(found: Answers) -> Finding | None:
    """The float model answers NaN or infinity."""
    if found.outputs.dtype.kind != "f":
        return None
    broken = np.flatnonzero((~np.isfinite(found.outputs.reshape(len(found.outputs), -1))).any(axis=1))
    if not broken.size:
        return None
    hint, first = "look for broken weights, or samples that overflow", found.numbers[broken[0]]
    detail = f"to {broken.size} of {len(found.outputs)} samples, the first is sample {first}"
    return finding(broken_answers, "stop", detail, hint, samples=broken.size, first=first)


def constant_answers(found: Answers) -> Finding | None:
    """The float model answers the same to every sample."""
    if len(found.outputs) < 2:
        return None
    own = collapse.extent(found.outputs)
    if own.spread > 1e-6 * own.largest:
        return None
    hint = "look at the samples' preprocessing, and at the export of the model"
    return finding(constant_answers, "warning", f"{len(found.outputs)} samples", hint, samples=len(found.outputs))


def labels_shifted(found: Answers) -> Finding | None:
    """The labels are off by one class."""
    classes, labels = found.classes, found.labels
    if classes is None or labels is None:
        return None
    ignored = labels == found.dataset.labels.ignore if found.dataset.labels else np.zeros(labels.shape, bool)
    better = _better(
        found, {step: np.where(ignored, labels, (labels.astype(np.int64) + step) % classes) for step in STEPS}
    )
    if better is None:
        return None
    detail = f"the model gives label {better.step:+d} {better.other:.0%}, the label itself {better.own:.0%}"
    hint = f"write the labels with {better.step:+d} (is there a background class?)"
    return finding(labels_shifted, "warning", detail, hint, **better._asdict())


def labels_displaced(found: Answers) -> Finding | None:
    """The labels belong to the neighbouring samples."""
    if found.labels is None:
        return None
    width, count = 2 if found.dataset.metric == PAIRED else 1, found.dataset.count
    near = {step: [(number + width * step) % count for number in found.numbers] for step in STEPS}
    better = _better(found, {step: datasets.labels(found.dataset, numbers) for step, numbers in near.items()})
    if better is None:
        return None
    detail = (
        f"the label {better.step:+d} row away fits {better.other:.2f}, the sample's own {better.own:.2f} (1 is perfect)"
    )
    hint = "compare the order of samples and labels; look for a row that is missing in one of them"
    return finding(labels_displaced, "warning", detail, hint, **better._asdict())


class _Better(NamedTuple):
    step: int
    own: float
    other: float
    z: float


def _better(found: Answers, labels: Mapping[int, Array | None]) -> _Better | None:
    """Other labels that fit surely better than those there are and than chance, and the step that leads to them."""
    own, random = found.fit(), _by_chance(found)
    for step, others in labels.items():
        other = found.fit(others)
        if own is None or other is None or random is None or len(own) < 2:
            return None
        gain = paired(other, own)
        if certain(gain, BETTER) and certain(paired(other, random), BETTER):
            return _Better(step, float(own.mean()), float(other.mean()), gain.z)
    return None


def _by_chance(found: Answers) -> Values | None:
    """How well each answer fits the labels of other samples, on average over some draws."""
    if found.labels is None:
        return None
    random = np.random.default_rng(0)
    drawn = [found.fit(found.labels[random.permutation(len(found.labels))]) for _ in range(DRAWS)]
    return np.asarray(np.mean([one for one in drawn if one is not None], axis=0)) if drawn[0] is not None else None


def classes_renamed(found: Answers) -> Finding | None:
    """The labels number the classes in another order than the model."""
    own, named = found.fit(), _renamed(found)
    other = found.fit(named) if named is not None else None
    if own is None or other is None:
        return None
    gain = paired(other, own)
    if not certain(gain, 2 * BETTER):
        return None
    detail = f"in the order that one half of them suggests the other fits {other.mean():.2f}, as it is {own.mean():.2f}"
    hint = "compare the list of class names that the labels were made with, and the model's"
    return finding(classes_renamed, "warning", detail, hint, own=own.mean(), other=other.mean(), z=gain.z)


def _renamed(found: Answers) -> Array | None:
    """The labels, each renamed to what the model chooses for it in the other half of the samples."""
    likely = _likely(found)
    if likely is None or found.labels is None or len(likely) < 2 * LEAST:
        return None
    chosen, true = likely.argmax(axis=1), found.labels.reshape(-1).astype(np.int64)
    halves = np.random.default_rng(0).permutation(len(true)) % 2
    named = true.copy()
    for half in (0, 1):
        other = halves != half
        for label, one in _names(true[other], chosen[other]).items():
            named[~other & (true == label)] = one
    return named.reshape(found.labels.shape)


def _names(true: Array, chosen: Array) -> dict[int, int]:
    """One class for each label, no class twice: the most frequent pairs first, then what is left."""
    pairs, counts = np.unique(np.stack([true, chosen], axis=1), axis=0, return_counts=True)
    names: dict[int, int] = {}
    for label, one in pairs[np.argsort(-counts, kind="stable")].tolist():
        if label not in names and one not in names.values():
            names[label] = one
    left = iter(sorted(set(true.tolist()) - set(names.values())))
    return names | {label: next(left, label) for label in sorted(set(true.tolist()) - set(names))}


def _likely(found: Answers) -> Values | None:
    """Class probabilities (samples, classes) of a model that chooses one class for each sample."""
    if found.classes is None or found.labels is None or found.labels.size != len(found.labels):
        return None
    values = found.outputs.reshape(len(found.outputs), -1)
    return probabilities(values, 1) if values.shape[1] == found.classes else None


def at_chance(found: Answers) -> Finding | None:
    """The float model's score is at chance, so there is no accuracy to keep.

    Its answers fit their labels no better than the labels of other samples.
    """
    own, others = found.fit(), _by_chance(found)
    if own is None or others is None or len(own) < FEWEST:
        return None
    gain, room = paired(own, others), 1 - float(others.mean())
    doubt = (1.96 + 2.4 / (gain.samples - 1)) * gain.error  # Student's t, 95 %
    if gain.mean > doubt or gain.mean + doubt > SKILL * room:
        return None
    detail = f"{own.mean():.3f} for its own labels, {others.mean():.3f} for others (1 is perfect, {len(own)} labels)"
    figures = {"own": own.mean(), "random": others.mean(), "error": gain.error, "labels": len(own)}
    return finding(at_chance, "stop", detail, **figures)


def labels_contradicted(found: Answers) -> Finding | None:
    """The float model is sure of other classes than the labels say."""
    likely = _likely(found)
    if likely is None or found.labels is None:
        return None
    sure = likely.max(axis=1) >= CERTAIN
    if sure.sum() < LEAST:
        return None
    hits = (likely.argmax(axis=1) == found.labels.reshape(-1))[sure].astype(np.float64)
    gap = paired(likely.max(axis=1)[sure], hits)
    if not certain(gap, CONTRADICTION):
        return None
    detail = f"where it is sure (above {CERTAIN:.0%}), {hits.mean():.0%} of {len(hits)} labels agree"
    return finding(
        labels_contradicted, "warning", detail, "look through these labels", agree=hits.mean(), sure=len(hits), z=gap.z
    )


def certain(gain: Paired, least: float) -> bool:
    """Whether a gain matters and is not chance."""
    return gain.mean >= least and gain.z >= SURE


RULES: tuple[Rule, ...] = (
    *(constant_answers, labels_shifted, labels_displaced, classes_renamed, labels_contradicted),
    at_chance,
)


def findings(found: Answers) -> Iterator[Finding]:
    """What the rules find; a model that answers nonsense is asked no further."""
    broken = broken_answers(found)
    if broken is not None:
        yield broken
        return
    yield from applied(RULES, found)
