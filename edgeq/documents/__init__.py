"""The one place where YAML and JSON files become dataclasses, and YAML is written.

Files are taken as hostile: sizes, depth and numbers are bounded, YAML anchors, aliases, tags and merge
keys are refused, and so are unknown keys, duplicate keys, NaN and infinity. Nothing is coerced: a string
is not a number (an integer is a float). Plain YAML scalars follow the YAML 1.2 core schema.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from edgeq.documents.explain import explain, kind, located
from edgeq.documents.reader import KeyPath, Lines, PathError, parse
from edgeq.documents.writer import write_yaml
from edgeq.errors import EdgeqError

if TYPE_CHECKING:
    from pydantic import TypeAdapter

__all__ = ["KeyPath", "Lines", "PathError", "decode", "load_json", "load_yaml", "located", "read_yaml", "write_yaml"]

T = TypeVar("T")
YAML_LIMIT_BYTES = 1 << 20
JSON_LIMIT_BYTES = 64 << 20


def load_yaml(
    path: Path,
    cls: type[T],
    *,
    error: type[EdgeqError] = EdgeqError,
    transform: Callable[[dict[str, Any]], dict[str, Any]] | None = None,
) -> T:
    """The dataclass in a YAML file; raises `error` with the file and line.

    `transform` gets the plain data before it is checked and may raise PathError or ValueError.
    """
    data, lines = read_yaml(path, error=error)
    try:
        data = transform(data) if transform else data
    except ValueError as problem:
        located_problem = problem if isinstance(problem, PathError) else PathError((), str(problem))
        raise located(error, located_problem, str(path), lines) from problem
    return decode(cls, data, where=str(path), lines=lines, error=error)


def load_json(path: Path, cls: type[T], *, error: type[EdgeqError] = EdgeqError) -> T:
    """The dataclass in a JSON file; raises `error` with the file and key path."""
    text = _read_text(path, JSON_LIMIT_BYTES, error)
    try:
        data = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except json.JSONDecodeError as problem:
        raise error(f"not JSON: {problem.msg}", where=f"{path}:{problem.lineno}") from problem
    except RecursionError as problem:
        raise error("not a stage file: nested too deeply", where=str(path)) from problem
    except ValueError as problem:
        raise error(f"not a stage file: {problem}", where=str(path)) from problem
    return decode(cls, data, where=str(path), error=error)


def decode(
    cls: type[T],
    data: object,
    *,
    where: str,
    lines: Lines | None = None,
    error: type[EdgeqError] = EdgeqError,
) -> T:
    """The dataclass that plain data (as JSON has it) stands for; raises `error`.

    `where` names the file, `lines` the line of each key path in it.
    """
    from pydantic import ValidationError

    if not isinstance(data, dict):
        raise error(f"the top level must be a mapping, got {kind(data)}", where=where)
    try:  # through JSON text, the one form in which pydantic is strict and still takes a list for a tuple
        text = json.dumps(data, allow_nan=False, ensure_ascii=False).encode()
    except (ValueError, TypeError, RecursionError) as problem:
        raise error(f"cannot be used as plain data: {problem}", where=where) from problem
    try:
        return _adapter(cls).validate_json(text, strict=True, extra="forbid")
    except ValidationError as problem:
        raise located(error, explain(cls, problem), where, lines or {}) from problem


_ADAPTERS: dict[type, Any] = {}


def _adapter(cls: type[T]) -> TypeAdapter[T]:
    from pydantic import TypeAdapter

    if cls not in _ADAPTERS:
        _ADAPTERS[cls] = TypeAdapter(cls)
    found: TypeAdapter[T] = _ADAPTERS[cls]
    return found


def read_yaml(path: Path, *, error: type[EdgeqError] = EdgeqError) -> tuple[dict[str, Any], Lines]:
    """Plain data of a YAML file whose top level is a mapping, and the line of each key path; raises `error`."""
    text = _read_text(path, YAML_LIMIT_BYTES, error)
    try:
        data, lines = parse(text)
    except PathError as problem:
        raise located(error, problem, str(path), {}) from problem
    if not isinstance(data, dict):
        raise error(f"the top level must be a mapping, got {kind(data)}", where=str(path))
    return data, lines


def _read_text(path: Path, limit_bytes: int, error: type[EdgeqError]) -> str:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise error("not a regular file", where=str(path))
        with path.open("rb") as stream:
            content = stream.read(limit_bytes + 1)
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", None) or str(problem)
        raise error(f"cannot read: {reason.lower()}", where=str(path)) from problem
    if len(content) > limit_bytes:
        raise error(f"larger than {limit_bytes >> 20} MiB", where=str(path))
    if b"\0" in content:
        raise error("holds NUL bytes: not a text file", where=str(path))
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        line = content.count(b"\n", 0, problem.start) + 1
        raise error("not UTF-8 text", where=f"{path}:{line}") from problem


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"key {key[:200]!r} appears twice")
        found[key] = value
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number that can be used")
