"""What the onboard runner may answer; anything else is refused."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from annotated_types import Interval, Len

Text = Annotated[str, Len(0, 2000)]
Nanoseconds = Annotated[int, Interval(ge=1, le=10**15)]
Bytes = Annotated[int, Interval(ge=0, le=2**53)]
Count = Annotated[int, Interval(ge=0, le=2**53)]
Millijoules = Annotated[float, Interval(ge=0, le=1e15)]
Milliwatts = Annotated[float, Interval(ge=-1e9, le=1e9)]
MAX_SAMPLES = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Processor as the kernel describes it."""

    model: Text | None
    cores: Annotated[int, Interval(ge=1, le=4096)]
    features: Annotated[tuple[Text, ...], Len(0, 1000)]
    max_clock_hz: Annotated[int, Interval(ge=0, le=10**11)] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Facts that do not change while the device runs; `pip` is venv, system, managed or none."""

    python: Text
    machine: Text
    libc: Text | None
    kernel: Text
    hostname: Text
    board: Text | None
    cpu: Cpu
    memory_total_bytes: Bytes | None
    memory_available_bytes: Bytes | None
    disk_free_bytes: Bytes | None
    pip: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class Interpreter:
    """Whether one interpreter really runs there."""

    version: Text | None
    ok: bool
    why: Text | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensor:
    """One power source: what it is, or why it cannot be read."""

    ok: bool
    what: Text


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """The device at one moment; bits of get_throttled, and x86's count of throttlings since boot."""

    governor: Text | None
    frequency_hz: Annotated[tuple[Annotated[int, Interval(ge=0, le=10**11)], ...], Len(0, 4096)]
    temperature_c: Annotated[float, Interval(ge=-100, le=300)] | None
    load_1min: Annotated[float, Interval(ge=0, le=1e6)] | None
    memory_available_bytes: Bytes | None
    throttled_bits: Annotated[int, Interval(ge=0, le=2**32)] | None
    throttle_count: Count | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """Answer of `probe`."""

    event: Text
    device: Machine
    runtimes: Annotated[dict[Text, Interpreter], Len(0, 50)]
    sensors: Annotated[dict[Text, Sensor], Len(0, 50)]
    conditions: State


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """What came before the runs that count."""

    seconds: Annotated[float, Interval(ge=0, le=1e6)]
    runs: Count
    steady: bool
    wander: Annotated[float, Interval(ge=0, le=1e9)] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Times:
    """Raw times; each sample is the mean of `batch` inferences, every `stride`-th one was kept.

    `starts_ns` are the moments at which the samples began, counted from the first. Runners of older bundles tell
    neither them nor the warm-up.
    """

    load_ns: Nanoseconds
    first_ns: Nanoseconds
    samples_ns: Annotated[tuple[Nanoseconds, ...], Len(1, MAX_SAMPLES)]
    batch: Annotated[int, Interval(ge=1, le=10**6)]
    inferences: Annotated[int, Interval(ge=1, le=10**12)]
    stride: Annotated[int, Interval(ge=1, le=10**9)]
    starts_ns: Annotated[tuple[Annotated[int, Interval(ge=0, le=10**15)], ...], Len(0, MAX_SAMPLES)] = ()
    warmup: Warmth | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """Memory of a process that holds the model and does nothing else."""

    peak_rss: Bytes | None
    pss: Bytes | None
    cgroup_peak: Bytes | None
    floor_rss: Bytes | None = None
    model_rss: Bytes | None = None
    model_file: Bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """Energy of one inference above idle."""

    per_inference_mj: Annotated[float, Interval(gt=0, le=1e12)]
    idle_mw: Milliwatts
    load_mw: Milliwatts
    source: Text
    samples: Count
    uncertainty_mj: Millijoules | None = None
    uncertainty_parts_mj: Annotated[dict[Text, Millijoules], Len(0, 20)] = field(default_factory=dict)
    idle_before_mw: Milliwatts | None = None
    idle_after_mw: Milliwatts | None = None
    includes: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Golden vectors on the device against the host's outputs."""

    exact: bool
    max_steps: Annotated[float, Interval(ge=0, le=1e300)]
    vectors: Count
    ok: bool
    not_finite: Count
    tolerance_steps: Annotated[float, Interval(ge=0, le=1e9)]


@dataclass(frozen=True, slots=True, kw_only=True)
class States:
    """Conditions before and after the runs."""

    before: State
    after: State


Rows = tuple[
    Annotated[int, Interval(ge=-(10**15), le=10**15)],
    Annotated[int, Interval(ge=0, le=10**11)] | None,
    Annotated[float, Interval(ge=-100, le=300)] | None,
    Annotated[int, Interval(ge=0, le=2**32)] | None,
    Count | None,
    Annotated[float, Interval(ge=0, le=1e6)] | None,
]
"""State during the runs: ns, clock in Hz, °C, throttle bits, times throttled since boot, load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Float and quantized model in turn: medians of their blocks in ns, float first; `seconds` is how long it took."""

    rounds: Annotated[tuple[tuple[Nanoseconds, Nanoseconds], ...], Len(1, 1000)]
    batches: tuple[Annotated[int, Interval(ge=1, le=10**6)], Annotated[int, Interval(ge=1, le=10**6)]]
    seconds: Annotated[float, Interval(ge=0, le=1e6)]


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow:
    """One operator of one inference."""

    operator: Annotated[str, Len(0, 200)]
    name: Annotated[str, Len(0, 200)]
    placement: Annotated[str, Len(0, 200)]
    count: Annotated[int, Interval(ge=1, le=10**6)]
    ns: Annotated[int, Interval(ge=0, le=10**15)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operators:
    """What the interpreter's own profiler says, the slowest operator first."""

    operators: Annotated[tuple[OperatorRow, ...], Len(0, 2000)]
    runs: Count
    left_out: Count


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """Answer of `bench`."""

    event: Text
    device: Machine
    runtime: Annotated[dict[Text, Text], Len(0, 20)]
    latency: Times
    memory: Used
    energy: Drawn | None
    parity: Compared
    conditions: States
    unavailable: Annotated[dict[Text, Text], Len(0, 50)]
    watched: Annotated[tuple[Rows, ...], Len(0, 2000)] = ()
    beside: Beside | None = None
    operators: Operators | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """Answer of `evaluate`."""

    event: Text
    vectors: Count
    runtime: Annotated[dict[Text, Text], Len(0, 20)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Answer of `sample`: (monotonic ns, mW or mJ) readings."""

    event: Text
    source: Text
    what: Text
    counts: bool
    missing: Count
    readings: Annotated[tuple[tuple[Count, Annotated[float, Interval(ge=-1e15, le=1e15)]], ...], Len(0, MAX_SAMPLES)]
    period_ns: Count = 0
    resolution: Annotated[float, Interval(ge=0, le=1e12)] | None = None
    includes: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Where:
    """What is needed to say how a missing interpreter is installed there."""

    machine: Text = ""
    python: Text = ""
    pip: Text = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error event; `kind` decides which error it becomes."""

    event: Text
    kind: Text
    message: Text
    device: Where = field(default_factory=Where)
    path: Text = ""
    format: Text = ""
    reasons: Annotated[dict[Text, Text], Len(0, 20)] = field(default_factory=dict)
