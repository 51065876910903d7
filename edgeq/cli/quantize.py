"""edgeq quantize."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import common

if TYPE_CHECKING:
    from edgeq.types import QuantizedModel
    from edgeq.workflow import Refused


@click.command("quantize", short_help="Plan, convert to INT8, score against float.")
@common.converting
@common.as_json
@common.talk
def command(as_json: bool, quiet: bool, **options: Any) -> None:
    """Plan, convert, score against float. Exit code 3 when no scheme keeps the accuracy."""
    from edgeq import workflow

    with common.progress(quiet) as progress:
        found = workflow.quantize(**common.conversion_of(options), progress=progress)
    show(found, as_json=as_json, quiet=quiet, verbose=options["verbose"])


def show(found: QuantizedModel | Refused, *, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Show a conversion, or the plan that refused it; raises Refusal where the answer is no."""
    from edgeq import workflow
    from edgeq.report import json, plans, terminal

    if isinstance(found, workflow.Refused):
        refuse(found, as_json=as_json)
        return
    if as_json:
        common.print_json(json.quantize(found))
    elif not quiet:
        if verbose:
            common.show(plans.plan(found.plan))
        common.show(terminal.quantize(found))
    if not workflow.holds(found):
        raise common.Refusal


def refuse(found: Refused, *, as_json: bool) -> None:
    """Show the plan that says no, and end with exit code 3."""
    from edgeq.report import json, plans

    if as_json:
        common.print_json(json.document(plan=json.plan(found.plan)))
    else:
        common.show(plans.plan(found.plan), to_stderr=True)
    raise common.Refusal
