"""Smallest and largest value of every activation, sample by sample."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq.runtimes import encode, litert, onnxruntime
from edgeq.types import ModelGraph

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeq.runtimes import Session

    Array = NDArray[Any]
    Extremes = NDArray[np.float64]

THREADS = 4
_FLOATS = ("float32", "float64", "float16")


class Probe(NamedTuple):
    """A model that shows its activations: their names, and smallest and largest value of each for one sample."""

    names: tuple[str, ...]
    read: Callable[[tuple[Array, ...]], Extremes]


@contextlib.contextmanager
def probing(graph: ModelGraph) -> Iterator[Probe]:
    """A probe of a float model; raises ModelError where the runtime refuses it."""
    names = _computed(graph)
    with tempfile.TemporaryDirectory(prefix="edgeq-doctor-") as folder:
        yield _OPENERS[graph.format](graph, names, Path(folder))


def _computed(graph: ModelGraph) -> tuple[str, ...]:
    """Real-valued tensors that the main graph's operators compute."""
    outputs = (index for operator in graph.operators if operator.subgraph == 0 for index in operator.outputs)
    tensors = (graph.tensors[index] for index in outputs if index >= 0)
    return tuple(dict.fromkeys(tensor.name for tensor in tensors if tensor.dtype in _FLOATS))


def _tflite(graph: ModelGraph, names: tuple[str, ...], _folder: Path) -> Probe:
    session = litert.open(Path(graph.path), threads=THREADS, preserve=True)
    wanted = frozenset(names)

    def read(sample: tuple[Array, ...]) -> Extremes:
        _run(session, sample)
        return _extremes(names, dict(session.tensors(wanted)))

    return Probe(names, read)


def _onnx(graph: ModelGraph, names: tuple[str, ...], folder: Path) -> Probe:
    session = onnxruntime.open(_exposed(graph, names, folder), threads=THREADS, lean=True)
    order = [port.name for port in session.outputs]

    def read(sample: tuple[Array, ...]) -> Extremes:
        return _extremes(names, dict(zip(order, _run(session, sample), strict=True)))

    return Probe(names, read)


def _exposed(graph: ModelGraph, names: tuple[str, ...], folder: Path) -> Path:
    """The model with every activation among its outputs."""
    import onnx

    model = onnx.load(graph.path)
    present = {item.name for item in model.graph.output}
    for name in names:
        if name not in present:
            model.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    path = folder / "exposed.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def _run(session: Session, sample: tuple[Array, ...]) -> list[Array]:
    return session.run([encode(port, value) for port, value in zip(session.inputs, sample, strict=True)])


def _extremes(names: tuple[str, ...], values: dict[str, Array]) -> Extremes:
    """(activations, 2); zeros where the run gave no values, NaN where there is one among them."""
    found = np.zeros((len(names), 2))
    for place, name in enumerate(names):
        if name in values and values[name].size:
            found[place] = values[name].min(), values[name].max()
    return found


_OPENERS: dict[str, Callable[[ModelGraph, tuple[str, ...], Path], Probe]] = {"tflite": _tflite, "onnx": _onnx}
