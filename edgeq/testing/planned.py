"""Whether a converted file holds what its plan says of each operator."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from edgeq.types import ModelGraph, Operator, Placement, Plan, TensorSpec

INTEGERS = ("int8", "uint8", "int16", "uint16")
FLOATS = ("float16", "float32", "float64")
STORED = (*INTEGERS, "int4", "uint4", "float16")
UNTOUCHED = ("constants-only", "carries-integers", "converts-types")
"""Rules of operators that no scheme changes."""
FRAMED = ("falls-back-to-float", "operator-unknown", "constraint-violated")
"""Operators without an integer kernel that stand between quantizers nevertheless."""
ONNX_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
TFLITE_LAYERS = {"CONV_2D": 0, "DEPTHWISE_CONV_2D": 3, "FULLY_CONNECTED": 0, "TRANSPOSE_CONV": 0}
"""Operators whose second operand is the weights, with the axis of their output channels."""
QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
_DYNAMIC = {"Conv": "ConvInteger", "Gemm": "MatMulInteger", "MatMul": "MatMulInteger", "LSTM": "DynamicQuantizeLSTM"}


class Types(NamedTuple):
    """What a plan's signature says, in its words."""

    activations: str
    weights: str
    granularity: str


def types(one: Placement) -> Types:
    """The parts of a planned operator's signature; what it leaves out is empty."""
    dtypes, _, granularity = one.signature.partition(" ")
    first, second, *_ = (*dtypes.split("/"), "")
    return Types(first, second, granularity)


def arithmetic(one: Placement) -> str:
    """How the plan lets an operator compute.

    `integer`; `dynamic` (integer weights, float activations); `expanded` (its weights become float before); `float`;
    empty where no scheme touches it or nothing runs it.
    """
    if one.rule in UNTOUCHED or one.placement == "refused":
        return ""
    said = types(one)
    if one.placement == "float":
        return "float"
    if said.activations in INTEGERS:
        return "integer"
    if said.weights in STORED:
        return "expanded" if one.rule == "weights-expanded" or said.weights == "float16" else "dynamic"
    return "float"


def disagreements(graph: ModelGraph, plan: Plan, made: ModelGraph) -> Iterator[str]:
    """What the file `made` of a plan for `graph` holds otherwise than planned, in words."""
    check = tflite_disagreements if graph.format == "tflite" else onnx_disagreements
    return check(graph, plan, made)


def numbered(graph: ModelGraph) -> dict[int, TensorSpec]:
    """Tensors by index."""
    return {tensor.index: tensor for tensor in graph.tensors}


def makers(graph: ModelGraph) -> dict[int, Operator]:
    """The operator that makes each tensor."""
    return {index: operator for operator in graph.operators for index in operator.outputs}


def is_integer(one: Placement) -> bool:
    """Whether the plan lets the operator compute in integers."""
    return one.placement in ("cpu", "npu") and types(one).activations in INTEGERS


# --- TFLite ----------------------------------------------------------------------------------


def tflite_disagreements(graph: ModelGraph, plan: Plan, made: ModelGraph) -> Iterator[str]:
    """Data types of every operator's result, and of a layer's weights, that are not the planned ones."""
    tensors, sources, names = numbered(made), makers(made), numbered(graph)
    for operator, one in zip(graph.operators, plan.operators, strict=True):
        how = arithmetic(one)
        if operator.subgraph or not how:
            continue
        label = f"operator {one.index} {one.type}"
        found = _twins(operator.type, names[operator.outputs[0]].name, made, tensors)
        if len(found) != 1:
            yield f"{label} ({one.rule}) is there {len(found)} times in the file"
            continue
        # A change of data types is planned by what it reads.
        port = found[0].inputs[0] if one.type in ("QUANTIZE", "DEQUANTIZE") else found[0].outputs[0]
        dtype = tensors[port].dtype
        wanted = types(one).activations if how == "integer" else "float32"
        if dtype != wanted:
            yield f"{label} is planned {wanted} ({one.rule}), the file has {dtype}"
        if one.type in TFLITE_LAYERS:
            wrong = _wrong_weights(one, how, found[0], tensors, sources)
            yield from (f"{label} ({one.rule}) {words}" for words in wrong)


