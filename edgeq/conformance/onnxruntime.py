"""Proves operator tables of onnxruntime's CPU execution provider.

An integer signature runs where the optimised graph, as onnxruntime writes it, computes nothing in float, and where its
answer is near to float. What runs in float between DequantizeLinear and QuantizeLinear is refused.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq.conformance import child, onnx
from edgeq.conformance.onnx.build import recipe_of
from edgeq.errors import ModelError
from edgeq.runtimes import onnxruntime as runtime
from edgeq.types import Case, OperatorTable, Outcome, Progress, Signature, silent

Array = NDArray[Any]
NEAR = 0.03
"""Largest difference that still counts as right, relative to the largest value; share of unlike integers."""
_PASSING = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})
"""What may read real numbers in a graph that computes in integers."""
_DYNAMIC = frozenset(
    {"ConvInteger", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"}
)
"""Integer products of activations that are quantized as they come."""
_PROVIDER = "CPUExecutionProvider"
_LIMITS = child.Limits(item_s=20, start_s=60)


class Verdict(NamedTuple):
    """An outcome's result and why, as the child answers it."""

    result: Literal["runs", "refused", "wrong", "untried"]
    why: str = ""


def version() -> str:
    """Version of the installed onnxruntime; raises ToolError where it is missing."""
    return runtime.version()


def cases(table: OperatorTable) -> list[Case]:
    """The table's claims, and the denials among all operators of the ai.onnx opset that have CPU kernels."""
    newest = newest_opset()
    return onnx.cases(table, _registered(newest), newest)


def prove(cases: Sequence[Case], table: OperatorTable, *, progress: Progress = silent) -> Iterator[Outcome]:
    """Run each case in a child process; a crash or a hang of onnxruntime is a refusal."""
    answers = child.run(f"{__name__}:judge", cases, _LIMITS)
    for done, (case, answer) in enumerate(zip(cases, answers, strict=True), start=1):
        verdict = survived(answer)
        progress(table.name, done, len(cases))
        yield Outcome(case=case, result=verdict.result, why=verdict.why)


def survived(answer: Verdict | child.Lost) -> Verdict:
    """The child's verdict, or what the loss of the child says."""
    return Verdict("refused", f"onnxruntime {answer.why}") if isinstance(answer, child.Lost) else answer


def judge(case: Case) -> Verdict:
    """Build a case's models, run them in this process, and say what became of it."""
    try:
        form, plain = onnx.form(case), onnx.twin(case)
    except onnx.NoModel as reason:
        return Verdict("untried", str(reason))
    with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
        try:
            wanted, _ = run(plain, Path(folder), fuse=False)
            model = onnx.quantized(case, wanted)
            exact, _ = run(model, Path(folder), fuse=False)
            answer, nodes = run(model, Path(folder), fuse=True)
        except onnx.NoModel as reason:
            return Verdict("refused", str(reason))
        except ModelError as error:
            return Verdict("refused", error.message)
    if stray := _FORMS[form](nodes):
        return Verdict("refused", stray)
    if recipe_of(case).random:
        return Verdict("runs")
    return compared(wanted, exact, answer)


def compared(wanted: Sequence[Array], exact: Sequence[Array], answer: Sequence[Array]) -> Verdict:
    """`exact` is the same model with nothing fused: it tells a poor model from poor kernels."""
    for reference, found, fault in ((wanted, exact, "not fused"), (exact, answer, "fused")):
        for first, second in zip(reference, found, strict=True):
            difference = apart(first, second)
            if not difference <= NEAR:
                return Verdict("wrong", f"{fault}, it is off by {difference:.3g} of the largest value")
    return Verdict("runs")


