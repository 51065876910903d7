"""Latencies measured on devices of a target, kept on this host so that the next plan predicts from them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edgeq import store, targets
from edgeq.errors import EdgeqError
from edgeq.types import Measurement, Observation, Plan, QuantizedModel, RunSettings, Target
from edgeq.workflow.plan import safe_name

MOST = 200
"""Observations kept of one target, the newest."""

_ALIASES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """All that was measured on one target, oldest first."""

    target: str
    observations: tuple[Observation, ...] = ()
    schema_version: int = 1


def file(target: str) -> Path:
    """Where the latencies of a target are kept."""
    return store.state_folder() / "latency" / f"{safe_name(target)}.json"


def load(target: str) -> tuple[Observation, ...]:
    """What was measured on devices of a target; raises EdgeqError for a file that is broken."""
    path = file(target)
    if not path.is_file():
        return ()
    try:
        found = store.read(path, Observed)
    except EdgeqError as error:
        raise EdgeqError(f"what was measured before cannot be read: {error.message}", where=error.where,
                         hint=f"remove {path}, then measure again") from error  # fmt: skip
    return found.observations if found.target == target else ()


def record(quantized: QuantizedModel, measured: Measurement) -> str | None:
    """Keep a measurement for later predictions; returns why not, where it says nothing of the target's speed."""
    plan = quantized.plan
    reason = _unusable(plan, measured)
    if reason is not None or measured.latency_ms is None:
        return reason
    new = Observation(
        runtime=plan.runtime,
        artifact_sha256=quantized.artifact.sha256,
        device=str(measured.device.get("name", "")),
        date=datetime.now(timezone.utc).date().isoformat(),
        latency_ms=measured.latency_ms.p50,
        work=plan.predicted.work,
    )
    path = file(plan.target)
    with store.locked(path):
        kept = [one for one in load(plan.target) if not _same(one, new)]
        store.write(path, Observed(target=plan.target, observations=(*kept, new)[-MOST:]))
    return None


def _same(one: Observation, other: Observation) -> bool:
    """Whether the same file was measured on the same device: the newer measurement replaces the older."""
    return (one.runtime, one.artifact_sha256, one.device) == (other.runtime, other.artifact_sha256, other.device)


def _unusable(plan: Plan, measured: Measurement) -> str | None:
    usual, settings = RunSettings(), measured.settings
    if measured.latency_ms is None or not plan.predicted.work:
        return "no latency was measured"
    if (settings.threads, settings.cpus) != (usual.threads, usual.cpus):
        return "threads or CPUs were chosen for this run"
    if measured.conditions.throttled:
        return "the device was throttled"
    return _another_kind(plan.target, measured)


def _another_kind(name: str, measured: Measurement) -> str | None:
    """Why the device is none of the target's kind, as far as its processor tells; for profiles of the shelf."""
    machine = str(measured.device.get("machine", ""))
    profile = _profile(name)
    if profile is None or not machine or _ALIASES.get(machine, machine) == profile.cpu.arch:
        return None
    return f"the device is {machine}, {name} is {profile.cpu.arch}"


def _profile(name: str) -> Target | None:
    return targets.load(name) if name in targets.names() else None
