"""A model's graph as the planner looks at it: who makes a tensor, what is constant, which operand is the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from edgeq.models import tensors
from edgeq.types import ModelGraph, Operator, TensorSpec

WEIGHTS_AT = {
    "CONV_2D": (1,),
    "DEPTHWISE_CONV_2D": (1,),
    "CONV_3D": (1,),
    "TRANSPOSE_CONV": (1,),
    "FULLY_CONNECTED": (1,),
    "BATCH_MATMUL": (0, 1),
    "EMBEDDING_LOOKUP": (1,),
    "SVDF": (1, 2),
    "RNN": (1, 2),
    "LSTM": tuple(range(1, 9)),
    "UNIDIRECTIONAL_SEQUENCE_RNN": (1, 2),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": tuple(range(1, 9)),
    "Conv": (1,),
    "ConvTranspose": (1,),
    "Gemm": (0, 1),
    "MatMul": (0, 1),
    "GRU": (1, 2),
}
"""Operand positions that hold weights when they are constant (TFLite schema; ONNX operator specifications)."""

_ONNX_WEIGHTS_AT = {"LSTM": (1, 2), "RNN": (1, 2)}
BIAS_AT = {
    "CONV_2D": 2,
    "DEPTHWISE_CONV_2D": 2,
    "CONV_3D": 2,
    "TRANSPOSE_CONV": 3,
    "FULLY_CONNECTED": 2,
    "Conv": 2,
    "ConvTranspose": 2,
    "Gemm": 2,
}
_CHANNEL_AXIS = {"DEPTHWISE_CONV_2D": -1, "CONV_3D": -1, "ConvTranspose": 1, "MatMul": -1, "BATCH_MATMUL": -1}
"""Axis of the output channels in the weights, where it is not the first."""
_DATA_AT = {"TRANSPOSE_CONV": 2, "EMBEDDING_LOOKUP": 1, "SPLIT": 1}
_DEQUANTIZE = ("DEQUANTIZE", "DequantizeLinear")
FLOATS = tensors.FLOATS
INTEGERS = tensors.ACTIVATION_INTEGERS
"""What a static scheme makes of activations."""
QUANTIZED = INTEGERS | {"int4", "float16"}
"""What a scheme stores in place of float32."""


class View(NamedTuple):
    """A graph with its tensors by index, the operator that makes each, those that read each, the constant ones."""

    graph: ModelGraph
    tensors: dict[int, TensorSpec]
    producers: dict[int, Operator]
    consumers: dict[int, list[Operator]]
    constants: frozenset[int]
    layers: Mapping[int, tuple[TensorSpec, ...]] = MappingProxyType({})
    """The weights of each operator by its index, where they were looked for already."""


def view(graph: ModelGraph) -> View:
    """Look at a graph once; results of operators that read only constants count as constant."""
    by_index = {tensor.index: tensor for tensor in graph.tensors}
    constants = {tensor.index for tensor in graph.tensors if tensor.is_constant}
    producers: dict[int, Operator] = {}
    consumers: dict[int, list[Operator]] = {}
    for operator in graph.operators:
        producers.update(dict.fromkeys(operator.outputs, operator))
        inputs = [index for index in operator.inputs if index in by_index]
        for index in inputs:
            consumers.setdefault(index, []).append(operator)
        if operator.type == "Constant" or (inputs and constants.issuperset(inputs)):
            constants.update(operator.outputs)
    look = View(graph, by_index, producers, consumers, frozenset(constants))
    return look._replace(layers={operator.index: _weights(look, operator) for operator in graph.operators})


def operands(look: View, operator: Operator) -> Iterator[TensorSpec]:
    """The inputs that are there, in order."""
    return (look.tensors[index] for index in operator.inputs if index in look.tensors)


def results(look: View, operator: Operator) -> Iterator[TensorSpec]:
    """The outputs, in order."""
    return (look.tensors[index] for index in operator.outputs if index in look.tensors)


def at(look: View, operator: Operator, position: int) -> TensorSpec | None:
    """The operand at a position; None where it is left out."""
    return look.tensors.get(operator.inputs[position]) if position < len(operator.inputs) else None


def weights(look: View, operator: Operator) -> tuple[TensorSpec, ...]:
    """The constant operands that are weights; `MatMul` of two activations has none."""
    found = look.layers.get(operator.index)
    return _weights(look, operator) if found is None else found


def _weights(look: View, operator: Operator) -> tuple[TensorSpec, ...]:
    positions = WEIGHTS_AT.get(operator.type, ())
    if look.graph.format == "onnx":
        positions = _ONNX_WEIGHTS_AT.get(operator.type, positions)
    found = (at(look, operator, position) for position in positions)
    return tuple(tensor for tensor in found if tensor is not None and tensor.index in look.constants)


def bias(look: View, operator: Operator) -> TensorSpec | None:
    """The constant bias, or None."""
    position = BIAS_AT.get(operator.type)
    tensor = None if position is None else at(look, operator, position)
    return tensor if tensor is not None and tensor.index in look.constants else None


def data(look: View, operator: Operator) -> TensorSpec | None:
    """The operand that carries the data: the first that is not constant, unless the type says otherwise."""
    fixed = at(look, operator, _DATA_AT[operator.type]) if operator.type in _DATA_AT else None
    present = list(operands(look, operator))
    moving = [tensor for tensor in present if tensor.index not in look.constants]
    return fixed or next(iter(moving or present), None)


def stored(look: View, tensor: TensorSpec) -> TensorSpec:
    """The tensor as it is stored: looks through the DEQUANTIZE that made it."""
    maker = look.producers.get(tensor.index)
    if maker is None or maker.type not in _DEQUANTIZE:
        return tensor
    return at(look, maker, 0) or tensor


def is_real(look: View, operator: Operator) -> bool:
    """Whether the operator reads or makes floating-point numbers."""
    touched = [*operands(look, operator), *results(look, operator)]
    return any(tensor.dtype in FLOATS for tensor in touched) or not touched


def on_constants(look: View, operator: Operator) -> bool:
    """Whether the operator computes on constants alone, so that it can be folded away."""
    return bool(operator.outputs) and look.constants.issuperset(operator.outputs)


def elements(tensor: TensorSpec) -> int:
    """Number of values; a dynamic axis counts as 1."""
    count = 1
    for length in tensor.shape:
        count *= max(length, 1) if length < 0 else length
    return count


def channel_axis(operator: Operator, tensor: TensorSpec) -> int | None:
    """Axis of the output channels of a layer's weights; None where the tensor has no such axis."""
    axis = _CHANNEL_AXIS.get(operator.type, 0)
    if operator.type == "Gemm" and not operator.attributes.get("transB"):
        axis = -1
    return axis if -len(tensor.shape) <= axis < len(tensor.shape) else None


def channels(operator: Operator, tensor: TensorSpec) -> int:
    """Number of output channels of a layer's weights: how many scales per-channel quantization stores."""
    axis = channel_axis(operator, tensor)
    return 1 if axis is None else max(tensor.shape[axis], 1)
