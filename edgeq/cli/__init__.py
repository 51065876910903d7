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
    defaults,
    deploy,
    devices,
    doctor,
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

EXIT_CODES: tuple[tuple[type[errors.EdgeqError], int], ...] = (
    (errors.UsageError, 2),
    (errors.CompilerRefused, 3),
    (errors.AtChance, 3),
    (errors.Unreachable, 4),
    (errors.Disconnected, 4),
    (errors.TimedOut, 4),
    (errors.EdgeqError, 1),
)
INTERRUPTED = 130
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
    except Refusal:
        sys.exit(3)
    except errors.EdgeqError as error:
        _show(error, as_json="--json" in sys.argv)
        sys.exit(next(code for kind, code in EXIT_CODES if isinstance(error, kind)))
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
    lines = [f"error: {_one_line(error.message)}"]
    lines += [f"  --> {_one_line(error.where)}"] if error.where else []
    lines += [f"  hint: {_one_line(error.hint)}"] if error.hint else []
    click.echo("\n".join(lines), err=True)
    if as_json:
        entry = {"kind": type(error).__name__, "message": error.message, "where": error.where, "hint": error.hint}
        print_json({"schema_version": 1, "error": entry})


def _one_line(text: str) -> str:
    """Text that may come from a file or a device: one line, no control characters, not endless."""
    line = " ".join(text.split())
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= 600 else line[:600] + " ..."
