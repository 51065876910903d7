"""edgeq profile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import common

if TYPE_CHECKING:
    from edgeq.types import Report


@click.command("profile", short_help="Measure latency, memory, energy and parity on devices.")
@common.bundle_argument
@common.devices
@common.wait
@common.provision
@common.output
@common.budgets
@common.measuring
@common.resume
@common.as_json
@common.talk
def command(
    bundle: Path,
    device: tuple[str, ...],
    wait: float,
    provision: bool,
    output: Path | None,
    resume: bool,
    as_json: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Deploy if needed, measure, check parity with the golden vectors. Exit code 3 when something does not hold."""
    from edgeq import devices, workflow
    from edgeq.cli import fleet

    words: dict[str, Any] = {
        "settings": common.settings_of(options),
        "budgets": common.budgets_of(options),
        "output": output,
        "resume": resume,
        "wait_seconds": wait,
        "provision": provision,
    }
    one = devices.single(device)
    if one is None:
        shape = fleet.report_shape()
        with fleet.watching(device, shape, quiet) as watch:
            outcomes = workflow.profile_all(bundle, device, **words, watch=watch)
        fleet.finish(outcomes, shape, as_json=as_json, quiet=quiet)
        return
    with common.progress(quiet) as progress:
        found = workflow.profile(bundle, one, **words, progress=progress, warn=common.warn)
    show(found, as_json=as_json, quiet=quiet)


def show(found: Report, *, as_json: bool, quiet: bool) -> None:
    """Show a report; raises Refusal where its verdict is no."""
    from edgeq.report import json, terminal

    if as_json:
        common.print_json(json.report(found))
    elif not quiet:
        common.show(terminal.report(found))
    if not found.verdict.ok:
        raise common.Refusal
