"""edgeq targets."""

from __future__ import annotations

import click

from edgeq.cli import common


@click.group("targets", invoke_without_command=True, short_help="List target profiles; show one with its sources.")
@common.as_json
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List target profiles, or show one with its sources."""
    if ctx.invoked_subcommand is None:
        _list(as_json)


@command.command("list")
@common.as_json
def list_command(as_json: bool) -> None:
    """List target profiles."""
    _list(as_json)


def _list(as_json: bool) -> None:
    from edgeq import targets
    from edgeq.report import json, terminal

    found = targets.load_all()
    if as_json:
        common.print_json(json.targets(found))
    else:
        common.show(terminal.targets(found))


@command.command("show")
@click.argument("name")
@common.as_json
def show_command(name: str, as_json: bool) -> None:
    """Show one profile, by name or YAML file, with the source of each fact."""
    from edgeq import targets
    from edgeq.report import json, terminal

    found = targets.load(name)
    if as_json:
        common.print_json(json.target(found))
    else:
        common.show(terminal.target(found))
