"""Prove operator tables: of targets, by name, or all that can be proved here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq import conformance, store, targets
from edgeq.conformance import stamps
from edgeq.errors import BackendNotFound, EdgeqError, TargetError, ToolError
from edgeq.types import OperatorTable, Progress, TableProof, silent


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """A table's proof, or the error that says why there is none; `stamp` is where the proof was kept."""

    table: OperatorTable
    proof: TableProof | None = None
    stamp: Path | None = None
    error: EdgeqError | None = None

    @property
    def holds(self) -> bool:
        """Whether nothing is false or missed."""
        return self.proof is not None and not self.proof.false_claims and not self.proof.missed


def verify(names: Sequence[str], *, on_shelf: bool = False, progress: Progress = silent) -> list[Verified]:
    """Prove the tables of targets, or tables, by name or file; without names all of the shelf. Keeps each proof.

    Raises TargetError for an unknown name, OutputError where a stamp cannot be written.
    """
    paths = dict.fromkeys(path for name in names for path in _paths(name)) if names else _all()
    return [_verified(path, on_shelf, progress) for path in paths]


def demand_proved(verified: Sequence[Verified], names: Sequence[str]) -> None:
    """Raise the error of a table that was named itself, or of a named target of which nothing could be proved."""
    for one in verified:
        if one.error and (one.table.name in names or (names and not any(other.proof for other in verified))):
            raise one.error


def _paths(name: str) -> Iterator[Path]:
    """The files of a table, or of a target's tables."""
    if name in targets.table_names():
        yield targets.table_file(name)
        return
    try:
        found = targets.load(name)
    except TargetError as error:
        if error.where is not None:
            raise
        known = ", ".join(targets.table_names())
        raise TargetError(
            f"no target or operator table is called {name[:100]!r}", hint=f"tables are: {known}"
        ) from error
    yield from targets.table_files(found, name).values()


def _all() -> dict[Path, None]:
    return dict.fromkeys(targets.table_file(name) for name in targets.table_names())


def _verified(path: Path, on_shelf: bool, progress: Progress) -> Verified:
    table = targets.read_table(path)
    try:
        proof = conformance.verify(table, store.sha256(path), progress=progress)
    except (ToolError, TargetError, BackendNotFound) as error:
        return Verified(table=table, error=error)
    return Verified(table=table, proof=proof, stamp=stamps.save(proof, path, on_shelf=on_shelf))
