"""One-operator models run through the real runtime or compiler: proves operator tables. Each module is one prover."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Protocol, cast

from edgeq import backends
from edgeq.errors import TargetError
from edgeq.types import Case, OperatorTable, Outcome, Progress, TableProof, silent

HELPERS = ("child", "onnx", "outside", "stamps", "tflite")


class Prover(Protocol):
    """What a prover module has."""

    def version(self) -> str:
        """Version of the real thing; raises ToolError, with the command that installs it, where it is missing."""
        ...

    def cases(self, table: OperatorTable) -> list[Case]:
        """Every signature that the table claims, and those that it denies and that could be missing from it."""
        ...

    def prove(self, cases: Sequence[Case], table: OperatorTable, *, progress: Progress = silent) -> Iterator[Outcome]:
        """Build, run and judge each case, in order; a crash of the real thing is an outcome, not an error."""
        ...


def verify(table: OperatorTable, table_sha256: str, *, progress: Progress = silent) -> TableProof:
    """Run a table's claims and denials through the real thing.

    Raises TargetError for a table that nothing here can prove, ToolError where the real thing is missing.
    """
    if table.prover is None:
        raise TargetError(
            f"operator table {table.name} cannot be proved here: {table.unproved or 'it names no prover'}"
        )
    prover = cast(Prover, backends.find("conformance", table.prover))
    version = prover.version()
    outcomes = list(prover.prove(prover.cases(table), table, progress=progress))
    return summary(table, table_sha256, version, outcomes)


def summary(table: OperatorTable, table_sha256: str, version: str, outcomes: Sequence[Outcome]) -> TableProof:
    """Count outcomes; the result's hash covers every case and what became of it."""
    counts = Counter(map(standing, outcomes))
    return TableProof(
        name=table.name,
        runtime=table.runtime,
        version=version,
        date=datetime.now(timezone.utc).date().isoformat(),
        table_sha256=table_sha256,
        result_sha256=_digest(outcomes),
        proved=counts["proved"],
        false_claims=counts["false"],
        missed=counts["missed"],
        denied=counts["denied"],
        untried=counts["untried"],
        details=tuple(outcome for outcome in outcomes if standing(outcome) in ("false", "missed", "untried")),
    )


def standing(outcome: Outcome) -> str:
    """`proved`, `false`, `missed`, `denied` or `untried`."""
    if outcome.result == "untried":
        return "untried"
    runs = outcome.result == "runs"
    if outcome.case.claimed:
        return "proved" if runs else "false"
    return "missed" if runs else "denied"


def _digest(outcomes: Iterable[Outcome]) -> str:
    lines = sorted(f"{one.case.operator} {one.case.signature!r} {one.case.variant} {one.result}" for one in outcomes)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
