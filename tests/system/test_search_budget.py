"""One model and one accepted drop on three targets: each gets the cheapest plan that it can execute."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgeq.testing import models

DROP = "0.001"
FACTS = ("cpu", "memory", "runtimes")
OPERATORS = ("ADD", "SUB", "FULLY_CONNECTED")
LAYER = "{{activations: {0}, weights: int8, bias: {1}, granularity: per-channel, symmetric: {2}}}"
ROWS = {
    "int8": ("{activations: int8}", LAYER.format("int8", "int32", "weights")),
    "int16": ("{activations: int16}", LAYER.format("int16", "int64", "both")),
    "float32": ("{activations: float32}", "{activations: float32, weights: float32, bias: float32}"),
}


def write_target(folder: Path, name: str, *kinds: str) -> Path:
    """A Linux target whose runtime computes in these data types and no others."""
    rows = []
    for operator in OPERATORS:
        signatures = ", ".join(ROWS[kind][operator == "FULLY_CONNECTED"] for kind in kinds)
        rows.append(f"  {operator}: {{signatures: [{signatures}]}}")
    (folder / "operators").mkdir(exist_ok=True)
    (folder / "operators" / f"{name}.yaml").write_text(
        f'schema: 1\nname: {name}\nruntime: litert\nversion: "2.3"\nsource: "made for a test"\n'
        'unproved: "made for a test"\nfallback: none\noperators:\n' + "\n".join(rows) + "\n"
    )
    path = folder / f"{name}.yaml"
    path.write_text(
        f"schema: 1\nname: {name}\ntitle: A test's target\nkind: linux\n"
        "cpu: {arch: x86_64, core: generic, cores: 2, clock_hz: 1000000000}\n"
        "memory: {ram: 1 GiB, model_budget: 64 MiB}\n"
        f'runtimes:\n  - {{name: litert, versions: ">=2", format: tflite, operators: {name}}}\n'
        "sources:\n" + "".join(f'  - {{fact: {fact}, where: "made for a test"}}\n' for fact in FACTS)
    )
    return path


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that one tensor ruins in 8 bits, its samples, and the three targets."""
    folder = tmp_path_factory.mktemp("budget")
    models.offset_tflite(folder, 100.0, "model.tflite")
    description = models.tiny_dataset(folder, models.MLP_SHAPE, count=128)
    lines = description.read_text().replace("metric: top1", "metric: cosine").splitlines()
    description.write_text("\n".join(line for line in lines if not line.startswith("labels")))
    write_target(folder, "int8-only", "int8")
    write_target(folder, "int16-too", "int8", "int16")
    write_target(folder, "float-too", "int8", "float32")
    return folder


def edgeq(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeq", *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=300
    )


def quantize(desk: Path, target: str, *more: str) -> tuple[int, dict[str, Any]]:
    words = ("quantize", "model.tflite", "-t", f"{target}.yaml", "--data", "dataset.yaml", "-o", f"out-{target}")
    done = edgeq(*words, "--max-drop", DROP, "--json", *more, cwd=desk)
    assert "Traceback" not in done.stderr, done.stderr
    assert "leaked" not in done.stderr, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.fixture(scope="module")
def answers(desk: Path) -> dict[str, tuple[int, dict[str, Any]]]:
    return {name: quantize(desk, name) for name in ("int8-only", "int16-too", "float-too")}


def test_three_targets_get_three_plans(answers: dict[str, tuple[int, dict[str, Any]]]) -> None:
    schemes = {name: found["plan"]["scheme"] for name, (_, found) in answers.items()}
    assert schemes == {
        "int8-only": "static_wi8_ai8",
        "int16-too": "static_wi8_ai16",
        "float-too": "static_wi8_ai8_mixed",
    }
    assert answers["float-too"][1]["plan"]["islands"] == [0, 1]


def test_only_what_holds_is_a_success(answers: dict[str, tuple[int, dict[str, Any]]]) -> None:
    codes = {name: code for name, (code, _) in answers.items()}
    assert codes == {"int8-only": 3, "int16-too": 0, "float-too": 0}
    for code, found in answers.values():
        accuracy = found["accuracy"]
        assert accuracy["ok"] == (accuracy["drop"] <= float(DROP)) == (code == 0)


def test_the_cheapest_are_tried_first_and_the_best_of_those_that_fail_is_kept(
    answers: dict[str, tuple[int, dict[str, Any]]],
) -> None:
    for _, found in answers.values():
        trials = found["plan"]["trials"]
        names = [trial["scheme"].split(" ")[0] for trial in trials]
        assert names[:5] == ["static_wi8_ai8"] * 5
        assert "corrected" in trials[3]["scheme"]
        assert not any(trial["ok"] for trial in trials[:-1])
        assert any(trial["on_front"] for trial in trials)
    failed = answers["int8-only"][1]
    assert failed["accuracy"]["drop"] == min(trial["drop"] for trial in failed["plan"]["trials"])


@pytest.mark.parametrize("name", ["int8-only", "int16-too", "float-too"])
def test_each_plan_follows_from_its_tables(desk: Path, answers: dict[str, Any], name: str) -> None:
    assert answers[name]
    done = edgeq("plan", "--check", f"out-{name}/plan.json", cwd=desk)
    assert done.returncode == 0, done.stdout + done.stderr


def test_one_process_finds_the_same(desk: Path, answers: dict[str, tuple[int, dict[str, Any]]]) -> None:
    code, alone = quantize(desk, "float-too", "--workers", "1")
    before = answers["float-too"][1]
    assert code == 0
    assert alone["artifact"] == before["artifact"]
    assert alone["accuracy"] == before["accuracy"]
    told = [
        [(trial["scheme"], trial["drop"], trial["size_bytes"]) for trial in one["plan"]["trials"]]
        for one in (alone, before)
    ]
    assert told[0] == told[1]
    assert not list((desk / "out-float-too").glob(".search-*"))
