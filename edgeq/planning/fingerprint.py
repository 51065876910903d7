"""A hash over a target and its operator tables, by which a plan knows that they changed."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from edgeq.types import OperatorTable, Target


def of_target(target: Target, tables: Mapping[str, OperatorTable]) -> str:
    """SHA-256 of the profile and of the tables that it names, whatever the order of their rows."""
    named = {name for spec in target.runtimes for name in (spec.operators, spec.fallback) if name is not None}
    digest = hashlib.sha256(repr(target).encode())
    for name in sorted(named & tables.keys()):
        table = tables[name]
        rules = (table.runtime, table.version, table.fallback, table.placement, table.constraints)
        digest.update(repr((name, *rules, sorted(table.operators.items(), key=lambda row: row[0]))).encode())
    return digest.hexdigest()
