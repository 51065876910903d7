"""Rules about samples alone; no model is run. A rule's docstring is the sentence that the user reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq.evaluation.doctor.findings import Severity, applied, finding
from edgeq.evaluation.doctor.sketches import FIGURES, InputSketch, Sketch
from edgeq.types import Dataset, Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Values = NDArray[np.float64]

COPIES_SHARE = 0.1
MATTERING_SHARE = 0.05
COPY_DISTANCE = 0.01  # of the spread of all values: below what storing a picture again with loss changes
WIDE = 16  # values; with fewer, samples lie near one another by chance
CLIPPED_SHARE = 0.05
HEAVILY_CLIPPED_SHARE = 0.2  # below it, white paper or counts that end there are as likely
CHANCE = 1e-4
UNLIKE = 0.5
RARE = 4.0  # standard deviations
FAR = 1000.0  # times the median sample's largest magnitude: 60 dB, more than from silence to speech


class Samples(NamedTuple):
    """All that the rules below look at; the classes of the samples where they have one."""

    dataset: Dataset
    calibration: Sketch
    scored: Sketch
    calibration_classes: Array | None = None
    scored_classes: Array | None = None


Rule = Callable[[Samples], "Finding | None"]


def one_sample(samples: Samples) -> Finding | None:
    """A single sample calibrates, so that every range is that sample's own."""
    distinct = len(np.unique(samples.calibration.digests))
    if distinct > 1:
        return None
    detail = f"`calibration` takes {len(samples.calibration.numbers)}, {distinct} of them different"
    return finding(one_sample, "warning", detail, "calibrate on 100 samples or more", distinct=distinct)


def copied_samples(samples: Samples) -> Finding | None:
    """Calibration samples are copies of one another."""
    count, distinct = len(samples.calibration.numbers), different(samples.calibration)
    if count < 2 or count - distinct < COPIES_SHARE * count:
        return None
    detail = f"only {distinct} of {count} are different"
    return finding(
        copied_samples, "warning", detail, "choose other samples in `calibration`", samples=count, distinct=distinct
    )


def different(sketch: Sketch) -> int:
    """Samples that are no copies of an earlier one, exact or nearly so."""
    return len(firsts(sketch))


def firsts(sketch: Sketch) -> list[int]:
    """Places of the samples that are no copies of an earlier one."""
    seen = sorted(np.unique(sketch.digests, return_index=True)[1].tolist())
    rows = sketch.signatures
    if rows.shape[1] < WIDE or len(seen) < 2:
        return seen
    near = COPY_DISTANCE * float(_usual(rows[seen]).std())
    kept = seen[:1]
    for place in seen[1:]:
        gaps = np.sqrt(((rows[kept] - rows[place]) ** 2).mean(axis=1))
        if float(gaps.min()) > near:
            kept.append(place)
    return kept


def _usual(rows: Values) -> Values:
    """Rows without those whose values lie far beyond the others', which alone would make the spread."""
    reach = np.abs(rows).max(axis=1)
    return np.asarray(rows[reach <= FAR * np.median(reach)])


def outlying_samples(samples: Samples) -> Finding | None:
    """A few calibration samples hold values far beyond those of all others, which costs the others their resolution."""
    for seen in samples.calibration.inputs:
        reach = np.abs(seen.figures[:, 2:]).max(axis=1)
        usual = float(np.median(reach))
        far = np.flatnonzero(reach > FAR * usual)
        if seen.is_real and usual > 0 and far.size:
            number, value = samples.calibration.numbers[far[0]], float(reach[far[0]])
            what = f"sample {number} of {seen.name!r} reaches {value:.4g}, half of them no more than {usual:.4g}"
            detail = what if far.size == 1 else f"{what}; {far.size} do so"
            hint = "leave such samples out of `calibration`, or mend what wrote them"
            return finding(outlying_samples, "warning", detail, hint, samples=far.size, value=value, usual=usual)
    return None


def calibration_is_scored(samples: Samples) -> Finding | None:
    """Samples that calibrate are scored too, so that the score is not one of unseen samples."""
    alike = int(np.isin(np.unique(samples.calibration.digests), samples.scored.digests).sum())
    same = len(set(samples.dataset.calibration) & set(samples.dataset.evaluation))
    shared, count = max(alike, same), len(samples.dataset.calibration)
    if not shared:
        return None
    detail = f"{shared} of {count} calibration samples" + ("" if same else " (other numbers, the same content)")
    hint = "give `calibration` and `evaluation` in dataset.yaml samples of their own"
    severity: Severity = "warning" if shared >= MATTERING_SHARE * count else "note"
    return finding(calibration_is_scored, severity, detail, hint, shared=shared, same_numbers=same)


