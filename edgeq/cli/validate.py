"""edgeq validate."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import common


@click.command("validate", short_help="Score the samples on the device itself.")
@common.bundle_argument
@common.device
@common.data
@common.output
@common.as_json
@common.talk
def command(bundle: Path, device: str, data: str, output: Path | None, as_json: bool, quiet: bool, **_: bool) -> None:
    """Run the scoring samples on the device and compare with host float and host INT8."""
    from edgeq import workflow
    from edgeq.report import json, terminal

    with common.progress(quiet) as progress:
        found = workflow.validate(bundle, device, data, output=output, progress=progress)
    if as_json:
        common.print_json(json.validation(found))
    elif not quiet:
        common.show(terminal.validation(found))
    if not found.ok:
        raise common.Refusal
