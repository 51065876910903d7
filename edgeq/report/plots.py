"""Plots as data URLs of SVG pictures: no names of a model file in them, only numbers."""

from __future__ import annotations

import base64
import contextlib
import io
import logging
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq.statistics import spikes
from edgeq.statistics.blocks import Floats
from edgeq.types import Measurement, OperatorAnalysis, Trial, Watched
from edgeq.types.analysis import HistogramCounts

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SAVED = {"format": "svg", "metadata": {"Date": None, "Creator": None}}
_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "edgeq",
    "svg.fonttype": "none",
    "font.size": 8.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
LIMIT_DB = 80.0


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Matplotlib without advice, and with our settings for a while."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    import matplotlib as mpl

    with mpl.rc_context(_SETTINGS):
        yield


def _figure(width: float, height: float, columns: int = 1) -> tuple[Any, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(1, columns, squeeze=False)[0]
    return figure, list(axes)


def _url(figure: Any) -> str:
    content = io.BytesIO()
    figure.savefig(content, **SAVED)
    return "data:image/svg+xml;base64," + base64.b64encode(content.getvalue()).decode()


def layers(rows: Sequence[OperatorAnalysis]) -> str:
    """SQNR over the operators in order: accumulated, alone, and what is possible."""
    figure, (axes,) = _figure(9, 3)
    measured = [(place, row) for place, row in enumerate(rows) if not row.unavailable]
    for name, label, style in (
        ("accumulated_db", "accumulated", "o-"),
        ("alone_db", "alone", "s-"),
        ("expected_db", "possible", "k--"),
    ):
        points = [(place, min(value, LIMIT_DB)) for place, row in measured if (value := getattr(row, name)) is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], style, label=label, markersize=3, linewidth=1)
    wrong = [place for place, row in measured if row.why]
    for place in wrong:
        axes.axvline(place, color="tab:red", alpha=0.4, linewidth=3)
    axes.set(xlabel="operator, in order of execution", ylabel=f"SQNR in dB (at most {LIMIT_DB:.0f} shown)")
    ticks = [place for place, _ in enumerate(rows)][:: max(1, len(rows) // 30)]
    axes.set_xticks(ticks, ["in" if rows[place].index < 0 else str(rows[place].index) for place in ticks])
    axes.legend(loc="best")
    axes.grid(alpha=0.3)
    return _url(figure)


def front(found: Sequence[Trial], tolerance: float | None) -> str:
    """Drop over file size and over predicted latency, each candidate by its number from 1."""
    figure, axes = _figure(9, 3.2, 2)
    for one, name, label, unit in zip(
        axes, ("size_bytes", "latency_ms"), ("KiB", "predicted, ms"), (1024, 1), strict=True
    ):
        for number, trial in enumerate(found, 1):
            place = getattr(trial, name)
            if place is None or trial.drop is None:
                continue
            fill = "tab:blue" if trial.on_front else "none"
            one.scatter(place / unit, trial.drop, s=30, facecolors=fill, edgecolors="tab:blue")
            one.annotate(str(number), (place / unit, trial.drop), xytext=(4, 4), textcoords="offset points")
        if tolerance is not None:
            one.axhline(tolerance, color="tab:red", linestyle="--", linewidth=1)
        one.set(xlabel=label, ylabel="drop in the metric's unit")
        one.grid(alpha=0.3)
    return _url(figure)


class Moment(NamedTuple):
    """One point of a figure over time, with its band; hollow where it does not hold."""

    at: datetime
    value: float
    low: float
    high: float
    ok: bool


def over_time(found: Sequence[Moment]) -> str:
    """Milliseconds over time, oldest first, each with its band."""
    figure, (axes,) = _figure(9, 2.6)
    times: list[Any] = [one.at for one in found]
    axes.fill_between(times, [one.low for one in found], [one.high for one in found], color="tab:blue", alpha=0.15)
    axes.errorbar(
        times, [one.value for one in found], fmt="none", capsize=2, linewidth=1, alpha=0.4,
        yerr=[[max(one.value - one.low, 0.0) for one in found], [max(one.high - one.value, 0.0) for one in found]],
    )  # fmt: skip
    axes.plot(times, [one.value for one in found], "-", color="tab:blue", linewidth=1)
    colors = ["tab:blue" if one.ok else "white" for one in found]
    axes.scatter(times, [one.value for one in found], s=22, c=colors, edgecolors="tab:blue", zorder=3)
    axes.set(ylabel="p50, ms", xlabel="UTC")
    axes.set_ylim(0, 1.1 * max(one.high for one in found))
    axes.grid(alpha=0.3)
    figure.autofmt_xdate()
    return _url(figure)


def samples(found: Measurement) -> str:
    """Samples over time with outliers and changes of level; clock and temperature below, where they are told."""
    rows = [row for row in found.watched if row.clock_hz is not None or row.temperature_c is not None]
    figure, axes = _stacked(2 if rows else 1)
    values = np.asarray(found.latency_samples_ns, np.float64) / 1e6
    moments = _moments(found, values)
    far = spikes.look(values).far
    begins = found.steadiness.begins_s if found.steadiness else 0.0
    early = moments < begins
    for chosen, color, label in (
        (early, "tab:gray", "before the steady state"),
        (~early & ~far, "tab:blue", "samples"),
        (~early & far, "tab:red", "outliers"),
    ):
        if chosen.any():
            axes[0].plot(moments[chosen], values[chosen], ".", color=color, label=label, markersize=2, rasterized=True)
    for one in found.steadiness.changes if found.steadiness else ():
        axes[0].axvline(one.at_s, color="black", linestyle="--", linewidth=1)
    axes[0].set(xlabel="s", ylabel="ms", yscale="log" if values.max() > 5 * values.min() else "linear")
    axes[0].legend(loc="best")
    if rows:
        _state(axes[1], rows)
    return _url(figure)


def _stacked(rows: int) -> tuple[Any, list[Axes]]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 2.6 * rows), layout="constrained", dpi=150)
    return figure, list(figure.subplots(rows, 1, squeeze=False)[:, 0])


