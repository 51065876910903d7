"""edgeq plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from edgeq.cli import common

if TYPE_CHECKING:
    from edgeq.workflow import Checked


@click.command("plan", short_help="Which runtime, which scheme, where every operator runs, and why.")
@click.argument("model", type=common.PATH, required=False)
@common.optional_target
@common.output
@common.wishes
@click.option(
    "--explain", is_flag=True, help="Show every operator with its rule, what it could not have, and the edit."
)
@click.option("--check", "checked", type=common.PATH, help="Derive every verdict of this plan.json anew.")
@common.as_json
@common.talk
def command(
    model: Path | None,
    target: str | None,
    output: Path | None,
    explain: bool,
    checked: Path | None,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Plan a quantization scheme that the target can execute. Exit code 3 when there is none.

    With --check, MODEL and --target may be left out: a plan.json names its own.
    """
    from edgeq import workflow
    from edgeq.report import json, plans

    if checked is not None:
        _check(workflow.check(checked, model=model, target=_given(target)), as_json=as_json, quiet=quiet)
        return
    if model is None or target is None:
        raise click.UsageError("Missing argument 'MODEL'." if model is None else "Missing option '-t' / '--target'.")
    found = workflow.plan(model, target, output=output, wish=common.wish_of(options))
    if as_json:
        common.print_json(json.plan(found))
    elif not quiet:
        common.show(plans.plan(found, every_operator=explain or options["verbose"]))
    if not found.ok:
        raise common.Refusal


def _given(target: str | None) -> str | None:
    """The target where the command line names it: a default is no reason to doubt the plan's own."""
    source = click.get_current_context().get_parameter_source("target")
    return target if source is ParameterSource.COMMANDLINE else None


def _check(found: Checked, *, as_json: bool, quiet: bool) -> None:
    """Show what does not follow; exit code 3 where anything does not."""
    from edgeq.report import json, plans

    rows = [finding._asdict() for finding in found.findings]
    if as_json:
        common.print_json(json.document(ok=not rows, target=found.plan.target, findings=rows))
    elif not quiet:
        common.show(plans.findings(found.plan, rows))
    if rows:
        raise common.Refusal
