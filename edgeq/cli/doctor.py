"""edgeq doctor."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import common


@click.command("doctor", short_help="Is this host ready; are these samples fit to calibrate.")
@click.argument("model", type=common.PATH, required=False)
@click.option("--data", help="Examine this dataset with the model as the judge, instead of this host.")
@common.as_json
@common.talk
def command(model: Path | None, data: str | None, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Check this host: Python, runtimes, quantizers, SSH, disk. Exit code 3 when something needed is missing.

    With MODEL and --data: examine the samples, their preparation and their labels before anything is converted. Exit
    code 3 when a conversion would make no sense.
    """
    if (model is None) != (data is None):
        raise click.UsageError("a dataset is examined with the model that takes it: edgeq doctor MODEL --data DATASET")
    if model is None or data is None:
        _host(as_json, quiet)
    else:
        _samples(model, data, as_json, quiet, verbose)


def _host(as_json: bool, quiet: bool) -> None:
    from edgeq import workflow
    from edgeq.report import json, terminal

    checks = workflow.doctor()
    ok = all(check.ok for check in checks if check.rule == "needed")
    if as_json:
        common.print_json(json.document(ok=ok, checks=checks))
    elif not quiet or not ok:
        common.show(terminal.checks(None, checks))
    if not ok:
        raise common.Refusal


def _samples(model: Path, data: str, as_json: bool, quiet: bool, verbose: bool) -> None:
    from edgeq import workflow
    from edgeq.report import json, terminal

    with common.progress(quiet) as progress:
        found = workflow.diagnose(model, data, progress=progress)
    ok = not any(finding.severity == "stop" for finding in found.findings)
    if as_json:
        common.print_json(json.document(ok=ok, **json.plain(found)))
    elif not quiet or found.findings:
        common.show(terminal.diagnosis(found.findings, found.calibration, found.scored, evidence=verbose))
    if not ok:
        raise common.Refusal
