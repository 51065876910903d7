"""edgeq run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.cli import common


@click.command("run", short_help="All of the above in one go, ending in the report.")
@common.model_argument
@common.target
@common.device
@common.data
@common.output
@common.wishes
@common.measuring
@common.resume
@common.as_json
@common.talk
def command(
    model: Path,
    target: str,
    device: str,
    data: str,
    output: Path | None,
    resume: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Plan, quantize, build, deploy, profile. Exit code 3 when plan, accuracy, parity or a budget does not hold."""
    from edgeq import workflow
    from edgeq.cli import profile, quantize

    with common.progress(quiet) as progress:
        found = workflow.run(
            model,
            target,
            device,
            data,
            output=output,
            wish=common.wish_of(options),
            settings=common.settings_of(options),
            resume=resume,
            progress=progress,
        )
    if isinstance(found, workflow.Refused):
        quantize.refuse(found, as_json=as_json)
    else:
        profile.show(found, as_json=as_json, quiet=quiet)
