"""edgeq validate."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import common

if TYPE_CHECKING:
    from edgeq.types import Validation


@click.command("validate", short_help="Score the samples on the devices themselves.")
@common.bundle_argument
@common.devices
@common.wait
@common.data
@common.output
@common.as_json
@common.talk
def command(
    bundle: Path,
    device: tuple[str, ...],
    wait: float,
    data: str,
    output: Path | None,
    as_json: bool,
    quiet: bool,
    **_: bool,
) -> None:
    """Run the scoring samples on the device and compare with host float and host INT8."""
    from edgeq import devices, workflow
    from edgeq.report import json, terminal

    one = devices.single(device)
    if one is None:
        _validate_all(bundle, device, wait, data, output, as_json=as_json, quiet=quiet)
        return
    with common.progress(quiet) as progress:
        found = workflow.validate(bundle, one, data, output=output, wait_seconds=wait, progress=progress)
    if as_json:
        common.print_json(json.validation(found))
    elif not quiet:
        common.show(terminal.validation(found))
    if not found.ok:
        raise common.Refusal


def _validate_all(
    bundle: Path,
    chosen: tuple[str, ...],
    wait_seconds: float,
    data: str,
    output: Path | None,
    *,
    as_json: bool,
    quiet: bool,
) -> None:
    from edgeq import workflow
    from edgeq.cli import fleet
    from edgeq.report import json

    shape = fleet.Shape(key="validation", plain=json.validation, ok=lambda found: found.ok, words=_words)
    with fleet.watching(chosen, shape, quiet) as watch:
        outcomes = workflow.validate_all(bundle, chosen, data, output=output, wait_seconds=wait_seconds, watch=watch)
    fleet.finish(outcomes, shape, as_json=as_json, quiet=quiet)


def _words(found: Validation) -> str:
    told = f"{found.metric} {found.device_score}, on this host {found.host_score}"
    return f"{told}, {found.differing_samples} of {found.samples} samples differ"
