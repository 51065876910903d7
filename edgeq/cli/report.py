"""edgeq report."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import ci, common


@click.command("report", short_help="Planned against measured, float against INT8, verdict.")
@click.argument("folders", metavar="DIR...", type=common.PATH, nargs=-1, required=True)
@ci.junit
@ci.github
@common.as_json
@common.talk
def command(
    folders: tuple[Path, ...], junit: Path | None, github: bool, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Put the stage files of one or more folders side by side. Exit code 3 when something does not hold."""
    from edgeq import workflow
    from edgeq.report import json, plans, summary, terminal
    from edgeq.report import junit as xml

    found = [workflow.report(folder) for folder in folders]
    if junit:
        ci.write(junit, xml.reports(found))
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
