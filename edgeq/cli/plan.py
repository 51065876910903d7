"""edgeq plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.cli import common


@click.command("plan", short_help="Which runtime, which scheme, where every operator runs, and why.")
@common.model_argument
@common.target
@common.output
@common.wishes
@click.option("--explain", is_flag=True, help="Show every operator with its rule.")
@common.as_json
@common.talk
def command(
    model: Path, target: str, output: Path | None, explain: bool, as_json: bool, quiet: bool, **options: Any
) -> None:
    """Plan a quantization scheme that the target can execute. Exit code 3 when there is none."""
    from edgeq import workflow
    from edgeq.report import json, terminal

    found = workflow.plan(model, target, output=output, wish=common.wish_of(options))
    if as_json:
        common.print_json(json.plan(found))
    elif not quiet:
        common.show(terminal.plan(found, every_operator=explain or options["verbose"]))
    if not found.ok:
        raise common.Refusal
