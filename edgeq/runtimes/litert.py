"""TensorFlow Lite models through LiteRT's interpreter (`ai-edge-litert`)."""

from __future__ import annotations

import contextlib
import functools
import math
import warnings
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from edgeq.errors import EdgeqError, ModelError, ToolError
from edgeq.runtimes._child import captured_stderr
from edgeq.types import Port

if TYPE_CHECKING:
    from edgeq.runtimes import Array

Kernels = Literal["optimised", "reference"]
_RESOLVERS = {"optimised": "BUILTIN", "reference": "BUILTIN_REF"}
# What the interpreter's binding raises for a model or a value that it refuses.
_REFUSALS = (ValueError, RuntimeError, TypeError, MemoryError, OverflowError)


def version() -> str:
    """Version of the installed interpreter; raises ToolError where there is none."""
    from importlib import metadata

    try:
        return metadata.version("ai-edge-litert")
    except metadata.PackageNotFoundError as error:
        raise _missing(error) from error


def open(path: Path, *, threads: int = 1, kernels: Kernels = "optimised", preserve: bool = False) -> LiteRtSession:
    """Load a `.tflite` file; raises ModelError with the interpreter's own words, ToolError without LiteRT.

    `reference` kernels are slow and exact. `preserve` keeps intermediate tensors for `tensors()`.
    """
    if not path.is_file():
        raise ModelError("there is no such file", where=str(path))
    with _refusals(path, "cannot be opened"):
        interpreter = _interpreter(path, threads, kernels, preserve)
        return LiteRtSession(interpreter, path)


class LiteRtSession:
    """One loaded model. Ports and arrays are in the model's own order.

    A port's shape has -1 for an open axis; `run` resizes the model to the arrays it is given. Variable
    tensors (an LSTM's state) start from zero at each run, so that a run depends on its inputs only.
    """

    def __init__(self, interpreter: Any, path: Path) -> None:
        self._interpreter = interpreter
        self._path = path
        self._input_indices = [int(detail["index"]) for detail in interpreter.get_input_details()]
        self._output_indices = [int(detail["index"]) for detail in interpreter.get_output_details()]
        self._shapes: list[tuple[int, ...]] = [
            tuple(map(int, detail["shape"])) for detail in interpreter.get_input_details()
        ]
        self.inputs: tuple[Port, ...] = tuple(map(_port, interpreter.get_input_details()))
        self.outputs: tuple[Port, ...] = tuple(map(_port, interpreter.get_output_details()))

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run one inference on stored values; raises ModelError for arrays that do not fit and failed runs."""
        self._check(inputs)
        with _refusals(self._path, "cannot be run"):
            self._resize([array.shape for array in inputs])
            for index, array in zip(self._input_indices, inputs, strict=True):
                self._interpreter.set_tensor(index, np.asarray(array, order="C"))
            self._interpreter.reset_all_variables()
            self._interpreter.invoke()
            return [self._interpreter.get_tensor(index) for index in self._output_indices]

    def tensors(self, wanted: Container[str] | None = None) -> Iterator[tuple[str, Array]]:
        """Name and value of each tensor of the last run, constants too; only with `preserve`.

        Tensors that the run did not reach have no value and are left out.
        """
        for index, name in self._names:
            if wanted is not None and name not in wanted:
                continue
            with contextlib.suppress(ValueError):  # no value: an optional or a dynamic tensor
                yield name, self._interpreter.get_tensor(index)

    @functools.cached_property
    def _names(self) -> list[tuple[int, str]]:
        return [(int(detail["index"]), str(detail["name"])) for detail in self._interpreter.get_tensor_details()]

    def _check(self, inputs: Sequence[Array]) -> None:
        if len(inputs) != len(self.inputs):
            raise ModelError(f"has {len(self.inputs)} inputs, got {len(inputs)}", where=str(self._path))
        for port, array in zip(self.inputs, inputs, strict=True):
            if not _fits(port, array):
                raise ModelError(
                    f"input {port.name!r} takes {port.dtype} {list(port.shape)}, got {array.dtype} {list(array.shape)}",
                    where=str(self._path),
                )

    def _resize(self, shapes: list[tuple[int, ...]]) -> None:
        if shapes == self._shapes:
            return
        self._shapes = []  # until the model is allocated anew
        for index, shape in zip(self._input_indices, shapes, strict=True):
            self._interpreter.resize_tensor_input(index, list(shape))
        with captured_stderr():
            self._interpreter.allocate_tensors()
        self._shapes = shapes


def _interpreter(path: Path, threads: int, kernels: Kernels, preserve: bool) -> Any:
    try:
        from ai_edge_litert import interpreter as litert
    except ImportError as error:
        raise _missing(error) from error
    with captured_stderr() as lines, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*experimental_preserve_all_tensors", category=UserWarning)
        try:
            made = litert.Interpreter(
                model_path=str(path),
                num_threads=threads,
                experimental_op_resolver_type=litert.OpResolverType[_RESOLVERS[kernels]],
                experimental_preserve_all_tensors=preserve,
            )
            made.allocate_tensors()
        except _REFUSALS as error:
            failure: Exception | None = error
        else:
            failure = None
    if failure is not None:
        raise ModelError(f"cannot be opened: {_reason(failure, lines)}", where=str(path)) from failure
    return made


def _reason(error: Exception, lines: list[str]) -> str:
    """One line: what was raised, with what was written to stderr where that says more."""
    written = [line.split("ERROR:", 1)[1].strip() for line in lines if "ERROR:" in line]
    said = [line.strip() for line in str(error).splitlines() if line.strip()]
    said = [line for line in [*said, *written] if line]
    return "; ".join(dict.fromkeys(said))[:300] or type(error).__name__


@contextlib.contextmanager
def _refusals(path: Path, what: str) -> Iterator[None]:
    try:
        yield
    except EdgeqError:
        raise
    except _REFUSALS as error:
        raise ModelError(f"{what}: {_reason(error, [])}", where=str(path)) from error


def _missing(error: Exception) -> ToolError:
    return ToolError(f"LiteRT is not installed: {error}", hint="pip install ai-edge-litert")


def _port(detail: Mapping[str, Any]) -> Port:
    signature = detail["shape_signature"] if len(detail["shape_signature"]) else detail["shape"]
    scales = detail["quantization_parameters"]["scales"]
    quantized = len(scales) == 1 and math.isfinite(scales[0]) and scales[0] > 0
    return Port(
        name=str(detail["name"]),
        shape=tuple(map(int, signature)),
        dtype=np.dtype(detail["dtype"]).name,
        scale=float(scales[0]) if quantized else None,
        zero_point=int(detail["quantization_parameters"]["zero_points"][0]) if quantized else None,
    )


def _fits(port: Port, array: Array) -> bool:
    same_rank = len(port.shape) == array.ndim
    return (
        same_rank
        and array.dtype.name == port.dtype
        and all(size in (-1, given) for size, given in zip(port.shape, array.shape, strict=True))
    )
