"""A float ONNX model made ready for quantization: weights restored, opset raised, portable fusions done."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from edgeq.errors import ConvertError, ModelError
from edgeq.runtimes import onnxruntime as runtime

OPSET = 13
"""The first opset whose QuantizeLinear has an axis, so that weights can be quantized per channel."""
LIMIT_BYTES = 2**31 - 1
T = TypeVar("T")


def guarded(where: str, action: str, call: Callable[[], T]) -> T:
    """Run a call into onnx or onnxruntime; what they refuse becomes a ConvertError of one line."""
    import onnx
    from google.protobuf.message import Error  # type: ignore[import-untyped, unused-ignore]

    refusals = (
        *runtime.failures(),
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
        onnx.version_converter.ConvertError,
        *(Error, LookupError, TypeError, AttributeError, AssertionError, OverflowError),
    )
    try:
        return call()
    except ConvertError:
        raise
    except refusals as error:
        # onnxruntime's quantizer raises whatever its unchecked code runs into: its types are listed above
        raise ConvertError(f"cannot {action}: {runtime.one_line(error)}", where=where) from error


@contextlib.contextmanager
def blaming(where: str) -> Iterator[None]:
    """Let a refusal of one of our temporary files name the user's."""
    try:
        yield
    except ModelError as error:
        raise ModelError(error.message, where=where, hint=error.hint) from error


def load(path: Path) -> Any:
    """The model with its external data in memory; raises ConvertError."""
    import onnx

    try:
        return guarded(str(path), "read it", lambda: onnx.load(str(path)))
    except OSError as error:
        raise ConvertError(f"cannot read it: {error.strerror or error}", where=str(path)) from error


