"""AMD Quark's post-training quantization of ONNX; the fourth word is one of its presets, A8W8 or XINT8."""

from __future__ import annotations

import sys
from pathlib import Path

import feeds
import numpy as np
import onnx
from onnxruntime.quantization import CalibrationDataReader
from quark.onnx import ModelQuantizer, QConfig


class Reader(CalibrationDataReader):
    """Calibration samples by the names of a model's inputs."""

    def __init__(self, names: list[str], samples: Path) -> None:
        self.names, self.stream = names, feeds.batches(samples)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample."""
        sample = next(self.stream, None)
        return None if sample is None else dict(zip(self.names, sample, strict=True))


def quantize(model: Path, samples: Path, out: Path) -> list[str]:
    """The preset as it comes."""
    content = onnx.load(model)
    constants = {item.name for item in content.graph.initializer}
    names = [port.name for port in content.graph.input if port.name not in constants]
    config = QConfig.get_default_config(sys.argv[4])
    ModelQuantizer(config).quantize_model(str(model), str(out), Reader(names, samples))
    return [f"preset {sys.argv[4]}"]


if __name__ == "__main__":
    feeds.main(quantize, "amd-quark", "onnx", "onnxruntime")