def _twins(kind: str, name: str, made: ModelGraph, tensors: dict[int, TensorSpec]) -> list[Operator]:
    """The operators of the file that do the work of one of the model."""
    names = (name, f"{name}_quantized", f"{name}_dequant")
    return [one for one in made.operators if one.type == kind and tensors[one.outputs[0]].name in names]


def _wrong_weights(
    one: Placement, how: str, operator: Operator, tensors: dict[int, TensorSpec], sources: dict[int, Operator]
) -> Iterator[str]:
    weights = tensors[operator.inputs[1]]
    maker = sources.get(weights.index)
    is_expanded = maker is not None and maker.type == "DEQUANTIZE"
    if how == "expanded" and maker is not None:
        weights = tensors[maker.inputs[0]]
    if is_expanded != (how == "expanded") and how != "float":  # partly quantized files have both kinds in float
        yield f"is planned {how}, the file {'expands' if is_expanded else 'does not expand'} its weights"
    elif not weights.is_constant:
        return
    elif how == "float" and not is_expanded and weights.dtype != "float32":
        yield f"is planned in float, its weights are {weights.dtype}"
    elif how != "float" and weights.dtype != types(one).weights:
        yield f"has {weights.dtype} weights, planned are {types(one).weights}"
    elif how != "float":
        yield from _wrong_granularity(types(one).granularity, weights, TFLITE_LAYERS[one.type])


def _wrong_granularity(planned: str, weights: TensorSpec, axis: int) -> Iterator[str]:
    if weights.quantization is None or not planned:
        return
    scales = len(weights.quantization.scales)
    wanted = weights.shape[axis] if planned == "per-channel" else 1
    if scales != wanted:
        yield f"is planned {planned}, its weights have {scales} scales, not {wanted}"


# --- ONNX ------------------------------------------------------------------------------------


class OnnxFile:
    """A file beside the plan of its model: which tensors are quantized between which operators."""

    def __init__(self, graph: ModelGraph, plan: Plan, made: ModelGraph) -> None:
        self.made, self.tensors = made, numbered(made)
        self.makers = makers(made)
        names = numbered(graph)
        self.plans = {
            names[index].name: one
            for operator, one in zip(graph.operators, plan.operators, strict=True)
            for index in operator.outputs
        }

        self.original = makers(graph)
        self.operators = {names[index].name: one for one in graph.operators for index in one.outputs}
        self.by_index = {one.index: one for one in plan.operators}

    def layer_of(self, operator: Operator) -> Placement | None:
        """The plan of the layer that an operator of the file computes, behind the biases and clips fused into it."""
        one = self.operators.get(self.tensors[operator.outputs[0]].name)
        for _ in range(4):
            if one is None or one.type in ONNX_LAYERS:
                break
            one = self.original.get(one.inputs[0]) if one.inputs else None
        return self.by_index[one.index] if one is not None and one.type in ONNX_LAYERS else None

    def plan_of(self, operator: Operator) -> Placement | None:
        """A fused layer has the name of the last result of what was fused."""
        return self.plans.get(self.tensors[operator.outputs[0]].name)

    def source(self, index: int) -> tuple[Operator | None, bool]:
        """What made the values, looking through a pair of quantizers, and whether they were rounded there.

        DequantizeLinear alone turns what was stored in integers into real numbers, as rows of an 8-bit table.
        """
        maker, is_quantized = self.makers.get(index), False
        while maker is not None and maker.type in QUANTIZERS:
            is_quantized = is_quantized or maker.type == "QuantizeLinear"
            maker = self.makers.get(maker.inputs[0])
        return maker, is_quantized

    def activations(self, operator: Operator) -> Iterator[tuple[Placement | None, bool, bool]]:
        """Each float input that is no constant: plan of its maker (None for a port), whether it is quantized, and
        whether an operator of another place reads the same values: a pair of quantizers serves all readers.
        """
        for index in operator.inputs:
            tensor = self.tensors.get(index)
            if tensor is None or tensor.dtype != "float32" or self.is_constant(index):
                continue
            maker, is_quantized = self.source(index)
            readers = [self.plan_of(reader) for reader in self.made.operators if index in reader.inputs]
            is_shared = len({one.placement for one in readers if one}) > 1
            yield self.plan_of(maker) if maker else None, is_quantized, is_shared

    def is_constant(self, index: int) -> bool:
        """Whether a tensor is a constant, behind quantizers or a cast too."""
        maker = self.makers.get(index)
        while maker is not None and maker.type in (*QUANTIZERS, "Cast"):
            index = maker.inputs[0]
            maker = self.makers.get(index)
        return self.tensors[index].is_constant

    def weights(self, operator: Operator) -> str | None:
        """Data type in which the constant second operand is stored; None without one."""
        index = operator.inputs[1] if len(operator.inputs) > 1 else -1
        if index not in self.tensors or not self.is_constant(index):
            return None
        maker = self.makers.get(index)
        while maker is not None and maker.type in (*QUANTIZERS, "Cast"):
            index = maker.inputs[0]
            maker = self.makers.get(index)
        return self.tensors[index].dtype


