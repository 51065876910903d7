"""onnxruntime's static quantization: QDQ, min-max, per channel, int8 activations and int8 weights."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import feeds
import numpy as np
import onnx
import onnx.version_converter
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

PER_CHANNEL_OPSET = 13


class Reader(CalibrationDataReader):
    """Calibration samples by the names of a model's inputs."""

    def __init__(self, model: Path, samples: Path) -> None:
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self.names = [port.name for port in session.get_inputs()]
        self.stream = feeds.batches(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample."""
        sample = next(self.stream, None)
        return None if sample is None else dict(zip(self.names, sample, strict=True))


def quantize(model: Path, samples: Path, out: Path) -> list[str]:
    """Prepared as its guide says, then quantized."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        prepared, notes = Path(folder) / "prepared.onnx", _raised(model, Path(folder) / "raised.onnx")
        model = Path(folder) / "raised.onnx" if notes else model
        try:
            quant_pre_process(model, prepared)
        except Exception as error:  # noqa: BLE001  it raises plain Exception where symbolic shapes are too much for it
            notes.append(f"without symbolic shape inference: {str(error)[:80]}")
            quant_pre_process(model, prepared, skip_symbolic_shape=True)
        quantize_static(
            prepared,
            out,
            Reader(prepared, samples),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
    return notes


def _raised(model: Path, out: Path) -> list[str]:
    """Write the model in the first operator set with a scale for each channel, which its own may not have."""
    content = onnx.load(model)
    opset = next(item.version for item in content.opset_import if item.domain in ("", "ai.onnx"))
    if opset >= PER_CHANNEL_OPSET:
        return []
    onnx.save(onnx.version_converter.convert_version(content, PER_CHANNEL_OPSET), out)
    return [f"operator set {opset} was raised to {PER_CHANNEL_OPSET} first"]


if __name__ == "__main__":
    feeds.main(quantize, "onnxruntime", "onnx")
