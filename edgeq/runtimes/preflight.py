"""Open a model and run it once in a process of its own, where native code may crash without harm."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import EdgeqError, ModelError, ToolError
from edgeq.runtimes._child import last_line, limit_resources, module_argv

if TYPE_CHECKING:
    from edgeq.runtimes import Session
    from edgeq.types import Port

MEMORY_BYTES = 8 << 30
_REFUSED = 3
_KINDS: dict[str, type[EdgeqError]] = {"ModelError": ModelError, "ToolError": ToolError}


def check(path: Path, format: str, timeout_seconds: float = 60) -> None:
    """Run one inference on zeros in a subprocess; raises ModelError for a crash, a hang or a refusal.

    `format` is `tflite` or `onnx`. The child may take `MEMORY_BYTES` of address space and `timeout_seconds` of
    time. Raises ToolError where the runtime is not installed.
    """
    cpu_seconds = round(timeout_seconds) + 5  # ends the child if this process dies
    argv = module_argv("edgeq.runtimes.preflight", format, path.absolute(), str(cpu_seconds))
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_seconds, check=False, text=True
        )
    except subprocess.TimeoutExpired:
        raise ModelError(f"the runtime does not finish within {timeout_seconds:g} s", where=str(path)) from None
    if done.returncode != 0:
        raise _failure(done, path)


def _failure(done: subprocess.CompletedProcess[str], path: Path) -> EdgeqError:
    if done.returncode < 0:
        return ModelError(f"the runtime crashes on this file ({_signal_name(-done.returncode)})", where=str(path))
    if done.returncode == _REFUSED:
        said = json.loads(done.stdout.splitlines()[-1])
        return _KINDS.get(said["kind"], ModelError)(said["message"], where=str(path), hint=said["hint"])
    return ModelError(f"the runtime fails on this file: {last_line(done.stderr)}", where=str(path))


def _signal_name(number: int) -> str:
    try:
        return f"signal {signal.Signals(number).name}"
    except ValueError:
        return f"signal {number}"


def _open_tflite(path: Path) -> Session:
    from edgeq.runtimes import litert

    return litert.open(path)


def _open_onnx(path: Path) -> Session:
    from edgeq.runtimes import onnxruntime

    return onnxruntime.open(path)


_OPENERS: dict[str, Callable[[Path], Session]] = {"tflite": _open_tflite, "onnx": _open_onnx}


def run_once(path: Path, format: str) -> None:
    """Open a model here and run it on zeros, an open axis being 1; raises EdgeqError."""
    import numpy as np

    session = _OPENERS[format](path)
    if all(_is_numeric(port) for port in session.inputs):
        session.run([np.zeros([1 if size < 0 else size for size in port.shape], port.dtype) for port in session.inputs])


def _is_numeric(port: Port) -> bool:
    import numpy as np

    return np.dtype(port.dtype).kind in "biufc"


def main(arguments: list[str]) -> int:
    """The child: `format path cpu_seconds`; 0, or 3 with the refusal as one line of JSON on stdout."""
    model_format, path, cpu_seconds = arguments
    limit_resources(memory_bytes=MEMORY_BYTES, cpu_seconds=int(cpu_seconds))
    try:
        run_once(Path(path), model_format)
    except EdgeqError as error:
        said = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        sys.stdout.write(json.dumps(said) + "\n")
        return _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
