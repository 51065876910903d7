"""The JSON documents that `--json` prints: keys are a contract, see docs/index.md."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from typing import Any

from edgeq.types import (
    Accuracy,
    Bundle,
    Firmware,
    Measurement,
    ModelGraph,
    Plan,
    QuantizedModel,
    Report,
    Target,
    Validation,
    Verdict,
)

Document = dict[str, Any]
SCHEMA_VERSION = 1


def document(**content: object) -> Document:
    """A document with the schema's version; dataclasses become plain values."""
    return {"schema_version": SCHEMA_VERSION, **{key: plain(value) for key, value in content.items()}}


def plain(value: object) -> Any:
    """Plain values for dataclasses, also inside lists and mappings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value


def inspect(graph: ModelGraph) -> Document:
    """What `edgeq inspect` prints."""
    return document(
        format=graph.format,
        sha256=graph.sha256,
        size_bytes=graph.size_bytes,
        state=graph.state,
        inputs=_ports(graph, graph.inputs),
        outputs=_ports(graph, graph.outputs),
        operators=dict(sorted(Counter(operator.type for operator in graph.operators).items())),
        parameters=graph.parameters,
        weight_bytes=graph.weight_bytes,
        macs=graph.macs,
        peak_activation_bytes=graph.peak_activation_bytes,
        notes=graph.notes,
    )


def _ports(graph: ModelGraph, indices: Iterable[int]) -> list[Document]:
    tensors = [graph.tensors[index] for index in indices]
    return [{"name": tensor.name, "shape": list(tensor.shape), "dtype": tensor.dtype} for tensor in tensors]


def targets(found: Iterable[Target], proved: Container[str] = ()) -> Document:
    """What `edgeq targets` prints; `proved` are the names of targets whose operator tables all are."""
    return document(targets=[_target_row(target, target.name in proved) for target in found])


def _target_row(target: Target, is_proved: bool) -> Document:
    return {
        "name": target.name,
        "title": target.title,
        "kind": target.kind,
        "cpu": plain(target.cpu),
        "memory": plain(target.memory),
        "accelerator": plain(target.accelerator) if target.accelerator else None,
        "runtimes": [runtime.name for runtime in target.runtimes],
        "proved": is_proved,
    }


def target(found: Target, *, is_proved: bool = False, proofs: Sequence[object] = ()) -> Document:
    """What `edgeq targets show` prints; `proofs` is how each of its operator tables stands."""
    return document(**{**plain(found), "proved": is_proved, "proofs": proofs})


def plan(found: Plan) -> Document:
    """What `edgeq plan` prints: the scheme by its name."""
    scheme = found.scheme
    own = {"scheme": scheme.name, "ranges": _ranges(found), "corrected": scheme.corrected, "islands": scheme.islands}
    return document(**{**plain(found), **own})


def _ranges(found: Plan) -> str | None:
    return found.scheme.ranges if found.scheme.is_static else None


def quantize(quantized: QuantizedModel) -> Document:
    """What `edgeq quantize` prints."""
    return document(
        plan=plan(quantized.plan),
        artifact=quantized.artifact,
        inputs=quantized.inputs,
        outputs=quantized.outputs,
        accuracy=accuracy(quantized.accuracy) if quantized.accuracy else None,
        fidelity={"outputs": quantized.fidelity},
        tried=quantized.tried,
        notes=quantized.notes,
        findings=quantized.findings,
        tools=quantized.tools,
        seconds=quantized.seconds,
        peak_rss_bytes=quantized.peak_rss_bytes,
        unavailable=quantized.unavailable,
    )


def accuracy(found: Accuracy) -> Document:
    """A score beside float's."""
    return {
        "metric": found.metric,
        "samples": found.samples,
        "float": found.float_score,
        "quantized": found.quantized_score,
        "drop": found.drop,
        "tolerance": found.tolerance,
        "ok": found.ok,
        "why": found.why,
    }


def bundle(found: Bundle) -> Document:
    """What `edgeq build` adds."""
    return {"path": found.path, **plain(found.manifest)}


def measurement(found: Measurement) -> Document:
    """What was measured, without the raw samples."""
    latency = plain(found.latency_ms)
    return {
        "device": plain(found.device),
        "runtime": plain(found.runtime),
        "settings": plain(found.settings),
        "latency_ms": latency,
        "memory_bytes": plain(found.memory_bytes),
        "energy_mj": found.energy.per_inference_mj if found.energy else None,
        "energy": plain(found.energy),
        "preflight": plain(found.preflight),
        "parity": plain(found.parity),
        "warmup": plain(found.warmup),
        "steadiness": plain(found.steadiness),
        "sustained": plain(found.sustained),
        "speedup": plain(found.speedup),
        "operators": plain(found.operators),
        "watched": plain(found.watched),
        "conditions": {**plain(found.conditions), "throttled": found.conditions.throttled},
        **_firmware(found.firmware),
    }


def _firmware(found: Firmware | None) -> Document:
    """What microcontrollers add."""
    if found is None:
        return {}
    told: Document = plain(found)
    return {"firmware": told.pop("sha256"), **told}


def prediction(found: Report) -> Document | None:
    """Predicted latency beside the measured p50 in ms; `error` is relative to the measured one. None without both."""
    predicted = found.quantized.plan.predicted if found.quantized else None
    measured = found.measurement.latency_ms if found.measurement else None
    if predicted is None or predicted.latency_ms is None or measured is None or not measured.p50:
        return None
    error = predicted.latency_ms / measured.p50 - 1
    latency = {"predicted": predicted.latency_ms, "measured": measured.p50, "error": error, "source": predicted.source}
    return {"latency_ms": latency}


def validation(found: Validation) -> Document:
    """What `edgeq validate` prints."""
    return document(
        metric=found.metric,
        samples=found.samples,
        float=found.float_score,
        host=found.host_score,
        device=found.device_score,
        differing_samples=found.differing_samples,
        ok=found.ok,
    )


def verdict(found: Verdict) -> Document:
    """Whether all holds, with its checks."""
    return {"ok": found.ok, "checks": plain(found.checks)}


def report(found: Report) -> Document:
    """What `edgeq profile`, `run` and `report` print: all that is known, side by side."""
    content: Document = {"model": found.model}
    unavailable: dict[str, str] = {}
    if found.quantized:
        content |= quantize(found.quantized)
        unavailable |= found.quantized.unavailable
    if found.bundle:
        content["bundle"] = plain(found.bundle)
    if found.measurement:
        content |= measurement(found.measurement)
        unavailable |= found.measurement.unavailable
    content["prediction"] = prediction(found)
    if found.validation:
        content["validation"] = validation(found.validation)
    content |= {"unavailable": unavailable, "verdict": verdict(found.verdict)}
    return document(**content)
