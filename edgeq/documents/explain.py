"""What is wrong with a value, where, and what would be right."""

from __future__ import annotations

import difflib
import functools
import types
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any

from edgeq.documents.reader import KeyPath, Lines, PathError
from edgeq.errors import EdgeqError

if TYPE_CHECKING:
    from pydantic import ValidationError

_WORDS = {
    "dataclass_type": "should be a mapping",
    "dict_type": "should be a mapping",
    "tuple_type": "should be a list",
    "list_type": "should be a list",
    "missing": "is missing",
    "string_type": "should be text",
    "int_type": "should be a whole number",
    "int_parsing": "should be a whole number",
    "float_type": "should be a number",
    "bool_type": "should be true or false",
    "none_required": "should be left out",
}
_UNKNOWN_KEY = ("extra_forbidden", "unexpected_keyword_argument")


def show(path: KeyPath) -> str:
    """`runtimes[0].name` for a key path."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def located(
    error: type[EdgeqError], problem: PathError, where: str, lines: Lines, hint: str | None = None
) -> EdgeqError:
    """The problem as an `error` at its line, or at the line of the nearest mapping around it."""
    path = problem.path
    known = (lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in lines)
    line = problem.line or next(known, None)
    message = f"{show(path)}: {problem}" if path else str(problem)
    return error(message, where=f"{where}:{line}" if line else where, hint=hint)


def explain(cls: type[object], problem: ValidationError) -> PathError:
    """The first thing that is wrong, and how many more there are."""
    found = [(_key_path(cls, item["loc"]), item) for item in problem.errors(include_url=False, include_context=True)]
    around = found[0][0]  # a union complains once for each member: the member that got deepest was meant
    place, first = max((one for one in found if one[0][: len(around)] == around), key=lambda one: len(one[0]))
    if first["type"] in _UNKNOWN_KEY or first["type"] == "missing":
        message = _WORDS["missing"] if first["type"] == "missing" else _unknown(cls, place)
    else:
        words = dict.fromkeys(_words(item) for path, item in found if path == place)
        message = " or ".join(words) + f", got {kind(first['input'])}"
    others = len({path for path, _ in found} - {place[:length] for length in range(len(around), len(place) + 1)})
    return PathError(place, message + (f" (and {others} more)" if others else ""))


def _words(item: Any) -> str:
    if item["type"] == "literal_error":
        return f"should be {item['ctx']['expected']}"
    text: str = item["msg"][0].lower() + item["msg"][1:]
    return _WORDS.get(item["type"], text.replace("input should", "should"))


def _key_path(cls: type[object], location: tuple[int | str, ...]) -> KeyPath:
    """A pydantic location without the steps that name a member of a union or a mapping's key."""
    path: list[int | str] = []
    hint: object = cls
    for step in location:
        inner = None if step == "[key]" else _inner(hint, step)
        if inner is None:
            continue
        path.append(step)
        hint = inner
    return tuple(path)


def _inner(hint: object, step: int | str) -> object | None:
    """Type of the value under one step; None if the type has no such place."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return next(filter(None, (_inner(member, step) for member in typing.get_args(hint))), None)
    if is_dataclass(hint) and isinstance(hint, type):
        return _hints(hint).get(str(step), object) if isinstance(step, str) else None
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (dict, Mapping):
        return typing.cast(object, arguments[1]) if isinstance(step, str) else None
    if origin in (tuple, list) and isinstance(step, int):
        return typing.cast(object, arguments[0 if arguments[-1] is Ellipsis else min(step, len(arguments) - 1)])
    return None


@functools.lru_cache(maxsize=128)
def _hints(cls: type[object]) -> dict[str, object]:
    return typing.get_type_hints(cls)


def _unknown(cls: type[object], path: KeyPath) -> str:
    hint: object = cls
    for step in path[:-1]:
        hint = _inner(hint, step)
    known = [name for member in (hint, *typing.get_args(hint)) if is_dataclass(member) for name in _names(member)]
    close = difflib.get_close_matches(str(path[-1])[:200], known, n=1)
    return f"unknown key; did you mean {close[0]!r}?" if close else f"unknown key; known are {', '.join(known)}"


def _names(cls: Any) -> list[str]:
    return [item.name for item in fields(cls)]


def kind(value: object) -> str:
    """A value as an error message names it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if value is None:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
