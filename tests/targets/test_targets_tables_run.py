"""The tables against the runtimes themselves: every claim and every denial, as one-operator models."""

from __future__ import annotations

import pytest

from edgeq import backends, conformance, targets


@pytest.mark.slow
@pytest.mark.parametrize(("name", "proved", "denied"), [("tflite-litert-cpu", 600, 600), ("onnx-ort-cpu", 1000, 500)])
def test_table_says_what_its_runtime_does(name: str, proved: int, denied: int) -> None:
    table = targets.load_table(name)
    here = backends.find("conformance", str(table.prover)).version()
    if here != table.version:
        pytest.skip(f"the table is that of {table.runtime} {table.version}, and this is {here}")
    found = conformance.verify(table, "")
    wrong = [
        f"{one.case.operator} {one.case.signature} {one.case.variant}: {one.why}"
        for one in found.details
        if one.result != "untried"
    ]
    assert (found.false_claims, found.missed) == (0, 0), wrong
    assert found.proved > proved
    assert found.denied > denied
    assert found.version == here
