"""What the verbs show of several devices: one live table, one document, one exit code."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from rich.text import Text

from edgeq.cli import common, exits

if TYPE_CHECKING:
    from edgeq.lab.fleet import Outcome
    from edgeq.types import Report
    from edgeq.workflow import Watch

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Shape(Generic[T]):
    """How a verb tells of one device: its key and content in JSON, whether all holds, in a few words."""

    key: str
    plain: Callable[[T], Any]
    ok: Callable[[T], bool]
    words: Callable[[T], str]


def report_shape() -> Shape[Report]:
    """Of `profile` and `run`."""
    from edgeq.report import json

    return Shape(key="report", plain=json.report, ok=lambda found: found.verdict.ok, words=_measured)


def _measured(found: Report) -> str:
    from edgeq.units import format_ms

    measured = found.measurement
    missed = ", ".join(dict.fromkeys(check.rule for check in found.verdict.checks if not check.ok))
    told = [f"does not hold: {missed}"] if missed else []
    if measured is not None and measured.latency_ms is not None:
        told.append(f"p50 {format_ms(measured.latency_ms.p50)}, p99 {format_ms(measured.latency_ms.p99)}")
    if measured is not None and measured.parity is not None:
        told.append("parity exact" if measured.parity.exact else f"parity {measured.parity.max_steps:.3g} steps")
    return ", ".join(told)


@contextmanager
def watching(chosen: Sequence[str], shape: Shape[Any], quiet: bool) -> Iterator[Watch]:
    """A Watch that shows every device's progress; warnings come once each, at the end."""
    from edgeq import devices, workflow
    from edgeq.cli import progress

    warnings: dict[str, None] = {}
    try:
        if quiet:
            yield workflow.Watch(warn=warnings.setdefault)
            return
        with progress.fleet(devices.expand(chosen), lambda outcome: _result(outcome, shape)) as (of, ended):
            yield workflow.Watch(host=of(progress.HOST), progress=of, ended=ended, warn=warnings.setdefault)
    finally:
        for text in warnings:
            common.warn(text)


def code_of(outcome: Outcome[T], shape: Shape[T]) -> int:
    """The exit code that one device alone would have."""
    if outcome.error is not None:
        return exits.code_of(outcome.error)
    return exits.DONE if outcome.result is not None and shape.ok(outcome.result) else exits.REFUSED


def finish(outcomes: Sequence[Outcome[T]], shape: Shape[T], *, as_json: bool, quiet: bool) -> None:
    """Show how all devices ended; raises Refusal with the gravest of their exit codes."""
    code = exits.gravest(code_of(outcome, shape) for outcome in outcomes)
    if as_json:
        common.print_json(document(outcomes, shape, code))
    elif not quiet:
        common.show(_table(outcomes, shape))
    if not as_json:
        _say_errors(outcomes)
    if code:
        raise common.Refusal(code)


def document(outcomes: Sequence[Outcome[T]], shape: Shape[T], code: int) -> dict[str, Any]:
    """Every device with what one device alone would print, or its error."""
    from edgeq.report import json

    entries = [_entry(outcome, shape) for outcome in outcomes]
    good = sum(bool(entry["ok"]) for entry in entries)
    return json.document(devices=entries, ok=good == len(entries), succeeded=good, exit_code=code)


def _entry(outcome: Outcome[T], shape: Shape[T]) -> dict[str, Any]:
    code = code_of(outcome, shape)
    own: dict[str, Any] = {"device": outcome.device, "ok": code == exits.DONE, "seconds": round(outcome.seconds, 3)}
    error = outcome.error
    if error is None:
        return {**own, shape.key: None if outcome.result is None else shape.plain(outcome.result)}
    kind = type(error).__name__
    told = {"type": kind, "kind": kind, "message": error.message, "where": error.where, "hint": error.hint}
    return {**own, "error": {**told, "exit_code": code}}


def _result(outcome: Outcome[T], shape: Shape[T]) -> tuple[str, str]:
    """(ok, no or error; what of it) in one line."""
    if outcome.error is not None:
        return "error", exits.one_line(outcome.error.message)
    words = "" if outcome.result is None else shape.words(outcome.result)
    return ("ok" if code_of(outcome, shape) == exits.DONE else "no"), words


def _table(outcomes: Sequence[Outcome[T]], shape: Shape[T]) -> Any:
    from edgeq.report import terminal

    styles = {"ok": "green", "no": "bold red", "error": "bold red"}
    rows = []
    for outcome in outcomes:
        mark, words = _result(outcome, shape)
        rows.append((Text(mark, styles[mark]), outcome.device, f"{outcome.seconds:.1f} s", words))
    return terminal.table(None, ("", "device", "took", "result"), rows)


def _say_errors(outcomes: Sequence[Outcome[T]]) -> None:
    """One `error:` line for each device that failed, with its hint."""
    for outcome in outcomes:
        if outcome.error is not None:
            common.say("\n".join(exits.lines(outcome.error, prefix=f"{outcome.device}: ")), quiet=False)
