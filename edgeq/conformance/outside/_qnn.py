"""onnxruntime's QNN provider with its x86 emulation of the Hexagon tensor processor, for `_batch.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

PROVIDER = "QNNExecutionProvider"
FOLDER = Path(onnxruntime.__file__).parent / "capi"
_NATIVE = vars(onnxruntime.capi.onnxruntime_pybind11_state).values()
REFUSALS = (
    *(kind for kind in _NATIVE if isinstance(kind, type) and issubclass(kind, Exception)),
    RuntimeError,
    ValueError,
)


def run(model: bytes, feeds: dict[str, Any], outputs: int, settings: dict[str, str]) -> list[Any]:  # noqa: ARG001
    """Run a model on the emulated processor and nowhere else; its outputs."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    provider = {"backend_path": str(FOLDER / "libQnnHtp.so"), **settings}
    if PROVIDER in onnxruntime.get_available_providers():
        session = onnxruntime.InferenceSession(
            model, options, providers=[PROVIDER], provider_options=[provider], enable_fallback=0
        )
    else:
        options.add_provider_for_devices(_devices(), provider)
        session = onnxruntime.InferenceSession(model, options, enable_fallback=0)
    return [np.asarray(values) for values in session.run(None, feeds)]


def _devices() -> list[Any]:
    """The provider's devices; registers it the first time. A bug of the installation is no refusal."""
    library = FOLDER / "libonnxruntime_providers_qnn.so"
    found = _registered()
    if not found:
        if not library.is_file():
            raise FileNotFoundError(library)
        onnxruntime.register_execution_provider_library(PROVIDER, str(library))
        found = _registered()
    if not found:
        raise LookupError("the QNN provider has no device on this host")
    return found


def _registered() -> list[Any]:
    return [device for device in onnxruntime.get_ep_devices() if device.ep_name == PROVIDER]
