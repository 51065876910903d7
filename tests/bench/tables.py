"""Operator tables whose provers need a tool of their own: the tests prove the others."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from measuring import Row, not_run

from edgeq import conformance, store, targets
from edgeq.errors import ToolError
from edgeq.types import OperatorTable, TableProof

IN_TESTS = ("litert", "litert_reference", "onnxruntime")
BAR = "0 false, 0 missed"


def rows() -> Iterator[Row]:
    """False and missed claims of each table; a table whose tool is missing says how to install it."""
    for name in targets.table_names():
        table = targets.read_table(targets.table_file(name))
        if table.prover and table.prover not in IN_TESTS:
            yield _row(table)


def _row(table: OperatorTable) -> Row:
    what = f"targets verify {table.name}"
    try:
        proof = conformance.verify(table, store.sha256(targets.table_file(table.name)))
    except ToolError as error:
        return not_run(what, BAR, error.hint or error.message)
    wrong = proof.false_claims + proof.missed
    sys.stderr.write(_told(proof))
    told = f"{what}, {proof.proved} signatures proved"
    return Row(told, wrong, None, "false or missed", BAR, wrong == 0)


def _told(proof: TableProof) -> str:
    return (
        f"  {proof.name} by {proof.runtime} {proof.version}: {proof.proved} proved, {proof.false_claims} false, "
        f"{proof.missed} missed, {proof.denied} denied, {proof.untried} untried\n"
    )
