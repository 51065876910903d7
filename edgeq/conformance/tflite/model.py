"""A case as a model of one operator: its bytes, its inputs, its float twin, and the judgement of its outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.conformance.tflite import quantized
from edgeq.conformance.tflite.operands import Operand, Recipe
from edgeq.conformance.tflite.quantized import QUANTIZED, Grid, Stored
from edgeq.conformance.tflite.recipes import RECIPES
from edgeq.conformance.tflite.variants import applied
from edgeq.models.write_tflite import Graph, Node, Tensor, tflite_bytes
from edgeq.types import Case, OutputSpec, Signature

Array = NDArray[Any]
Run = Callable[[bytes, Sequence[Array]], list[Array]]
"""Loads a model, runs it once on its inputs in order, and returns its outputs."""

BOUNDS = {"int8": 0.02, "uint8": 0.02, "int16": 0.005, "float16": 0.005, "float32": 2e-5}
"""Largest difference to float that is still near, as a part of the largest wanted value, by the output's data type."""
HYBRID_BOUND = 0.02
"""The same where float activations are quantized on the fly."""
_SCALED = ("computed", "shared", "pooled", "weights")
_CELL_STEP = 2.0**-11
"""Scale of the inner state of an integer LSTM or SVDF; the LSTM's kernels want a power of two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A model to run, its inputs, and what its outputs should be, each within a bound."""

    graph: Graph
    feeds: tuple[Array, ...]
    wanted: tuple[Array, ...]
    outputs: tuple[Tensor, ...]
    bounds: tuple[float, ...]

    @property
    def model(self) -> bytes:
        """The file."""
        return tflite_bytes(self.graph, signature=False)


def build(case: Case, version: int, twin: Run) -> Trial:
    """A case's model, with `version` as its operator's; `twin` runs the float twin.

    Raises KeyError for an operator without a recipe, and what `twin` raises.
    """
    recipe = applied(case, RECIPES[case.operator])
    signature = case.signature
    inputs = list(_inputs(recipe, signature))
    wanted = _wanted(case.operator, recipe, inputs, signature, twin)
    outputs = tuple(
        _output(number, result, signature, inputs, recipe, values)
        for number, (result, values) in enumerate(zip(recipe.results, wanted, strict=True))
    )
    states = [_state(operand, signature, outputs[0]) for operand in recipe.operands]
    stored = [one or state for one, state in zip(inputs, states, strict=True)]
    return Trial(
        graph=_graph(case.operator, version, recipe, stored, outputs, signature),
        feeds=tuple(one.values for operand, one in zip(recipe.operands, stored, strict=True) if one and _fed(operand)),
        wanted=tuple(wanted),
        outputs=outputs,
        bounds=tuple(
            _bound(result, tensor, signature, values)
            for result, tensor, values in zip(recipe.results, outputs, wanted, strict=True)
        ),
    )


def differs(trial: Trial, got: Sequence[Array]) -> str:
    """What is wrong with outputs, in words; empty where they are near enough."""
    for number, values in enumerate(got):
        tensor, wanted, bound = trial.outputs[number], trial.wanted[number], trial.bounds[number]
        if values.dtype.name != tensor.dtype or values.shape != wanted.shape:
            made, right = f"{values.dtype.name} {list(values.shape)}", f"{tensor.dtype} {list(wanted.shape)}"
            return f"output {number} is {made}, not {right}"
        real = values.astype(np.float64)
        if tensor.scales:
            real = (real - tensor.zero_points[0]) * np.float32(tensor.scales[0])
        with np.errstate(invalid="ignore"):
            largest = float(np.max(np.abs(real - wanted), initial=0.0))
        if not largest <= bound:
            return f"output {number} is {largest:.3g} away from float, allowed is {bound:.3g}"
    return ""


def _fed(operand: Operand) -> bool:
    return operand.role == "fed" or (operand.role == "data" and not operand.written)


# --- inputs ----------------------------------------------------------------------------------


def _inputs(recipe: Recipe, signature: Signature) -> Iterator[Stored | None]:
    """The operands as the signature stores them; None for those left out, and for states."""
    grids = iter(_grids(recipe, signature.activations))
    done: list[Stored | None] = []
    first: Stored | None = None
    for operand in recipe.operands:
        one = _input(operand, signature, done, first, grids)
        first = first or (one if operand.role == "data" else None)
        done.append(one)
        yield one


