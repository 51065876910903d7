"""edgeq deploy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from edgeq.cli import common

if TYPE_CHECKING:
    from edgeq.lab.deploy import Deployment


@click.command("deploy", short_help="Copy what changed to devices, verify it there.")
@common.bundle_argument
@common.devices
@common.provision
@common.as_json
@common.talk
def command(bundle: Path, device: tuple[str, ...], provision: bool, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Copy what changed, verify hashes there, preflight the runtime."""
    from edgeq import devices, workflow
    from edgeq.report import json

    one = devices.single(device)
    if one is None:
        _deploy_all(bundle, device, provision, as_json=as_json, quiet=quiet)
        return
    with common.progress(quiet) as progress:
        done = workflow.deploy(bundle, one, provision=provision, progress=progress)
    if as_json:
        common.print_json(json.document(device=one, **json.plain(done)))
        return
    common.say(_words(done), quiet)
    if verbose:
        common.say("\n".join(f"sent {name}" for name in done.sent), quiet)


def _deploy_all(bundle: Path, chosen: tuple[str, ...], provision: bool, *, as_json: bool, quiet: bool) -> None:
    from edgeq import workflow
    from edgeq.cli import fleet
    from edgeq.report import json

    shape: fleet.Shape[Deployment] = fleet.Shape(key="deployment", plain=json.plain, ok=bool, words=_words)
    with fleet.watching(chosen, shape, quiet) as watch:
        outcomes = workflow.deploy_all(bundle, chosen, provision=provision, watch=watch)
    fleet.finish(outcomes, shape, as_json=as_json, quiet=quiet)


def _words(done: Deployment) -> str:
    sent = f"{len(done.sent)} files sent ({done.sent_bytes} bytes), {len(done.kept)} kept: {done.folder}"
    made = done.provisioned
    given = (
        [f"{made.distribution} {made.version} installed ({made.sent_bytes} bytes sent): {made.folder}"] if made else []
    )
    return "\n".join([*given, sent, *(common.warning(check) for check in done.warnings)])