def has_external_data(path: Path) -> bool:
    """Whether some weights of the file lie in other files."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return any(item.data_location == onnx.TensorProto.EXTERNAL for item in model.graph.initializer)


def check_size(model: Any, where: str) -> None:
    """Raise ConvertError above 2 GiB, which protobuf cannot hold."""
    if model.ByteSize() > LIMIT_BYTES:
        raise ConvertError("is over 2 GiB, more than one ONNX file can hold", where=where)


def save(model: Any, path: Path, where: str) -> None:
    """Write a model as one file; raises ConvertError."""
    check_size(model, where)
    path.write_bytes(model.SerializeToString())


def restore_weights(model: Any) -> int:
    """Replace DequantizeLinear of constants by float constants; returns how many."""
    from onnx import numpy_helper

    constants = {item.name: item for item in model.graph.initializer}
    folded = [
        node
        for node in model.graph.node
        if node.op_type == "DequantizeLinear" and all(name in constants for name in node.input if name)
    ]
    for node in folded:
        values = [numpy_helper.to_array(constants[name]) for name in node.input if name]
        model.graph.initializer.append(numpy_helper.from_array(_dequantized(node, values), node.output[0]))
        model.graph.node.remove(node)
    _drop_unused(model)
    return len(folded)


def _dequantized(node: Any, values: list[Any]) -> Any:
    import numpy as np

    stored, scale = values[0].astype(np.float32), values[1].astype(np.float32)
    zero = values[2].astype(np.float32) if len(values) > 2 else np.zeros((), np.float32)
    axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
    block = next((item.i for item in node.attribute if item.name == "block_size"), 0)
    if block:
        scale, zero = (_spread(node, one, stored.shape, axis, block) if one.ndim else one for one in (scale, zero))
    elif scale.size > 1:
        if scale.ndim != 1 or scale.size != stored.shape[axis]:
            raise ConvertError(f"the scales of {node.output[0]!r} do not fit its weights")
        along = [1] * stored.ndim
        along[axis] = scale.size
        scale, zero = scale.reshape(along), zero.reshape(along) if np.size(zero) > 1 else zero
    return (stored - zero.reshape(()) if np.size(zero) == 1 else stored - zero) * scale


def _spread(node: Any, values: Any, shape: tuple[int, ...], axis: int, block: int) -> Any:
    """Scales or zero points of blocks along an axis, one for each weight."""
    blocks = tuple(-(-size // block) if place == axis % len(shape) else size for place, size in enumerate(shape))
    if block < 1 or not -len(shape) <= axis < len(shape) or values.shape != blocks:
        raise ConvertError(f"the blocks of {node.output[0]!r} do not fit its weights")
    places = [place // block for place in range(shape[axis])]
    return values.take(places, axis)


def _drop_unused(model: Any) -> None:
    used = {name for node in model.graph.node for name in node.input} | {item.name for item in model.graph.output}
    kept = [item for item in model.graph.initializer if item.name in used or _has_subgraphs(model)]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)


def _has_subgraphs(model: Any) -> bool:
    return any(attribute.HasField("g") for node in model.graph.node for attribute in node.attribute)


def prepared(model: Any, folder: Path, where: str, opset: int = OPSET) -> Any:
    """Raise an opset that is older, then let onnxruntime fold constants and batch normalization."""
    import onnx

    version = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    if version < opset:
        model = guarded(where, f"raise opset {version} to {opset}", lambda: _raised(model, opset))
    save(model, folder / "raised.onnx", where)
    with blaming(where):
        runtime.optimised(folder / "raised.onnx", folder / "basic.onnx", basic=True)
    basic = load(folder / "basic.onnx")
    _tidy(basic)
    return guarded(where, "infer its shapes", lambda: onnx.shape_inference.infer_shapes(basic, data_prop=True))


def _raised(model: Any, opset: int) -> Any:
    from onnx import version_converter

    return version_converter.convert_version(model, opset)


def _tidy(model: Any) -> None:
    """Unique node names, and no imports of operator sets that nothing uses."""
    domains = {node.domain for node in model.graph.node} | {""}
    kept = [item for item in model.opset_import if item.domain in domains or _has_subgraphs(model)]
    del model.opset_import[:]
    model.opset_import.extend(kept)
    taken: set[str] = set()
    for number, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{number}"
        taken.add(node.name)


def sort_nodes(model: Any) -> None:
    """Put nodes behind those whose results they read, otherwise in their order."""
    import onnx

    places = {name: place for place, node in enumerate(model.graph.node) for name in node.output if name}
    needs = [{places[name] for name in read_by(node) if name in places} for node in model.graph.node]
    readers: dict[int, list[int]] = {}
    for place, before in enumerate(needs):
        for maker in before:
            readers.setdefault(maker, []).append(place)
    free = [place for place, before in enumerate(needs) if not before]
    heapq.heapify(free)
    ordered: list[onnx.NodeProto] = []
    while free:
        place = heapq.heappop(free)
        ordered.append(model.graph.node[place])
        for reader in readers.get(place, ()):
            needs[reader].discard(place)
            if not needs[reader]:
                heapq.heappush(free, reader)
    copies = onnx.GraphProto(node=ordered)
    del model.graph.node[:]
    model.graph.node.extend(copies.node)


def read_by(node: Any) -> set[str]:
    """Names that a node or the graphs inside it read."""
    inner = [item.g for item in node.attribute if item.HasField("g")]
    return {*node.input}.union(*(read_by(child) for graph in inner for child in graph.node))


def covering(model: Any, original: Any, outputs: Iterable[str]) -> set[str]:
    """Names of the model's nodes that do the work of the original's nodes with those outputs.

    A fused node does what lies in the original between its inputs and its outputs.
    """
    wanted = set(outputs)
    makers = {name: node for node in original.graph.node for name in node.output}
    return {node.name for node in model.graph.node if wanted & _between(node, makers)}


def _between(node: Any, makers: dict[str, Any]) -> set[str]:
    ends = set(node.input)
    found: set[str] = set()
    left = [name for name in node.output if name]
    while left:
        name = left.pop()
        if name in found or name in ends or name not in makers:
            continue
        found.update(makers[name].output)
        left += makers[name].input
    return found
