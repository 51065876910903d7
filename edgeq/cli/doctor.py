"""edgeq doctor."""

from __future__ import annotations

import click

from edgeq.cli import common


@click.command("doctor", short_help="Is this host ready; what is missing.")
@common.as_json
def command(as_json: bool) -> None:
    """Check this host: Python, runtimes, quantizers, SSH, disk. Exit code 3 when something needed is missing."""
    from edgeq import workflow
    from edgeq.report import json, terminal

    checks = workflow.doctor()
    ok = all(check.ok for check in checks if check.rule == "needed")
    if as_json:
        common.print_json(json.document(ok=ok, checks=checks))
    else:
        common.show(terminal.checks(None, checks))
    if not ok:
        raise common.Refusal
