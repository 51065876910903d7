"""Run a model on this host. Each module has `open(path, threads=1) -> Session`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgeq.types import Port

    Array = NDArray[np.generic]

HELPERS = ("preflight",)
"""Modules here that are no runtimes."""

BY_FORMAT = {"tflite": "litert", "onnx": "onnxruntime"}
"""The runtime that runs a model file on this host, whatever a target runs it with."""


class Session(Protocol):
    """A model that is ready to run. Arrays are in the ports' order and data types."""

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def run(self, inputs: Sequence[Array]) -> list[Array]:
        """Run one inference on stored values; the first axis is the batch. Raises ModelError."""
        ...


def encode(port: Port, real: Array) -> Array:
    """Stored values of a port for real ones: round half to even, then clip, as QUANTIZE does."""
    import numpy as np

    if port.scale is None:
        return np.asarray(real, dtype=port.dtype)
    limits = np.iinfo(port.dtype)
    steps = np.round(np.asarray(real, dtype=np.float64) / port.scale) + (port.zero_point or 0)
    return np.clip(steps, limits.min, limits.max).astype(port.dtype)


def decode(port: Port, stored: Array) -> Array:
    """Real float32 values of a port's stored ones; float ports pass through."""
    import numpy as np

    if port.scale is None:
        return stored
    return ((stored.astype(np.float32) - (port.zero_point or 0)) * np.float32(port.scale)).astype(np.float32)


def infer(session: Session, reals: Sequence[Array]) -> list[Array]:
    """Run one inference on real values and return real values."""
    stored = session.run([encode(port, real) for port, real in zip(session.inputs, reals, strict=True)])
    return [decode(port, value) for port, value in zip(session.outputs, stored, strict=True)]
