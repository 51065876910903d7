"""What the runner's raw times say: percentiles with intervals, steadiness, speed-up, endurance, operators."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from edgeq.errors import CommandFailed
from edgeq.lab.answers import Beside, Operators, Rows, Times
from edgeq.lab.conditions import NOW_BITS
from edgeq.lab.faults import clean
from edgeq.statistics import comparing, steady
from edgeq.statistics.blocks import Floats
from edgeq.statistics.intervals import percentile_interval
from edgeq.types import (
    Latency,
    LevelChange,
    OperatorTime,
    Outliers,
    Slice,
    Speedup,
    SpikeTrain,
    Steadiness,
    Sustained,
    Warmup,
    Watched,
)

SLICES = 24
_NAME_LENGTH = 120
_LAST = 0.25


def check_times(name: str, times: Times) -> None:
    """Raise CommandFailed for times that no clock can have told."""
    count, starts = len(times.samples_ns), times.starts_ns
    if starts and len(starts) != count:
        raise CommandFailed(f"{name} gave {count} times and {len(starts)} moments at which they began")
    if times.inferences < times.batch * ((count - 1) * times.stride + 1):
        raise CommandFailed(f"{name} gave {count} times of {times.inferences} inferences, which cannot be")
    lasted = (value * times.batch - times.batch for value in times.samples_ns)  # samples are rounded to whole ns
    if any(later - earlier < took for (earlier, later), took in zip(pairwise(starts), lasted, strict=False)):
        raise CommandFailed(f"{name} gave inferences that begin before the ones in front of them are over")


def latency(times: Times) -> tuple[Latency, dict[str, str]]:
    """Statistics in ms, and a reason for every interval that the samples do not bound.

    Percentiles are interpolated linearly, `std` is the population's. Outliers are in all of them.
    """
    samples_ms = np.asarray(times.samples_ns, np.float64) / 1e6
    found = {percent: percentile_interval(samples_ms, percent) for percent in (50, 90, 99)}
    ends = {
        f"p{percent}_ci": (one.low, one.high) if one.is_bounded else None for percent, one in found.items()
    }  # fmt: skip
    reasons = {
        name: f"{samples_ms.size} samples do not bound it; --runs or --seconds takes more"
        for name, interval in ends.items()
        if interval is None
    }
    result = Latency(
        p50=found[50].value,
        p90=found[90].value,
        p99=found[99].value,
        mean=float(samples_ms.mean()),
        std=float(samples_ms.std()),
        min=float(samples_ms.min()),
        max=float(samples_ms.max()),
        runs=times.inferences,
        first=times.first_ns / 1e6,
        load=times.load_ns / 1e6,
        **ends,
    )
    return result, reasons


def warmup(times: Times) -> Warmup | None:
    """What came before the runs that count."""
    told = times.warmup
    if told is None:
        return None
    return Warmup(seconds=told.seconds, runs=told.runs, steady=told.steady, wander=told.wander)


def unsteady(found: Warmup | None) -> str:
    """Why the warm-up did not end in a steady state; empty where it did."""
    if found is None:
        return "the bundle's runner is older than this; build it again"
    if found.steady:
        return ""
    moved = "too few windows to tell" if found.wander is None else f"the level still moved by {found.wander:.0%}"
    return f"not reached in {found.seconds:.3g} s of warm-up ({moved}); --warmup-seconds takes longer"


def steadiness(times: Times) -> Steadiness:
    """Whether the runs stayed what they were."""
    moments = _moments(times)
    found = steady.find(np.asarray(times.samples_ns, np.float64), moments)
    spikes, outliers = found.spikes, found.outliers
    return Steadiness(
        begins_s=float(moments[found.begins] - moments[0]),
        changes=tuple(
            LevelChange(kind=one.kind, at_s=one.at_s, until_s=one.until_s, ratio=one.ratio) for one in found.changes
        ),
        spikes=SpikeTrain(
            share=spikes.share, time_share=spikes.time_share, period_s=spikes.period_s, size=spikes.size
        ) if spikes else None,
        outliers=Outliers(count=outliers.count, share=outliers.share, time_share=outliers.time_share),
        why=found.why,
    )  # fmt: skip


def _moments(times: Times) -> Floats:
    """Seconds from the first sample to the beginning of each; one after another where they are not told."""
    if times.starts_ns:
        return np.asarray(times.starts_ns, np.float64) / 1e9
    lasted = np.asarray(times.samples_ns[:-1], np.float64) * times.batch * times.stride / 1e9
    return np.concatenate([[0.0], np.cumsum(lasted)])


def sustained(times: Times, minutes: float, shape: Steadiness) -> Sustained:
    """The pace at first, at its best, and in the last quarter of the runs."""
    moments = _moments(times)
    samples_ms = np.asarray(times.samples_ns, np.float64) / 1e6
    edges = np.linspace(0.0, float(moments[-1]) or 1.0, SLICES + 1)
    places = np.clip(np.digitize(moments, edges) - 1, 0, SLICES - 1)
    slices = tuple(
        Slice(from_s=float(edges[n]), until_s=float(edges[n + 1]), p50_ms=float(np.median(samples_ms[places == n])))
        for n in range(SLICES)
        if (places == n).any()
    )
    slower = [one.at_s for one in shape.changes if one.ratio > 1]
    return Sustained(
        minutes=minutes,
        peak_p50_ms=min(one.p50_ms for one in slices),
        sustained_p50_ms=float(np.median(samples_ms[moments >= moments[-1] * (1 - _LAST)])),
        throttled_after_s=slower[0] if slower else None,
        slices=slices,
    )


def speedup(told: Beside) -> Speedup:
    """Float over quantized: the median over the rounds' ratios; its interval assumes no distribution."""
    rounds = np.asarray(told.rounds, np.float64) / 1e6
    found = comparing.paired(rounds[:, 0], rounds[:, 1])
    return Speedup(
        ratio=found.value,
        low=found.low if found.is_bounded else None,
        high=found.high if found.is_bounded else None,
        float_p50_ms=float(np.median(rounds[:, 0])),
        quantized_p50_ms=float(np.median(rounds[:, 1])),
        rounds=len(told.rounds),
        seconds=told.seconds,
    )


def operators(told: Operators) -> tuple[OperatorTime, ...]:
    """Operators with their share of the time that the profiler saw."""
    total = sum(row.ns for row in told.operators) or 1
    return tuple(
        OperatorTime(
            operator=clean(row.operator, _NAME_LENGTH),
            name=clean(row.name, _NAME_LENGTH),
            placement=clean(row.placement, _NAME_LENGTH),
            count=row.count,
            ms=row.ns / 1e6,
            share=row.ns / total,
        )
        for row in told.operators
    )


def watched(rows: tuple[Rows, ...]) -> tuple[Watched, ...]:
    """The device's state during the runs, in order of time."""
    return tuple(
        Watched(
            at_s=ns / 1e9,
            clock_hz=clock_hz,
            temperature_c=temperature_c,
            throttled=None if bits is None else bool(bits & NOW_BITS),
            load_1min=load,
        )
        for ns, clock_hz, temperature_c, bits, _count, load in sorted(rows, key=lambda row: row[0])
    )


def throttled(rows: tuple[Rows, ...]) -> bool:
    """Whether a row says that the device was throttled at that moment, or a counter rose between two."""
    counts = [row[4] for row in rows if row[4] is not None]
    return any(row[3] is not None and row[3] & NOW_BITS for row in rows) or (bool(counts) and max(counts) > counts[0])
