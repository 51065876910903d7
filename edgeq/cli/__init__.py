"""The command line: one file per verb. Errors become exit codes here and nowhere else.

0 done, 1 an error, 2 usage, 3 the answer is no, 4 the device cannot be reached or trusted, 130 Ctrl-C.
"""

from __future__ import annotations

import io
import os
import signal
import sys
from pathlib import Path

import click

from edgeq import __version__, errors
from edgeq.cli import (
    analyze,
    build,
    compare,
    defaults,
    deploy,
    devices,
    doctor,
    exits,
    history,
    inspect,
    plan,
    profile,
    quantize,
    report,
    run,
    targets,
    tools,
    validate,
)
from edgeq.cli.common import Refusal, print_json
from edgeq.cli.exits import EXIT_CODES as EXIT_CODES
from edgeq.cli.exits import INTERRUPTED

PROJECT_FILE = Path("edgeq.yaml")
"""Defaults of flags for the project in this folder; the environment and flags beat it."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="edgeq")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """A float model goes in, an INT8 deployment measured on the device comes out."""
    if PROJECT_FILE.is_file():
        ctx.default_map = defaults.load(PROJECT_FILE, cli)


for verb in (
    inspect,
    targets,
    plan,
    quantize,
    analyze,
    build,
    deploy,
    profile,
    validate,
    run,
    report,
    compare,
    history,
    devices,
    tools,
    doctor,
):
    cli.add_command(verb.command)


def main() -> None:
    """Entry point of the program: runs the command line and exits."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that a kill cleans up as Ctrl-C does
    # NumPy's threads wait by spinning and take the cores from onnxruntime's: corrections took twice as long.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")  # a tensor's name must not end a table in an ASCII locale
    try:
        sys.exit(cli.main(prog_name="edgeq", standalone_mode=False))
    except Refusal as refusal:
        sys.exit(refusal.code)
    except errors.EdgeqError as error:
        _show(error, as_json="--json" in sys.argv)
        sys.exit(exits.code_of(error))
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at exit
        sys.exit(1)


def _show(error: errors.EdgeqError, *, as_json: bool) -> None:
    """One `error:` line, `-->` where, at most one hint; as a document too for scripts."""
    click.echo("\n".join(exits.lines(error)), err=True)
    if as_json:
        entry = {"kind": type(error).__name__, "message": error.message, "where": error.where, "hint": error.hint}
        print_json({"schema_version": 1, "error": entry})
