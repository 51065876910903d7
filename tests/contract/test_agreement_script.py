"""`make agreement`'s script: what it asks, and that it catches a table that is not true."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "bench" / "agreement.py"
TABLES = ROOT / "targets" / "operators"


class Ended(NamedTuple):
    """How the script ended."""

    code: int
    lines: list[str]
    rows: list[dict[str, Any]]

    def asked(self) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["agrees"] is not None]


def agreement(folder: Path, *words: object, more: Mapping[str, str] | None = None) -> Ended:
    out = folder / "agreement.json"
    argv = [sys.executable, SCRIPT, "--output", out, *words]
    environment = {**os.environ, **(more or {})}
    done = subprocess.run(
        list(map(str, argv)), env=environment, capture_output=True, text=True, timeout=500, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    rows = json.loads(out.read_text())["rows"] if out.is_file() else []
    return Ended(done.returncode, done.stdout.splitlines(), rows)


def false_table(folder: Path, name: str, wrong: str, right: str) -> dict[str, str]:
    """An environment with a table of that name in which a row is changed."""
    text = (TABLES / f"{name}.yaml").read_text()
    assert text.count(right) == 1, f"{name}: {right!r}"
    (folder / "operators").mkdir()
    (folder / "operators" / f"{name}.yaml").write_text(text.replace(right, wrong))
    return {"EDGEQ_TARGETS": str(folder)}


def test_the_shipped_example_agrees(tmp_path: Path, examples: Path) -> None:
    names = ("static_wi8_ai8", "static_wi8_ai16", "dynamic_wi8_af32", "as_is")
    schemes = [word for name in names for word in ("--scheme", name)]
    ended = agreement(tmp_path, "--models", examples, "--only", "digits", *schemes)
    assert ended.code == 0, ended.lines
    assert ended.lines[-1] == "agreement 100.0 %"
    asked = ended.asked()
    assert {row["runtime"] for row in asked} == {
        "litert on generic-linux-x86_64",
        "litert on raspberry-pi-4",
        "litert_reference on generic-linux-x86_64",
        "onnxruntime on generic-linux-x86_64",
        "onnxruntime on raspberry-pi-4",
    }
    assert {row["plan"][:2] for row in asked} == {"ye", "no"}
    assert any("denied signatures" in row["reality"] for row in asked)


def test_kws_agrees(tmp_path: Path, shared: Path) -> None:
    ended = agreement(
        tmp_path, "--models", shared, "--only", "kws_float", "--scheme", "static_wi8_ai8", "--scheme", "weight_only_wi4"
    )
    assert (ended.code, ended.lines[-1]) == (0, "agreement 100.0 %")
    assert all(re.match(r"converted and run; \d+ operators", row["reality"]) for row in ended.asked())


def test_a_denial_that_is_not_true_is_caught(tmp_path: Path, examples: Path) -> None:
    """A kernel that the table leaves out runs after all."""
    head = "  SOFTMAX:\n    signatures:\n"
    claim = "      - {activations: int8, output: {dtype: int8, scale: 0.00390625, zero_point: -128}}\n"
    changed = false_table(tmp_path, "tflite-litert-cpu", head, head + claim)
    words = ("--models", examples, "--only", "digits_float.tflite", "--scheme", "static_wi8_ai8")
    ended = agreement(tmp_path, *words, more=changed)
    assert ended.code == 1
    wrong = [words for row in ended.asked() for words in row["wrong"]]
    assert "SOFTMAX int8 is denied and runs" in wrong


def test_a_claim_that_is_not_true_is_caught(tmp_path: Path, examples: Path) -> None:
    """onnxruntime rounds 16-bit activations and computes in float, whatever a table says."""
    head = "  Conv:\n    signatures:\n"
    claim = "      - {activations: int16, weights: int8, bias: int64, granularity: per-channel, symmetric: both}\n"
    changed = false_table(tmp_path, "onnx-ort-cpu", head + claim, head)
    words = ("--models", examples, "--only", "digits_float.onnx", "--scheme", "static_wi8_ai16")
    ended = agreement(tmp_path, *words, more=changed)
    assert ended.code == 1
    assert not re.match("agreement 100", ended.lines[-1])
    wrong = [words for row in ended.asked() for words in row["wrong"]]
    assert any("Conv (signature-supported) is planned in integers and runs in float" in words for words in wrong)


def test_a_missing_folder_and_an_unknown_model_are_told(tmp_path: Path, examples: Path) -> None:
    assert agreement(tmp_path, "--models", tmp_path / "nowhere").code == 2
    assert agreement(tmp_path, "--models", examples, "--only", "nothing").code == 2
