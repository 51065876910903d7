"""edgeq devices."""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli import common


@click.group("devices", invoke_without_command=True, short_help="The devices known here; what one really is.")
@common.as_json
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """List, add, probe, trust and remove devices."""
    common.list_unless_told(ctx, list_command, options)


@command.command("list")
@common.as_json
def list_command(as_json: bool) -> None:
    """List the devices known here."""
    from edgeq import devices
    from edgeq.report import json, terminal

    found, groups = devices.load_all(), devices.groups()
    if as_json:
        common.print_json(json.document(devices=found, groups=groups))
        return
    rows = [
        (one.name, one.transport, one.host, one.port, one.user, _groups_of(one.name, groups), one.notes)
        for one in found
    ]
    columns = ("device", "transport", "host", "port", "user", "groups", "notes")
    common.show(terminal.table(None, columns, rows))


def _groups_of(name: str, groups: dict[str, tuple[str, ...]]) -> str:
    return ", ".join(group for group, members in groups.items() if name in members) or "-"


@command.command("add")
@click.argument("name")
@click.argument("address")
@click.option("--identity", help="Private key file.")
@click.option("--folder", help="Folder on the device for bundles.")
@click.option("--python", help="Python on the device.")
@click.option("--meter", help="Power source: hwmon, pmic, rapl, battery, or 'stream: PROGRAM ...' on this host.")
@click.option("--notes", help="Anything worth remembering.")
@click.option("--group", "groups", multiple=True, help="A group that it belongs to; several times for several.")
@common.as_json
def add_command(name: str, address: str, groups: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Register a device under NAME; ADDRESS is local:, ssh://user@host:port or serial:///dev/ttyACM0."""
    from edgeq import devices

    found = devices.add(
        name, address, groups=groups, **{key: value for key, value in options.items() if value is not None}
    )
    common.done(f"added {found.name}", as_json=as_json, device=found)


@command.command("remove")
@click.argument("name")
@common.as_json
def remove_command(name: str, as_json: bool) -> None:
    """Forget a device."""
    from edgeq import devices

    devices.remove(name)
    common.done(f"removed {name}", as_json=as_json, removed=name)


@command.command("probe")
@click.argument("device")
@common.as_json
def probe_command(device: str, as_json: bool) -> None:
    """Say what a device really is: cpu, memory, runtimes, sensors."""
    from edgeq import workflow
    from edgeq.report import json, terminal

    found = workflow.probe(device)
    if as_json:
        common.print_json(json.document(**found))
        return
    warnings = found.pop("warnings")
    common.show(terminal.table(device, ("", ""), terminal.flat(found)))
    for check in warnings:
        common.say(common.warning(check), quiet=False)


@command.command("trust")
@click.argument("device")
@click.option("--fingerprint", help="Record the key only if it has this fingerprint (SHA256:...).")
@click.option("--yes", is_flag=True, help="Record without asking; only where you have seen the fingerprint.")
@common.as_json
def trust_command(device: str, fingerprint: str | None, yes: bool, as_json: bool) -> None:
    """Show a device's host key fingerprint and record the key."""
    from edgeq import workflow
    from edgeq.errors import HostKeyChanged

    key = workflow.host_key(device)
    click.echo(f"{device} has the {key.type} host key {key.fingerprint}", err=True)
    if fingerprint is not None and fingerprint != key.fingerprint:
        raise HostKeyChanged(f"the fingerprint is not {fingerprint}", hint="ask whoever runs the device")
    if fingerprint is None and not yes:
        click.confirm("Is that the fingerprint shown on the device itself?", abort=True, err=True)
    path = workflow.trust(device, key)
    content = {"type": key.type, "fingerprint": key.fingerprint, "recorded": str(path)}
    common.done(f"recorded in {path}", as_json=as_json, **content)
