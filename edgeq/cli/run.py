"""edgeq run."""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli import common


@click.command("run", short_help="All of the above in one go, ending in the report.")
@common.converting
@common.device
@common.measuring
@common.as_json
@common.talk
def command(device: str, as_json: bool, quiet: bool, **options: Any) -> None:
    """Plan, quantize, build, deploy, profile. Exit code 3 when plan, accuracy, parity or a budget does not hold."""
    from edgeq import workflow
    from edgeq.cli import profile, quantize

    with common.progress(quiet) as progress:
        found = workflow.run(
            **common.conversion_of(options), device=device, settings=common.settings_of(options), progress=progress
        )
    if isinstance(found, workflow.Refused):
        quantize.refuse(found, as_json=as_json)
    else:
        profile.show(found, as_json=as_json, quiet=quiet)
