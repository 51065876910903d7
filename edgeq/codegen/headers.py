"""The C sources that generated code needs, and the parameter structs that their header declares."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

HEADER = "eq_kernels.h"
_STRUCT = re.compile(r"typedef struct \{(.*?)\}\s*(\w+);", re.DOTALL)
_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DEFINED = re.compile(r"^(?!static\b)[A-Za-z_][\w \*]*?\b(eq_\w+)\((?=[^;{]*\{)", re.MULTILINE)
_TABLE = re.compile(r"^const \w+ (eq_\w+)\[\w*\] = ", re.MULTILINE)
_NAME = re.compile(r"\beq_\w+")
_INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
LIMITS = {
    f"{sign}int{bits}_t": (0 if sign else -(1 << bits - 1), (1 << bits - (0 if sign else 1)) - 1)
    for sign in ("", "u")
    for bits in (8, 16, 32)
}
"""Smallest and largest value of each integer type."""


class Field(NamedTuple):
    """One field of a struct: its C type, whether it is a pointer, the length of an array (0: none)."""

    type: str
    is_pointer: bool
    length: int


def folder() -> Path:
    """Where the C sources are: in the installed package, or in the checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "_data" / "firmware_helpers"
    return installed if installed.is_dir() else package.parent / "firmware_helpers"


@functools.cache
def structs() -> Mapping[str, Mapping[str, Field]]:
    """The parameter structs by name, their fields in order."""
    text = _COMMENT.sub("", (folder() / "kernels" / HEADER).read_text())
    return {name: dict(_fields(body)) for body, name in _STRUCT.findall(text)}


def size_bytes(struct: str) -> int:
    """Bytes of a struct of 8- and 16-bit integers, which needs no padding."""
    return sum(int(re.sub(r"\D", "", field.type)) // 8 for field in structs()[struct].values())


def _fields(body: str) -> Iterable[tuple[str, Field]]:
    for line in filter(None, (part.strip() for part in body.split(";"))):
        kind, names = line.removeprefix("const ").split(maxsplit=1)
        for name in names.split(","):
            pointer, plain, length = re.fullmatch(r"\s*(\**)\s*(\w+)(?:\[(\d+)\])?\s*", name).groups()  # type: ignore[union-attr]
            yield plain, Field(kind, bool(pointer), int(length or 0))


@functools.cache
def _sources() -> Mapping[str, str]:
    """The kernels' files by name, without comments."""
    place = folder() / "kernels"
    return {path.name: _COMMENT.sub("", path.read_text()) for path in sorted(place.glob("*.[ch]"))}


@functools.cache
def _definitions() -> Mapping[str, str]:
    """Functions -> the file that defines them."""
    return {found: name for name, text in _sources().items() if name.endswith(".c") for found in _DEFINED.findall(text)}


@functools.cache
def _tables() -> Mapping[str, str]:
    """Tables that kernels share -> the file that defines them."""
    return {found: name for name, text in _sources().items() if name.endswith(".c") for found in _TABLE.findall(text)}


def is_kernel(function: str) -> bool:
    """Whether a kernel of that name is there."""
    return function in _definitions()


def files(functions: Iterable[str]) -> list[str]:
    """Names of the kernels' files that these functions need, with all that those call and include."""
    waiting = [HEADER, *(_definitions()[function] for function in functions)]
    found: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(_needs(name))
    return sorted(found)


def _needs(name: str) -> Iterable[str]:
    text = _sources()[name]
    yield from (included for included in _INCLUDE.findall(text) if included in _sources())
    words = set(_NAME.findall(text))
    yield from (_tables()[word] for word in words if word in _tables())
    if name.endswith(".c"):
        yield from (_definitions()[word] for word in words if word in _definitions())
