"""What profiles and tables share: how they are named, data types, the first problem."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edgeq.documents import PathError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
DATA_TYPES = frozenset(
    {"float32", "float16", "int4", "int8", "uint8", "int16", "uint16", "int32", "int64", "bool", "string"}
)


def raise_first(problems: Iterator[PathError]) -> None:
    """Raise the first problem, if there is one."""
    for problem in problems:
        raise problem
