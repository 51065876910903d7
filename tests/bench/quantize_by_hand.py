"""The same work as `edgeq quantize` on mobilenet_v2 with onnxruntime's own calls, as one would write it by hand.

`python quantize_by_hand.py FOLDER OUT CALIBRATION METHOD`: FOLDER holds the model, images/ and labels.csv,
CALIBRATION is a slice such as `::5`, METHOD is MinMax or Percentile. Prints both scores as JSON.
"""

from __future__ import annotations

import csv
import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process
from PIL import Image

MEAN, STD = np.array([0.485, 0.456, 0.406], np.float32), np.array([0.229, 0.224, 0.225], np.float32)


def picture(path: Path) -> np.ndarray:
    """One sample as the model wants it."""
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"), np.float32) / 255
    return ((pixels - MEAN) / STD).transpose(2, 0, 1)[None]


class Reader(CalibrationDataReader):
    """Calibration samples, one by one."""

    def __init__(self, name: str, paths: list[Path]) -> None:
        self.feeds: Iterator[dict[str, np.ndarray]] = ({name: picture(path)} for path in paths)

    def get_next(self) -> dict[str, np.ndarray] | None:
        """The next sample."""
        return next(self.feeds, None)


def score(model: Path, paths: list[Path], labels: list[int]) -> float:
    """Top-1 over all pictures."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    right = [session.run(None, {name: picture(path)})[0].argmax() == y for path, y in zip(paths, labels, strict=True)]
    return float(np.mean(right))


def main(folder: Path, out: Path, calibration: slice, method: str) -> None:
    """Prepare, calibrate, quantize, score float and INT8."""
    with (folder / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    paths, labels = [folder / "images" / row["file"] for row in rows], [int(row["class_index"]) for row in rows]
    model = folder / "mobilenet_v2_float.onnx"
    out.mkdir(parents=True, exist_ok=True)
    prepared, made = out / "prepared.onnx", out / "quantized.onnx"
    quant_pre_process(model, prepared, skip_symbolic_shape=True)  # all shapes of this model are known
    name = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).get_inputs()[0].name
    quantize_static(
        prepared,
        made,
        Reader(name, paths[calibration]),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QUInt8,
        calibrate_method=CalibrationMethod[method],
    )
    found = {"float": score(model, paths, labels), "quantized": score(made, paths, labels)}
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    steps = [int(word) if word else None for word in sys.argv[3].split(":")]
    main(Path(sys.argv[1]), Path(sys.argv[2]), slice(*steps), sys.argv[4])
