"""C text of constants. What comes out of a model's strings is letters, digits and octal escapes, nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from edgeq.codegen import headers
from edgeq.codegen.program import Struct, Table, Value
from edgeq.errors import BuildError

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.:;, ()[]")
_COLUMNS = 118
_SHOWN = 80


def escaped(name: str) -> str:
    """A model's string for a C comment or literal: anything that C, or a terminal, could read otherwise is octal."""
    text = "".join(
        sign if sign in _PLAIN else "".join(f"\\{byte:03o}" for byte in sign.encode(errors="surrogatepass"))
        for sign in name[:_SHOWN]
    )
    return text + ("..." if len(name) > _SHOWN else "")


class Constants:
    """Tables and structs of one model, each content once, in the order in which they were first asked for."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.size_bytes = 0
        self._known: dict[tuple[object, ...], str] = {}

    def table(self, table: Table) -> str:
        """The name of an array with these values."""
        content = np.ascontiguousarray(table.values)
        key = (table.c_type, content.shape if table.struct else content.size, content.tobytes())
        if key not in self._known:
            name = self._known[key] = f"t{len(self._known)}"
            count = len(content) if table.struct else content.size
            self.size_bytes += count * headers.size_bytes(table.struct) if table.struct else content.nbytes
            rows = _structured(content) if table.struct else map(_number, content.ravel().tolist())
            self.lines.append(f"static const {table.c_type} {name}[{count}] = {{\n{_wrapped(rows)}\n}};")
        return self._known[key]

    def struct(self, struct: Struct) -> str:
        """The name of a struct with these fields."""
        body = self._body(struct)
        key = (struct.type, body)
        if key not in self._known:
            name = self._known[key] = f"p{len(self._known)}"
            self.lines.append(f"static const {struct.type} {name} = {body};")
        return self._known[key]

    def _body(self, struct: Struct) -> str:
        """An initializer with every field in its place; raises BuildError for a value that its type cannot hold."""
        declared = headers.structs()[struct.type]
        if declared.keys() != struct.fields.keys():
            raise KeyError(f"{struct.type} has {list(declared)}, given are {list(struct.fields)}")
        parts = [f".{name} = {self._value(struct.fields[name], field, name)}" for name, field in declared.items()]
        return "{" + ", ".join(parts) + "}"

    def _value(self, value: Value, field: headers.Field, name: str) -> str:
        if isinstance(value, Struct):
            return self._body(value)
        if isinstance(value, Table):
            return self.table(value)
        if isinstance(value, tuple):
            return "{" + ", ".join(_checked(one, field.type, name) for one in value) + "}"
        return _checked(value, field.type, name)


def _checked(value: int, c_type: str, name: str) -> str:
    low, high = headers.LIMITS[c_type]
    if not low <= value <= high:
        raise BuildError(f"{name} is {value}; the kernels take {low} to {high}")
    return _number(value)


def _number(value: float) -> str:
    """-2147483648 is no literal in C: it is minus of one that has no int type; so with 64 bits."""
    if isinstance(value, float):
        return float(value).hex() + "f"
    return f"({value + 1} - 1)" if value in (-(1 << 31), -(1 << 63)) else str(int(value))


def _structured(rows: NDArray[np.generic]) -> Iterator[str]:
    return ("{" + ", ".join(map(_number, row)) + "}" for row in rows.tolist())


def _wrapped(parts: Iterable[str]) -> str:
    lines, line = [], "   "
    for part in parts:
        if len(line) + len(part) + 2 > _COLUMNS:
            lines.append(line)
            line = "   "
        line += f" {part},"
    return "\n".join([*lines, line])
