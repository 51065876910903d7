"""HTML reports: one file that needs nothing else and runs no script.

Names come from model files: jinja2 escapes them all, plots show numbers only, and a content security policy forbids
scripts and anything from outside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeq.report import analysis as rows
from edgeq.report import measured, terminal
from edgeq.types import Analysis, Measurement, QuantizedModel

if TYPE_CHECKING:
    import jinja2

PLOTTED = 32
"""Operators with histograms: the worst ones; each takes some 20 KB."""


def analysis(found: Analysis, plotted: int = PLOTTED) -> str:
    """The report of `edgeq analyze`: verdict, steps, operators, quantizers, plots."""
    from edgeq.report import plots

    with plots.quiet():
        pictures = [(row, plots.histograms(row)) for row in rows.worst(found, plotted)]
        overview = plots.layers(found.operators)
    return (
        _environment()
        .get_template("analysis.html")
        .render(
            found=found,
            verdict=[line.plain for line in rows.verdict(found)],
            steps=rows.steps(found),
            step_columns=rows.STEP_COLUMNS,
            columns=rows.COLUMNS,
            operators=[(row, rows.cells(row)) for row in found.operators],
            quantizer_columns=rows.quantizer_columns(),
            costs=list(rows.costs(found.operators)),
            overview=overview,
            pictures=pictures,
        )
    )


def search(found: QuantizedModel) -> str:
    """The report of a search: every candidate with its scores, and a plot of them."""
    from edgeq.report import plots

    with plots.quiet():
        picture = plots.front(found.plan.trials, found.accuracy.tolerance if found.accuracy else None)
    ok = found.accuracy is not None and found.accuracy.ok
    label = found.plan.trials[-1].scheme if ok else found.plan.scheme.name
    why = found.accuracy.why if found.accuracy else "nothing was scored"
    return (
        _environment()
        .get_template("search.html")
        .render(
            found=found,
            ok=ok,
            verdict=f"Taken: {label}." if ok else f"None holds. The most accurate one was kept, {label}: {why}",
            picture=picture,
            columns=("", *terminal.TRIAL_COLUMNS),
            rows=[(number, *map(terminal.cell, row)) for number, row in enumerate(terminal.trial_rows(found), 1)],
        )
    )


def measurement(found: Measurement, title: str) -> str:
    """The report of one measurement: samples over time, latency, memory, operators, what is missing and why."""
    from edgeq.report import plots

    with plots.quiet():
        picture = plots.samples(found) if found.latency_samples_ns else None
    return page(
        "measurement.html",
        title=title,
        runtime=terminal.runtime(found.runtime),
        picture=picture,
        batch=found.batch,
        overview=list(measured.overview(found)),
        memory=[*measured.memory(found.memory_bytes), *(measured.firmware(found.firmware) if found.firmware else ())],
        operator_columns=measured.OPERATOR_COLUMNS,
        operators=measured.operators(found, limit=None),
        slice_columns=measured.SLICE_COLUMNS,
        slices=measured.slices(found.sustained) if found.sustained else [],
        unavailable=list(found.unavailable.items()),
    )


def page(template: str, **content: object) -> str:
    """A page of one of the templates."""
    return _environment().get_template(template).render(**content)


def _environment() -> jinja2.Environment:
    import jinja2

    made = jinja2.Environment(
        loader=jinja2.PackageLoader("edgeq.report"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    made.filters["printable"] = _printable
    return made


def _printable(value: Any) -> str:
    return rows.printable(str(value))
