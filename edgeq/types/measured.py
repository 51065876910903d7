"""Units on the desk, and what was measured on them."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgeq.types.plans import Check
from edgeq.types.quantized import Manifest, QuantizedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One unit on a desk: how to reach it. No secrets.

    `folder` is where bundles go on the device (default `~/.cache/edgeq`); `python` its interpreter.
    """

    name: str
    transport: str
    host: str | None = None
    port: int | None = None
    user: str | None = None
    identity: str | None = None
    folder: str = ".cache/edgeq"
    python: str = "python3"
    meter: str | None = None
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How a measurement is taken; seconds of warm-up, then at least `runs` and `seconds`."""

    runs: int = 50
    seconds: float = 1.0
    warmup_seconds: float = 0.5
    threads: int | None = None
    cpus: tuple[int, ...] = ()
    timeout_seconds: float = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Statistics of steady-state inference in ms; `first` and `load` stand apart from them."""

    p50: float
    p90: float
    p99: float
    mean: float
    std: float
    min: float
    max: float
    runs: int
    first: float
    load: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMemory:
    """Bytes at the device; `arena` where the interpreter tells it."""

    peak_rss: int | None = None
    pss: int | None = None
    cgroup_peak: int | None = None
    arena: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """Golden vectors on the device against the host: `max_steps` in quantization steps.

    For float outputs `max_steps` is the largest difference over the host's value range in 1/255ths.
    """

    exact: bool
    max_steps: float
    vectors: int
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """State of the device at one moment; None where it does not tell."""

    governor: str | None = None
    frequency_hz: tuple[int, ...] = ()
    temperature_c: float | None = None
    load_1min: float | None = None
    memory_available_bytes: int | None = None
    throttled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionsPair:
    """Conditions before and after the runs."""

    before: Conditions
    after: Conditions
    throttled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Energy:
    """Energy of one inference above idle, with its source; the truth lies within ± `uncertainty_mj`.

    `idle_mw` is what was subtracted: idle before and after, on the line between them. `uncertainty_parts_mj` are
    resolution, sampling, idle, drift and alignment. `includes` says whose power it is.
    """

    per_inference_mj: float
    idle_mw: float
    load_mw: float
    source: str
    samples: int
    uncertainty_mj: float | None = None
    uncertainty_parts_mj: dict[str, float] = field(default_factory=dict)
    idle_before_mw: float | None = None
    idle_after_mw: float | None = None
    includes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What was measured on one device. What was not is None, with a reason in `unavailable`."""

    device: dict[str, object]
    runtime: dict[str, str]
    settings: RunSettings
    latency_ms: Latency | None
    latency_samples_ns: tuple[int, ...]
    batch: int
    memory_bytes: MeasuredMemory
    energy: Energy | None
    parity: Parity | None
    conditions: ConditionsPair
    manifest_sha256: str
    unavailable: dict[str, str] = field(default_factory=dict)
    schema_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The scoring samples on the device, beside host float and host INT8."""

    metric: str
    samples: int
    float_score: float | None
    host_score: float | None
    device_score: float | None
    differing_samples: int
    ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether all that was asked for holds."""

    ok: bool
    checks: tuple[Check, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """All of it side by side: planned against measured, float against INT8, verdict."""

    model: str
    quantized: QuantizedModel | None
    bundle: Manifest | None
    measurement: Measurement | None
    validation: Validation | None
    verdict: Verdict
    schema_version: int = 1
