"""Lines out of bytes that may be noise, and what they say. Nothing here is believed before its sum is right."""

from __future__ import annotations

import re
import zlib
from enum import Enum
from typing import NamedTuple

LONGEST_LINE_BYTES = 4096
MOST = 2**32 - 1
"""The largest number that a firmware can say."""
_ENDS = re.compile(rb"[\r\n]+")
_OWN = re.compile(rb"m-eq-([a-z]{1,20})-\[([ -~]*)\]#([0-9a-f]{8})")
_ERROR = re.compile(rb"e-\[([ -~]*)\]")
_NAME = re.compile(rb"m-name-dut-\[([ -~]*)\]")
_FAULT = re.compile(rb"eq-fault ([ -~]*)")
_NUMBER = re.compile(r"[0-9]{1,10}")


class Kind(Enum):
    """What a line is."""

    READY = "the command before it is done"
    BOOT = "the firmware has started"
    NAME = "the firmware's name"
    OWN = "an answer with the right sum"
    DAMAGED = "an answer with a wrong sum"
    ERROR = "a command was not understood"
    FAULT = "the processor has stopped"
    OTHER = "anything else, noise too"


class Line(NamedTuple):
    """One line: `name` and `fields` of an answer of our own, `text` of the others."""

    kind: Kind
    text: str = ""
    name: str = ""
    fields: tuple[str, ...] = ()


class Lines:
    """Cuts bytes into lines. A line that is longer than can be is dropped, whatever comes of it."""

    def __init__(self, limit_bytes: int = LONGEST_LINE_BYTES) -> None:
        self._limit_bytes = limit_bytes
        self._part = b""
        self._is_dropping = False

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that are whole now, without their ends; empty ones are left out."""
        *whole, rest = _ENDS.split(data)
        found = [self._end(piece) for piece in whole]
        self._keep(rest)
        return [line for line in found if line]

    def clear(self) -> None:
        """Forget the line that has begun."""
        self._part, self._is_dropping = b"", False

    def _end(self, piece: bytes) -> bytes:
        self._keep(piece)
        line = b"" if self._is_dropping else self._part
        self.clear()
        return line

    def _keep(self, piece: bytes) -> None:
        if self._is_dropping or len(self._part) + len(piece) > self._limit_bytes:
            self._part, self._is_dropping = b"", True
        else:
            self._part += piece


def parse(line: bytes) -> Line:
    """What a line says; noise in front of an answer is cut off."""
    if b"m-eq-" in line:
        return _own(line[line.rindex(b"m-eq-") :])
    if line.endswith(b"m-ready"):
        return Line(Kind.READY)
    if line.endswith(b"m-init-done"):
        return Line(Kind.BOOT)
    for kind, pattern in ((Kind.ERROR, _ERROR), (Kind.NAME, _NAME), (Kind.FAULT, _FAULT)):
        match = pattern.search(line)
        if match:
            return Line(kind, text=match[1].decode("ascii"))
    return Line(Kind.OTHER, text=line.decode("ascii", "replace"))


def _own(line: bytes) -> Line:
    match = _OWN.fullmatch(line)
    if match is None or int(match[3], 16) != zlib.crc32(line[: match.start(3) - 1]):
        return Line(Kind.DAMAGED, text=line.decode("ascii", "replace"))
    fields = match[2].decode("ascii").split(",")
    return Line(Kind.OWN, name=match[1].decode("ascii"), fields=tuple(fields))


def number(field: str, most: int = MOST) -> int | None:
    """A field as a number from 0 to `most`; None for anything else."""
    if not _NUMBER.fullmatch(field):
        return None
    value = int(field)
    return value if value <= most else None


def numbers(fields: tuple[str, ...], count: int) -> tuple[int, ...] | None:
    """So many fields as numbers; None where they are more, fewer or no numbers."""
    found = [number(field) for field in fields]
    kept = tuple(value for value in found if value is not None)
    return kept if len(kept) == len(fields) == count else None
