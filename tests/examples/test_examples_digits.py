"""The digits example runs as it stands, says the truth about itself and can be made again."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Edgeq = Callable[..., Any]
TARGET = "generic-linux-x86_64" if platform.machine() == "x86_64" else "generic-linux-aarch64"
QUICK = ("--runs", "5", "--seconds", "0.1", "--warmup-seconds", "0")
MODELS = ("digits_float.tflite", "digits_float.onnx")


@pytest.fixture
def digits(examples: Path) -> Path:
    return examples / "digits"


@pytest.mark.parametrize("model", MODELS)
def test_the_main_job_runs_on_it(edgeq: Edgeq, digits: Path, tmp_path: Path, model: str) -> None:
    data = digits / "dataset.yaml"
    argv = ("run", digits / model, "-t", TARGET, "-d", "local:", "--data", data, "-o", tmp_path, "--json", *QUICK)
    ran = edgeq(*argv)
    assert ran.code == 0, ran.err
    found = ran.document
    assert found["accuracy"]["float"] >= 0.97
    assert found["accuracy"]["quantized"] >= 0.97
    assert found["artifact"]["size_bytes"] < 0.5 * found["artifact"]["float_size_bytes"]
    assert found["parity"]["exact"]
    assert found["parity"]["vectors"] >= 16
    assert found["plan"]["scheme"] == "static_wi8_ai8"
    placed = {(one["type"], one["placement"]) for one in found["plan"]["operators"] if one["type"] != "Softmax"}
    assert {place for kind, place in placed if kind not in ("Transpose", "SOFTMAX")} == {"cpu"}
    if model.endswith("onnx"):  # BatchNormalization is folded, every layer runs in integers
        assert any("6 operators with weights in integers and 0 in float" in note for note in found["notes"])


@pytest.mark.parametrize("model", MODELS)
def test_both_formats_are_the_network_that_the_readme_describes(edgeq: Edgeq, digits: Path, model: str) -> None:
    found = edgeq("inspect", digits / model, "--json").document
    assert found["state"] == "float"
    assert found["inputs"][0]["shape"] == [1, 8, 8, 1]
    assert found["outputs"][0]["shape"] == [1, 10]
    assert sum(count for name, count in found["operators"].items() if "CONV" in name.upper()) == 5
    if model.endswith("onnx"):
        assert found["operators"]["BatchNormalization"] == 5


def test_both_formats_answer_alike(digits: Path) -> None:
    from edgeq.runtimes import litert, onnxruntime

    with np.load(digits / "digits.npz") as stored:
        pictures = stored["x"][::10].astype(np.float32) / 16
    sessions = [litert.open(digits / MODELS[0]), onnxruntime.open(digits / MODELS[1])]
    answers = [np.concatenate([one.run((picture[None],))[0] for picture in pictures]) for one in sessions]
    assert np.abs(answers[0] - answers[1]).max() < 1e-4
    assert answers[0].sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_the_samples_are_scikit_learns(digits: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets", reason="scikit-learn holds the original samples")
    original = datasets.load_digits()
    with np.load(digits / "digits.npz") as stored:
        assert stored["x"].dtype == np.uint8
        assert stored["x"].shape == (1797, 8, 8, 1)
        assert np.array_equal(stored["x"][..., 0], original.images)
        assert np.array_equal(stored["y"], original.target)


def test_no_held_out_sample_calibrates(digits: Path) -> None:
    from edgeq import datasets

    found = datasets.load(str(digits / "dataset.yaml"))
    assert max(found.calibration) < 1297 <= min(found.evaluation)
    assert (len(found.calibration), len(found.evaluation)) == (200, 500)


def test_it_stays_small(digits: Path) -> None:
    files = [path for path in digits.iterdir() if path.is_file()]
    assert {*MODELS, "digits.npz", "dataset.yaml", "train.py", "README.md"} <= {path.name for path in files}
    assert sum(path.stat().st_size for path in files) < 300_000


@pytest.mark.slow
def test_trained_again_it_comes_out_the_same(digits: Path) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn holds the samples")
    pytest.importorskip("tensorflow", reason="the tensorflow extra trains the network")
    argv = [sys.executable, str(digits / "train.py"), "--check"]
    ran = subprocess.run(argv, capture_output=True, text=True, timeout=280, env=dict(os.environ), check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr[-2000:]
    assert "the same within tolerance" in ran.stdout
