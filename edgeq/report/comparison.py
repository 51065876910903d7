"""Two reports, quantity by quantity: what differs by more than the noise, and under which circumstances.

Latency is judged by the interval of the ratio of medians. Between two sessions the same file differs by more than the
noise within each, so that SESSION_NOISE, or what the history has seen of that file on that device, is added; or by how
much the two measurings within a session disagree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from edgeq.evaluation.metrics import METRICS
from edgeq.report import circumstances
from edgeq.statistics.comparing import compare as compare_samples
from edgeq.types import Accuracy, Compared, Difference, Measurement, Report, Side
from edgeq.types.comparison import Answer

SESSION_NOISE = 0.02
"""p50 of one file in eight sessions on a busy host lay within 1.3 %."""
MOST_NOISE = 0.25
ENOUGH_SESSIONS = 5


class Noise(NamedTuple):
    """How much p50 of one file differs between sessions, relative, and how that is known."""

    relative: float = SESSION_NOISE
    source: str = "what sessions usually differ by"


def session_noise(p50s_ms: Sequence[float]) -> Noise:
    """Noise between sessions from p50 of the same file on the same device: two robust deviations of a difference."""
    if len(p50s_ms) < ENOUGH_SESSIONS:
        return Noise()
    logs = sorted(math.log(value) for value in p50s_ms)
    middle = _median(logs)
    deviation = 1.4826 * _median(sorted(abs(value - middle) for value in logs))
    seen = min(2 * math.sqrt(2) * deviation, MOST_NOISE)
    if seen <= SESSION_NOISE:
        return Noise()
    return Noise(seen, f"{len(p50s_ms)} earlier sessions of the same file")


def _median(ordered: Sequence[float]) -> float:
    half = len(ordered) // 2
    return ordered[half] if len(ordered) % 2 else (ordered[half - 1] + ordered[half]) / 2


def compare(
    before: Report, after: Report, *, names: tuple[str, str], tolerance: float = 0.0, noise: Noise | None = None
) -> Compared:
    """Judge `after` against `before`; `tolerance` is relative and comes on top of every noise but accuracy's."""
    usual = max(noise or Noise(), _disagreement(before.measurement, after.measurement))
    return Compared(
        before=_side(before, names[0]),
        after=_side(after, names[1]),
        tolerance=tolerance,
        latency_noise=usual.relative,
        latency_noise_source=usual.source,
        mismatches=tuple(circumstances.mismatches(before, after)),
        differences=tuple(_differences(before, after, tolerance, usual.relative)),
    )


def _disagreement(before: Measurement | None, after: Measurement | None) -> Noise:
    """What the second measuring of a session, beside float, says against the first.

    A file that is slower is so in both. A session in which only one of them is slower was disturbed.
    """
    ratios = [
        one.latency_ms.p50 / one.speedup.quantized_p50_ms
        for one in (before, after)
        if one and one.latency_ms and one.speedup and one.speedup.quantized_p50_ms > 0
    ]
    if len(ratios) < 2 or min(ratios) <= 0:
        return Noise(0.0)
    return Noise(max(ratios) / min(ratios) - 1, "two measurings of the same session, which disagree")


def _side(report: Report, name: str) -> Side:
    quantized, measured = report.quantized, report.measurement
    scheme = quantized.plan.scheme.name if quantized else report.bundle.scheme if report.bundle else ""
    device = str(measured.device.get("name", "")) if measured else ""
    return Side(name=name, model=report.model, target=circumstances.target(report), device=device, scheme=scheme)


def _differences(before: Report, after: Report, tolerance: float, noise: float) -> Iterator[Difference]:
    """All quantities; those that neither side has are left out."""
    if before.measurement and after.measurement:
        yield from _latency(before.measurement, after.measurement, tolerance, noise)
        yield from _speedup(before.measurement, after.measurement)
    for one in RELATIVE:
        sides = one.value(before), one.value(after)
        if sides != (None, None):
            noise_of_it = max(one.noise, *(one.told(side) for side in (before, after)))
            yield _relative(one, sides, noise_of_it, tolerance, one.reason(before), one.reason(after))
    if before.quantized and after.quantized:
        yield from _accuracy(before.quantized.accuracy, after.quantized.accuracy)
    if before.validation and after.validation:
        yield _on_device(before, after)
    if before.measurement and after.measurement:
        yield from _parity(before.measurement, after.measurement)


