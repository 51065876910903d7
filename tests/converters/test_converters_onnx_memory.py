"""Peak memory of a static conversion does not grow with the calibration samples."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]
SIDE, CHANNELS, COUNT = 160, 16, 200
SCRIPT = """
import dataclasses, pathlib, sys
from edgeq import datasets, models
from edgeq.converters import onnx, peak_rss_bytes
from edgeq.types import Plan, PlannedMemory, Predicted, Scheme, Signature

folder, count, method = pathlib.Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
graph = models.read(folder / "wide.onnx")
dataset = datasets.bind(datasets.load(folder / "dataset.yaml"), graph)
dataset = dataclasses.replace(dataset, calibration=tuple(range(count)))
signature = Signature(activations="uint8", weights="int8", granularity="per-channel", symmetric="weights")
plan = Plan(target="t", runtime="onnxruntime", format="onnx", ok=True, model_sha256="", operators=(), checks=(),
            scheme=Scheme(name="static_wi8_ai8", default=signature, ranges=method), predicted=Predicted(),
            memory=PlannedMemory(flash_bytes=0, ram_bytes=0, arena_bytes=0))
onnx.convert(graph, plan, dataset, folder / "out.onnx")
print(peak_rss_bytes())
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four convolutions whose activations take 1.6 MB each, and 200 pictures."""
    folder = tmp_path_factory.mktemp("wide")
    draw = np.random.default_rng(0)
    nodes, weights, last, depth = [], [], "input", 3
    for layer in range(4):
        kernel = draw.normal(0, 0.2, (CHANNELS, depth, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [last, f"w{layer}"], [f"c{layer}"], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        last, depth = f"r{layer}", CHANNELS
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["pooled"]))
    ports = [
        helper.make_tensor_value_info("input", TensorProto.FLOAT, ["N", 3, SIDE, SIDE]),
        helper.make_tensor_value_info("pooled", TensorProto.FLOAT, ["N", CHANNELS, 1, 1]),
    ]
    graph = helper.make_graph(nodes, "wide", ports[:1], ports[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, str(folder / "wide.onnx"))
    np.savez(folder / "x.npz", x=draw.integers(0, 256, (COUNT, SIDE, SIDE, 3), np.uint8))
    (folder / "dataset.yaml").write_text(
        "inputs:\n  - {npz: x.npz, array: x, scale: 0.004, transpose: [2, 0, 1]}\n"
        'metric: cosine\ncalibration: "all"\nevaluation: "all"\n'
    )
    return folder


def peak_bytes(folder: Path, count: int, method: str) -> int:
    argv = [sys.executable, "-c", SCRIPT, str(folder), str(count), method]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


@pytest.mark.parametrize("method", ["min-max", "percentile", "mean-squared-error"])
def test_peak_memory_at_200_samples_is_that_at_20(wide: Path, method: str) -> None:
    few, many = peak_bytes(wide, 20, method), peak_bytes(wide, COUNT, method)
    one_sample_bytes = 4 * CHANNELS * SIDE * SIDE * 4
    assert many - few < 6 * one_sample_bytes
    assert many < 1 << 30