def _moments(found: Measurement, values: Floats) -> Floats:
    if found.sample_starts_ns:
        return np.asarray(found.sample_starts_ns, np.float64) / 1e9
    return np.asarray(np.cumsum(values) / 1e3 * found.batch)


def _state(axes: Axes, rows: Sequence[Watched]) -> None:
    """Clock on the left, temperature on the right."""
    clocks = [(row.at_s, row.clock_hz / 1e6) for row in rows if row.clock_hz is not None]
    warm = [(row.at_s, row.temperature_c) for row in rows if row.temperature_c is not None]
    axes.set(xlabel="s", ylabel="MHz")
    if clocks:
        axes.plot(*zip(*clocks, strict=True), color="tab:green")
    if warm:
        beside = axes.twinx()
        beside.plot(*zip(*warm, strict=True), color="tab:orange")
        beside.set_ylabel("°C")


def histograms(row: OperatorAnalysis) -> str:
    """The result's values and the first weights', each with the range that was chosen for it."""
    weights = [weight for weight in row.weights if weight.quantizers and weight.histogram]
    figure, axes = _figure(9, 2, 2)
    _bars(axes[0], row.histogram, row.range, "result")
    if weights:
        _bars(axes[1], weights[0].histogram, weights[0].range, f"operand {weights[0].operand}")
    else:
        axes[1].set_axis_off()
    return _url(figure)


def _bars(axes: Axes, found: HistogramCounts | None, ends: tuple[float, float] | None, title: str) -> None:
    axes.set_title(title)
    if found is None or not found.counts:
        axes.set_axis_off()
        return
    width = (found.high - found.low) / len(found.counts) or 1.0
    edges = [found.low + place * width for place in range(len(found.counts) + 1)]
    axes.stairs([max(count, 0.5) for count in found.counts], edges, baseline=0.5, fill=True, color="tab:blue")
    axes.set_yscale("log")
    for end in ends or ():
        axes.axvline(end, color="tab:red", linestyle="--", linewidth=1)
