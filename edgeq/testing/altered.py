"""Models whose stored numbers were changed, as a broken export leaves them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def alter(path: Path, name: str, change: Callable[[NDArray[np.float32]], Any]) -> Path:
    """Change a float constant of a .tflite or .onnx file where it lies; raises KeyError without such a constant."""
    return (_onnx if path.suffix == ".onnx" else _tflite)(path, name, change)


def _onnx(path: Path, name: str, change: Callable[[NDArray[np.float32]], Any]) -> Path:
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(path))
    stored = {item.name: item for item in model.graph.initializer}[name]
    values = np.array(numpy_helper.to_array(stored))
    change(values)
    stored.CopyFrom(numpy_helper.from_array(values, name))
    onnx.save(model, str(path))
    return path


def _tflite(path: Path, name: str, change: Callable[[NDArray[np.float32]], Any]) -> Path:
    from edgeq.converters import _flatbuffer as flatbuffer

    model = flatbuffer.load(path)
    tensor = {one.name.decode(): one for one in model.subgraphs[0].tensors}[name]
    buffer = model.buffers[tensor.buffer]
    values = np.frombuffer(bytes(buffer.data), np.float32).reshape(tensor.shape).copy()
    change(values)
    buffer.data = np.frombuffer(values.tobytes(), np.uint8)
    path.write_bytes(flatbuffer.dump(model))
    return path
