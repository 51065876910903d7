"""Nested mappings of scalars to YAML text, atomically."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edgeq.errors import OutputError

_NOT_PLAIN = re.compile(r"(?i:null|true|false)")


def write_yaml(path: Path, data: Mapping[str, Any], *, comment: str = "") -> None:
    """Write nested mappings of scalars and lists as YAML, atomically, readable by the owner only; raises OutputError.

    Strings are always quoted, so that no reader takes one for something else. A symbolic link is followed.
    """
    text = "".join(f"# {line}\n" for line in comment.splitlines()) + "".join(_emit(data, 0))
    real = Path(os.path.realpath(path))
    try:
        real.parent.mkdir(parents=True, exist_ok=True)
        _replace(real, text.encode())
    except OSError as problem:
        reason = (problem.strerror or str(problem)).lower()
        raise OutputError(f"cannot write: {reason}", where=str(path)) from problem


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:100]}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        Path(name).replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            Path(name).unlink()


def _emit(data: Mapping[str, Any], depth: int) -> Iterator[str]:
    for key, value in data.items():
        start = "  " * depth + _quoted(key) + ":"
        if isinstance(value, Mapping) and value:
            yield start + "\n"
            yield from _emit(value, depth + 1)
        else:
            yield f"{start} {_scalar_text(value)}\n"


def _scalar_text(value: object) -> str:
    if isinstance(value, str):
        return _quoted(value, plain=False)
    if value is None or isinstance(value, (bool, int)) or value == {}:
        return json.dumps(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_scalar_text, value)) + "]"
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    raise TypeError(f"cannot be written as YAML: {type(value).__name__}")


def _quoted(text: str, *, plain: bool = True) -> str:
    if plain and re.fullmatch(r"[A-Za-z_][A-Za-z0-9_-]*", text) and not _NOT_PLAIN.fullmatch(text):
        return text
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'
