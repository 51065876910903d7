"""TFLite models of one integer operator, and the answer of LiteRT's reference kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.testing.tflite import Graph, Node, Tensor, tflite_bytes

Array = NDArray[Any]


class Grid(NamedTuple):
    """Scale and zero point of a tensor."""

    scale: float
    zero_point: int = 0


def tensor(name: str, shape: Sequence[int], grid: Grid | None = None, dtype: str = "int8") -> Tensor:
    """A tensor that is computed or fed."""
    scales, zeros = ((grid.scale,), (grid.zero_point,)) if grid else ((), ())
    return Tensor(name=name, shape=tuple(shape), dtype=dtype, scales=scales, zero_points=zeros)


def constant(name: str, values: Array, grid: Grid | None = None) -> Tensor:
    """A constant on one grid, or on none."""
    scales, zeros = ((grid.scale,), (grid.zero_point,)) if grid else ((), ())
    dtype = values.dtype.name
    return Tensor(name=name, shape=values.shape, dtype=dtype, data=values, scales=scales, zero_points=zeros)


def channels(name: str, values: Array, scales: Sequence[float], axis: int = 0) -> Tensor:
    """A constant with one scale for each channel (or one for all)."""
    return Tensor(
        name=name,
        shape=values.shape,
        dtype=values.dtype.name,
        data=values,
        scales=tuple(scales),
        zero_points=(0,) * len(scales),
        axis=axis if len(scales) > 1 else 0,
    )


def single(
    operator: str,
    inputs: Sequence[Tensor],
    outputs: Sequence[Tensor],
    options_table: str = "",
    options: Mapping[str, Any] | None = None,
    version: int = 1,
) -> Graph:
    """A graph of one operator; inputs without data are fed, in order."""
    node = Node(
        type=operator,
        inputs=tuple(one.name for one in inputs),
        outputs=tuple(one.name for one in outputs),
        options_table=options_table,
        options=options or {},
        version=version,
    )
    fed = tuple(one.name for one in inputs if one.data is None and one.name)
    return Graph(
        tensors=(*(one for one in inputs if one.name), *outputs),
        nodes=(node,),
        inputs=fed,
        outputs=tuple(one.name for one in outputs),
    )


def reference(graph: Graph, *feeds: Array) -> list[Array]:
    """The outputs of LiteRT's reference kernels. Raises what the interpreter raises for a model that it refuses."""
    from ai_edge_litert import interpreter as litert

    made = litert.Interpreter(
        model_content=tflite_bytes(graph, signature=False),
        experimental_op_resolver_type=litert.OpResolverType.BUILTIN_REF,
    )
    made.allocate_tensors()
    for detail, values in zip(made.get_input_details(), feeds, strict=True):
        made.set_tensor(detail["index"], values)
    made.invoke()
    return [np.array(made.get_tensor(detail["index"])) for detail in made.get_output_details()]
