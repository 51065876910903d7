"""What a `dataset.yaml` may say about one input and about labels, whatever the files hold."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from edgeq.documents import KeyPath, PathError
from edgeq.types import InputSpec, LabelSpec

SIDE_LIMIT = 16384


class Rule(NamedTuple):
    """A key, what is wrong with it, and when."""

    key: str
    message: str
    broken: Callable[[InputSpec], bool]


def numbers(value: float | tuple[float, ...] | None) -> tuple[float, ...]:
    """One number or several as a tuple; none where nothing is set."""
    return () if value is None else value if isinstance(value, tuple) else (value,)


def _sizes_refused(spec: InputSpec) -> bool:
    return spec.resize is not None and not all(1 <= side <= SIDE_LIMIT for side in spec.resize)


def _not_axes(spec: InputSpec) -> bool:
    return spec.transpose is not None and sorted(spec.transpose) != list(range(len(spec.transpose)))


_RULES = (
    Rule("", "needs `npz` or `images`", lambda s: s.npz is None and s.images is None),
    Rule("images", "`npz` and `images` cannot stand together", lambda s: s.npz is not None and s.images is not None),
    Rule("npz", "needs `array`, the name of an array in it", lambda s: s.npz is not None and s.array is None),
    Rule("array", "is for `npz`", lambda s: s.images is not None and s.array is not None),
    Rule("list", "is for `images`", lambda s: s.npz is not None and s.list is not None),
    Rule("resize", "is for `images`", lambda s: s.npz is not None and s.resize is not None),
    Rule("color", "is for `images`", lambda s: s.npz is not None and s.color != "rgb"),
    Rule("resize", f"height and width must be 1 to {SIDE_LIMIT}", _sizes_refused),
    Rule("transpose", "must name each axis of a sample once, from 0", _not_axes),
    Rule("scale", "cannot be 0 or empty", lambda s: s.scale == () or 0 in numbers(s.scale)),
    Rule("mean", "cannot be empty", lambda s: s.mean == ()),
    Rule("std", "must be positive", lambda s: s.std == () or any(n <= 0 for n in numbers(s.std))),
)


def check_input(spec: InputSpec, path: KeyPath) -> None:
    """Raises PathError at the key that is wrong."""
    for rule in _RULES:
        if rule.broken(spec):
            raise PathError((*path, rule.key) if rule.key else path, rule.message)


def check_labels(spec: LabelSpec, path: KeyPath) -> None:
    """Raises PathError at the key that is wrong."""
    if (spec.npz is None) == (spec.csv is None):
        raise PathError(path, "needs `npz` with `array`, or `csv` with `column`")
    if (spec.array is None) == (spec.npz is not None) or (spec.column is None) == (spec.csv is not None):
        raise PathError(path, "needs `npz` with `array`, or `csv` with `column`")
    if spec.scale == 0:
        raise PathError((*path, "scale"), "cannot be 0")
    if spec.border < 0:
        raise PathError((*path, "border"), "cannot be negative")