def _latency(before: Measurement, after: Measurement, tolerance: float, noise: float) -> Iterator[Difference]:
    first, second = before.latency_ms, after.latency_ms
    if first is None or second is None:
        if first is not None or second is not None:
            why = (after if first else before).unavailable.get("latency_ms", "not measured")
            yield Difference(
                quantity="latency p50", unit="ms", before=first.p50 if first else None,
                after=second.p50 if second else None, answer="missing", why=why,
            )  # fmt: skip
        return
    yield _median_latency(before, after, first.p50, second.p50, noise, tolerance)
    for name in ("p90", "p99"):
        sides = getattr(first, name), getattr(second, name)
        yield Difference(quantity=f"latency {name}", unit="ms", before=sides[0], after=sides[1],
                         change=_change(*sides), answer="shown")  # fmt: skip


def _median_latency(
    before: Measurement, after: Measurement, first_ms: float, second_ms: float, noise: float, tolerance: float
) -> Difference:
    """p50 by its raw samples; without them nothing is ranked."""
    samples = before.latency_samples_ns, after.latency_samples_ns
    if not all(samples):
        return Difference(
            quantity="latency p50", unit="ms", before=first_ms, after=second_ms, change=_change(first_ms, second_ms),
            noise=noise, answer="undecided", why="one of them has no raw samples",
        )  # fmt: skip
    found = compare_samples(*samples, margin=noise)
    answers: dict[str, Answer] = {"faster": "better", "slower": "worse", "undecided": "undecided"}
    return _answered(Difference(
        quantity="latency p50", unit="ms", before=first_ms, after=second_ms, change=found.ratio - 1,
        low=found.low - 1, high=found.high - 1, noise=noise, answer=answers[found.answer],
    ), tolerated=found.low <= 1 + noise + tolerance)  # fmt: skip


def _answered(found: Difference, *, tolerated: bool) -> Difference:
    """Whether what is worse is a regression, and the answer in words."""
    regressed = found.answer == "worse" and not tolerated
    words: dict[str, str] = {
        "worse": "by more than the noise" + ("" if regressed else ", and tolerated"),
        "better": "by more than the noise",
        "undecided": "within the noise",
    }
    return replace(found, regressed=regressed, why=words.get(found.answer, ""))


def _speedup(before: Measurement, after: Measurement) -> Iterator[Difference]:
    """Float over quantized within each session: shown, since it moves with the float model too."""
    if before.speedup and after.speedup:
        sides = before.speedup.ratio, after.speedup.ratio
        yield Difference(
            quantity="speed-up over float", before=sides[0], after=sides[1], change=_change(*sides), answer="shown"
        )


class Relative(NamedTuple):
    """A quantity of which less is better, and how much of it is noise."""

    name: str
    unit: str
    key: str
    noise: float
    value: Callable[[Report], float | None]
    told: Callable[[Report], float] = lambda _report: 0.0

    def reason(self, report: Report) -> str:
        """Why one side has no figure."""
        return report.measurement.unavailable.get(self.key, "") if report.measurement else ""


def _energy_mj(report: Report) -> float | None:
    found = report.measurement.energy if report.measurement else None
    return found.per_inference_mj if found else None


def _energy_noise(report: Report) -> float:
    """What the meter says of its own uncertainty."""
    found = report.measurement.energy if report.measurement else None
    if found is None or not found.uncertainty_mj or not found.per_inference_mj:
        return 0.0
    return found.uncertainty_mj / abs(found.per_inference_mj)


