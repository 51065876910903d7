"""edgeq compare."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import ci, common


@click.command("compare", short_help="Two runs beside each other; did anything become worse?")
@click.argument("before_or_after", metavar="[BEFORE]")
@click.argument("after", metavar="AFTER", required=False)
@click.option("--baseline", metavar="WHICH", help="Judge AFTER against a kept run of its kind: last, best or an id.")
@click.option("--tolerance", metavar="PERCENT", type=click.FloatRange(min=0, max=1000), default=0.0, show_default=True,
              help="Worse by so much more than the noise is still good.")  # fmt: skip
@click.option("--anyway", is_flag=True, help="Compare what was measured on different hardware.")
@ci.junit
@ci.github
@common.as_json
@click.option("-q", "--quiet", is_flag=True, help="Show only errors.")
def command(
    before_or_after: str,
    after: str | None,
    baseline: str | None,
    tolerance: float,
    anyway: bool,
    junit: Path | None,
    github: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare two folders or kept runs. Exit code 3 when something is worse beyond the noise and the tolerance."""
    from edgeq import workflow
    from edgeq.report import compared, summary
    from edgeq.report import junit as xml

    found = workflow.compare(before_or_after, after, baseline=baseline, tolerance=tolerance / 100, anyway=anyway)
    if junit:
        ci.write(junit, xml.comparison(found))
    if github:
        ci.summarize(summary.comparison(found))
    if as_json:
        common.print_json(compared.compared(found))
    elif not quiet:
        common.show(compared.terminal(found))
    if not found.ok:
        raise common.Refusal
