"""Ranges of activations: intermediate tensors become outputs, samples stream through, nothing is kept."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq import runtimes
from edgeq.converters import observing
from edgeq.converters.observing import Ranges, Shown, Store
from edgeq.converters.onnx import prepare
from edgeq.runtimes import onnxruntime as runtime
from edgeq.types import Progress, RangeMethod

if TYPE_CHECKING:
    from edgeq.runtimes import Array

_MOVERS = frozenset({"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
_CLIPS = frozenset({"Relu", "Clip"})
_MOST_THREADS = 8


def ranges(
    model: Any,
    names: Iterable[str],
    given: Shown,
    method: RangeMethod,
    folder: Path,
    progress: Progress,
    where: str,
    state: Path | None = None,
) -> Ranges:
    """Range of each named float tensor over the samples.

    Memory holds two samples' activations and the observer, however many samples there are; `state` is a folder in which
    an interrupted pass is kept. Raises ConvertError, ModelError.
    """
    names = list(names)
    stand_ins = representatives(model)
    watched = {stand_ins.get(name, name) for name in names}
    labels = {name: name for name in _in_order(model, watched)}
    digest = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest() if state else ""
    with prepare.blaming(where):
        found = observing.ranges(
            method,
            labels,
            given,
            lambda samples: watch(model, watched, samples, folder, where),
            progress,
            where,
            Store(state, f"{runtime.version()} {digest}") if state else None,
        )
    return {name: found[stand_ins.get(name, name)] for name in names if stand_ins.get(name, name) in found}


def _in_order(model: Any, names: set[str]) -> list[str]:
    """Those names, the inputs first, then as they are computed."""
    made = (name for node in model.graph.node for name in node.output)
    order = dict.fromkeys(name for name in (*(item.name for item in model.graph.input), *made) if name in names)
    return [*order, *sorted(names - order.keys())]


def watch(
    model: Any, names: Iterable[str], samples: Iterable[tuple[Array, ...]], folder: Path, where: str
) -> Iterator[Mapping[str, Array]]:
    """Those tensors' values, and the ports', sample by sample; raises ConvertError, ModelError."""
    session = _session(model, sorted(names), folder, where)
    for sample in samples:
        stored = [runtimes.encode(port, value) for port, value in zip(session.inputs, sample, strict=True)]
        seen = {port.name: value for port, value in zip(session.inputs, stored, strict=True)}
        yield seen | {port.name: value for port, value in zip(session.outputs, session.run(stored), strict=True)}


def _session(model: Any, watched: list[str], folder: Path, where: str) -> runtime.OnnxSession:
    import onnx

    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    present = {item.name for item in (*model.graph.output, *model.graph.input)}
    for name in watched:
        if name not in present:
            exposed.graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None))
    prepare.save(exposed, folder / "exposed.onnx", where)
    return runtime.open(folder / "exposed.onnx", threads=min(os.cpu_count() or 1, _MOST_THREADS), lean=True)


def representatives(model: Any) -> Mapping[str, str]:
    """Tensor to the one whose range it shares.

    What only a Relu or Clip reads needs the clipped range, and moving values changes none.
    """
    readers: dict[str, list[Any]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    shared: dict[str, str] = {}
    outputs = {item.name for item in model.graph.output}
    for node in model.graph.node:
        if node.op_type in _CLIPS and len(readers[node.input[0]]) == 1 and node.input[0] not in outputs:
            shared[node.input[0]] = node.output[0]
    for node in model.graph.node:
        if node.op_type in _MOVERS and node.output[0] not in shared:
            shared[node.output[0]] = node.input[0]
    return {name: _last(shared, name) for name in shared}


def _last(shared: dict[str, str], name: str) -> str:
    for _ in range(len(shared)):
        if name not in shared:
            break
        name = shared[name]
    return name
