"""NNCF's post-training quantization of ONNX; a fourth word `transformer` takes its preset for transformers."""

from __future__ import annotations

import sys
from pathlib import Path

import feeds
import nncf
import onnx


def quantize(model: Path, samples: Path, out: Path) -> list[str]:
    """All calibration samples, everything else as it comes."""
    content = onnx.load(model)
    constants = {item.name for item in content.graph.initializer}
    names = [port.name for port in content.graph.input if port.name not in constants]
    stream = [dict(zip(names, sample, strict=True)) for sample in feeds.batches(samples)]
    preset = nncf.ModelType.TRANSFORMER if "transformer" in sys.argv[4:] else None
    made = nncf.quantize(content, nncf.Dataset(stream), subset_size=len(stream), model_type=preset)
    onnx.save(made, out)
    return []


if __name__ == "__main__":
    feeds.main(quantize, "nncf", "onnx", "onnxruntime")