def _input(
    operand: Operand,
    signature: Signature,
    done: list[Stored | None],
    first: Stored | None,
    grids: Iterator[Grid | None],
) -> Stored | None:
    if operand.role == "data":
        return quantized.activations(operand.values, signature.activations, next(grids))
    if operand.role == "weights":
        return _weights(operand, signature)
    if operand.role == "bias":
        made_for = done[operand.of] if operand.of >= 0 else done[-1]
        return _bias(operand, signature, made_for, first)
    if operand.role in ("constant", "fed"):
        return Stored(operand.values, operand.dtype, (), (), operand.values)
    return None


def _grids(recipe: Recipe, dtype: str) -> list[Grid | None]:
    """A grid for each operand of activations."""
    found = [operand.values for operand in recipe.operands if operand.role == "data"]
    if dtype not in QUANTIZED:
        return [None] * len(found)
    if recipe.together:
        found = [np.concatenate([values.ravel() for values in found])] * len(found)
    return [quantized.grid(dtype, float(values.min()), float(values.max())) for values in found]


def _weights(operand: Operand, signature: Signature) -> Stored:
    dtype = signature.weights or signature.activations
    if operand.dtype == "time":
        dtype = "int16" if signature.activations in ("int8", "int16") else dtype
    return quantized.weights(
        operand.values,
        dtype,
        axis=operand.axis,
        per_channel=signature.granularity == "per-channel",
        symmetric=signature.symmetric != "none" and dtype != "uint8",
    )


def _bias(operand: Operand, signature: Signature, weights: Stored | None, first: Stored | None) -> Stored:
    integer = signature.activations in QUANTIZED
    default = ("int64" if signature.activations == "int16" else "int32") if integer else signature.activations
    dtype = signature.bias or default
    before = first.scales[0] if first and first.scales else 1.0
    if operand.dtype == "time":
        before = _CELL_STEP
    scales = tuple(float(np.float32(before) * np.float32(scale)) for scale in (weights.scales if weights else ()))
    return quantized.bias(operand.values, dtype, scales or (1.0,))


def _state(operand: Operand, signature: Signature, output: Tensor) -> Stored | None:
    """A variable as the signature stores it: the output's twin, or of a data type of its own."""
    if operand.role != "state":
        return None
    if signature.activations not in QUANTIZED:
        return Stored(operand.values, "float32", (), (), operand.values)
    if operand.dtype:
        return Stored(operand.values, "int16", (_CELL_STEP,), (0,), operand.values)
    return Stored(operand.values, output.dtype, output.scales, output.zero_points, operand.values)


# --- outputs ---------------------------------------------------------------------------------


def _wanted(
    operator: str, recipe: Recipe, inputs: Sequence[Stored | None], signature: Signature, twin: Run
) -> list[Array]:
    """What the outputs should be, as real numbers."""
    if recipe.reference is not None:
        given = [one.real for one in inputs if one is not None]
        return [np.asarray(values, np.float64) for values in recipe.reference(*given, signature.activations)]
    real = [_as_float(operand, one) for operand, one in zip(recipe.operands, inputs, strict=True)]
    outputs = [
        Tensor(name=f"out{number}", shape=(1,), dtype=_plain_type(result))
        for number, result in enumerate(recipe.results)
    ]
    graph = _graph(operator, recipe.twin_version, recipe, real, outputs, Signature(activations="float32"))
    feeds = [one.values for operand, one in zip(recipe.operands, real, strict=True) if one and _fed(operand)]
    return [values.astype(np.float64) for values in twin(tflite_bytes(graph, signature=False), feeds)]


def _as_float(operand: Operand, one: Stored | None) -> Stored | None:
    if operand.role == "state":
        return Stored(operand.values, "float32", (), (), operand.values)
    if one is None or operand.role in ("constant", "fed"):
        return one
    return Stored(one.real, "float32", (), (), one.real)


def _plain_type(result: str) -> str:
    return "float32" if result in _SCALED else result


