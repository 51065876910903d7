"""Proofs of operator tables, for people and for scripts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from rich.console import Group, RenderableType

from edgeq.report.json import Document, document, plain
from edgeq.report.terminal import table
from edgeq.types import OperatorTable, Outcome, TableProof

_SHOWN = 40
_HASH_CHARACTERS = 12


class Row(NamedTuple):
    """A table with its proof, or the reason why there is none."""

    table: OperatorTable
    proof: TableProof | None
    why: str = ""


def verified_json(rows: Iterable[Row]) -> Document:
    """What `edgeq targets verify` prints."""
    return document(tables=[_one(row) for row in rows])


def _one(row: Row) -> Document:
    proof = row.proof
    numbers: Mapping[str, int | None] = {
        "proved": proof.proved if proof else None,
        "false": proof.false_claims if proof else None,
        "missed": proof.missed if proof else None,
        "denied": proof.denied if proof else None,
        "untried": proof.untried if proof else None,
    }
    return {
        "name": row.table.name,
        "runtime": row.table.runtime,
        "version": proof.version if proof else row.table.version,
        **numbers,
        "details": [_detail(outcome) for outcome in proof.details] if proof else [],
        "why": row.why or None,
        "date": proof.date if proof else None,
        "table_sha256": proof.table_sha256 if proof else None,
        "result_sha256": proof.result_sha256 if proof else None,
    }


def _detail(outcome: Outcome) -> Document:
    case = outcome.case
    return {
        "operator": case.operator,
        "signature": plain(case.signature),
        "variant": case.variant,
        "claimed": case.claimed,
        "result": outcome.result,
        "why": outcome.why,
    }


def verified(rows: Sequence[Row], *, every_detail: bool = False) -> RenderableType:
    """Counts of each table, then what is not as it says (and what was not tried), then what could not be proved."""
    proofs = [row.proof for row in rows if row.proof]
    columns = ("table", "runtime", "version", "proved", "false", "missed", "denied", "untried")
    parts: list[RenderableType] = []
    if proofs:
        parts.append(table("signatures", columns, map(_counts, proofs)))
    shown = [(proof.name, one) for proof in proofs for one in proof.details if every_detail or one.result != "untried"]
    wrong = [(name, *_cells(one)) for name, one in shown]
    limit = len(wrong) if every_detail else _SHOWN
    if wrong:
        parts.append(table("\nnot as the table says, or not tried", ("table", *_DETAIL), wrong[:limit]))
    if len(wrong) > limit:
        parts.append(f"and {len(wrong) - limit} more; -v and --json list all")
    missing = [(row.table.name, row.why) for row in rows if row.why]
    if missing:
        parts.append(table("\nnot proved", ("table", "why"), missing))
    return Group(*parts)


_DETAIL = ("operator", "signature", "variant", "claimed", "result", "why")


def _cells(outcome: Outcome) -> tuple[object, ...]:
    case = outcome.case
    said = "yes" if case.claimed else "no"
    symmetric = f", symmetric: {case.signature.symmetric}" if case.signature.symmetric else ""
    return case.operator, f"{case.signature}{symmetric}", case.variant, said, outcome.result, outcome.why


def _counts(proof: TableProof) -> tuple[object, ...]:
    counts = (proof.proved, proof.false_claims, proof.missed, proof.denied, proof.untried)
    return proof.name, proof.runtime, proof.version, *counts


def stamps(rows: Iterable[tuple[str, TableProof | None, str]]) -> RenderableType:
    """How each table of a target stands."""
    columns = ("operator table", "proved with", "on", "signatures", "false", "missed", "result", "")
    return table("\nproofs", columns, (_stamp(*row) for row in rows))


def _stamp(name: str, proof: TableProof | None, why: str) -> tuple[object, ...]:
    if proof is None:
        return name, None, None, None, None, None, None, f"not proved: {why}"
    tool = f"{proof.runtime} {proof.version}"
    result = proof.result_sha256[:_HASH_CHARACTERS]
    return name, tool, proof.date, proof.proved, proof.false_claims, proof.missed, result, why
