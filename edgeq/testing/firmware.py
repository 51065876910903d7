"""A microcontroller's bundle around a tiny dense model, and its firmware built for this host."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeq import models, targets
from edgeq.builders import mcu
from edgeq.codegen import reference
from edgeq.errors import ToolError
from edgeq.testing.plans import plan_of, quantized_of
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite
from edgeq.types import Bundle, Scheme, Signature

TARGET = "stm32l4r5"
INPUTS = 100
OUTPUTS = 7


def graph(seed: int = 0) -> Graph:
    """FULLY_CONNECTED and SOFTMAX in INT8; another seed is another model."""
    weights = np.random.default_rng(seed).integers(-127, 128, (OUTPUTS, INPUTS)).astype(np.int8)
    tensors = (
        Tensor(name="samples", shape=(1, INPUTS), dtype="int8", scales=(0.05,), zero_points=(-3,)),
        Tensor(name="w", shape=weights.shape, dtype="int8", data=weights, scales=(0.01,), zero_points=(0,)),
        Tensor(name="dense", shape=(1, OUTPUTS), dtype="int8", scales=(0.3,), zero_points=(4,)),
        Tensor(name="scores", shape=(1, OUTPUTS), dtype="int8", scales=(1 / 256,), zero_points=(-128,)),
    )
    nodes = (
        Node(type="FULLY_CONNECTED", inputs=("samples", "w"), outputs=("dense",),
             options_table="FullyConnectedOptions"),
        Node(type="SOFTMAX", inputs=("dense",), outputs=("scores",), options_table="SoftmaxOptions",
             options={"beta": 1.0}),
    )  # fmt: skip
    return Graph(tensors=tensors, nodes=nodes, inputs=("samples",), outputs=("scores",))


def bundle(folder: Path, *, seed: int = 0, vectors: int = 16, target: str = TARGET) -> Bundle:
    """The bundle of that model in `folder/bundle`."""
    folder.mkdir(parents=True, exist_ok=True)
    path = write_tflite(folder / "model.tflite", graph(seed))
    read, session = models.read(path), reference.open(path)
    scheme = Scheme(name="as_is", default=Signature(activations="int8"))
    plan = plan_of(read, scheme, target=target, runtime="tflite-micro")
    found = quantized_of(read, plan, session, path)
    return mcu.build(found, folder, _samples(vectors), folder / "bundle", "tiny", target=targets.load(target))


def _samples(count: int) -> Iterator[tuple[np.ndarray[tuple[int, ...], np.dtype[np.float32]], ...]]:
    random = np.random.default_rng(1)
    return ((random.normal(0, 2, (1, INPUTS)).astype(np.float32),) for _ in range(count))


def program(found: Bundle, name: str = "protocol", *, flags: str = "") -> Path:
    """`make build/<name>` in a bundle, by this host's compiler; raises ToolError where it has none."""
    if shutil.which("make") is None or shutil.which("gcc") is None:
        raise ToolError("make and gcc are not installed on this host: no firmware can be built")
    words = ["make", "-s", f"build/{name}", *([f"CFLAGS={flags}"] if flags else [])]
    done = subprocess.run(
        words, cwd=found.path, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": os.environ["PATH"]},
    )  # fmt: skip
    if done.returncode:
        raise ToolError(f"the firmware cannot be built: {done.stderr[-2000:]}")
    return Path(found.path) / "build" / name
