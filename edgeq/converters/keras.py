"""Keras and SavedModel files to float TFLite, with TensorFlow in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path

from edgeq import store
from edgeq.errors import ConvertError, EdgeqError, ModelError, ToolError
from edgeq.runtimes._child import last_line, module_argv

_REFUSED = 3
_TAIL_BYTES = 4096
_KINDS: dict[str, type[EdgeqError]] = {"ModelError": ModelError, "ToolError": ToolError, "ConvertError": ConvertError}
_QUIET = {
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",  # the same rounding on every host
    "CUDA_VISIBLE_DEVICES": "-1",
    "KERAS_BACKEND": "tensorflow",
    "PYTHONWARNINGS": "ignore",
}
SUFFIXES = (".keras", ".h5", ".hdf5")


def is_source(path: Path) -> bool:
    """Whether a path looks like what `to_tflite` reads: a Keras file, or a folder with a saved_model.pb."""
    return path.suffix.lower() in SUFFIXES or (path / "saved_model.pb").is_file()


def to_tflite(source: Path, out: Path, *, timeout_seconds: float = 900) -> Path:
    """Write the float TFLite model of a `.keras`, `.h5` or SavedModel to `out`; returns `out`.

    The batch is fixed at 1. The result is held against the original's answer on random input before it is
    written. Nothing in the file is run as Python: Lambda layers and other code are refused. Raises ToolError
    without the `tensorflow` extra, ModelError for a file that cannot be read, ConvertError.
    """
    if not source.exists():
        raise ModelError("there is no such file", where=str(source))
    if source.is_dir() and not is_source(source):
        raise ModelError("is a folder without a saved_model.pb", where=str(source))
    if importlib.util.find_spec("tensorflow") is None:
        raise ToolError("Keras models need TensorFlow", where=str(source), hint="pip install 'edgeq[tensorflow]'")
    with tempfile.TemporaryDirectory(prefix="edgeq-") as name:
        folder = Path(name)
        made = _run(source, folder, timeout_seconds)
        with store.replacing(out) as temporary:
            temporary.write_bytes(made.read_bytes())
    return out


def _run(source: Path, folder: Path, timeout_seconds: float) -> Path:
    """Run the worker; returns the file it made."""
    argv = module_argv("edgeq.converters._keras_worker", source.absolute(), folder, str(round(timeout_seconds) + 1))
    log = folder / "log.txt"
    with log.open("wb") as stream:
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                timeout=timeout_seconds,
                check=False,
                env={**os.environ, **_QUIET, "KERAS_HOME": str(folder)},
            )
        except subprocess.TimeoutExpired:
            message = f"TensorFlow does not finish within {timeout_seconds:g} s"
            raise ConvertError(message, where=str(source)) from None
    if done.returncode != 0:
        raise _failure(done.returncode, folder, source)
    return folder / "model.tflite"


def _failure(code: int, folder: Path, source: Path) -> EdgeqError:
    if code == _REFUSED:
        said = json.loads((folder / "refusal.json").read_text())
        return _KINDS[said["kind"]](said["message"], where=str(source), hint=said["hint"])
    if code < 0:
        return ModelError(f"TensorFlow crashes on this file ({_signal_name(-code)})", where=str(source))
    return ConvertError(f"TensorFlow fails: {last_line(_tail(folder / 'log.txt'))}", where=str(source))


def _signal_name(number: int) -> str:
    return next((known.name for known in signal.Signals if known == number), f"signal {number}")


def _tail(path: Path) -> str:
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - _TAIL_BYTES))
        return stream.read().decode(errors="replace")
