"""Rules about the float model's answers and their labels. A rule's docstring is the sentence that the user reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import datasets
from edgeq.datasets.truth import PAIRED
from edgeq.evaluation import collapse
from edgeq.evaluation.doctor.answers import Answers
from edgeq.evaluation.doctor.findings import finding
from edgeq.evaluation.doctor.quality import Paired, paired, probabilities
from edgeq.types import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Values = NDArray[np.float64]

SURE = 4.0
"""Standard errors: of thousands of comparisons that chance decides, none comes so far."""
BETTER = 0.1
LEAST = 16
"""Samples; from fewer, chance cannot be told from skill."""
DRAWS = 8
SKILL = 0.25
"""Of the way from chance to perfect: whoever is surely below it, and not surely above chance, is at chance."""
CONTRADICTION = 0.3
CERTAIN = 0.9

Rule = Callable[[Answers], "Finding | None"]


def broken_answers(found: Answers) -> Finding | None:
    """The float model answers NaN or infinity."""
    if found.outputs.dtype.kind != "f":
        return None
    broken = int((~np.isfinite(found.outputs.reshape(len(found.outputs), -1))).any(axis=1).sum())
    if not broken:
        return None
    hint = "look for broken weights, or samples that overflow"
    return finding(broken_answers, "stop", f"to {broken} of {len(found.outputs)} samples", hint, samples=broken)


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
    own, classes = found.fit(), found.classes
    if own is None or classes is None or found.labels is None or len(own) < 2:
        return None
    ignored = found.dataset.labels.ignore if found.dataset.labels else None
    for step in (-1, 1):
        moved = np.where(found.labels == ignored, found.labels, (found.labels.astype(np.int64) + step) % classes)
        other = found.fit(moved)
        gain = paired(other, own) if other is not None else None
        if other is not None and gain is not None and certain(gain, BETTER):
            detail = f"the model gives label {step:+d} {other.mean():.0%}, the label itself {own.mean():.0%}"
            hint = f"write the labels with {step:+d} (is there a background class?)"
            return finding(
                labels_shifted, "warning", detail, hint, step=step, given=own.mean(), other=other.mean(), z=gain.z
            )
    return None


def labels_displaced(found: Answers) -> Finding | None:
    """The labels belong to the neighbouring samples."""
    own = found.fit()
    if own is None or len(own) < 2:
        return None
    width = 2 if found.dataset.metric == PAIRED else 1
    for step in (-1, 1):
        near = [(number + width * step) % found.dataset.count for number in found.numbers]
        labels = datasets.labels(found.dataset, near)
        other = found.fit(labels)
        gain = paired(other, own) if other is not None else None
        if other is not None and gain is not None and certain(gain, BETTER):
            detail = f"the label {step:+d} row away fits {other.mean():.2f}, the sample's own {own.mean():.2f} (1 is perfect)"
            hint = "compare the order of samples and labels; look for a row that is missing in one of them"
            return finding(
                labels_displaced, "warning", detail, hint, rows=step, given=own.mean(), other=other.mean(), z=gain.z
            )
    return None


def classes_renamed(found: Answers) -> Finding | None:
    """The labels number the classes in another order than the model."""
    hits = _renamed(found)
    if hits is None:
        return None
    own, other = hits
    gain = paired(other, own)
    if not certain(gain, 2 * BETTER):
        return None
    detail = f"with the order that half of the samples suggest, {other.mean():.0%} of the other half are right instead of {own.mean():.0%}"
    hint = "compare the list of class names that the labels were made with, and the model's"
    return finding(classes_renamed, "warning", detail, hint, given=own.mean(), other=other.mean(), z=gain.z)


def _renamed(found: Answers) -> tuple[Values, Values] | None:
    """Hits with the labels as they are, and with each chosen class renamed as the other half of the samples suggests."""
    chosen = _chosen(found)
    if chosen is None or found.labels is None or len(chosen) < 2 * LEAST:
        return None
    true = found.labels.reshape(-1).astype(np.int64)
    halves = np.arange(len(true)) % 2
    named = chosen.copy()
    for half in (0, 1):
        for one in np.unique(chosen[halves == half]):
            seen = true[(halves != half) & (chosen == one)]
            if len(seen):
                named[(halves == half) & (chosen == one)] = np.bincount(seen).argmax()
    return (chosen == true).astype(np.float64), (named == true).astype(np.float64)


def _chosen(found: Answers) -> NDArray[np.int64] | None:
    likely = _likely(found)
    return None if likely is None else np.asarray(likely.argmax(axis=1), np.int64)


def _likely(found: Answers) -> Values | None:
    """Class probabilities (samples, classes) of a model that chooses one class for each sample."""
    if found.classes is None or found.labels is None or found.labels.size != len(found.labels):
        return None
    values = found.outputs.reshape(len(found.outputs), -1)
    return probabilities(values, 1) if values.shape[1] == found.classes else None


def at_chance(found: Answers) -> Finding | None:
    """The float model's answers fit its labels no better than labels drawn at random, so there is no accuracy to keep."""
    own = found.fit()
    if own is None or found.labels is None or len(own) < LEAST:
        return None
    random = np.random.default_rng(0)
    drawn = [found.fit(found.labels[random.permutation(len(found.labels))]) for _ in range(DRAWS)]
    others = np.mean([one for one in drawn if one is not None], axis=0)
    gain, room = paired(own, others), 1 - float(others.mean())
    if gain.mean > 2 * gain.error or gain.mean + 2 * gain.error > SKILL * room:
        return None
    detail = f"{own.mean():.3f} for its own labels, {others.mean():.3f} for others (1 is perfect, {len(own)} labels)"
    hint = "edgeq doctor MODEL --data DATASET, which looks for the preparation and the labels that would be right"
    return finding(
        at_chance, "stop", detail, hint, own=own.mean(), random=others.mean(), error=gain.error, labels=len(own)
    )


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


RULES: tuple[Rule, ...] = (broken_answers, constant_answers)
EXPLANATIONS: tuple[Rule, ...] = (labels_shifted, labels_displaced, classes_renamed, labels_contradicted)
"""Why labels do not fit: the first that holds is told."""


def findings(found: Answers) -> Iterator[Finding]:
    """What the rules find."""
    for rule in RULES:
        one = rule(found)
        if one is not None:
            yield one
            if one.severity == "stop":
                return
    told = (rule(found) for rule in EXPLANATIONS)
    yield from (
        one for one in (next((one for one in told if one is not None), None), at_chance(found)) if one is not None
    )
