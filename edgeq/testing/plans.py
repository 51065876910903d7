"""Plans and quantized models for tests that look at what comes after planning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeq.runtimes import Session
from edgeq.testing.bundles import RUNTIMES
from edgeq.types import Artifact, ModelGraph, Plan, PlannedMemory, Predicted, QuantizedModel, Scheme


def plan_of(graph: ModelGraph | None, scheme: Scheme, **changes: Any) -> Plan:
    """A plan that names no operators, of a model or of none (then TFLite); `changes` are fields of Plan."""
    form = graph.format if graph else "tflite"
    content: dict[str, Any] = {
        "target": "generic-linux-x86_64",
        "runtime": RUNTIMES[f".{form}"],
        "format": form,
        "scheme": scheme,
        "ok": True,
        "model_sha256": graph.sha256 if graph else "",
        "operators": (),
        "memory": PlannedMemory(flash_bytes=1, ram_bytes=2, arena_bytes=1),
        "predicted": Predicted(),
        "checks": (),
    }
    return Plan(**{**content, **changes})


def quantized_of(graph: ModelGraph, plan: Plan, session: Session, path: Path, **changes: Any) -> QuantizedModel:
    """The file itself as its quantized model, with the ports of a session over it."""
    content: dict[str, Any] = {
        "plan": plan,
        "artifact": Artifact(
            path=path.name,
            format=graph.format,
            sha256=graph.sha256,
            size_bytes=graph.size_bytes,
            float_size_bytes=graph.size_bytes,
        ),
        "float_path": path.name,
        "float_sha256": graph.sha256,
        "inputs": session.inputs,
        "outputs": session.outputs,
    }
    return QuantizedModel(**{**content, **changes})
