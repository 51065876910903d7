"""edgeq deploy."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import common


@click.command("deploy", short_help="Copy what changed to a device, verify it there.")
@common.bundle_argument
@common.device
@common.as_json
@common.talk
def command(bundle: Path, device: str, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Copy what changed, verify hashes there, preflight the runtime."""
    from edgeq import workflow
    from edgeq.report import json

    with common.progress(quiet) as progress:
        done = workflow.deploy(bundle, device, progress=progress)
    if as_json:
        common.print_json(json.document(device=device, **json.plain(done)))
        return
    common.say(f"{len(done.sent)} files sent ({done.sent_bytes} bytes), {len(done.kept)} kept: {done.folder}", quiet)
    if verbose:
        common.say("\n".join(f"sent {name}" for name in done.sent), quiet)
