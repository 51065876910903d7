"""What profiles and tables share: how they are named, data types, the first problem."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

from edgeq.documents import PathError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
DATA_TYPES = frozenset(
    {"float32", "float16", "int4", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool", "string"}
)


def raise_first(problems: Iterator[PathError]) -> None:
    """Raise the first problem, if there is one."""
    for problem in problems:
        raise problem


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?`, or what is known, for the end of a message."""
    words = list(known)
    close = difflib.get_close_matches(word[:100], words, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(words)}"