def constant_input(samples: Samples) -> Finding | None:
    """An input never changes."""
    for seen in samples.calibration.inputs:
        flat = seen.is_real and seen.values_per_sample > 1 and float(seen.figures[:, 1].max()) <= _tiny(seen)
        still = seen.is_real and len(seen.figures) > 1 and float(np.ptp(seen.figures, axis=0).max()) <= _tiny(seen)
        if flat or still:
            how = "every sample of it holds one value only" if flat else "all its samples are the same"
            detail = f"{seen.name!r}, {how} ({seen.figures[0, 0]:.4g})"
            return finding(
                constant_input,
                "warning",
                detail,
                "look for the step that writes these samples",
                value=seen.figures[0, 0],
            )
    return None


def _tiny(seen: InputSketch) -> float:
    return 1e-6 * max(float(np.abs(seen.figures).max()), 1e-30)


def clipped_values(samples: Samples) -> Finding | None:
    """Many values stand at the very end of their range, as if they had been clipped."""
    calibration = (seen for seen in samples.calibration.inputs if seen.values_per_sample >= WIDE)
    for seen in (*calibration, *samples.scored.inputs):
        low = 0.0 if seen.low == 0 else seen.share_low  # a background of zeros is no clipping
        if not seen.is_real or low + seen.share_high < CLIPPED_SHARE or seen.share_low + seen.share_high > 0.999:
            continue
        end, share = max(((seen.low, low), (seen.high, seen.share_high)), key=lambda pair: pair[1])
        detail = f"{share:.0%} of the stored values of {seen.name!r} are {end:.4g}"
        hint = "look for a cast or a gain before the samples were stored"
        severity: Severity = "warning" if low + seen.share_high >= HEAVILY_CLIPPED_SHARE else "note"
        return finding(clipped_values, severity, detail, hint, share_low=seen.share_low, share_high=seen.share_high)
    return None


def classes_missing(samples: Samples) -> Finding | None:
    """The calibration samples are of fewer classes than as many drawn at random would be."""
    own, scored = samples.calibration_classes, samples.scored_classes
    if own is None or scored is None or not own.size or not scored.size:
        return None
    shares = np.unique(scored, return_counts=True)[1] / scored.size
    met = 1 - (1 - shares) ** own.size
    expected, deviation = float(met.sum()), float(np.sqrt((met * (1 - met)).sum()))
    seen = len(np.unique(own))
    if expected - seen <= RARE * deviation or expected - seen < 0.5:
        return None
    detail = f"{seen} of {len(shares)}, where {own.size} random ones would have about {expected:.0f}"
    hint = 'take them from all over: calibration: "::5"'
    return finding(
        classes_missing, "warning", detail, hint, classes=seen, expected=expected, scored_classes=len(shares)
    )


def unlike_scored(samples: Samples) -> Finding | None:
    """The calibration samples are of another kind than those that are scored."""
    worst = max(_distances(samples), key=lambda found: found[0], default=None)
    if worst is None or worst[0] < UNLIKE:
        return None
    distance, chance, name, figure, own, other = worst
    detail = f"median {figure} of {name!r} {own:.4g}, of scored samples {other:.4g} (Kolmogorov-Smirnov {distance:.2f})"
    hint = "calibrate on samples of the kind, and prepared the way, that the device will see"
    return finding(
        unlike_scored, "warning", detail, hint, distance=distance, chance=chance, calibration=own, scored=other
    )


def _distances(samples: Samples) -> Iterator[tuple[float, float, str, str, float, float]]:
    """Figures whose distributions differ by more than chance explains, over all figures of all inputs together."""
    own_places, other_places = firsts(samples.calibration), firsts(samples.scored)  # copies are no evidence
    pairs = [
        (own, other)
        for own, other in zip(samples.calibration.inputs, samples.scored.inputs, strict=True)
        if own.is_real
    ]
    for own, other in pairs:
        for place, figure in enumerate(FIGURES):
            one, two = own.figures[own_places, place], other.figures[other_places, place]
            distance, chance = kolmogorov_smirnov(one, two)
            if chance < CHANCE / (len(FIGURES) * len(pairs)):
                yield distance, chance, own.name, figure, float(np.median(one)), float(np.median(two))


def kolmogorov_smirnov(one: Values, other: Values) -> tuple[float, float]:
    """Largest distance of two samples' distribution functions, and a bound on its chance if both were one.

    The bound is 2 exp(-2 d^2 n m / (n + m)); Smirnov's limit, which lies above the exact chance where it is small.
    """
    if not len(one) or not len(other):
        return 0.0, 1.0
    a, b = np.sort(one), np.sort(other)
    both = np.concatenate([a, b])
    gaps = np.searchsorted(a, both, side="right") / len(a) - np.searchsorted(b, both, side="right") / len(b)
    distance = float(np.abs(gaps).max())
    return distance, min(1.0, 2 * float(np.exp(-2 * distance**2 * len(a) * len(b) / (len(a) + len(b)))))


RULES: tuple[Rule, ...] = (
    *(one_sample, copied_samples, outlying_samples, classes_missing, unlike_scored, constant_input, clipped_values),
    calibration_is_scored,
)


def findings(samples: Samples) -> Iterator[Finding]:
    """What the rules find."""
    yield from applied(RULES, samples)
