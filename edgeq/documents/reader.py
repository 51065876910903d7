"""YAML text to plain data and line numbers, with nothing constructed that was not asked for."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

KeyPath = tuple["str | int", ...]
Lines = Mapping[KeyPath, int]

DEPTH_LIMIT = 32
VALUE_LIMIT = 100_000
KEY_LIMIT_CHARACTERS = 200
_INTEGER_LIMIT = 1 << 63

_CONSTANTS: dict[str, bool | None] = {"": None, "~": None, "null": None, "Null": None, "NULL": None}
_CONSTANTS |= {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INTEGERS = (
    (re.compile(r"[-+]?[0-9]{1,40}"), 10),
    (re.compile(r"0o[0-7]{1,40}"), 8),
    (re.compile(r"0x[0-9a-fA-F]{1,40}"), 16),
)
_FLOAT = re.compile(r"[-+]?(\.[0-9]{1,400}|[0-9]{1,400}(\.[0-9]{0,400})?)([eE][-+]?[0-9]{1,4})?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class PathError(ValueError):
    """What is wrong with the value at a key path; `line` where it is known."""

    def __init__(self, path: KeyPath, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.path = path
        self.line = line


def parse(text: str) -> tuple[Any, dict[KeyPath, int]]:
    """Plain data of the only YAML document (None if empty) and the line of each key path; raises PathError."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    lines: dict[KeyPath, int] = {}
    try:
        return _document(YAML(typ="safe", pure=True).parse(text), lines), lines
    except PathError:
        raise
    except MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        line = mark.line + 1 if mark else None
        raise PathError((), f"not YAML: {problem.problem or problem.context}", line) from problem
    except (YAMLError, ValueError) as problem:
        reason = getattr(problem, "reason", None) or str(problem)
        raise PathError((), f"not YAML: {reason.strip().splitlines()[0][:200]}") from problem


def _document(events: Iterator[Any], lines: dict[KeyPath, int]) -> Any:
    next(events)  # stream start
    if _name(next(events)) == "StreamEnd":
        return None
    value = _value(next(events), (), events, lines)
    next(events)  # document end
    extra = next(events)
    if _name(extra) != "StreamEnd":
        _refuse(extra, (), "only one document is allowed")
    return value


def _name(event: Any) -> str:
    return type(event).__name__.removesuffix("Event")


def _refuse(event: Any, path: KeyPath, message: str) -> NoReturn:
    raise PathError(path, message, event.start_mark.line + 1)


def _value(event: Any, path: KeyPath, events: Iterator[Any], lines: dict[KeyPath, int]) -> Any:
    lines.setdefault(path, event.start_mark.line + 1)
    if event.anchor is not None:  # aliases carry their anchor's name
        _refuse(event, path, "anchors and aliases are not allowed")
    if event.tag is not None:
        _refuse(event, path, "tags are not allowed")
    if len(lines) > VALUE_LIMIT:
        _refuse(event, path[:1], f"more than {VALUE_LIMIT} values")
    if len(path) > DEPTH_LIMIT:
        _refuse(event, path[:1], f"nested more than {DEPTH_LIMIT} deep")
    if _name(event) == "MappingStart":
        return _mapping(path, events, lines)
    if _name(event) == "SequenceStart":
        return _sequence(path, events, lines)
    return _scalar(event, path)


def _mapping(path: KeyPath, events: Iterator[Any], lines: dict[KeyPath, int]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while _name(event := next(events)) != "MappingEnd":
        key = _key(event, path)
        if key in found:
            _refuse(event, (*path, key), "appears twice")
        lines[(*path, key)] = event.start_mark.line + 1
        found[key] = _value(next(events), (*path, key), events, lines)
    return found


def _key(event: Any, path: KeyPath) -> str:
    if _name(event) != "Scalar" or event.anchor is not None or event.tag is not None:
        _refuse(event, path, "a key must be a plain word, without anchor or tag")
    if event.value == "<<":
        _refuse(event, path, "merge keys are not allowed")
    if len(event.value) > KEY_LIMIT_CHARACTERS:
        _refuse(event, path, "a key is too long")
    return str(event.value)


def _sequence(path: KeyPath, events: Iterator[Any], lines: dict[KeyPath, int]) -> list[Any]:
    found: list[Any] = []
    while _name(event := next(events)) != "SequenceEnd":
        found.append(_value(event, (*path, len(found)), events, lines))
    return found


def _scalar(event: Any, path: KeyPath) -> Any:
    if not event.implicit[0]:
        return str(event.value)
    try:
        return _plain(event.value)
    except ValueError as problem:
        _refuse(event, path, str(problem))


def _plain(text: str) -> Any:
    """Value of a plain scalar by the YAML 1.2 core schema (`yes`, `0:100`, `1_000` and dates are strings)."""
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    for pattern, base in _INTEGERS:
        if pattern.fullmatch(text):
            return _bounded(int(text, base))
    if _NOT_FINITE.fullmatch(text):
        raise ValueError(f"{text} is not a number that can be used")
    if not _FLOAT.fullmatch(text):
        return text
    if not math.isfinite(float(text)):
        raise ValueError("a number is too large")
    return float(text)


def _bounded(number: int) -> int:
    if abs(number) >= _INTEGER_LIMIT:
        raise ValueError("a number is too large")
    return number
