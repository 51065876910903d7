"""One measured run as the history keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One bundle measured on one device: what a list of runs shows, without samples and report.

    `at` is UTC. `model` is the stem of the float model's file, so that a retrained model keeps its line. `hardware` is
    what the device says it is; devices of one name on two hosts may differ in it. What was not measured is None.
    """

    id: str
    at: datetime
    edgeq_version: str
    host: str
    labels: tuple[str, ...]
    command: str
    folder: str
    model: str
    model_sha256: str
    artifact_sha256: str
    target: str
    device: str
    hardware: str
    runtime: str
    runtime_version: str
    threads: int | None
    scheme: str
    size_bytes: int | None
    metric: str | None
    accuracy: float | None
    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    peak_rss_bytes: int | None
    energy_mj: float | None
    parity_ok: bool | None
    throttled: bool | None
    ok: bool
