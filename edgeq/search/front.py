"""Every candidate's score side by side, and which of them nothing beats."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

from edgeq.search.trying import Attempt
from edgeq.types import Trial

Point = tuple[float, ...]


def trials(attempts: Iterable[Attempt]) -> tuple[Trial, ...]:
    """The attempts as a table, those on the Pareto front marked."""
    rows = [_trial(one) for one in attempts]
    points = [_point(row) for row in rows]
    known = [point for point in points if point is not None]
    return tuple(
        dataclasses.replace(row, on_front=point is not None and not any(_beats(other, point) for other in known))
        for row, point in zip(rows, points, strict=True)
    )


def _trial(one: Attempt) -> Trial:
    found, label = one.quantized, one.label
    if found is None or found.accuracy is None:
        return Trial(scheme=label, ok=False, why=one.reason, seconds=round(one.seconds, 3))
    return Trial(
        scheme=label,
        ok=one.ok,
        why="" if one.ok else one.reason,
        score=found.accuracy.quantized_score,
        drop=found.accuracy.drop,
        sqnr_db=one.sqnr_db if math.isfinite(one.sqnr_db) else None,
        size_bytes=found.artifact.size_bytes,
        latency_ms=one.plan.predicted.latency_ms,
        seconds=round(one.seconds, 3),
    )


def _point(row: Trial) -> Point | None:
    """What is compared, smaller is better; None where it was not scored. An unknown latency is the same for all."""
    if row.drop is None or row.size_bytes is None:
        return None
    return row.drop, float(row.size_bytes), row.latency_ms or 0.0


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    return one != other and all(mine <= theirs for mine, theirs in zip(one, other, strict=True))
