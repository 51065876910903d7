"""p50 over time as HTML: one plot for each model on each device, names in the text only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from edgeq.report import compared, html, plots
from edgeq.types import Run

BAND = (10.0, 90.0)
"""Percentiles of the single inferences between which the band lies."""
Kept = Sequence[tuple[Run, tuple[int, ...]]]


class Line(NamedTuple):
    """Runs of one model on one device, oldest first."""

    model: str
    target: str
    device: str
    hardware: str
    runs: list[Run]
    picture: str


def lines_of(found: Kept) -> list[Line]:
    """The runs by model, target, device and hardware, with their plots."""
    grouped: dict[tuple[str, str, str, str], list[tuple[Run, tuple[int, ...]]]] = {}
    for run, samples in found:
        grouped.setdefault((run.model, run.target, run.device, run.hardware), []).append((run, samples))
    return [Line(*key, [run for run, _ in kept], _picture(kept)) for key, kept in grouped.items()]


def _picture(kept: Kept) -> str:
    points = []
    for run, samples in kept:
        if run.p50_ms is not None:
            low, high = (float(end) / 1e6 for end in np.percentile(samples, BAND))
            points.append(plots.Moment(run.at, run.p50_ms, low, high, run.ok))
    return plots.over_time(points)


def page(found: Kept) -> str:
    """The whole page."""
    with plots.quiet():
        lines = lines_of(found)
    rows = [(line, [compared.run_cells(run) for run in reversed(line.runs)]) for line in lines]
    return html.page("history.html", lines=rows, columns=compared.RUN_COLUMNS, band=BAND)
