"""Run ONNX models on this host with onnxruntime's CPU kernels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from edgeq.errors import ModelError, ToolError
from edgeq.types import Port

if TYPE_CHECKING:
    from edgeq.runtimes import Array

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
    **{f"tensor({name})": name for name in ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")},
}
_FAILURES = (
    *("EPFail", "EngineError", "Fail", "InvalidArgument", "InvalidGraph", "InvalidProtobuf"),
    *("ModelLoadCanceled", "ModelLoaded", "ModelRequiresCompilation", "NoModel", "NoSuchFile"),
    *("NotFound", "NotImplemented", "RuntimeException"),
)
_SILENT = 4
_CUSTOM = re.compile(r"No Op registered for (\S+)|(\S+)\(-?\d+\) is not a registered function/op")


class OnnxSession:
    """A loaded ONNX model. Ports stand in the model's order, dynamic axes are -1."""

    def __init__(self, path: Path, session: Any) -> None:
        self._path = path
        self._session = session
        self.inputs: tuple[Port, ...] = tuple(_port(item, path) for item in session.get_inputs())
        self.outputs: tuple[Port, ...] = tuple(_port(item, path) for item in session.get_outputs())

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run one inference; the first axis is the batch. Raises ModelError."""
        import onnxruntime as ort

        if len(inputs) != len(self.inputs):
            raise ModelError(f"the model has {len(self.inputs)} inputs, got {len(inputs)}", where=str(self._path))
        options = ort.RunOptions()
        options.log_severity_level = _SILENT
        feeds = {port.name: value for port, value in zip(self.inputs, inputs, strict=True)}
        try:
            results: list[Array] = self._session.run(None, feeds, options)
        except failures() as error:
            raise ModelError(f"onnxruntime cannot run it: {one_line(error)}", where=str(self._path)) from error
        return results


def open(path: Path, *, threads: int = 1, optimise: bool = True, lean: bool = False) -> OnnxSession:
    """Load a model; raises ModelError.

    A `lean` session gives memory back after each run: with every activation among the outputs what onnxruntime
    sets aside for later grows with the number of runs (mobilenet_v2: 267 MB after 16, 302 MB after 500).

    Without `optimise` nothing is fused: a QDQ model then computes in float arithmetic, exactly as its file
    reads. The difference between the two is what integer kernels do to it.
    """
    if not path.is_file():
        raise ModelError("there is no such file", where=str(path))
    try:
        options = _options(threads, optimise)
        options.enable_cpu_mem_arena = options.enable_mem_pattern = not lean
        return OnnxSession(path, _session(path, options))
    except failures() as error:
        _refuse(path, error)


def optimised(path: Path, out: Path, *, basic: bool = False) -> None:
    """Write the graph as onnxruntime would run it (`basic`: portable fusions only); raises ModelError."""
    ort = _ort()
    options = _options(1, True)
    options.optimized_model_filepath = str(out)
    if basic:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    try:
        _session(path, options)
    except failures() as error:
        _refuse(path, error)


def version() -> str:
    """Version of the installed onnxruntime."""
    return str(_ort().__version__)


def failures() -> tuple[type[Exception], ...]:
    """Exceptions with which onnxruntime refuses a model or an input."""
    from onnxruntime.capi import onnxruntime_pybind11_state as native

    named = (getattr(native, name, None) for name in _FAILURES)
    return (*(kind for kind in named if kind is not None), ValueError, RuntimeError)


def one_line(error: BaseException) -> str:
    """A native library's message on one line, without its error code."""
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    return text if len(text) <= 200 else text[:197] + "..."


def _ort() -> Any:
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise ToolError("onnxruntime is not installed", hint="pip install onnxruntime") from error
    ort.set_default_logger_severity(_SILENT)
    return ort


def _session(path: Path, options: Any) -> Any:
    # its second attempt after a failure, with the same provider, prints to standard output
    return _ort().InferenceSession(str(path), options, providers=["CPUExecutionProvider"], enable_fallback=0)


def _options(threads: int, optimise: bool) -> Any:
    ort = _ort()
    options = ort.SessionOptions()
    options.log_severity_level = _SILENT
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimise else levels.ORT_DISABLE_ALL
    return options


def _refuse(path: Path, error: Exception) -> NoReturn:
    found = _CUSTOM.search(str(error))
    if found:
        name = found.group(1) or found.group(2)
        raise ModelError(
            f"onnxruntime does not know the operator {name}",
            where=str(path),
            hint="replace the custom operator before exporting the model",
        ) from error
    raise ModelError(f"onnxruntime cannot load it: {one_line(error)}", where=str(path)) from error


def _port(item: Any, path: Path) -> Port:
    if item.type not in _DTYPES:
        raise ModelError(f"{item.name!r} is a {item.type}, not a tensor of numbers", where=str(path))
    shape = tuple(axis if isinstance(axis, int) else -1 for axis in item.shape)
    return Port(name=item.name, shape=shape, dtype=_DTYPES[item.type])
