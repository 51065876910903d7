"""The tiny models run, agree with each other and classify their data set."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from ai_edge_litert.interpreter import Interpreter
from numpy.typing import NDArray

from edgeq.testing import models

Floats = NDArray[np.float32]


def run_tflite(path: Path, samples: Floats) -> Floats:
    interpreter = Interpreter(model_path=str(path))
    source = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(source, samples.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source, samples)
    interpreter.invoke()
    return np.asarray(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))


def run_onnx(path: Path, samples: Floats) -> Floats:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"input": samples})[0])


def accuracy(scores: Floats, labels: NDArray[np.int64]) -> float:
    return float((scores.argmax(1) == labels).mean())


def test_conv_tflite_classifies_its_data_set_in_any_batch(tmp_path: Path) -> None:
    samples, labels = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 64)
    scores = run_tflite(models.conv_tflite(tmp_path), samples)
    assert scores.shape == (64, models.CLASSES)
    assert accuracy(scores, labels) > 0.9


def test_mlp_tflite_classifies_its_data_set(tmp_path: Path) -> None:
    samples, labels = models.tiny_samples(models.MLP_SHAPE, models.CLASSES, 64)
    assert accuracy(run_tflite(models.mlp_tflite(tmp_path), samples), labels) > 0.9


@pytest.mark.parametrize("make", [models.conv_onnx, models.external_data_onnx])
def test_conv_onnx_computes_what_conv_tflite_does(tmp_path: Path, make: object) -> None:
    samples, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 8)
    path = make(tmp_path)  # type: ignore[operator]
    ours = run_onnx(path, np.ascontiguousarray(samples.transpose(0, 3, 1, 2)))
    np.testing.assert_allclose(ours, run_tflite(models.conv_tflite(tmp_path), samples), atol=1e-5)


def test_external_data_stands_beside_the_model(tmp_path: Path) -> None:
    path = models.external_data_onnx(tmp_path)
    assert (tmp_path / "external.onnx.data").stat().st_size > 1000
    assert len(onnx.load(str(path), load_external_data=False).graph.initializer[0].external_data) > 0


def test_custom_operators_are_refused_by_the_runtimes(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="EdgeqMystery"):
        Interpreter(model_path=str(models.custom_op_tflite(tmp_path))).allocate_tensors()
    with pytest.raises(onnxruntime.capi.onnxruntime_pybind11_state.Fail, match="edgeq\\.test"):
        run_onnx(models.custom_op_onnx(tmp_path), np.zeros((1, 16), np.float32))


def test_the_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    first = models.conv_tflite(tmp_path, "a.tflite").read_bytes()
    assert first == models.conv_tflite(tmp_path, "b.tflite").read_bytes()
    assert models.conv_onnx(tmp_path, "a.onnx").read_bytes() == models.conv_onnx(tmp_path, "b.onnx").read_bytes()


def test_tiny_dataset_writes_samples_and_slices(tmp_path: Path) -> None:
    text = models.tiny_dataset(tmp_path, (3, 4), 5, count=40).read_text()
    with np.load(tmp_path / "samples.npz") as stored:
        assert stored["x"].shape == (40, 3, 4)
        assert stored["x"].dtype == np.float32
        assert set(stored["y"]) == set(range(5))
    assert re.search(r'calibration: "0:10"\nevaluation: "10:40"', text)
    assert "transpose" not in text
    assert "transpose: [2, 0, 1]" in models.tiny_dataset(tmp_path, channels_first=True).read_text()
