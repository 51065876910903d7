"""edgeq inspect."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import common


@click.command("inspect", short_help="Operators, shapes, parameters, MACs, memory of a model.")
@common.model_argument
@common.as_json
@common.talk
def command(model: Path, as_json: bool, quiet: bool, verbose: bool) -> None:
    """Show operators, data types, shapes, parameters, MACs, weight bytes, peak activation bytes, inputs and outputs."""
    import tempfile

    from edgeq import workflow
    from edgeq.report import json, terminal

    with tempfile.TemporaryDirectory(prefix="edgeq-inspect-") as folder:
        graph = workflow.read_model(model, Path(folder))
    if as_json:
        common.print_json(json.inspect(graph))
    elif not quiet:
        common.show(terminal.inspect(graph, every_operator=verbose))
