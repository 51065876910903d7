"""edgeq tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from edgeq.cli import common

if TYPE_CHECKING:
    from edgeq.tools import Status


@click.group("tools", invoke_without_command=True, short_help="External compilers: which are found, where.")
@common.as_json
@click.pass_context
def command(ctx: click.Context, as_json: bool) -> None:
    """List the external compilers that edgeq can drive, install one, or remove one."""
    if ctx.invoked_subcommand is None:
        _list(as_json)


def _list(as_json: bool) -> None:
    from edgeq import tools
    from edgeq.report import json, terminal

    found = tools.statuses()
    if as_json:
        common.print_json(json.document(folder=str(tools.folder()), tools=[_row(status) for status in found]))
        return
    columns = ("name", "found", "version", "where", "what for")
    common.show(terminal.table(None, columns, [_cells(status) for status in found]))


def _row(status: Status) -> dict[str, Any]:
    tool, recipe = status.tool, status.recipe
    return {
        "name": recipe.name,
        "found": tool is not None,
        "version": tool.version if tool else None,
        "path": str(tool.folder) if tool else None,
        "purpose": recipe.purpose,
        "python": recipe.releases,
        "size_bytes": recipe.size_bytes,
        "why": status.why or None,
    }


def _cells(status: Status) -> tuple[str, ...]:
    tool = status.tool
    where = str(tool.folder) if tool else status.why
    return (status.recipe.name, "yes" if tool else "no", tool.version if tool else "-", where, status.recipe.purpose)


@command.command("install")
@click.argument("name")
@common.as_json
@common.talk
def install_command(name: str, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Install a tool in an environment of its own, with pip. One that is there and whole is kept."""
    from edgeq import tools
    from edgeq.report import json
    from edgeq.units import format_size

    common.say(f"about {format_size(tools.recipe(name).size_bytes)} in {tools.folder()}", quiet or not verbose)
    with common.progress(quiet) as progress:
        tools.install(name, progress)
    found = tools.status(name)
    if as_json:
        common.print_json(json.document(tool=_row(found)))
    elif found.tool:
        common.say(f"{name} {found.tool.version}: {found.tool.folder}", quiet)


@command.command("remove")
@click.argument("name")
@common.as_json
def remove_command(name: str, as_json: bool) -> None:
    """Delete a tool's environment."""
    from edgeq import tools

    removed = tools.remove(name)
    told = "removed" if removed else "was not installed"
    common.done(f"{name}: {told}", as_json=as_json, name=name, removed=removed)