def onnx_disagreements(graph: ModelGraph, plan: Plan, made: ModelGraph) -> Iterator[str]:
    """Operators that stand between other quantizers than planned, and layers with other weights."""
    file = OnnxFile(graph, plan, made)
    for operator in made.operators:
        one = file.plan_of(operator)
        if one is None or operator.type in QUANTIZERS:
            continue
        label = f"operator {one.index} {one.type} ({one.rule})"
        if plan.scheme.is_static and plan.scheme.name != "as_is" and one.rule not in FRAMED:
            yield from (f"{label} {words}" for words in _wrong_quantizers(file, operator, one))
        layer = file.layer_of(operator) if operator.type in ONNX_LAYERS else None
        if layer is not None:
            yield from (
                f"operator {layer.index} {layer.type} ({layer.rule}) {words}"
                for words in _wrong_layer(file, operator, layer)
            )
    yield from _wrong_products(plan, made)


def _wrong_quantizers(file: OnnxFile, operator: Operator, one: Placement) -> Iterator[str]:
    for maker, is_quantized, is_shared in file.activations(operator):
        if is_integer(one) and not is_quantized:
            yield "is planned in integers and reads float"
        from_float = maker is None or (maker.placement == "float" and maker.rule not in FRAMED)
        if one.placement == "float" and from_float and is_quantized and not is_shared:
            yield "is planned in float behind float, with a quantizer between"


def _wrong_layer(file: OnnxFile, operator: Operator, one: Placement) -> Iterator[str]:
    """A layer's weights: stored in integers for integer arithmetic or to be expanded, else in float."""
    found, how = file.weights(operator), arithmetic(one)
    if found is None or one.rule in FRAMED or how in ("", "dynamic"):
        return
    if (found in STORED) != (how in ("integer", "expanded")):
        yield f"has its weights in {'integers' if found in STORED else 'float'}"
    elif how != "float" and found != types(one).weights:
        yield f"has its weights in {found}, planned are {types(one).weights}"


def _wrong_products(plan: Plan, made: ModelGraph) -> Iterator[str]:
    """Products of activations that are quantized as they come: as many of each kind as planned."""
    kinds = [operator.type for operator in made.operators]
    for kind in sorted(set(_DYNAMIC.values())):
        wanted = sum(_DYNAMIC.get(one.type) == kind for one in plan.operators if arithmetic(one) == "dynamic")
        if plan.scheme.name != "as_is" and kinds.count(kind) != wanted:
            yield f"{wanted} operators are planned as {kind}, the file has {kinds.count(kind)}"
