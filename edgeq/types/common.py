"""Words that all of them use."""

from __future__ import annotations

from collections.abc import Callable

Shape = tuple[int, ...]
Attribute = bool | int | float | str | list[int] | list[float] | list[str] | None
Progress = Callable[[str, int, int], None]
"""`progress(step, done, total)`: how far a named step is."""


def silent(step: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""
