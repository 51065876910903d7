"""Run TFLite files with every tensor in sight, and cut them into operators that run side by side."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import models, runtimes
from edgeq.analysis.net import Net, Region
from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters.tflite import restore
from edgeq.runtimes import litert
from edgeq.runtimes.litert import Kernels

if TYPE_CHECKING:
    from edgeq.runtimes import Array

Trace = Callable[[Sequence["Array"]], dict[int, "Array"]]


def load(path: Path) -> Net:
    """The model with its structure; raises ModelError."""
    return Net(models.read(path), raw(path))


def raw(path: Path) -> Any:
    """The model with tensors named by number, so that no two share a name; raises ModelError."""
    made = flatbuffer.load(path)
    flatbuffer.number_names(made)
    return made


def trace(net: Net, wanted: Sequence[int], folder: Path, *, exact: bool) -> Trace:
    """A function from real samples to the stored values of tensors; `exact` takes the reference kernels."""
    path = folder / "whole.tflite"
    path.write_bytes(flatbuffer.dump(net.raw))
    session = litert.open(path, preserve=True, kernels=_kernels(exact))
    numbers = {flatbuffer.numbered(0, tensor): tensor for tensor in wanted}

    def run(sample: Sequence[Array]) -> dict[int, Array]:
        session.run([runtimes.encode(port, real) for port, real in zip(session.inputs, sample, strict=True)])
        return {numbers[name]: value for name, value in session.tensors(numbers)}

    return run


def _kernels(exact: bool) -> Kernels:
    return "reference" if exact else "optimised"


def constant(net: Net, tensor: int) -> Array | None:
    """Real values of a constant, None for what stands for no real values."""
    item = net.raw.subgraphs[0].tensors[tensor]
    if not flatbuffer.is_constant(net.raw, item):
        return None
    kind = restore.type_name(item)
    if kind == "FLOAT32":
        return np.frombuffer(net.raw.buffers[item.buffer].data, np.float32).reshape(net.graph.tensors[tensor].shape)
    scaled = item.quantization is not None and item.quantization.scale is not None
    return restore.real_values(net.raw, item) if kind == "FLOAT16" or scaled else None


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

    `seen` tells the shapes of ends; `replaced` gives constants other values.
    """
    model, main = _shell(net)
    held = {tensor: _with_values(model, main, tensor, values) for tensor, values in replaced.items()}
    for number, region in enumerate(regions):
        _add(net, main, region, number, held, seen)
    path.write_bytes(flatbuffer.dump(model))
    return litert.open(path, kernels=_kernels(exact))


def noisy(net: Net, tensors: Sequence[int], seen: Mapping[int, Array], folder: Path) -> runtimes.Session:
    """A session of the whole model with one more input for each of these tensors, which is added to it."""
    model, main = _shell(net)
    code = _added_code(model)
    old = net.raw.subgraphs[0]
    main.inputs, main.outputs = list(old.inputs), list(old.outputs)
    wanted = set(tensors)
    places = {}
    for tensor in tensors:
        places[tensor] = _copied(main, tensor, f"clean.{tensor}")
        noise = _copied(main, tensor, f"noise.{tensor}")
        main.tensors[noise].shape, main.tensors[noise].shapeSignature = np.asarray(seen[tensor].shape, np.int32), None
        main.inputs.append(noise)
    noises = dict(zip(tensors, main.inputs[len(old.inputs) :], strict=True))
    for operator in old.operators:
        made = copy.copy(operator)
        made.outputs = [places.get(int(one), int(one)) for one in operator.outputs]
        main.operators.append(made)
        for tensor in wanted.intersection(map(int, operator.outputs)):
            main.operators.append(_sum(code, (places[tensor], noises[tensor]), tensor))
    path = folder / "noisy.tflite"
    path.write_bytes(flatbuffer.dump(model))
    return litert.open(path)


def _added_code(model: Any) -> int:
    """Number of a code for ADD of floats, which every version knows."""
    from ai_edge_litert import schema_py_generated as schema

    number = flatbuffer.builtin_number("ADD")
    model.operatorCodes = [
        *model.operatorCodes,
        schema.OperatorCodeT(deprecatedBuiltinCode=number, builtinCode=number, version=1),
    ]
    return len(model.operatorCodes) - 1


def _sum(code: int, terms: tuple[int, int], result: int) -> Any:
    from ai_edge_litert import schema_py_generated as schema

    return schema.OperatorT(
        opcodeIndex=code,
        inputs=list(terms),
        outputs=[result],
        builtinOptionsType=schema.BuiltinOptions.AddOptions,
        builtinOptions=schema.AddOptionsT(),
    )


def _shell(net: Net) -> tuple[Any, Any]:
    """A copy of the model whose first graph has its tensors and nothing else; the original stays as it is."""
    model, main = copy.copy(net.raw), copy.copy(net.raw.subgraphs[0])
    model.buffers, model.signatureDefs, model.metadata = list(model.buffers), None, None
    model.subgraphs = [main, *net.raw.subgraphs[1:]]
    main.tensors, main.operators, main.inputs, main.outputs = list(main.tensors), [], [], []
    return model, main


def _with_values(model: Any, main: Any, tensor: int, values: Array) -> int:
    made = copy.copy(main.tensors[tensor])
    made.buffer = flatbuffer.add_buffer(model, values)
    made.name = f"w{tensor}".encode()
    main.tensors.append(made)
    return len(main.tensors) - 1


def _add(net: Net, main: Any, region: Region, number: int, held: Mapping[int, int], seen: Mapping[int, Array]) -> None:
    places = dict(held)
    for end in region.ends:
        places[end] = _copied(main, end, f"i{number}.{end}")
        main.tensors[places[end]].shape = np.asarray(seen[end].shape, np.int32)
        main.tensors[places[end]].shapeSignature = None
        main.inputs.append(places[end])
    for operator in region.operators:
        places |= {one: _copied(main, one, f"r{number}.{one}") for one in operator.outputs if one >= 0}
        made = copy.copy(net.raw.subgraphs[0].operators[operator.index])
        made.inputs = [places.get(int(one), int(one)) for one in made.inputs]
        made.outputs = [places.get(int(one), int(one)) for one in made.outputs]
        main.operators.append(made)
    main.outputs += [places[goal] for goal in region.goals]


def _copied(main: Any, tensor: int, name: str) -> int:
    made = copy.copy(main.tensors[tensor])
    made.name = name.encode()
    main.tensors.append(made)
    return len(main.tensors) - 1


def open_runtime(net: Net) -> runtimes.Session:
    """The file as the target's runtime would run it: its fast kernels, delegates and fusions."""
    return litert.open(Path(net.graph.path))
