"""Which error becomes which exit code; the only place that knows."""

from __future__ import annotations

from collections.abc import Iterable

from edgeq import errors

DONE = 0
REFUSED = 3
INTERRUPTED = 130
EXIT_CODES: tuple[tuple[type[errors.EdgeqError], int], ...] = (
    (errors.UsageError, 2),
    (errors.CompilerRefused, REFUSED),
    (errors.AtChance, REFUSED),
    (errors.Unreachable, 4),
    (errors.DeviceBusy, 4),
    (errors.Disconnected, 4),
    (errors.TimedOut, 4),
    (errors.EdgeqError, 1),
)
SEVERITY = (1, 2, 4, REFUSED, DONE)
"""The gravest first: something is broken, misused, out of reach, not good enough, fine."""


def code_of(error: errors.EdgeqError) -> int:
    """The exit code of one error."""
    return next(code for kind, code in EXIT_CODES if isinstance(error, kind))


def gravest(codes: Iterable[int]) -> int:
    """The exit code for many devices."""
    return min(codes, key=SEVERITY.index, default=DONE)


def lines(error: errors.EdgeqError, prefix: str = "") -> list[str]:
    """One `error:` line, `-->` where, at most one hint."""
    message = one_line(error.message)
    found = [f"error: {message if message.startswith(prefix) else prefix + message}"]
    found += [f"  --> {one_line(error.where)}"] if error.where else []
    return found + ([f"  hint: {one_line(error.hint)}"] if error.hint else [])


def one_line(text: str) -> str:
    """Text that may come from a file or a device: one line, no control characters, not endless."""
    line = " ".join(text.split())
    line = "".join(char if char.isprintable() else "?" for char in line)
    return line if len(line) <= 600 else line[:600] + " ..."
