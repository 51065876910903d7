"""`plan --check`: a plan.json is checked alone, and a changed one is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq import workflow
from edgeq.errors import EdgeqError, UsageError
from edgeq.testing import models
from edgeq.types import Budgets
from edgeq.workflow import Wish

TARGET = "raspberry-pi-4"


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model and its plan."""
    monkeypatch.chdir(tmp_path)
    models.conv_tflite(tmp_path)
    workflow.plan(Path("conv.tflite"), TARGET, output=Path("out"), wish=Wish(budgets=Budgets(max_flash_bytes=1 << 20)))
    return tmp_path


def changed(desk: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    path = desk / "out" / "plan.json"
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


def test_a_plan_is_checked_alone_from_any_folder(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = desk / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert workflow.check(desk / "out" / "plan.json").findings == ()


def test_a_plan_of_a_target_file_finds_it_again(desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf = Path(__file__).parents[2] / "targets" / f"{TARGET}.yaml"
    (desk / "mine.yaml").write_text(shelf.read_text().replace(f"name: {TARGET}", "name: mine"))
    workflow.plan(Path("conv.tflite"), "mine.yaml", output=Path("mine"))
    monkeypatch.chdir("/")
    assert workflow.check(desk / "mine" / "plan.json").findings == ()
    text = (
        (desk / "mine.yaml").read_text().replace("ram: 2 GiB, model_budget: 384 MiB", "ram: 1 GiB, model_budget: 1 KiB")
    )
    (desk / "mine.yaml").write_text(text)
    subjects = {finding.subject for finding in workflow.check(desk / "mine" / "plan.json").findings}
    assert {"tables", "check fits-ram", "check fits-model-budget"} <= subjects


def test_another_model_or_target_is_told(desk: Path) -> None:
    other = models.custom_op_tflite(desk)
    (finding,) = workflow.check(desk / "out" / "plan.json", model=other).findings
    assert finding.subject == "model"
    found = workflow.check(desk / "out" / "plan.json", target="rp2040").findings
    assert "target" in {finding.subject for finding in found}


def _flip(document: dict[str, Any]) -> None:
    document["operators"][0]["placement"] = "float"


def _enlarge(document: dict[str, Any]) -> None:
    document["memory"]["ram_bytes"] += 1


def _allow(document: dict[str, Any]) -> None:
    document["budgets"]["max_flash_bytes"] = 1 << 40


@pytest.mark.parametrize(
    ("change", "subject"),
    [(_flip, "operator 0 CONV_2D"), (_enlarge, "memory.ram_bytes"), (_allow, "check max-flash")],
)
def test_an_edited_plan_ends_with_3_and_names_it(
    edgeq: Any, desk: Path, change: Callable[[dict[str, Any]], None], subject: str
) -> None:
    assert edgeq("plan", "--check", "out/plan.json").code == 0
    path = changed(desk, change)
    ran = edgeq("plan", "--check", path, "--json")
    assert ran.code == 3
    assert ran.document["ok"] is False
    assert subject in {finding["subject"] for finding in ran.document["findings"]}
    assert subject in edgeq("plan", "--check", path).out


def test_a_file_that_is_no_plan_is_an_error(edgeq: Any, desk: Path) -> None:
    with pytest.raises(EdgeqError):
        workflow.check(desk / "nosuch.json")
    (desk / "odd.json").write_text('{"plan": 1}')
    assert edgeq("plan", "--check", "odd.json").error


def test_a_plan_that_names_no_model_asks_for_it(desk: Path) -> None:
    path = changed(desk, lambda document: document.update(model_path=""))
    with pytest.raises(UsageError, match="its model"):
        workflow.check(path)
    assert workflow.check(path, model=desk / "conv.tflite").findings == ()


def test_without_check_model_and_target_are_needed(edgeq: Any, desk: Path) -> None:
    assert edgeq("plan").code == 2
    assert "MODEL" in edgeq("plan").err
    assert edgeq("plan", "conv.tflite").code == 2
    assert "--target" in edgeq("plan", "conv.tflite").err


@pytest.mark.parametrize("flag", ["--max-flash", "--max-ram", "--max-latency-ms", "--max-energy-mj"])
@pytest.mark.parametrize("value", ["0", "-1"])
def test_limits_of_nothing_are_refused(edgeq: Any, desk: Path, flag: str, value: str) -> None:
    ran = edgeq("plan", "conv.tflite", "-t", TARGET, f"{flag}={value}")
    assert ran.code == 2
    assert flag in ran.err


def test_a_missed_limit_shows_needed_had_and_short(edgeq: Any, desk: Path) -> None:
    ran = edgeq("plan", "conv.tflite", "-t", TARGET, "--max-flash", "1 KiB")
    assert ran.code == 3
    assert "short" in ran.out
    assert "max-flash" in ran.out


def test_explain_is_in_the_json_too(edgeq: Any, desk: Path) -> None:
    ran = edgeq("plan", "conv.tflite", "-t", TARGET, "--scheme", "static_wi8_ai8_mixed", "--json")
    kept = [one for one in ran.document["operators"] if one["rule"] == "kept-in-float"]
    assert kept
    assert all(one["alternatives"] and one["edit"] for one in kept)
