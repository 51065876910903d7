"""Which kernels onnxruntime really runs for each operator of a plan, read from the graph that it has optimised."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgeq.errors import ModelError
from edgeq.runtimes import onnxruntime as runtime
from edgeq.testing.planned import FLOATS, ONNX_LAYERS, QUANTIZERS, OnnxFile, arithmetic
from edgeq.types import ModelGraph, Operator, Plan

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

PRODUCTS = ("QLinearConv", "QLinearMatMul", "QGemm", "MatMulInteger", "ConvInteger", "MatMulIntegerToFloat",
             "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "QAttention")  # fmt: skip
_DYNAMIC = ("ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM")
_DYNAMIC_LAYERS = ("Conv", "Gemm", "MatMul", "LSTM")
_MOVES = (
    *("Cast", "Concat", "DequantizeLinear", "Expand", "Flatten", "Gather", "MaxPool"),
    *("Reshape", "Shape", "Slice", "Split", "Squeeze", "Transpose", "Unsqueeze"),
)
"""Kernels that compute nothing, which onnxruntime moves to either side of a quantizer."""
_STEPS = 8
"""How far an operator that is fused away is looked for in those that follow it."""


class Kernel(NamedTuple):
    """A node of the optimised graph: its type, and whether it reads real numbers that are not constants."""

    type: str
    reads_reals: bool


class Ran(NamedTuple):
    """A model's outputs, and the kernel that wrote each tensor."""

    outputs: list[list[Array]]
    kernels: Mapping[str, Kernel]


def run(path: Path, made: ModelGraph, samples: Sequence[Sequence[Array]], folder: Path) -> Ran:
    """Run the model `made` on samples with onnxruntime's CPU kernels, int8 activations unchanged; raises ModelError.

    Kernels are read before onnxruntime's last step, which lays activations out anew and gives them other names, but
    changes no arithmetic.
    """
    import onnxruntime as ort

    levels = ort.GraphOptimizationLevel
    written = folder / "optimised.onnx"
    try:
        _session(path, levels.ORT_ENABLE_EXTENDED, written)
        session = _session(path, levels.ORT_ENABLE_ALL)
        names = [port.name for port in session.get_inputs()]
        outputs = [list(session.run(None, dict(zip(names, sample, strict=True)))) for sample in samples]
    except runtime.failures() as error:
        raise ModelError(f"onnxruntime does not run it: {runtime.one_line(error)}") from error
    return Ran(outputs, _kernels(written, made))


def _session(path: Path, level: Any, written: Path | None = None) -> Any:
    """On x86 onnxruntime rewrites int8 activations to uint8 unless it is told not to, unlike on Arm."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.graph_optimization_level = level
    options.add_session_config_entry("session.qdqisint8allowed", "1")
    if written is not None:
        options.optimized_model_filepath = str(written)
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _kernels(path: Path, made: ModelGraph) -> dict[str, Kernel]:
    """The kernel of each first output; onnxruntime writes no data types, so that they are those of the file it read.

    A tensor that the file has not is real where what makes it reads real numbers.
    """
    from onnx import load

    graph = load(str(path)).graph
    held = {item.name for item in graph.initializer}
    dtypes = {tensor.name: tensor.dtype for tensor in made.tensors}
    reals = {name for name, dtype in dtypes.items() if dtype in FLOATS} - held
    found: dict[str, Kernel] = {}
    for node in graph.node:
        kernel = Kernel(node.op_type, bool(reals.intersection(node.input)))
        found[node.output[0]] = kernel
        if kernel.reads_reals and node.op_type != "QuantizeLinear":
            reals.update(name for name in node.output if name not in dtypes)
    return found


def otherwise(graph: ModelGraph, plan: Plan, made: ModelGraph, kernels: Mapping[str, Kernel]) -> Iterator[str]:
    """Operators that onnxruntime computes otherwise than planned, in words; those that only move data are left out."""
    file = OnnxFile(graph, plan, made)
    for operator in made.operators:
        one = file.layer_of(operator) if operator.type in ONNX_LAYERS else None
        one = one or file.plan_of(operator)
        if one is None or operator.type in QUANTIZERS or one.rule == "passes-quantization":
            continue
        kernel, how = traced(file, operator, kernels), arithmetic(one)
        wrong = "" if kernel is None else _wrong(how, kernel, is_layer=operator.type in ONNX_LAYERS)
        if kernel is not None and wrong:
            yield f"operator {one.index} {one.type} ({one.rule}) is planned {wrong} as {kernel.type}"
    yield from _dynamic(plan, kernels)


def _wrong(how: str, kernel: Kernel, *, is_layer: bool) -> str:
    """How a kernel computes otherwise than planned; a bias is a part of the product that it is fused into."""
    is_product = kernel.type in PRODUCTS
    if kernel.type in _MOVES:
        return ""
    if how == "integer" and kernel.reads_reals and not is_product:
        return "in integers and runs in float"
    if how in ("float", "expanded") and is_layer and is_product:
        return "in float and runs in integers"
    if how == "float" and not is_layer and not is_product and not kernel.reads_reals:
        return "in float and runs in integers"
    return ""


def _dynamic(plan: Plan, kernels: Mapping[str, Kernel]) -> Iterator[str]:
    wanted = sum(arithmetic(one) == "dynamic" and one.type in _DYNAMIC_LAYERS for one in plan.operators)
    found = sum(kernel.type in _DYNAMIC for kernel in kernels.values())
    if plan.scheme.name == "dynamic_wi8_af32" and found != wanted:
        yield f"{wanted} layers are planned with integer weights on float activations, {found} run so"


def traced(file: OnnxFile, operator: Operator, kernels: Mapping[str, Kernel]) -> Kernel | None:
    """The kernel that writes an operator's result, or that of the operator it is fused into; None if it is gone."""
    for _ in range(_STEPS):
        index = operator.outputs[0]
        readers = [one for one in file.made.operators if index in one.inputs]
        rounded = [file.tensors[one.outputs[0]].name for one in readers if one.type == "QuantizeLinear"]
        for name in (*rounded, file.tensors[index].name):
            if name in kernels:
                return kernels[name]
        following = [one for one in readers if one.type not in QUANTIZERS]
        if len(following) != 1 or rounded:
            return None
        operator = following[0]
    return None


def in_integers(kernels: Mapping[str, Kernel]) -> int:
    """How many products onnxruntime computes in integers."""
    return sum(kernel.type in PRODUCTS for kernel in kernels.values())