RELATIVE = (
    Relative(
        "size", "bytes", "size_bytes", 0.01, lambda one: one.quantized.artifact.size_bytes if one.quantized else None
    ),
    Relative(
        "peak RSS",
        "bytes",
        "peak_rss",
        0.05,
        lambda one: one.measurement.memory_bytes.peak_rss if one.measurement else None,
    ),
    Relative(
        "arena", "bytes", "arena", 0.0, lambda one: one.measurement.memory_bytes.arena if one.measurement else None
    ),
    Relative(
        "model RSS",
        "bytes",
        "model_rss",
        0.05,
        lambda one: one.measurement.memory_bytes.model_rss if one.measurement else None,
    ),
    Relative("energy", "mJ", "energy_mj", 0.1, _energy_mj, _energy_noise),
)


def _relative(
    one: Relative, sides: tuple[float | None, float | None], noise: float, tolerance: float, *reasons: str
) -> Difference:
    first, second = sides
    if first is None or second is None:
        why = reasons[0 if first is None else 1] or "not measured"
        return Difference(
            quantity=one.name, unit=one.unit, before=first, after=second, noise=noise, answer="missing", why=why
        )
    rise, scale = second - first, abs(first)
    found = Difference(quantity=one.name, unit=one.unit, before=first, after=second, change=_change(first, second),
                       noise=noise, answer=_judged(rise, noise * scale))  # fmt: skip
    return _answered(found, tolerated=rise <= (noise + tolerance) * scale)


def _change(before: float, after: float) -> float | None:
    return after / before - 1 if before else None


def _judged(rise: float, allowed: float) -> Answer:
    """A rise is worse; what is within the noise is not ranked."""
    if rise == 0:
        return "same"
    return "undecided" if abs(rise) <= allowed else "worse" if rise > 0 else "better"


def _accuracy(before: Accuracy | None, after: Accuracy | None) -> Iterator[Difference]:
    """The quantized model's score; a fall by more than the accepted drop is worse."""
    if before is None or after is None:
        return
    name = after.metric
    scores = before.quantized_score, after.quantized_score
    apart = _other_samples(before, after)
    if apart or scores[0] is None or scores[1] is None:
        yield Difference(quantity=name, before=scores[0], after=scores[1], answer="missing", why=apart or "no score")
        return
    yield _scored(name, scores[0], scores[1], min(before.tolerance, after.tolerance))


def _other_samples(before: Accuracy, after: Accuracy) -> str:
    if before.metric != after.metric:
        return f"scored by {before.metric} and by {after.metric}"
    if before.samples != after.samples:
        return f"scored on {before.samples} and on {after.samples} samples"
    return ""


def _scored(name: str, before: float, after: float, allowed: float) -> Difference:
    higher = METRICS[name].higher_is_better if name in METRICS else True
    fall = before - after if higher else after - before
    found = Difference(quantity=name, before=before, after=after, noise=allowed, answer=_judged(fall, allowed))
    return _answered(found, tolerated=False)


def _on_device(before: Report, after: Report) -> Difference:
    """The score on the device itself, where both were validated."""
    first, second = before.validation, after.validation
    accuracy = after.quantized.accuracy if after.quantized else None
    same = first is not None and second is not None and (first.metric, first.samples) == (second.metric, second.samples)
    scores = first.device_score if first else None, second.device_score if second else None
    if not same or scores[0] is None or scores[1] is None:
        return Difference(quantity="score on the device", before=scores[0], after=scores[1], answer="missing",
                          why="not scored by the same samples")  # fmt: skip
    metric = second.metric if second else ""
    found = _scored(metric, scores[0], scores[1], accuracy.tolerance if accuracy else 0.0)
    return replace(found, quantity=f"{metric} on the device")


def _parity(before: Measurement, after: Measurement) -> Iterator[Difference]:
    first, second = before.parity, after.parity
    if first is None or second is None:
        return
    ranks = [0 if one.exact else 1 if one.ok else 2 for one in (first, second)]
    words = ("exact", "within a step", "does not hold")
    answer: Answer = "same" if ranks[0] == ranks[1] else "worse" if ranks[1] > ranks[0] else "better"
    yield Difference(
        quantity="parity", before=words[ranks[0]], after=words[ranks[1]], answer=answer,
        regressed=answer == "worse" and not second.ok,
        why="the device computes something else" if not second.ok else "",
    )  # fmt: skip
