"""edgeq report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import ci, common

if TYPE_CHECKING:
    from edgeq.types import Report


@click.command("report", short_help="Planned against measured, float against INT8, verdict.")
@click.argument("folders", metavar="DIR...", type=common.PATH, nargs=-1, required=True)
@ci.junit
@ci.github
@click.option("--html", "page", type=common.PATH, help="Write the measurement of one DIR as a page with plots.")
@common.as_json
@common.talk
def command(
    folders: tuple[Path, ...],
    junit: Path | None,
    github: bool,
    page: Path | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Put the stage files of one or more folders side by side. Exit code 3 when something does not hold."""
    from edgeq import workflow
    from edgeq.report import json, plans, summary, terminal
    from edgeq.report import junit as xml

    found = [workflow.report(folder) for folder in folders]
    if junit:
        ci.write(junit, xml.reports(found))
    if page:
        _write_page(page, found)
    if github:
        ci.summarize(summary.reports(found))
    if as_json:
        documents = [json.report(one) for one in found]
        common.print_json(documents[0] if len(documents) == 1 else json.document(reports=documents))
    elif not quiet:
        for one in found:
            if verbose and one.quantized:
                common.show(plans.plan(one.quantized.plan))
            common.show(terminal.report(one))
    if not all(one.verdict.ok for one in found):
        raise common.Refusal


def _write_page(path: Path, found: list[Report]) -> None:
    """The one measurement there is, as a page; raises UsageError for none or several."""
    from edgeq.report import html

    if len(found) != 1 or found[0].measurement is None:
        raise click.UsageError("--html takes one DIR that has a measurement")
    ci.write(path, html.measurement(found[0].measurement, found[0].model))
