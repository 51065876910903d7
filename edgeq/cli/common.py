"""What the verbs share: flags that mean the same everywhere, and where output goes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.console import RenderableType

    from edgeq.types import Budgets, Check, Progress, RunSettings
    from edgeq.workflow import Wish

F = TypeVar("F", bound=Callable[..., Any])


class Refusal(click.ClickException):
    """The answer is no: it does not fit, a gate was missed, parity failed. Of many devices: the gravest code."""

    exit_code = 3

    def __init__(self, code: int = 3) -> None:
        super().__init__("")
        self.code = code


class Size(click.ParamType[int]):
    """A size such as `64 KiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from edgeq.units import parse_size

        try:
            return parse_size(int(value) if str(value).isdecimal() else value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class SizeLimit(Size):
    """A size above 0: nothing fits into none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        size_bytes = super().convert(value, param, ctx)
        if size_bytes == 0:
            self.fail("a limit of 0 bytes holds nothing; write a size above 0 or leave the flag out", param, ctx)
        return size_bytes


class Cpus(click.ParamType[tuple[int, ...]]):
    """CPU numbers such as `2,3` or `0-3`."""

    name = "cpus"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(number for part in str(value).split(",") for number in _cpu_range(part))
        except ValueError:
            self.fail(f"{value!r} is not a list of CPU numbers; write 2,3 or 0-3", param, ctx)


def _cpu_range(part: str) -> range:
    first, _, last = part.partition("-")
    lowest, highest = int(first), int(last or first)
    if not 0 <= highest - lowest < 1024:
        raise ValueError(part)
    return range(lowest, highest + 1)


def _flag(*names: str, **settings: Any) -> Callable[[F], F]:
    """An option that the environment may set too: EDGEQ_<NAME>."""
    long = next(name for name in names if name.startswith("--"))
    settings.setdefault("envvar", "EDGEQ_" + long.split("/")[0].strip("-").replace("-", "_").upper())
    return click.option(*names, **settings)


def together(*decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Several decorators as one, the first on top."""

    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


PATH = click.Path(path_type=Path)
MOST_WORKERS = 4
POSITIVE = click.FloatRange(min=0, min_open=True)

model_argument = click.argument("model", type=PATH)
bundle_argument = click.argument("bundle", type=PATH)
target = _flag("-t", "--target", required=True, help="A profile's name or a YAML file.")
optional_target = _flag("-t", "--target", help="A profile's name or a YAML file.")
devices = _flag("-d", "--device", required=True, multiple=True,
                help="A device's name, local:, ssh://user@host:port or serial:///dev/ttyACM0; several times for "
                     "several; a group; all.",
)  # fmt: skip
wait = _flag("--wait", type=click.FloatRange(0, 86_400), default=0.0, show_default=True,
             help="Wait so many seconds for a device that somebody else is using.",
)  # fmt: skip
provision = click.option("--provision", is_flag=True,
                         help="Give a device without a working runtime one of its own; this host sends the wheels.",
)  # fmt: skip
data = _flag("--data", required=True, help="dataset.yaml, an .npz keyed by input name, or script.py:function.")
output = _flag("-o", "--output", type=PATH, help="Folder for stage files (default: build/<model>/<target>).")
as_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout.")
resume = click.option("--resume", is_flag=True, help="Keep finished stages whose inputs have not changed.")
talk = together(
    click.option("-v", "--verbose", is_flag=True, help="Show more."),
    click.option("-q", "--quiet", is_flag=True, help="Show only errors."),
)
budgets = together(
    _flag("--max-drop", type=click.FloatRange(min=0), help="Largest accepted loss, in the metric's unit."),
    _flag("--min-sqnr-db", type=click.FloatRange(0, 200), help="Smallest accepted SQNR of the outputs to float's."),
    _flag("--max-latency-ms", type=POSITIVE, help="Largest accepted p50 latency."),
    _flag("--max-flash", type=SizeLimit(), help="Largest accepted file, such as '512 KiB'."),
    _flag("--max-ram", type=SizeLimit(), help="Largest accepted memory, such as '64 MiB'."),
    _flag("--max-energy-mj", type=POSITIVE, help="Largest accepted energy per inference."),
)  # fmt: skip
wishes = together(
    _flag("--prefer", type=click.Choice(["latency", "memory", "accuracy"]), default="latency", show_default=True,
          help="What to be good at first."),
    _flag("--scheme", help="Use this quantization scheme only, such as static_wi8_ai8."),
    budgets,
)  # fmt: skip
workers = _flag("--workers", type=click.IntRange(1, 64), default=lambda: min(os.cpu_count() or 1, MOST_WORKERS),
                help="Schemes tried at the same time when the first does not hold (default: the cores, at most 4).",
)  # fmt: skip
converting = together(model_argument, target, data, output, wishes, workers, resume)
measuring = together(
    _flag("--runs", type=click.IntRange(1, 1_000_000), default=50, show_default=True, help="At least so many runs."),
    _flag("--seconds", type=click.FloatRange(0, 86_400), default=1.0, show_default=True,
          help="At least so long."),
    _flag("--warmup-seconds", type=click.FloatRange(0, 3_600), default=0.5, show_default=True,
          help="Warm up so long before the runs that count."),
    _flag("--sustained", "sustained_minutes", metavar="MINUTES", type=click.FloatRange(0, 10_080, min_open=True),
          help="Go on for so many minutes to see whether the device keeps its pace."),
    click.option("--operators", is_flag=True, help="Ask the interpreter's own profiler what each operator takes."),
    click.option("--no-float", is_flag=True, help="Do not measure the float model beside the quantized one."),
    _flag("--threads", type=click.IntRange(1, 1024), help="Threads of the runtime (default: 1)."),
    _flag("--cpus", type=Cpus(), default=(), help="Pin to these CPUs, such as 2,3."),
    _flag("--timeout-seconds", type=POSITIVE, default=600.0, show_default=True, help="Give up after so long."),
)  # fmt: skip


def conversion_of(options: dict[str, Any]) -> dict[str, Any]:
    """What to convert, for what and how, from the flags of `converting`."""
    names = ("model", "target", "data", "output", "resume")
    return {**{name: options[name] for name in names}, "wish": wish_of(options)}


def wish_of(options: dict[str, Any]) -> Wish:
    """What the user asks of a conversion, from the flags of `wishes`."""
    from edgeq.workflow import Wish

    return Wish(
        prefer=options["prefer"],
        scheme=options["scheme"],
        budgets=budgets_of(options),
        workers=options.get("workers", 1),
    )


def budgets_of(options: dict[str, Any]) -> Budgets:
    """The limits the user set."""
    from edgeq.types import Budgets

    return Budgets(
        max_drop=options["max_drop"],
        min_sqnr_db=options["min_sqnr_db"],
        max_latency_ms=options["max_latency_ms"],
        max_flash_bytes=options["max_flash"],
        max_ram_bytes=options["max_ram"],
        max_energy_mj=options["max_energy_mj"],
    )


def settings_of(options: dict[str, Any]) -> RunSettings:
    """How to measure, from the flags of `measuring`."""
    from edgeq.types import RunSettings

    timing = ("runs", "seconds", "warmup_seconds", "timeout_seconds", "sustained_minutes")
    others = ("threads", "cpus", "operators")
    chosen = {name: options[name] for name in (*timing, *others)}
    return RunSettings(**chosen, compare_float=not options["no_float"])


def list_unless_told(ctx: click.Context, listing: click.Command, options: dict[str, Any]) -> None:
    """A group without a subcommand lists, with the flags that it was given."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(listing, **options)


def print_json(document: dict[str, Any]) -> None:
    """One document on stdout; NaN never gets into it."""
    click.echo(json.dumps(document, indent=2, allow_nan=False))


def done(text: str, *, as_json: bool, **document: object) -> None:
    """Say what was done: one line on stderr, or the document that `--json` asks for."""
    from edgeq.report import json

    if as_json:
        print_json(json.document(**document))
    else:
        say(text, quiet=False)


def show(renderable: RenderableType, *, to_stderr: bool = False) -> None:
    """A table for people; rich honours NO_COLOR."""
    from rich.console import Console

    console = Console(stderr=to_stderr)
    if not console.is_terminal:
        console = Console(stderr=to_stderr, width=160)
    console.print(renderable, soft_wrap=not console.is_terminal)


def warning(check: Check) -> str:
    """A finding that stops nothing, with what mends it, as an error would be shown."""
    return f"warning: {check.why}" + (f"\n  hint: {check.hint}" if check.hint else "")


def say(text: str, quiet: bool) -> None:
    """One line on stderr."""
    if not quiet:
        click.echo(text, err=True)


def warn(text: str) -> None:
    """A warning on stderr, however quiet."""
    click.echo(f"warning: {text}", err=True)


@contextmanager
def progress(quiet: bool) -> Iterator[Progress]:
    """Progress of long steps on stderr: bars on a terminal, lines elsewhere."""
    from edgeq.cli import progress as display
    from edgeq.types import silent

    if quiet:
        yield silent
        return
    with display.shown() as callback:
        yield callback
