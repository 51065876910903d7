"""`edgeq doctor MODEL --data DATASET`: what it prints, on which stream, and with which code."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.testing import models

Edgeq = Callable[..., Any]
KEYS = {"schema_version", "ok", "findings", "calibration", "scored"}


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a model and samples that fit."""
    models.mlp_tflite(tmp_path)
    models.tiny_dataset(tmp_path, models.MLP_SHAPE, count=160)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _change(folder: Path, **arrays: Any) -> None:
    with np.load(folder / "samples.npz") as stored:
        kept = {name: stored[name] for name in stored.files}
    np.savez(folder / "samples.npz", **{name: arrays.get(name, lambda same: same)(kept[name]) for name in kept})


def test_samples_that_are_fine(edgeq: Edgeq, desk: Path) -> None:
    ran = edgeq("doctor", "mlp.tflite", "--data", "dataset.yaml")
    assert ran.code == 0
    assert "nothing speaks against these samples: 40 calibration samples, 120 scored samples" in ran.out
    assert "asking the float model" in ran.err
    quiet = edgeq("doctor", "mlp.tflite", "--data", "dataset.yaml", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", "")


def test_a_warning_is_no_refusal(edgeq: Edgeq, desk: Path) -> None:
    _change(desk, x=lambda x: x[np.r_[np.zeros(40, int), 40:160]])
    ran = edgeq("doctor", "mlp.tflite", "--data", "dataset.yaml", "-q")
    assert ran.code == 0
    assert "warning: A single sample calibrates" in ran.out
    assert "(try: calibrate on 100 samples or more)" in ran.out
    assert "distinct 1" not in ran.out
    assert "distinct 1" in edgeq("doctor", "mlp.tflite", "--data", "dataset.yaml", "-v").out


def test_a_model_at_chance_is_one(edgeq: Edgeq, desk: Path) -> None:
    _change(desk, y=lambda y: np.random.default_rng(3).permutation(y))
    ran = edgeq("doctor", "mlp.tflite", "--data", "dataset.yaml", "--json")
    assert ran.code == 3
    assert set(ran.document) == KEYS
    assert ran.document["ok"] is False
    told = {one["rule"]: one for one in ran.document["findings"]}
    assert told["at-chance"]["severity"] == "stop"
    assert set(told["at-chance"]) == {"rule", "severity", "why", "evidence", "hint"}
    assert told["at-chance"]["evidence"]["labels"] == 120
    assert "stop: The float model's score is at chance" in edgeq("doctor", "mlp.tflite", "--data", "dataset.yaml").out


def test_the_document_of_fine_samples(edgeq: Edgeq, desk: Path) -> None:
    ran = edgeq("doctor", "mlp.tflite", "--data", "dataset.yaml", "--json", "-q")
    assert ran.code == 0
    assert ran.document == {"schema_version": 1, "ok": True, "findings": [], "calibration": 40, "scored": 120}


@pytest.mark.parametrize("argv", [("mlp.tflite",), ("--data", "dataset.yaml")])
def test_a_model_and_its_samples_go_together(edgeq: Edgeq, desk: Path, argv: tuple[str, ...]) -> None:
    ran = edgeq("doctor", *argv)
    assert (ran.code, ran.out) == (2, "")
    assert "edgeq doctor MODEL --data DATASET" in ran.err


@pytest.mark.parametrize(("model", "data"), [("nosuch.tflite", "dataset.yaml"), ("mlp.tflite", "nosuch.yaml")])
def test_what_is_not_there(edgeq: Edgeq, desk: Path, model: str, data: str) -> None:
    ran = edgeq("doctor", model, "--data", data, "-q")
    assert (ran.code, ran.out) == (1, "")
    assert "nosuch" in ran.err
    assert ran.error


def test_quantize_says_what_it_saw(edgeq: Edgeq, desk: Path) -> None:
    _change(desk, x=lambda x: x[np.r_[np.zeros(40, int), 40:160]])
    argv = ("quantize", "mlp.tflite", "-t", "generic-linux-x86_64", "--data", "dataset.yaml", "-o", "out")
    document = edgeq(*argv, "--json").document
    assert {one["rule"] for one in document["findings"]} >= {"one-sample", "copied-samples"}
    assert "warning: A single sample calibrates" in edgeq(*argv, "--resume").out


def test_quantize_refuses_a_model_at_chance(edgeq: Edgeq, desk: Path) -> None:
    _change(desk, y=lambda y: np.random.default_rng(3).permutation(y))
    ran = edgeq("quantize", "mlp.tflite", "-t", "generic-linux-x86_64", "--data", "dataset.yaml", "-o", "out", "-q")
    assert (ran.code, ran.out) == (3, "")
    assert "score is at chance" in ran.error
    assert "edgeq doctor" in ran.err
    assert not (desk / "out" / "quantized.json").exists()
