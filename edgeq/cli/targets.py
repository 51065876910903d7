"""edgeq targets."""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli import common

KINDS = ("linux", "android", "mcu", "npu")


_filters = common.together(
    click.option("--kind", type=click.Choice(KINDS), help="Only this kind; npu: all with an accelerator."),
    click.option(
        "--ram-at-least", "ram_at_least_bytes", type=common.Size(), help="Only with so much RAM in all: 256 KiB."
    ),
    click.option(
        "--flash-at-least",
        "flash_at_least_bytes",
        type=common.Size(),
        help="Only with so much flash in all (microcontrollers have one).",
    ),
    click.option("--runtime", metavar="NAME", help="Only with this runtime or compiler: litert, vela, ..."),
)


@click.group("targets", invoke_without_command=True, short_help="List target profiles; show one with its sources.")
@_filters
@common.as_json
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """List target profiles, show one with its sources, or prove operator tables."""
    common.list_unless_told(ctx, list_command, options)


@command.command("list")
@_filters
@common.as_json
def list_command(as_json: bool, **wanted: Any) -> None:
    """List target profiles."""
    from edgeq import targets
    from edgeq.report import json, shelf

    found = targets.select(targets.load_all(), **wanted)
    if as_json:
        from edgeq.conformance import stamps

        proved = [one.name for one in found if stamps.is_proved(stamps.of_target(one))]
        common.print_json(json.targets(found, proved))
    else:
        common.show(shelf.targets(found))


@command.command("show")
@click.argument("name")
@common.as_json
def show_command(name: str, as_json: bool) -> None:
    """Show one profile, by name or YAML file, with the source of each fact."""
    from edgeq import targets
    from edgeq.conformance import stamps
    from edgeq.report import json, proofs, shelf

    found = targets.load(name)
    standing = stamps.of_target(found, name)
    if as_json:
        common.print_json(json.target(found, is_proved=stamps.is_proved(standing), proofs=standing))
    else:
        common.show(shelf.target(found))
        common.show(proofs.stamps((one.table, one.proof, one.why) for one in standing))


@command.command("verify")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--stamp", is_flag=True, help="Keep the proof beside the table, in a checkout's targets/operators/proofs."
)
@common.talk
@common.as_json
def verify_command(names: tuple[str, ...], stamp: bool, verbose: bool, quiet: bool, as_json: bool) -> None:
    """Prove operator tables against the real runtime or compiler: of targets, or by their own names; without names all.

    Runs a model of one operator for each signature that a table claims, and for those that it denies.
    """
    from edgeq.report import proofs
    from edgeq.workflow import conform

    with common.progress(quiet or as_json) as progress:
        verified = conform.verify(names, on_shelf=stamp, progress=progress)
    rows = [proofs.Row(one.table, one.proof, str(one.error or "")) for one in verified]
    if as_json:
        common.print_json(proofs.verified_json(rows))
    elif not quiet:
        common.show(proofs.verified(rows, every_detail=verbose))
    if any(one.proof and not one.holds for one in verified):
        raise common.Refusal
    conform.demand_proved(verified, names)
