"""Units on the desk, and what was measured on them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgeq.types.plans import Check
from edgeq.types.quantized import Manifest, QuantizedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One unit on a desk: how to reach it. No secrets.

    `folder` is where bundles go on the device (default `~/.cache/edgeq`); `python` its interpreter. A board behind a
    serial port has the port's path as `host`, and its speed as `baud` where that is not the usual one.
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
    baud: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSettings:
    """How a measurement is taken; seconds of warm-up, then at least `runs` and `seconds`.

    `sustained_minutes` is how long the runs go on to see whether the device keeps its pace. `compare_float` measures
    the float model beside the quantized one, `operators` asks the interpreter's own profiler.
    """

    runs: int = 50
    seconds: float = 1.0
    warmup_seconds: float = 0.5
    threads: int | None = None
    cpus: tuple[int, ...] = ()
    timeout_seconds: float = 600.0
    sustained_minutes: float | None = None
    compare_float: bool = True
    operators: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """Statistics of steady-state inference in ms; `first` and `load` stand apart from them.

    Intervals are at 95 %; None where the samples do not bound them.
    """

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
    p50_ci: tuple[float, float] | None = None
    p90_ci: tuple[float, float] | None = None
    p99_ci: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmup:
    """What came before the runs that count; `wander` is by how much its last three levels differed."""

    seconds: float
    runs: int
    steady: bool
    wander: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelChange:
    """The level moved for good; a ratio above 1 is a slow-down. A drift takes its time, a step does not."""

    kind: Literal["step", "drift"]
    at_s: float
    until_s: float
    ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outliers:
    """Samples far above the level around them. They are kept: every statistic has them in it.

    `time_share` is the time that they take beyond the level, of all the time.
    """

    count: int
    share: float
    time_share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SpikeTrain:
    """Outliers that come back at a period; `size` is how many times the level around them."""

    share: float
    time_share: float
    period_s: float
    size: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steadiness:
    """Whether the runs stayed what they were: where the steady state begins, and what is wrong after it."""

    begins_s: float
    changes: tuple[LevelChange, ...] = ()
    spikes: SpikeTrain | None = None
    outliers: Outliers | None = None
    why: str = ""
    """What could not be decided."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """Float over quantized, measured in turn: above 1 the quantized model is faster. The interval is at 95 %.

    `seconds` is how long both ran, warm-up included.
    """

    ratio: float
    low: float | None
    high: float | None
    float_p50_ms: float
    quantized_p50_ms: float
    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """The median of a part of the runs."""

    from_s: float
    until_s: float
    p50_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sustained:
    """What the device can do at first, what it can do for long, and when it began to slow down."""

    minutes: float
    peak_p50_ms: float
    sustained_p50_ms: float
    throttled_after_s: float | None
    slices: tuple[Slice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTime:
    """One operator of one inference by the interpreter's own profiler; `count` is how often it runs in one."""

    operator: str
    name: str
    placement: str
    count: int
    ms: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The device's state during the runs, `at_s` from the first one; None where it does not tell."""

    at_s: float
    clock_hz: int | None = None
    temperature_c: float | None = None
    throttled: bool | None = None
    load_1min: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredMemory:
    """Bytes of a process at the device that does nothing but hold and run the model; `arena` where that is told.

    `floor_rss` is the same process before it loads the model, `model_rss` what the peak has above it.
    """

    peak_rss: int | None = None
    pss: int | None = None
    cgroup_peak: int | None = None
    arena: int | None = None
    floor_rss: int | None = None
    model_rss: int | None = None
    model_file: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """What a microcontroller's firmware took, beside what every device is measured by. What is not known is None.

    `ticks` are the fewest of one inference, `ticks_per_second` 0 where they are no time. `arena_used_bytes` and
    `stack_bytes` are watermarks; `differing_bytes` are those of all outputs of the golden vectors.
    """

    sha256: str
    ticks: int | None = None
    ticks_per_second: int | None = None
    instructions: int | None = None
    text_bytes: int | None = None
    data_bytes: int | None = None
    bss_bytes: int | None = None
    arena_bytes: int | None = None
    arena_used_bytes: int | None = None
    stack_bytes: int | None = None
    differing_bytes: int | None = None


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
    """What was measured on one device. What was not is None, with a reason in `unavailable`.

    `preflight` is what spoke against measuring on the device as it was, with the commands that mend it.
    """

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
    sample_starts_ns: tuple[int, ...] = ()
    warmup: Warmup | None = None
    steadiness: Steadiness | None = None
    sustained: Sustained | None = None
    speedup: Speedup | None = None
    operators: tuple[OperatorTime, ...] = ()
    watched: tuple[Watched, ...] = ()
    preflight: tuple[Check, ...] = ()
    firmware: Firmware | None = None
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
