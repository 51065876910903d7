"""Run ONNX files with every tensor in sight, and cut them into operators that run side by side."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import models, runtimes
from edgeq.analysis.net import DEQUANTIZE, Net, Region, real_values
from edgeq.converters.onnx import prepare
from edgeq.errors import ModelError
from edgeq.runtimes import onnxruntime as runtime

if TYPE_CHECKING:
    from edgeq.runtimes import Array

Trace = Callable[[Sequence["Array"]], dict[int, "Array"]]
_MOST_THREADS = 8


def load(path: Path) -> Net:
    """The model with its structure; raises ModelError."""
    return Net(models.read(path), raw(path))


def raw(path: Path) -> Any:
    """The model with its external data in it; raises ConvertError."""
    return prepare.load(path)


def trace(net: Net, wanted: Sequence[int], folder: Path, *, exact: bool) -> Trace:
    """A function from real samples to the stored values of tensors; `exact` fuses nothing."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(net.raw)
    names = {net.graph.tensors[tensor].name: tensor for tensor in wanted if tensor not in net.graph.inputs}
    present = {item.name for item in model.graph.output}
    model.graph.output.extend(_value(net, tensor, name) for name, tensor in names.items() if name not in present)
    path = folder / "whole.onnx"
    prepare.save(model, path, net.graph.path)
    session = runtime.open(path, threads=_threads(), optimise=not exact)

    def run(sample: Sequence[Array]) -> dict[int, Array]:
        stored = [runtimes.encode(port, real) for port, real in zip(session.inputs, sample, strict=True)]
        made = zip(session.outputs, session.run(stored), strict=True)
        found = {names[port.name]: value for port, value in made if port.name in names}
        return found | dict(zip(net.graph.inputs, stored, strict=True))

    return run


def _threads() -> int:
    return min(os.cpu_count() or 1, _MOST_THREADS)


def constant(net: Net, tensor: int) -> Array | None:
    """Real values of a constant, or of one behind DequantizeLinear; None for what stands for no real values."""
    from onnx import numpy_helper

    maker = net.makers.get(tensor)
    source = maker.inputs[0] if maker is not None and maker.type in DEQUANTIZE else tensor
    item = _initializer(net, source)
    if item is None or item.data_type == item.FLOAT:
        return None if item is None else numpy_helper.to_array(item)
    found = net.graph.tensors[source].quantization
    return None if found is None else real_values(numpy_helper.to_array(item), found)


def _initializer(net: Net, tensor: int) -> Any:
    name = net.graph.tensors[tensor].name
    return next((item for item in net.raw.graph.initializer if item.name == name), None)


def cut(
    net: Net,
    regions: Sequence[Region],
    seen: Mapping[int, Array],
    path: Path,
    *,
    exact: bool,
    replaced: Mapping[int, Array],
) -> runtimes.Session:
    """A session with each region's ends as inputs and its goals as outputs, in order; raises ModelError.

    `seen` tells the data types and ranks of ends; `replaced` gives constants other values.
    """
    import onnx
    from onnx import numpy_helper

    model = onnx.ModelProto()
    model.CopyFrom(net.raw)
    del model.graph.node[:], model.graph.input[:], model.graph.output[:], model.graph.value_info[:]
    changed = {net.graph.tensors[tensor].name: values for tensor, values in replaced.items()}
    for item in model.graph.initializer:
        if item.name in changed:
            item.CopyFrom(numpy_helper.from_array(np.asarray(changed[item.name], np.float32), item.name))
    places = {operator.index: place for place, operator in enumerate(net.operators)}
    nodes = net.raw.graph.node
    model.graph.node.extend(node for node in nodes if node.op_type == "Constant")
    for number, region in enumerate(regions):
        _add(net, model.graph, region, number, [nodes[places[one.index]] for one in region.operators], seen)
    prepare.save(model, path, net.graph.path)
    return runtime.open(path, threads=_threads(), optimise=not exact)


def _add(net: Net, graph: Any, region: Region, number: int, nodes: Sequence[Any], seen: Mapping[int, Array]) -> None:
    names = {}
    for end in region.ends:
        names[net.graph.tensors[end].name] = f"i{number}.{end}"
        graph.input.append(_like(f"i{number}.{end}", seen[end]))
    for node in nodes:
        if node.op_type == "Constant":
            continue
        if any(item.HasField("g") for item in node.attribute):
            raise ModelError(f"{node.op_type} holds a graph of its own", where=net.graph.path)
        made = copy.deepcopy(node)
        names |= {name: f"r{number}.{name}" for name in node.output if name}
        made.name = f"n{number}.{node.name}"
        made.input[:] = [names.get(name, name) for name in node.input]
        made.output[:] = [names.get(name, name) for name in node.output]
        graph.node.append(made)
    graph.output.extend(_value(net, goal, names[net.graph.tensors[goal].name]) for goal in region.goals)


def noisy(net: Net, tensors: Sequence[int], seen: Mapping[int, Array], folder: Path) -> runtimes.Session:
    """A session of the whole model with one more input for each of these tensors, which is added to it."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(net.raw)
    clean = {net.graph.tensors[tensor].name: f"clean.{tensor}" for tensor in tensors}
    for node in model.graph.node:
        node.output[:] = [clean.get(name, name) for name in node.output]
    added = []
    for tensor in tensors:
        name = net.graph.tensors[tensor].name
        model.graph.input.append(_like(f"noise.{tensor}", np.asarray(seen[tensor], np.float32)))
        added.append(onnx.helper.make_node("Add", [clean[name], f"noise.{tensor}"], [name], name=f"noisy.{tensor}"))
    model.graph.node.extend(added)
    prepare.sort_nodes(model)
    path = folder / "noisy.onnx"
    prepare.save(model, path, net.graph.path)
    return runtime.open(path, threads=_threads())


def _like(name: str, array: Array) -> Any:
    import onnx

    kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
    return onnx.helper.make_tensor_value_info(name, kind, [f"{name}.{axis}" for axis in range(array.ndim)])


def _value(net: Net, tensor: int, name: str) -> Any:
    import onnx

    dtype = net.graph.tensors[tensor].dtype
    kind = onnx.TensorProto.FLOAT if dtype == "unknown" else onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    return onnx.helper.make_tensor_value_info(name, kind, None)


def open_runtime(net: Net) -> runtimes.Session:
    """The file as the target's runtime would run it: fused, with integer kernels."""
    return runtime.open(Path(net.graph.path), threads=_threads())