def _output(
    number: int, result: str, signature: Signature, inputs: Sequence[Stored | None], recipe: Recipe, wanted: Array
) -> Tensor:
    name, dtype = f"out{number}", _output_type(result, signature)
    if signature.output is not None and signature.output.scale is not None:
        return _tensor(name, wanted.shape, signature.output.dtype, _fixed(signature.output))
    if result not in _SCALED or dtype not in QUANTIZED:
        return _tensor(name, wanted.shape, dtype, None)
    if result == "computed":
        return _tensor(name, wanted.shape, dtype, quantized.grid(dtype, float(wanted.min()), float(wanted.max())))
    role = "weights" if result == "weights" else "data"
    source = next(one for operand, one in zip(recipe.operands, inputs, strict=True) if one and operand.role == role)
    on = Grid(source.scales[0], source.zeros[0]) if source.scales else None
    return _tensor(name, wanted.shape, dtype, on)


def _output_type(result: str, signature: Signature) -> str:
    if result == "cast":
        return "int32" if signature.activations == "float32" else "float32"
    return signature.activations if result in _SCALED else result


def _fixed(output: OutputSpec) -> Grid:
    return Grid(output.scale or 1.0, output.zero_point or 0)


def _tensor(name: str, shape: tuple[int, ...], dtype: str, on: Grid | None) -> Tensor:
    scales, zeros = ((on.scale,), (on.zero,)) if on else ((), ())
    return Tensor(name=name, shape=shape, dtype=dtype, scales=scales, zero_points=zeros)


def _bound(result: str, tensor: Tensor, signature: Signature, wanted: Array) -> float:
    """How far an output may be from the wanted one: nothing where values are only moved or compared."""
    largest = float(np.max(np.abs(wanted), initial=0.0))
    if result in ("shared", "weights") and signature.output is None:
        return 1e-6 * largest
    if result not in ("computed", "pooled", "float32"):
        return 0.0
    hybrid = signature.activations == "float32" and signature.weights in QUANTIZED
    return (HYBRID_BOUND if hybrid else BOUNDS.get(tensor.dtype, 0.0)) * largest


# --- the graph -------------------------------------------------------------------------------


def _graph(
    operator: str,
    version: int,
    recipe: Recipe,
    inputs: Sequence[Stored | None],
    outputs: Sequence[Tensor],
    signature: Signature,
) -> Graph:
    """One operator; float16 weights of float activations are read through DEQUANTIZE."""
    tensors: list[Tensor] = []
    nodes: list[Node] = []
    names: list[str] = []
    for number, (operand, one) in enumerate(zip(recipe.operands, inputs, strict=True)):
        name = f"in{number}" if one else ""
        names.append(name)
        if one is None:
            continue
        if one.dtype == "float16" and signature.activations == "float32":
            tensors += [_stored(f"{name}half", operand, one), Tensor(name=name, shape=one.values.shape)]
            nodes.append(Node(type="DEQUANTIZE", inputs=(f"{name}half",), outputs=(name,)))
        else:
            tensors.append(_stored(name, operand, one))
    between = [_between(number, outputs[0]) for number in range(recipe.intermediates if outputs[0].scales else 0)]
    table, options = recipe.options
    nodes.append(
        Node(
            type=operator,
            inputs=tuple(names),
            outputs=tuple(tensor.name for tensor in outputs),
            options_table=table,
            options=options,
            version=version,
            intermediates=tuple(tensor.name for tensor in between),
        )
    )
    fed = tuple(name for operand, name in zip(recipe.operands, names, strict=True) if name and _fed(operand))
    given = tuple(tensor.name for tensor in outputs)
    return Graph(tensors=(*tensors, *outputs, *between), nodes=tuple(nodes), inputs=fed, outputs=given)


def _between(number: int, output: Tensor) -> Tensor:
    return replace(output, name=f"between{number}", shape=(1,))


def _stored(name: str, operand: Operand, one: Stored) -> Tensor:
    is_written = not _fed(operand) and operand.role != "state"
    return Tensor(
        name=name,
        shape=one.values.shape,
        dtype=one.dtype,
        data=quantized.packed(one) if is_written else None,
        scales=one.scales,
        zero_points=one.zeros,
        axis=one.axis,
        variable=operand.role == "state",
    )
