"""edgeq history."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.cli import common

_filters = common.together(  # named unlike the flags that a project sets: a list is not narrowed unasked
    click.option("--model", "of_model", help="Only of this model."),
    click.option("-t", "--target", "for_target", help="Only for this target."),
    click.option("-d", "--device", "on_device", help="Only on this device."),
    click.option("--label", "with_label", help="Only with this label."),
    click.option("--since", metavar="WHEN", help="Only since then: 2026-11-01, 7d, 12h."),
    click.option("--limit", type=click.IntRange(1, 100_000), default=30, show_default=True,
                 help="At most so many, the newest."),
    click.option("--html", metavar="FILE", type=common.PATH, help="Write p50 over time as HTML."),
)  # fmt: skip


@click.group(
    "history", invoke_without_command=True, short_help="Every run kept on this host or in the team's database."
)
@_filters
@common.as_json
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """List, show, export, label and forget the runs that were kept."""
    common.list_unless_told(ctx, list_command, options)


@command.command("list")
@_filters
@common.as_json
def list_command(
    of_model: str | None,
    for_target: str | None,
    on_device: str | None,
    with_label: str | None,
    since: str | None,
    limit: int,
    html: Path | None,
    as_json: bool,
) -> None:
    """List runs, the newest first."""
    from edgeq import history, workflow
    from edgeq.report import compared

    moment = workflow.since(since) if since else None
    found = history.find(
        model=of_model, target=for_target, device=on_device, label=with_label, since=moment, limit=limit
    )
    if html:
        _plot(html, workflow.plotted(found))
    if as_json:
        common.print_json(compared.runs_json(found))
    elif found:
        common.show(compared.runs(found))
    else:
        common.say("no run was kept that fits", quiet=False)


def _plot(path: Path, found: Any) -> None:
    from edgeq import store
    from edgeq.report import timeline

    store.write_bytes(path, timeline.page(found).encode())
    common.say(f"wrote {path}", quiet=False)


@command.command("show")
@click.argument("name", metavar="ID")
@common.as_json
def show_command(name: str, as_json: bool) -> None:
    """Show one run and its report; ID may be the start of an id."""
    from edgeq import history
    from edgeq.report import compared, json, terminal

    run, report = history.get(name)
    if as_json:
        common.print_json({**json.report(report), "run": compared.run_row(run)})
    else:
        common.show(compared.run_facts(run))
        common.show(terminal.report(report))


@command.command("export")
@click.argument("name", metavar="ID")
@click.argument("folder", metavar="DIR", type=common.PATH)
@common.as_json
def export_command(name: str, folder: Path, as_json: bool) -> None:
    """Write a run's stage files into DIR."""
    from edgeq import workflow

    run, written = workflow.export(name, folder)
    common.done(f"wrote {written[-1]}", as_json=as_json, run=run.id, files=[str(path) for path in written])


@command.command("label")
@click.argument("name", metavar="ID")
@click.argument("labels", metavar="LABEL...", nargs=-1, required=True)
@common.as_json
def label_command(name: str, labels: tuple[str, ...], as_json: bool) -> None:
    """Give a run labels."""
    from edgeq import history

    identity = history.label(name, labels)
    common.done(f"labelled {identity}", as_json=as_json, run=identity, labels=labels)


@command.command("forget")
@click.argument("name", metavar="ID")
@common.as_json
def forget_command(name: str, as_json: bool) -> None:
    """Remove one run from the history."""
    from edgeq import history

    identity = history.forget(name)
    common.done(f"forgot {identity}", as_json=as_json, forgotten=identity)
