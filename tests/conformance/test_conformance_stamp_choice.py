"""Which of several stamps speaks for a table, and what a proof's hash covers."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import conformance, store
from edgeq.conformance import stamps
from edgeq.conformance.stamps import Standing
from edgeq.types import Case, OperatorTable, Outcome, OutputSpec, Signature, TableProof

INT8 = Signature(activations="int8")
TABLE = OperatorTable(name="small", runtime="litert", version="1", source="s", operators={})
CASE = Case(operator="ADD", signature=INT8, claimed=True)
YAML = "schema: 1\nname: small\nruntime: litert\nversion: '1'\nsource: a test\nprover: litert\noperators: {}\n"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQ_STATE", str(tmp_path / "state"))
    path = tmp_path / "operators" / "small.yaml"
    path.parent.mkdir()
    path.write_text(YAML)
    return path


def proof(path: Path, *outcomes: Outcome, date: str = "2026-01-01", is_fresh: bool = True) -> TableProof:
    made = conformance.summary(TABLE, store.sha256(path) if is_fresh else "00" * 32, "2.3", outcomes)
    return dataclasses.replace(made, date=date)


@pytest.mark.parametrize(
    ("own", "shelf", "chosen", "why"),
    [
        (("2026-02-01", True), ("2026-03-01", True), "2026-03-01", ""),
        (("2026-04-01", True), ("2026-03-01", True), "2026-04-01", ""),
        (("2026-04-01", False), ("2026-03-01", True), "2026-03-01", ""),
        (("2026-02-01", True), ("2026-03-01", False), "2026-02-01", ""),
        (("2026-02-01", False), ("2026-03-01", False), "2026-03-01", "the stamp of 2026-03-01 is stale"),
        (("2026-04-01", False), ("2026-03-01", False), "2026-04-01", "the stamp of 2026-04-01 is stale"),
        (("2026-04-01", False), None, "2026-04-01", "the stamp of 2026-04-01 is stale"),
        (None, ("2026-04-01", True), "2026-04-01", ""),
    ],
)
def test_the_newest_stamp_of_this_very_table_speaks_for_it(
    table: Path, own: tuple[str, bool] | None, shelf: tuple[str, bool] | None, chosen: str, why: str
) -> None:
    for one, on_shelf in ((own, False), (shelf, True)):
        if one is not None:
            stamps.save(proof(table, date=one[0], is_fresh=one[1]), table, on_shelf=on_shelf)
    found = stamps.of_table(table)
    assert found.proof is not None
    assert (found.table, found.proof.date) == ("small", chosen)
    assert found.why.startswith(why)
    assert bool(found.why) == bool(why)


def test_a_newer_stamp_with_faults_goes_before_an_older_one_without(table: Path) -> None:
    stamps.save(proof(table, date="2026-01-01"), table, on_shelf=True)
    bad = proof(table, Outcome(case=CASE, result="wrong"), Outcome(case=CASE, result="refused"), date="2026-01-02")
    stamps.save(bad, table, on_shelf=False)
    assert stamps.of_table(table).why == "2 false and 0 missed claims"


@pytest.mark.parametrize("on_shelf", [True, False])
def test_a_stamp_keeps_its_numbers_without_its_details(table: Path, on_shelf: bool) -> None:
    whole = proof(table, Outcome(case=CASE, result="untried", why="no model"), Outcome(case=CASE, result="runs"))
    assert whole.details
    written = stamps.save(whole, table, on_shelf=on_shelf)
    assert store.read(written, TableProof) == dataclasses.replace(whole, details=())


@pytest.mark.parametrize(
    ("whys", "is_proved"),
    [([], True), ([""], True), (["", ""], True), (["stale"], False), (["", "stale"], False)],
)
def test_a_target_is_proved_where_all_its_tables_are(whys: list[str], is_proved: bool) -> None:
    assert stamps.is_proved([Standing(table="t", why=why) for why in whys]) is is_proved


def digest(*outcomes: Outcome) -> str:
    return conformance.summary(TABLE, "", "", outcomes).result_sha256


@pytest.mark.parametrize(
    "changed",
    [
        dataclasses.replace(CASE, operator="SUB"),
        dataclasses.replace(CASE, variant="version 2"),
        dataclasses.replace(CASE, signature=Signature(activations="int16")),
        dataclasses.replace(CASE, signature=Signature(activations="int8", symmetric="both")),
        dataclasses.replace(CASE, signature=Signature(activations="int8", output=OutputSpec(dtype="int8", scale=0.5))),
    ],
)
def test_a_hash_tells_apart_all_that_makes_a_case(changed: Case) -> None:
    assert digest(Outcome(case=CASE, result="runs")) != digest(Outcome(case=changed, result="runs"))


def test_a_hash_counts_an_outcome_that_comes_twice() -> None:
    one = Outcome(case=CASE, result="runs")
    assert len({digest(), digest(one), digest(one, one)}) == 3


@settings(max_examples=40, deadline=None)
@given(fates=st.lists(st.tuples(st.booleans(), st.sampled_from(["runs", "refused", "wrong", "untried"])), max_size=20))
def test_every_outcome_is_counted_once_and_is_a_detail_unless_it_is_as_the_table_says(
    fates: list[tuple[bool, str]],
) -> None:
    outcomes = [
        Outcome(case=dataclasses.replace(CASE, claimed=claimed), result=result)  # type: ignore[arg-type]
        for claimed, result in fates
    ]
    made = conformance.summary(TABLE, "", "", outcomes)
    assert made.proved + made.false_claims + made.missed + made.denied + made.untried == len(fates)
    assert len(made.details) == made.false_claims + made.missed + made.untried
    assert made.proved == fates.count((True, "runs"))
    assert made.missed == fates.count((False, "runs"))
