"""edgeq analyze: what it prints, writes and refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.testing import models

Edgeq = Callable[..., Any]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    models.mlp_tflite(tmp_path)
    models.tiny_dataset(tmp_path, models.MLP_SHAPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_model_is_quantized_and_analysed(edgeq: Edgeq, desk: Path) -> None:
    ran = edgeq("analyze", "mlp.tflite", "--data", "dataset.yaml", "-o", "out", "--samples", "3", "--json")
    assert ran.code == 0, ran.err
    document = ran.document
    assert document["samples"] == 3
    assert [step["step"] for step in document["steps"]] == ["prepared", "quantized", "runtime"]
    assert [row["type"] for row in document["operators"]] == ["INPUT", "FULLY_CONNECTED", "FULLY_CONNECTED", "SOFTMAX"]
    assert document["guilty"] is None
    assert json.loads((desk / "out" / "analysis.json").read_text()) == document
    assert (desk / "out" / "analysis.html").read_text().startswith("<!DOCTYPE html>")
    assert "analysis.html" in ran.err


def test_an_earlier_conversion_is_taken_as_it_is(edgeq: Edgeq, desk: Path) -> None:
    asked = ("-t", "generic-linux-x86_64", "--data", "dataset.yaml", "-o", "out")
    assert edgeq("quantize", "mlp.tflite", *asked, "--scheme", "weight_only_wi8", "-q").code == 0
    before = (desk / "out" / "quantized.json").read_bytes()
    ran = edgeq("analyze", "mlp.tflite", *asked, "--samples", "2", "--json")
    assert ran.code == 0, ran.err
    assert (desk / "out" / "quantized.json").read_bytes() == before
    assert all(row["range"] is None for row in ran.document["operators"])
    assert ran.document["notes"] == []


def test_a_table_for_people_goes_with_a_file_of_ones_own(edgeq: Edgeq, desk: Path) -> None:
    asked = ("--data", "dataset.yaml", "--samples", "2")
    assert edgeq("analyze", "mlp.tflite", *asked, "-o", "one", "-q").code == 0
    made = next((desk / "one").glob("*_quantized.tflite")).rename(desk / "own.tflite")
    ran = edgeq("analyze", "mlp.tflite", *asked, "-o", "two", "--quantized", made, "-v")
    assert ran.code == 0, ran.err
    for part in ("FULLY_CONNECTED", "accumulated", "every operator costs"):
        assert part in ran.out, part


def test_bad_input_is_one_clear_line(edgeq: Edgeq, desk: Path) -> None:
    asked = ("--data", "dataset.yaml", "-o", "out")
    (desk / "junk.tflite").write_bytes(b"\0\0\0\0TFL3" + b"\xff" * 200)
    models.conv_tflite(desk)
    for argv, words in (
        (("nosuch.tflite", *asked), "there is no such file"),
        (("mlp.tflite", *asked, "--quantized", "mlp.tflite"), "is not quantized"),
        (("mlp.tflite", *asked, "--quantized", "nosuch.tflite"), "no such file"),
        (("mlp.tflite", *asked, "--quantized", "junk.tflite"), "not a valid"),
        (("mlp.tflite", "--data", "nosuch.yaml", "-o", "out"), "nosuch.yaml"),
    ):
        ran = edgeq("analyze", *argv)
        assert ran.code == 1, (argv, ran.err)
        assert words in ran.err
        assert ran.error
        assert ran.out == ""


def test_a_quantized_model_is_not_its_own_float_model(edgeq: Edgeq, desk: Path) -> None:
    assert edgeq("analyze", "mlp.tflite", "--data", "dataset.yaml", "-o", "out", "--samples", "1", "-q").code == 0
    made = next((desk / "out").glob("*_quantized.tflite"))
    ran = edgeq("analyze", made, "--data", "dataset.yaml")
    assert ran.code == 1
    assert "is quantized already" in ran.error
    assert "--quantized" in ran.err


@pytest.mark.parametrize("samples", ["0", "-1", "many"])
def test_senseless_numbers_of_samples_are_usage(edgeq: Edgeq, desk: Path, samples: str) -> None:
    assert edgeq("analyze", "mlp.tflite", "--data", "dataset.yaml", "--samples", samples).code == 2


def test_a_plan_that_refuses_is_exit_code_3(edgeq: Edgeq, desk: Path) -> None:
    target = desk / "tiny.yaml"
    from edgeq import targets

    source = Path(targets.__file__).resolve().parents[2] / "targets" / "generic-linux-x86_64.yaml"
    text = source.read_text()
    import re

    target.write_text(re.sub(r"(flash:|flash_bytes:|storage:)\s*[^\n]+", r"\1 1 KiB", text))
    ran = edgeq("analyze", "mlp.tflite", "--data", "dataset.yaml", "-t", str(target), "-o", "out")
    assert ran.code in (1, 3)
    assert not (desk / "out" / "analysis.json").exists()
