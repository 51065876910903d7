"""How far the channels of a model's weights lie apart, read from the file; nothing of the model is run."""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.errors import ModelError
from edgeq.models import flatbuffer
from edgeq.types import ModelGraph, TensorSpec

if TYPE_CHECKING:
    import numpy.typing as npt
    import onnx

_REAL = ("float16", "float32", "float64")
_DEAD = 2.0**-20
"""A channel below this part of the widest one computes nothing: training has switched it off."""
_CHANGED = "has changed since it was read"


def spread(graph: ModelGraph, axes: Mapping[int, int]) -> dict[int, float]:
    """By tensor: the largest magnitude of its widest channel over that of the median one.

    `axes` has, for each tensor that is asked for, the axis of its channels. Left out are tensors that hold no plain
    floating-point constant of the main graph, nothing but zeros, or a number that is not finite. TFLite files and
    external data are mapped, not loaded. Raises ModelError where the file is not the one that was read.
    """
    wanted = [graph.tensors[index] for index in axes if graph.tensors[index].shape]
    found = {tensor.index: _ratio(values, axes[tensor.index]) for tensor, values in constants(graph, wanted)}
    return {index: ratio for index, ratio in found.items() if math.isfinite(ratio)}


def constants(graph: ModelGraph, tensors: Iterable[TensorSpec]) -> Iterator[tuple[TensorSpec, npt.NDArray[Any]]]:
    """Those among the tensors that are floating-point constants of the main graph, with their values."""
    wanted = [tensor for tensor in tensors if tensor.is_constant and tensor.dtype in _REAL]
    if wanted:
        yield from {"tflite": _tflite, "onnx": _onnx}[graph.format](graph, wanted)


def _ratio(values: npt.NDArray[Any], axis: int) -> float:
    """Of the living channels, for dead ones lose nothing; NaN where there are none."""
    import numpy as np

    if not values.size:
        return math.nan
    others = tuple(number for number in range(values.ndim) if number != axis % values.ndim)
    with np.errstate(all="ignore"):  # what overflows is not finite, and left out
        widths = np.maximum(values.max(axis=others), -values.min(axis=others)).astype(np.float64)
        living = widths[(widths > 0) & (widths >= _DEAD * widths.max())]
        return float(living.max() / np.median(living)) if living.size else math.nan


def _tflite(graph: ModelGraph, wanted: Sequence[TensorSpec]) -> Iterator[tuple[TensorSpec, npt.NDArray[Any]]]:
    import numpy as np

    with Path(graph.path).open("rb") as stream:
        if stream.seek(0, 2) != graph.size_bytes:
            raise ModelError(_CHANGED, where=graph.path)
        content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        stored = dict(flatbuffer.main_data(content, graph.size_bytes, [tensor.index for tensor in wanted]))
    except flatbuffer.CORRUPT as error:
        raise ModelError(_CHANGED, where=graph.path) from error
    for tensor in wanted:
        kind = np.dtype(tensor.dtype).newbyteorder("<")
        data = stored.get(tensor.index, memoryview(b""))
        if len(data) == kind.itemsize * math.prod(tensor.shape):  # what is stored sparse has fewer
            yield tensor, np.frombuffer(data, kind).reshape(tensor.shape)


def _onnx(graph: ModelGraph, wanted: Sequence[TensorSpec]) -> Iterator[tuple[TensorSpec, npt.NDArray[Any]]]:
    from edgeq.models import onnx_constants, onnx_file

    path = Path(graph.path)
    model, digest, _ = onnx_file.parse(path)
    if digest != graph.sha256:
        raise ModelError(_CHANGED, where=graph.path)
    held = dict(_named(model.graph))
    for tensor in wanted:
        values = onnx_constants.array(held[tensor.name], path) if tensor.name in held else None
        if values is not None and values.shape == tensor.shape:
            yield tensor, values


def _named(graph: onnx.GraphProto) -> Iterator[tuple[str, onnx.TensorProto]]:
    """The constants of the main graph by name, those of Constant nodes too."""
    yield from ((constant.name, constant) for constant in graph.initializer)
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            yield node.output[0], node.attribute[0].t
