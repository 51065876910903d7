"""edgeq build."""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli import common


@click.command("build", short_help="All that quantize does, then the bundle for the target.")
@common.converting
@common.as_json
@common.talk
def command(as_json: bool, quiet: bool, **options: Any) -> None:
    """Quantize and pack the per-target bundle. Exit code 3 when no scheme keeps the accuracy."""
    from edgeq import workflow
    from edgeq.cli import quantize
    from edgeq.report import json, terminal

    with common.progress(quiet) as progress:
        found, bundle = workflow.build(**common.conversion_of(options), progress=progress)
    if bundle is None or isinstance(found, workflow.Refused):
        quantize.show(found, as_json=as_json, quiet=quiet, verbose=options["verbose"])
        return
    if as_json:
        common.print_json({**json.quantize(found), "bundle": json.bundle(bundle)})
    elif not quiet:
        common.show(terminal.quantize(found))
        common.say(f"bundle: {bundle.path}", quiet)