def apart(wanted: Array, found: Array) -> float:
    """Largest difference relative to the largest value; share of unlike values where they are not real numbers."""
    if wanted.shape != found.shape:
        return float("inf")
    if wanted.size == 0 or np.array_equal(wanted, found, equal_nan=wanted.dtype.kind == "f"):
        return 0.0
    if wanted.dtype.kind != "f":
        return float(np.mean(wanted != found))
    first, second = wanted.astype(np.float64), found.astype(np.float64)
    return float(np.abs(first - second).max() / max(np.abs(first).max(), 1e-12))


# --- running ---------------------------------------------------------------------------------


class Node(NamedTuple):
    """A node of the optimised graph, and whether it reads real numbers that are not constants."""

    type: str
    reads_reals: bool


def run(model: onnx.OneOperator, folder: Path, *, fuse: bool) -> tuple[list[Array], list[Node]]:
    """Outputs of a model and the nodes that ran; raises ModelError."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.add_session_config_entry("session.qdqisint8allowed", "1")  # or x86 rewrites int8 to uint8, unlike Arm
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if fuse else levels.ORT_DISABLE_ALL
    written = folder / "optimised.onnx"
    if fuse:
        options.optimized_model_filepath = str(written)
    try:
        session = ort.InferenceSession(model.content, options, providers=[_PROVIDER], enable_fallback=0)
        results = [np.asarray(one) for one in session.run(None, dict(model.feeds))]
    except runtime.failures() as error:
        raise ModelError(runtime.one_line(error)) from error
    return results, nodes(written) if fuse else []


def nodes(path: Path) -> list[Node]:
    """Nodes of a graph in their order."""
    from onnx import TensorProto, load

    graph = load(str(path)).graph
    kinds = (TensorProto.FLOAT, TensorProto.FLOAT16)
    reals = {item.name for item in graph.input if item.type.tensor_type.elem_type in kinds}
    found = []
    for node in graph.node:
        reads = bool(reals.intersection(node.input))
        found.append(Node(node.op_type, reads))
        if node.op_type == "DequantizeLinear" or (reads and node.op_type not in _PASSING):
            reals.update(node.output)
    return found


# --- what may be in the optimised graph --------------------------------------------------------


def in_integers(found: Sequence[Node]) -> str:
    """What computes on real numbers, in words; empty where nothing does."""
    stray = sorted({node.type for node in found if node.reads_reals and node.type not in _PASSING})
    return f"runs in float: {', '.join(stray)}" if stray else ""


def meets_integers(found: Sequence[Node]) -> str:
    """Why this is no integer product of activations that are quantized as they come; empty where it is one."""
    types = {node.type for node in found}
    return "" if types & _DYNAMIC else f"runs in float: {', '.join(sorted(types))}"


def anything(found: Sequence[Node]) -> str:  # noqa: ARG001
    """Float kernels may be as they are."""
    return ""


_FORMS: Mapping[str, Callable[[Sequence[Node]], str]] = {
    "static": in_integers,
    "dynamic": meets_integers,
    "stored": anything,
    "half": anything,
    "plain": anything,
}


# --- what this onnxruntime has -----------------------------------------------------------------


def _registered(newest: int) -> frozenset[str]:
    """Operators of ai.onnx with a CPU kernel, or that are defined by others, and that an opset up to the newest has."""
    from onnx import defs
    from onnxruntime.capi import _pybind_state as native

    kernels = {one.op_name for one in native.get_all_opkernel_def() if one.provider == _PROVIDER and not one.domain}
    schemas = [one for one in defs.get_all_schemas_with_history() if not one.domain and one.since_version <= newest]
    composed = {one.name for one in schemas if one.has_function or one.has_context_dependent_function}
    return frozenset((kernels & {one.name for one in schemas}) | composed)


def newest_opset() -> int:
    """The newest opset that this onnxruntime reads; it has kernels for newer ones, but refuses models of them."""
    from onnx import defs

    for opset in range(defs.onnx_opset_version(), onnx.OPSET, -1):
        case = Case(operator="Relu", signature=Signature(activations="float32"), claimed=True, variant=f"opset {opset}")
        if judge(case).result == "runs":
            return opset
    return onnx.OPSET
