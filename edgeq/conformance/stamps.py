"""The proof of an operator table, kept as a stamp: with the table on the shelf, or in the user's state folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq import store, targets
from edgeq.errors import OutputError
from edgeq.types import OperatorTable, TableProof, Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a table's proof; `why` says what is missing where it is not proved."""

    table: str
    proof: TableProof | None = None
    why: str = ""


def of_target(target: Target, ref: str | Path | None = None) -> list[Standing]:
    """How each of a target's tables stands."""
    return [of_table(path) for path in targets.table_files(target, ref).values()]


def is_proved(standing: Sequence[Standing]) -> bool:
    """Whether every table of a target has a fresh stamp with nothing false and nothing missed."""
    return all(not one.why for one in standing)


def of_table(path: Path) -> Standing:
    """How the table in a file stands, by the newest stamp of this very file; raises EdgeqError for a bad stamp."""
    stamps = [store.read(place, TableProof) for place in _places(path) if place.is_file()]
    fresh = [stamp for stamp in stamps if stamp.table_sha256 == store.sha256(path)]
    newest = max(fresh or stamps, key=lambda stamp: stamp.date, default=None)
    if newest is None:
        return Standing(table=path.stem, why=_never(path))
    if not fresh:
        return Standing(
            table=path.stem, proof=newest, why=f"the stamp of {newest.date} is stale: the table has changed"
        )
    if newest.false_claims or newest.missed:
        return Standing(
            table=path.stem, proof=newest, why=f"{newest.false_claims} false and {newest.missed} missed claims"
        )
    return Standing(table=path.stem, proof=newest)


def _never(path: Path) -> str:
    table: OperatorTable = targets.read_table(path)
    if table.prover is None:
        return table.unproved or "it names no prover"
    return f"run edgeq targets verify {table.name}"


def save(proof: TableProof, path: Path, *, on_shelf: bool) -> Path:
    """Write the stamp of the table in `path`, without details, and say where; raises OutputError."""
    own, shelf = _places(path)
    stamp = replace(proof, details=())
    if not on_shelf:
        store.write(own, stamp)
        return own
    try:
        store.write(shelf, stamp)
    except OutputError as error:
        raise OutputError(
            error.message,
            where=error.where,
            hint="run --stamp in a checkout, or without it to keep the proof for yourself",
        ) from error
    return shelf


def _places(path: Path) -> Sequence[Path]:
    """The user's own stamp, and the one that comes with the table."""
    name = f"{path.stem}.json"
    return store.state_folder() / "proofs" / name, path.parent / "proofs" / name
