"""edgeq run."""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli import common


@click.command("run", short_help="All of the above in one go, ending in the report.")
@common.converting
@common.devices
@common.wait
@common.provision
@common.measuring
@common.as_json
@common.talk
def command(device: tuple[str, ...], wait: float, provision: bool, as_json: bool, quiet: bool, **options: Any) -> None:
    """Plan, quantize, build, deploy, profile. Exit code 3 when plan, accuracy, parity or a budget does not hold."""
    from edgeq import devices, workflow
    from edgeq.cli import profile, quantize

    words = {**common.conversion_of(options), "settings": common.settings_of(options), "wait_seconds": wait}
    words["provision"] = provision
    one = devices.single(device)
    if one is None:
        _run_all(device, words, as_json=as_json, quiet=quiet)
        return
    with common.progress(quiet) as progress:
        found = workflow.run(**words, device=one, progress=progress, warn=common.warn)
    if isinstance(found, workflow.Refused):
        quantize.refuse(found, as_json=as_json)
    else:
        profile.show(found, as_json=as_json, quiet=quiet)


def _run_all(chosen: tuple[str, ...], words: dict[str, Any], *, as_json: bool, quiet: bool) -> None:
    from edgeq import workflow
    from edgeq.cli import fleet, quantize

    shape = fleet.report_shape()
    with fleet.watching(chosen, shape, quiet) as watch:
        outcomes = workflow.run_all(**words, chosen=chosen, watch=watch)
    if isinstance(outcomes, workflow.Refused):
        quantize.refuse(outcomes, as_json=as_json)
    else:
        fleet.finish(outcomes, shape, as_json=as_json, quiet=quiet)
