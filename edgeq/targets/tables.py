"""An operator table: YAML to an OperatorTable."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeq import documents
from edgeq.documents import KeyPath, PathError
from edgeq.errors import TargetError
from edgeq.targets.names import DATA_TYPES, NAME, raise_first
from edgeq.types import Constraint, OperatorTable, Signature


def read_table(path: Path) -> OperatorTable:
    """The operator table in a YAML file, read once while the file stays the same.

    Raises TargetError with the file and line.
    """
    try:
        found = path.stat()
    except OSError:
        return _read(path)  # whose error says what is wrong with the file
    return _unchanged(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=64)
def _unchanged(path: Path, mtime_ns: int, size_bytes: int) -> OperatorTable:  # noqa: ARG001
    return _read(path)


def _read(path: Path) -> OperatorTable:
    table = documents.load_yaml(path, OperatorTable, error=TargetError, transform=_any_to_none)
    try:
        raise_first(_table_problems(table, path.stem))
    except PathError as problem:
        _, lines = documents.read_yaml(path, error=TargetError)
        raise documents.located(TargetError, problem, str(path), lines) from problem
    return table


def _any_to_none(data: dict[str, Any]) -> dict[str, Any]:
    """The data with `signatures: any` as None."""
    rows = data.get("operators")
    if not isinstance(rows, dict):
        return data
    return data | {"operators": {name: _row(name, row) for name, row in rows.items()}}


def _row(name: str, row: object) -> object:
    if not isinstance(row, dict) or row.get("signatures", "") is None:
        raise PathError(("operators", name), "should be a mapping with 'signatures: any' or a list of signatures")
    return row | {"signatures": None} if row.get("signatures") == "any" else row


def _table_problems(table: OperatorTable, stem: str) -> Iterator[PathError]:
    if table.schema != 1:
        yield PathError(("schema",), f"should be 1, got {table.schema}")
    if table.name != stem or not NAME.fullmatch(table.name):
        yield PathError(("name",), f"should be the file's name {stem!r} (a-z, 0-9, ., _, -), got {table.name!r}")
    for key in ("source", "version", "runtime"):
        if not getattr(table, key).strip():
            yield PathError((key,), "should not be empty")
    if not table.operators:
        yield PathError(("operators",), "should have at least one operator")
    for index, constraint in enumerate(table.constraints):
        yield from _constraint_problems(constraint, ("constraints", index))
    for name, row in table.operators.items():
        place = ("operators", name)
        if row.signatures is not None and not row.signatures:
            yield PathError((*place, "signatures"), "should be 'any' or at least one signature")
        for index, signature in enumerate(row.signatures or ()):
            yield from _signature_problems(signature, (*place, "signatures", index))
        for index, constraint in enumerate(row.constraints):
            yield from _constraint_problems(constraint, (*place, "constraints", index))


def _signature_problems(signature: Signature, place: KeyPath) -> Iterator[PathError]:
    named = {key: getattr(signature, key) for key in ("activations", "weights", "bias")}
    for key, dtype in named.items():
        if dtype is not None and dtype not in DATA_TYPES:
            yield PathError((*place, key), f"{dtype!r} is not a data type; known are {', '.join(sorted(DATA_TYPES))}")
    if signature.output is not None and signature.output.dtype not in DATA_TYPES:
        yield PathError((*place, "output", "dtype"), f"{signature.output.dtype!r} is not a data type")


def _constraint_problems(constraint: Constraint, place: KeyPath) -> Iterator[PathError]:
    if not re.fullmatch(r"[a-z][a-z0-9_]{0,60}", constraint.rule):
        yield PathError((*place, "rule"), f"{constraint.rule[:60]!r} is not a rule's name (a-z, 0-9, '_')")
    if constraint.minimum is not None and constraint.maximum is not None and constraint.minimum > constraint.maximum:
        yield PathError((*place, "minimum"), "should be at most the maximum")
