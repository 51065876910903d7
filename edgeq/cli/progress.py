"""How far a long step is: a bar with time left on a terminal, one line per step elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bars
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from edgeq.types import Progress

if TYPE_CHECKING:
    from edgeq.lab.fleet import Outcome

Told = Callable[["Outcome[Any]"], tuple[str, str]]
"""(ok, no or error; in a few words) of an outcome."""
Ended = Callable[["Outcome[Any]"], None]


@contextmanager
def shown() -> Iterator[Progress]:
    """A Progress callback that shows what it is told."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        yield _bars(bars)


def _bars(bars: Bars) -> Progress:
    tasks: dict[str, TaskID] = {}

    def show(step: str, done: int, total: int) -> None:
        if step not in tasks:
            tasks[step] = bars.add_task(step, total=total)
        bars.update(tasks[step], completed=done, total=total)

    return show


def _lines() -> Progress:
    """A line when a step begins, every ten seconds, and when it ends."""
    last: dict[str, float] = {}

    def show(step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if step in last and done < total and now - last[step] < 10:
            return
        if done >= total:
            last.pop(step, None)
        else:
            last[step] = now
        click.echo(f"{step}: {done}/{total}", err=True)

    return show


@dataclass
class Row:
    """Where one device is; `result` is (ok, no or error; in a few words)."""

    step: str = ""
    done: int = 0
    total: int = 0
    started: float | None = None
    ended: float | None = None
    result: tuple[str, str] | None = None


HOST = "this host"
BAR_CHARACTERS = 16


@contextmanager
def fleet(names: Sequence[str], told: Told) -> Iterator[tuple[Callable[[str], Progress], Ended]]:
    """Progress by device (and HOST), and what hears of outcomes: one live table on a terminal, lines elsewhere."""
    rows = {name: Row() for name in (HOST, *names)}
    if not sys.stderr.isatty():
        yield _fleet_lines(rows, told)
        return
    console = Console(stderr=True)
    with Live(console=console, transient=True, get_renderable=lambda: _fleet_table(rows, console.height)):
        yield _followed(rows), _finished(rows, told)


def _followed(rows: dict[str, Row]) -> Callable[[str], Progress]:
    def of(name: str) -> Progress:
        row = rows[name]
        row.started = time.monotonic()  # of a device: its work begins when its progress is asked for

        def show(step: str, done: int, total: int) -> None:
            row.step, row.done, row.total = step, done, total

        return show

    return of


def _finished(rows: dict[str, Row], told: Told) -> Ended:
    def ended(outcome: Outcome[Any]) -> None:
        row = rows[outcome.device]
        row.result, row.ended = told(outcome), time.monotonic()

    return ended


def _fleet_lines(rows: dict[str, Row], told: Told) -> tuple[Callable[[str], Progress], Ended]:
    """A line when a device begins a step, and when it has ended."""
    writing = threading.Lock()

    def say(text: str) -> None:
        with writing:
            click.echo(text, err=True)

    def of(name: str) -> Progress:
        row = rows[name]

        def show(step: str, done: int, total: int) -> None:  # noqa: ARG001 the Protocol's
            if step != row.step:
                row.step = step
                say(f"{name}: {step}")

        return show

    def ended(outcome: Outcome[Any]) -> None:
        mark, words = told(outcome)
        say(f"{outcome.device}: {mark} after {outcome.seconds:.1f} s{': ' if words else ''}{words}")

    return of, ended


ORDER = {None: 1, "error": 0, "no": 0, "ok": 3}
STYLES = {"ok": "green", "no": "bold red", "error": "bold red"}


def _fleet_table(rows: dict[str, Row], height: int) -> Group:
    """What fits on the terminal, those that failed or are under way first, and how many there are of each."""
    table = Table(box=None, pad_edge=False, expand=True)
    for title in ("device", "step", "", ""):
        table.add_column(title, no_wrap=True)
    table.add_column("result", no_wrap=True, ratio=1, overflow="ellipsis")
    shown = {name: row for name, row in rows.items() if name != HOST or _is_at_work_alone(rows)}
    for name, row in sorted(shown.items(), key=lambda item: _place(item[1]))[: max(1, height - 3)]:
        step = Text(row.step if row.result is None else "")
        table.add_row(Text(name, overflow="ellipsis"), step, _bar(row), _elapsed(row), _mark(row))
    counts = Counter(row.result[0] if row.result else "to do" for name, row in rows.items() if name != HOST)
    return Group(table, Text(", ".join(f"{count} {what}" for what, count in counts.items()), "bold"))


def _is_at_work_alone(rows: dict[str, Row]) -> bool:
    """Whether this host does what is done once for all devices, before any of them begins."""
    begun = any(row.started is not None for name, row in rows.items() if name != HOST)
    return bool(rows[HOST].step) and not begun


def _place(row: Row) -> int:
    waiting = row.result is None and row.started is None
    return 2 if waiting else ORDER[row.result[0] if row.result else None]


def _bar(row: Row) -> ProgressBar | Text:
    if row.result is not None or not row.total:
        return Text(" " * BAR_CHARACTERS)
    return ProgressBar(total=row.total, completed=row.done, width=BAR_CHARACTERS)


def _elapsed(row: Row) -> Text:
    end = time.monotonic() if row.ended is None else row.ended
    return Text("" if row.started is None else f"{end - row.started:.0f} s")


def _mark(row: Row) -> Text:
    if row.result is None:
        return Text("")
    mark, words = row.result
    return Text(f"{mark} {words}", STYLES[mark])
