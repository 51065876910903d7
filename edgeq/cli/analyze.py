"""edgeq analyze."""

from __future__ import annotations

from pathlib import Path

import click

from edgeq.cli import common


@click.command("analyze", short_help="What quantization costs, operator by operator, and which step is guilty.")
@common.model_argument
@common.optional_target
@common.data
@click.option("--quantized", type=common.PATH, help="The quantized model to analyse (default: the one of quantize).")
@click.option("--prepared", type=common.PATH, help="The float model that was quantized (default: prepared anew).")
@common.output
@click.option(
    "--samples",
    type=click.IntRange(1, 1_000_000),
    default=16,
    show_default=True,
    help="Analyse so many scoring samples, evenly spread.",
)
@common.as_json
@common.talk
def command(
    model: Path,
    target: str | None,
    data: str,
    quantized: Path | None,
    prepared: Path | None,
    output: Path | None,
    samples: int,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Measure what quantization costs in each operator, and name the operator and the step that go wrong.

    MODEL is the float model. Writes analysis.json and analysis.html.
    """
    from edgeq import workflow
    from edgeq.cli import quantize
    from edgeq.report import analysis, json

    with common.progress(quiet) as progress:
        found = workflow.analyze(
            model,
            data,
            target=target,
            quantized=quantized,
            prepared=prepared,
            output=output,
            samples=samples,
            progress=progress,
        )
    if isinstance(found, workflow.Refused):
        quantize.refuse(found, as_json=as_json)
        return
    if as_json:
        common.print_json(json.plain(found.analysis))
    elif not quiet:
        common.show(analysis.terminal(found.analysis, every_operator=verbose))
    common.say(f"report: {found.folder / 'analysis.html'}", quiet)
