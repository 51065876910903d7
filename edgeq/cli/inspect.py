"""edgeq inspect."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import common


@click.command("inspect", short_help="Operators, shapes, parameters, MACs, memory of a model.")
@common.model_argument
@common.as_json
def command(model: Path, as_json: bool) -> None:
    """Show operators, data types, shapes, parameters, MACs, weight bytes, peak activation bytes, inputs and outputs."""
    import tempfile

    from edgeq import workflow
    from edgeq.report import json, terminal

    with tempfile.TemporaryDirectory(prefix="edgeq-inspect-") as folder:
        graph = workflow.read_model(model, Path(folder))
    if as_json:
        common.print_json(json.inspect(graph))
    else:
        common.show(terminal.inspect(graph))
