"""Rows that say what was measured, for the terminal and for HTML: plain text in columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edgeq.types import (
    Firmware,
    Latency,
    LevelChange,
    MeasuredMemory,
    Measurement,
    Speedup,
    SpikeTrain,
    Steadiness,
    Sustained,
)
from edgeq.units import format_ms, format_size

Row = tuple[str, str]
OPERATOR_COLUMNS = ("operator", "name", "placement", "count", "ms", "share")
SHOWN_OPERATORS = 20
SLICE_COLUMNS = ("from", "until", "p50")
_KINDS = {
    ("step", True): "slowed down",
    ("step", False): "sped up",
    ("drift", True): "slowed down little by little",
    ("drift", False): "sped up little by little",
}


def latency(found: Latency) -> Iterator[Row]:
    """Percentiles with their intervals, and what lies beside them."""
    yield ("latency", f"p50 {format_ms(found.p50)}  p90 {format_ms(found.p90)}  p99 {format_ms(found.p99)}")
    ends = {"p50": found.p50_ci, "p90": found.p90_ci, "p99": found.p99_ci}
    told = [f"{name} {format_ms(one[0])} to {format_ms(one[1])}" for name, one in ends.items() if one]
    if told:
        yield ("  at 95 %", "  ".join(told))
    yield ("", f"mean {format_ms(found.mean)}  std {format_ms(found.std)}  {found.runs} runs")
    yield ("first, load", f"{format_ms(found.first)}, {format_ms(found.load)}")


def steadiness(found: Steadiness) -> Iterator[Row]:
    """What was wrong with the runs; one row that says so where nothing was."""
    told = [*map(_change, found.changes), *([_spikes(found.spikes)] if found.spikes else [])]
    if found.begins_s > 0:
        yield ("warm-up", f"the first {found.begins_s:.3g} s of the runs were still slower")
    for words in told:
        yield ("not steady", words)
    if not told and not found.why:
        yield ("steady", "no step, drift or spike train in the runs")
    if found.outliers and found.outliers.count:
        far = found.outliers
        yield ("outliers", f"{far.count} ({far.share:.2%} of the samples, {far.time_share:.2%} of the time), kept")


def _change(one: LevelChange) -> str:
    when = f"at {one.at_s:.3g} s" if one.kind == "step" else f"from {one.at_s:.3g} s to {one.until_s:.3g} s"
    return f"{_KINDS[one.kind, one.ratio > 1]} {when}, to {one.ratio:.2f} times the level before"


def _spikes(one: SpikeTrain) -> str:
    return (
        f"a spike every {1000 * one.period_s:.4g} ms, {one.size:.1f} times the level, "
        f"{one.time_share:.1%} of the time: something else runs there at that beat"
    )


def speedup(found: Speedup) -> Row:
    """Float over quantized."""
    ends = f"{found.low:.3g} to {found.high:.3g}" if found.low is not None and found.high is not None else "no interval"
    both = f"float {format_ms(found.float_p50_ms)}, quantized {format_ms(found.quantized_p50_ms)}"
    return ("speed-up", f"{found.ratio:.3g} ({ends}) over float, {found.rounds} rounds in turn: {both}")


def sustained(found: Sustained) -> Iterator[Row]:
    """Endurance."""
    slower = found.sustained_p50_ms / found.peak_p50_ms
    yield ("sustained", f"p50 {format_ms(found.sustained_p50_ms)} after {found.minutes:g} min, "
                        f"{slower:.2f} times the best {format_ms(found.peak_p50_ms)}")  # fmt: skip
    when = found.throttled_after_s
    yield ("throttled", "never in that time" if when is None else f"from {when:.3g} s on")


def memory(found: MeasuredMemory) -> Iterator[Row]:
    """Bytes by where they go; what is not told is left out here, its reason is told elsewhere."""
    for name, value in (
        ("model file", found.model_file),
        ("arena", found.arena),
        ("peak RSS", found.peak_rss),
        ("  interpreter and NumPy", found.floor_rss),
        ("  the model on top", found.model_rss),
        ("PSS", found.pss),
        ("cgroup peak", found.cgroup_peak),
    ):
        if value is not None:
            yield (name, format_size(value))


def firmware(found: Firmware) -> Iterator[Row]:
    """What a microcontroller's firmware took."""
    yield ("firmware", found.sha256[:12])
    if found.ticks is not None:
        rate = f", {found.ticks_per_second} a second" if found.ticks_per_second else ", which are no time"
        yield ("ticks", f"{found.ticks} of an inference, the fewest{rate}")
    if found.instructions is not None:
        yield ("instructions", f"{found.instructions:,} of an inference")
    for name, value in (
        ("text", found.text_bytes),
        ("data", found.data_bytes),
        ("bss", found.bss_bytes),
        ("arena used", found.arena_used_bytes),
        ("stack used", found.stack_bytes),
    ):
        if value is not None:
            yield (name, format_size(value))
    if found.differing_bytes:
        yield ("differing", f"{found.differing_bytes} bytes of the golden vectors' outputs")


def operators(found: Measurement, limit: int | None = SHOWN_OPERATORS) -> list[Sequence[object]]:
    """The slowest operators; the last row sums up the others."""
    shown = found.operators[:limit]
    rows: list[Sequence[object]] = [
        (one.operator, one.name, one.placement, one.count, f"{one.ms:.4g}", f"{one.share:.1%}") for one in shown
    ]
    rest = found.operators[len(shown) :]
    if rest:
        ms, share = sum(one.ms for one in rest), sum(one.share for one in rest)
        rows.append((f"{len(rest)} others", "", "", sum(one.count for one in rest), f"{ms:.4g}", f"{share:.1%}"))
    return rows


def slices(found: Sustained) -> list[Sequence[object]]:
    """The median over time."""
    return [(f"{one.from_s:.4g} s", f"{one.until_s:.4g} s", format_ms(one.p50_ms)) for one in found.slices]


def overview(found: Measurement) -> Iterator[Row]:
    """Latency, steadiness, endurance and speed-up of one measurement."""
    if found.latency_ms:
        yield from latency(found.latency_ms)
    if found.steadiness:
        yield from steadiness(found.steadiness)
    if found.sustained:
        yield from sustained(found.sustained)
    if found.speedup:
        yield speedup(found.speedup)
