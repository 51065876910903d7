"""`edgeq analyze` as a user runs it, on the shipped example."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("model_format", ["tflite", "onnx"])
def test_the_example_from_float_to_report(examples: Path, tmp_path: Path, model_format: str) -> None:
    digits = examples / "digits"
    argv = [sys.executable, "-m", "edgeq", "analyze", digits / f"digits_float.{model_format}", "--data"]
    argv += [digits / "dataset.yaml", "-o", tmp_path / "out", "--samples", "4", "--json"]
    ran = subprocess.run(
        list(map(str, argv)), capture_output=True, text=True, check=False, timeout=200,
        env={**os.environ, "HOME": str(tmp_path)},
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    assert "Traceback" not in ran.stderr
    document = json.loads(ran.stdout)
    assert document["schema_version"] == 1
    assert document["first_wrong"] is None
    assert {"prepared", "quantized", "runtime"} == {step["step"] for step in document["steps"]}
    kinds = [row["type"] for row in document["operators"]]
    assert kinds.count("CONV_2D" if model_format == "tflite" else "Conv") >= 2
    page = (tmp_path / "out" / "analysis.html").read_text()
    assert page.count("<img ") > 5
    assert "<script" not in page
    assert json.loads((tmp_path / "out" / "analysis.json").read_text()) == document
