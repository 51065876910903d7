"""`edgeq targets verify` end to end: stamps, JSON, exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq import store, targets
from edgeq.conformance import stamps
from edgeq.errors import EdgeqError, OutputError
from edgeq.types import TableProof

TABLE = """\
schema: 1
name: {name}
runtime: litert
version: "2.3.0"
source: "a test"
{how}
operators:
  ADD: {{signatures: [{signatures}], max_version: 6}}
"""
TARGET = """\
schema: 1
name: mine
title: Mine
kind: linux
cpu: {arch: aarch64, core: cortex-a55}
memory: {ram: 1 GiB}
runtimes:
  - {name: litert, format: tflite, operators: small}
sources:
  - {fact: cpu, where: "a test"}
  - {fact: memory, where: "a test"}
  - {fact: runtimes, where: "a test"}
"""
RIGHT = ", ".join(f"{{activations: {kind}}}" for kind in ("int8", "uint8", "int16", "float32"))
# The tables of these tests know a few operators; what else the runtime has is missed, and is no matter here.


@pytest.fixture
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "shelf"
    (folder / "operators").mkdir(parents=True)
    (folder / "mine.yaml").write_text(TARGET)
    monkeypatch.setenv("EDGEQ_TARGETS", str(folder))
    monkeypatch.setenv("EDGEQ_STATE", str(tmp_path / "state"))
    return folder


def write_table(shelf: Path, signatures: str = RIGHT, how: str = "prover: litert", name: str = "small") -> Path:
    path = shelf / "operators" / f"{name}.yaml"
    path.write_text(TABLE.format(name=name, signatures=signatures, how=how))
    return path


def edgeq(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeq", *arguments],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ,
        check=False,
    )


def proof_of(path: Path, **changes: object) -> TableProof:
    settings: dict[str, object] = {
        "name": path.stem, "runtime": "litert", "version": "2.3.0", "date": "2026-11-21", "result_sha256": "ab" * 32,
        "table_sha256": store.sha256(path), "proved": 4, "false_claims": 0, "missed": 0, "denied": 1, "untried": 0,
        "details": (),
    }  # fmt: skip
    return TableProof(**{**settings, **changes})  # type: ignore[arg-type]


# --- stamps ----------------------------------------------------------------------------------


def test_no_stamp_says_what_to_run(shelf: Path) -> None:
    standing = stamps.of_table(write_table(shelf))
    assert standing.why == "run edgeq targets verify small"
    assert not stamps.is_proved([standing])


def test_unproved_table_says_why(shelf: Path) -> None:
    path = write_table(shelf, how='unproved: "read from documentation only"')
    assert stamps.of_table(path).why == "read from documentation only"


@pytest.mark.parametrize("on_shelf", [True, False])
def test_saved_stamp_is_found(shelf: Path, tmp_path: Path, on_shelf: bool) -> None:
    path = write_table(shelf)
    written = stamps.save(proof_of(path), path, on_shelf=on_shelf)
    assert written.is_relative_to(shelf if on_shelf else tmp_path / "state")
    standing = stamps.of_target(targets.load("mine"))
    assert [one.table for one in standing] == ["small"]
    assert stamps.is_proved(standing)


def test_changed_table_makes_its_stamp_stale(shelf: Path) -> None:
    path = write_table(shelf)
    stamps.save(proof_of(path), path, on_shelf=True)
    path.write_text(path.read_text() + "# a word more\n")
    standing = stamps.of_table(path)
    assert "stale" in standing.why
    assert standing.proof is not None


def test_fresh_stamp_goes_before_a_newer_stale_one(shelf: Path) -> None:
    path = write_table(shelf)
    stamps.save(proof_of(path, date="2027-01-01", table_sha256="00"), path, on_shelf=False)
    stamps.save(proof_of(path), path, on_shelf=True)
    assert stamps.is_proved([stamps.of_table(path)])


@pytest.mark.parametrize("fault", [{"false_claims": 1}, {"missed": 2}])
def test_stamp_with_faults_is_no_proof(shelf: Path, fault: dict[str, int]) -> None:
    path = write_table(shelf)
    stamps.save(proof_of(path, **fault), path, on_shelf=True)
    assert "missed claims" in stamps.of_table(path).why


def test_broken_stamp_is_named(shelf: Path) -> None:
    path = write_table(shelf)
    (path.parent / "proofs").mkdir()
    (path.parent / "proofs/small.json").write_text('{"name": ')
    with pytest.raises(EdgeqError) as error:
        stamps.of_table(path)
    assert "small.json" in (error.value.where or "")


def test_shelf_that_is_not_writable_says_so(shelf: Path) -> None:
    path = write_table(shelf)
    (path.parent / "proofs").write_text("a file is in the way")
    with pytest.raises(OutputError) as error:
        stamps.save(proof_of(path), path, on_shelf=True)
    assert "--stamp" in (error.value.hint or "")


# --- the verb --------------------------------------------------------------------------------


@pytest.mark.slow
def test_verify_finds_the_false_claim_and_exits_3(shelf: Path) -> None:
    write_table(shelf, signatures=f"{RIGHT}, {{activations: bool}}")
    done = edgeq("targets", "verify", "mine", "--json")
    assert done.returncode == 3, done.stderr
    document = json.loads(done.stdout)
    (table,) = document["tables"]
    assert document["schema_version"] == 1
    assert (table["name"], table["runtime"], table["proved"], table["false"]) == ("small", "litert", 4, 1)
    assert table["missed"] > 300  # all that LiteRT has and this table lacks
    false = [one for one in table["details"] if one["claimed"] and one["result"] != "untried"]
    assert [(one["operator"], one["signature"]["activations"]) for one in false] == [("ADD", "bool")]
    shown = edgeq("targets", "show", "mine")
    assert "1 false and" in shown.stdout
    assert json.loads(edgeq("targets", "--json").stdout)["targets"][0]["proved"] is False


def test_unproved_table_by_name_exits_1_with_its_reason(shelf: Path) -> None:
    write_table(shelf, how='unproved: "read from documentation only"')
    done = edgeq("targets", "verify", "small")
    assert done.returncode == 1
    assert "read from documentation only" in done.stderr
    assert edgeq("targets", "verify", "mine").returncode == 1


def test_unknown_name_lists_tables(shelf: Path) -> None:
    done = edgeq("targets", "verify", "nonsense")
    assert done.returncode == 1
    assert "tflite-litert-cpu" in done.stderr
    assert "Traceback" not in done.stderr


def test_shown_stamp_and_list(shelf: Path) -> None:
    path = write_table(shelf)
    stamps.save(proof_of(path), path, on_shelf=False)
    shown = edgeq("targets", "show", "mine").stdout
    assert "litert 2.3.0" in shown
    assert "abababababab" in shown
    listed = json.loads(edgeq("targets", "--json").stdout)["targets"]
    assert {one["name"]: one["proved"] for one in listed}["mine"] is True
    document = json.loads(edgeq("targets", "show", "mine", "--json").stdout)
    assert document["proved"] is True
    assert document["proofs"][0]["proof"]["proved"] == 4


@pytest.mark.parametrize("name", ["tflite-litert-cpu", "tflite-litert-reference"])
def test_shelf_has_a_fresh_stamp_without_faults(name: str) -> None:
    standing = stamps.of_table(targets.table_file(name))
    assert standing.why == ""
    assert standing.proof is not None
    assert standing.proof.proved > 500
