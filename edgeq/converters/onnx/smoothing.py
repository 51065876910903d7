"""Smooth what a transformer's products read: outlier channels are divided before, and their weights multiplied.

One channel of a normalized tensor may reach 20 times as far as the others, which then share few of the 256 steps.
Folding the factors into the normalization is not exact where a residual addition reads the same tensor, so an operator
that multiplies is put before the products; all round them computes in float anyway. Xiao et al., "SmoothQuant", 2023;
the factors are `quantization.equalization`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.converters import improving
from edgeq.converters.improving import Known, Samples
from edgeq.converters.onnx import calibration, prepare
from edgeq.converters.onnx import layers as reading
from edgeq.quantization import equalization
from edgeq.quantization.equalization import Site
from edgeq.quantization.layers import Extent, Layer
from edgeq.types import Progress

Array = NDArray[Any]


def smoothed(
    model: Any, names: set[str], samples: Samples, count: int, folder: Path, where: str, progress: Progress
) -> tuple[Any, list[str]]:
    """The model with multiplications before those of the nodes that gain by them, and notes; else itself."""
    layers = {name: layer for name, layer in reading.layers(model).items() if name in names and layer.window is None}
    outputs = [item.name for item in model.graph.output]
    with prepare.blaming(where):
        stream = calibration.watch(model, {layer.source for layer in layers.values()}, samples(count), folder, where)
        seen = {name: Extent(layer) for name, layer in layers.items()}
        answers = improving.watched(
            seen, layers, stream, outputs, lambda done: progress("look at products", done, count)
        )
        progress("look at products", count, count)
        found = _factors(layers, seen)
        if not found:
            return model, []
        made = _written(model, layers, found)
        checked = calibration.watch(made, (), samples(improving.CHECKED), folder, where)
        known = Known({}, {}, answers)
        is_kept = improving.is_faithful(known, [[after[name] for name in outputs] for after in checked])
    told = f"outlier channels were smoothed before products at {len(found)} tensors"
    return (made, [told]) if is_kept else (model, [f"{told}, which changed the answers: the model was taken as it was"])


def _factors(layers: Mapping[str, Layer], seen: Mapping[str, Extent]) -> dict[str, Array]:
    """What to multiply each channel of a tensor by, where its readers gain."""
    readers: defaultdict[str, list[str]] = defaultdict(list)
    for name, layer in layers.items():
        readers[layer.source].append(name)
    found = {}
    for source, names in readers.items():
        made = equalization.factors(Site((), tuple(names), layers[names[0]].inputs, None), layers, seen)
        if made is not None:
            found[source] = made.astype(np.float32)
    return found


def _written(model: Any, layers: Mapping[str, Layer], found: Mapping[str, Array]) -> Any:
    """A copy of the model in which those tensors are multiplied before their layers, whose weights are divided."""
    import onnx
    from onnx import numpy_helper

    changed = {name: layer for name, layer in layers.items() if layer.source in found}
    divided = (replace(layer, weights=equalization.as_reader(layer, found[layer.source])) for layer in changed.values())
    made = reading.written(model, divided)
    names = _names(made, found)
    known = {item.name: item for item in (*made.graph.value_info, *made.graph.input)}
    nodes = list(made.graph.node)
    del made.graph.node[:]
    left = set(found)
    for node in nodes:
        source = changed[node.name].source if node.name in changed else ""
        if source in left:
            left.remove(source)
            factors, result = names[source]
            made.graph.initializer.append(numpy_helper.from_array(found[source], factors))
            made.graph.node.append(onnx.helper.make_node("Mul", [source, factors], [result], name=result))
            made.graph.value_info.append(_like(known[source], result))
        if source:
            node.input[0] = names[source][1]
        made.graph.node.append(node)
    return made


def _names(model: Any, found: Mapping[str, Array]) -> dict[str, tuple[str, str]]:
    """Names of the factors and of the multiplied tensor, which nothing in the model has."""
    taken = {name for node in model.graph.node for name in (node.name, *node.input, *node.output)}
    free = (name for name in (f"smooth{number}" for number in range(2 * len(taken) + 2 * len(found))))
    unused = (name for name in free if name not in taken)
    return {source: (next(unused), next(unused)) for source in found}


def _like(item: Any, name: str) -> Any:
    made = type(item)()
    made.CopyFrom(item)
    made.name = name
    return made
