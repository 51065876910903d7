"""The frozen dataclasses that travel between rooms. Shapes are tuples, -1 is a dynamic axis.

Data types are the names that NumPy uses (`int8`, `float32`, ...); sizes are bytes, times milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

Shape = tuple[int, ...]
Attribute = bool | int | float | str | list[int] | list[float] | list[str] | None
Progress = Callable[[str, int, int], None]
"""`progress(step, done, total)`: how far a named step is."""


def silent(step: str, done: int, total: int) -> None:
    """A Progress that shows nothing."""


# --- targets ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a fact of a profile was read."""

    fact: str
    where: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """Processor of a target; `features` as the kernel names them (`asimddp`, `avx512_vnni`)."""

    arch: str
    core: str
    cores: int = 1
    clock_hz: int | None = None
    features: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """Memory of a target in bytes; `model_budget_bytes` is what one model may take at run time."""

    ram_bytes: int
    flash_bytes: int | None = None
    model_budget_bytes: int | None = None
    reserved_flash_bytes: int = 0
    reserved_ram_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSpec:
    """A runtime that a target has; `operators` names its operator table."""

    name: str
    format: Literal["tflite", "onnx", "c"]
    operators: str
    versions: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Roofline:
    """Peak rates of a target, each with the source they come from."""

    source: str
    int8_macs_per_s: float | None = None
    float32_macs_per_s: float | None = None
    memory_bytes_per_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A kind of device: what it can execute and hold."""

    name: str
    title: str
    kind: Literal["linux", "android", "mcu"]
    cpu: Cpu
    memory: Memory
    runtimes: tuple[RuntimeSpec, ...]
    sources: tuple[Source, ...]
    schema: int = 1
    power: tuple[str, ...] = ()
    roofline: Roofline | None = None
    toolchain: dict[str, str] | None = None
    emulator: dict[str, object] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputSpec:
    """Fixed quantization that a runtime demands of an operator's output."""

    dtype: str
    scale: float | None = None
    zero_point: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One combination of data types that an operator may run with."""

    activations: str
    weights: str | None = None
    bias: str | None = None
    granularity: Literal["per-tensor", "per-channel"] | None = None
    symmetric: Literal["weights", "both", "none"] | None = None
    output: OutputSpec | None = None

    def __str__(self) -> str:
        parts = [part for part in (self.activations, self.weights, self.bias) if part]
        return "/".join(parts) + (f" {self.granularity}" if self.granularity else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A limit of a runtime on one operator; `of` names an operand (`input`, `weights`, `output`)."""

    rule: str
    of: str | None = None
    equals: int | str | None = None
    minimum: int | None = None
    maximum: int | None = None
    one_of: tuple[int | str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorRow:
    """What a runtime can do with one operator; `signatures` None means any data type."""

    signatures: tuple[Signature, ...] | None
    passes_quantization: bool = False
    constraints: tuple[Constraint, ...] = ()
    max_version: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorTable:
    """What one runtime, delegate or compiler can execute; `fallback` is where the rest goes."""

    name: str
    runtime: str
    version: str
    source: str
    operators: dict[str, OperatorRow]
    fallback: Literal["none", "cpu", "float"] = "none"
    schema: int = 1


# --- models ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantization:
    """real = scale * (stored - zero_point), per tensor (one scale) or along `axis`."""

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    axis: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSpec:
    """One tensor of a graph; `size_bytes` counts a dynamic axis as 1."""

    index: int
    name: str
    shape: Shape
    dtype: str
    size_bytes: int
    is_constant: bool = False
    quantization: Quantization | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """One operator by its format's own name; tensor index -1 is an optional operand left out."""

    index: int
    type: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    name: str = ""
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    macs: int = 0
    custom: bool = False
    subgraph: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelGraph:
    """Structure of a model: tensors, operators in execution order, totals.

    `state` tells how far the compute operators are quantized: `quantized` (integer activations fixed ahead of
    time), `weights` (float activations, and every operator reads integer weights directly or float16 ones:
    dynamic range, weight-only), `partial` (float activations, and integer weights for some operators only, or
    behind DEQUANTIZE: they can be restored to float), else `float`.
    """

    format: Literal["tflite", "onnx"]
    path: str
    sha256: str
    size_bytes: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    tensors: tuple[TensorSpec, ...]
    operators: tuple[Operator, ...]
    parameters: int
    weight_bytes: int
    macs: int
    peak_activation_bytes: int
    state: Literal["float", "quantized", "weights", "partial"] = "float"
    opset: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


# --- datasets --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class InputSpec:
    """Where one model input's samples come from and how they are prepared.

    Exactly one of `npz` and `images` is set, or neither for a script's samples. Values become
    `(x * scale - mean) / std` in float32, then `transpose` orders the axes of one sample as the model wants them.
    """

    name: str | None = None
    npz: str | None = None
    array: str | None = None
    images: str | None = None
    list: str | None = None
    resize: tuple[int, int] | None = None
    color: Literal["rgb", "bgr", "gray"] = "rgb"
    scale: float | tuple[float, ...] | None = None
    mean: float | tuple[float, ...] | None = None
    std: float | tuple[float, ...] | None = None
    transpose: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelSpec:
    """Where the labels come from; `ignore`, `scale`, `border` where a metric needs them."""

    npz: str | None = None
    array: str | None = None
    csv: str | None = None
    column: str | None = None
    ignore: int | None = None
    scale: float | None = None
    border: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """Samples, preprocessing, labels, metric; which samples calibrate and which score.

    `path` is the file that was named; `root` the folder its relative names start from. `function` names
    a generator for `script.py:function`. `calibration` and `evaluation` are sample numbers. `notes` says
    what was adapted to the model.
    """

    path: str
    root: str
    inputs: tuple[InputSpec, ...]
    labels: LabelSpec | None
    metric: str
    count: int
    calibration: tuple[int, ...]
    evaluation: tuple[int, ...]
    function: str | None = None
    notes: tuple[str, ...] = ()


# --- planning --------------------------------------------------------------------------------

FLOAT32 = Signature(activations="float32", weights="float32", bias="float32")
RangeMethod = Literal["min-max", "percentile", "mean-squared-error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """What gets which signature: a default, and overrides by operator index.

    Names follow the field: `static_wi8_ai8`, `static_wi8_ai8_per_tensor`, `dynamic_wi8_af32`,
    `weight_only_wf16`, `float32`, `as_is` (a model that came quantized). `ranges` is how static
    activations' ranges are chosen. `reduce_range` keeps weights to 7 bits, so that x86 kernels without
    VNNI cannot saturate.
    """

    name: str
    default: Signature
    overrides: dict[int, Signature] = field(default_factory=dict)
    ranges: RangeMethod = "min-max"
    reduce_range: bool = False

    @property
    def is_static(self) -> bool:
        """Whether activations are quantized ahead of time, so that calibration is needed."""
        return self.default.activations in ("int8", "uint8", "int16")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One rule applied to one subject; `hint` is a change that can be pasted."""

    rule: str
    subject: str
    ok: bool
    needed: float | str | None = None
    available: float | str | None = None
    unit: str = ""
    why: str = ""
    hint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one operator runs, with the rule that decided; `placement` is cpu, float or refused."""

    index: int
    type: str
    signature: str
    placement: str
    rule: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMemory:
    """Predicted bytes: model file in flash, all run-time memory, activations arena."""

    flash_bytes: int
    ram_bytes: int
    arena_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Predicted figures; None with a reason in the plan's `unavailable`."""

    latency_ms: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An alternative that was not taken, and why."""

    scheme: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Limits that the user set; None is no limit."""

    max_drop: float | None = None
    max_latency_ms: float | None = None
    max_flash_bytes: int | None = None
    max_ram_bytes: int | None = None
    max_energy_mj: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which runtime and scheme a target gets, where every operator runs, and what was refused."""

    target: str
    runtime: str
    format: Literal["tflite", "onnx", "c"]
    scheme: Scheme
    ok: bool
    model_sha256: str
    operators: tuple[Placement, ...]
    memory: PlannedMemory
    predicted: Predicted
    checks: tuple[Check, ...]
    rejected: tuple[Rejected, ...] = ()
    unavailable: dict[str, str] = field(default_factory=dict)
    schema_version: int = 1


# --- conversion and scores -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One input or output of a model file as it is stored.

    `scale` and `zero_point` are None for a float port: stored = round(real / scale) + zero_point.
    `preprocessing` repeats the dataset's steps (scale, mean, std, transpose, resize, color).
    """

    name: str
    shape: Shape
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    preprocessing: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """A metric on the evaluation samples; `drop` is how much worse quantized is than float, in the
    metric's unit, positive when worse, whichever direction is better.

    `tolerance` is the drop that is still accepted; `why` says what is wrong when not `ok`. A model that
    came quantized has no float score and no drop, and by cosine no score at all.
    """

    metric: str
    samples: int
    float_score: float | None
    quantized_score: float | None
    drop: float | None
    tolerance: float
    ok: bool
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fidelity:
    """Likeness of one output to the float model's: cosine, SQNR in dB, largest absolute error."""

    name: str
    cosine: float | None
    sqnr_db: float | None
    max_abs_error: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The converted model file; `path` is relative to the folder of the stage file that names it."""

    path: str
    format: Literal["tflite", "onnx"]
    sha256: str
    size_bytes: int
    float_size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel:
    """A converted model, its I/O contract and what it scored against float.

    `request` is a hash over all that the conversion was asked for, so that it can be resumed.
    """

    plan: Plan
    artifact: Artifact
    float_path: str
    float_sha256: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    accuracy: Accuracy | None = None
    fidelity: tuple[Fidelity, ...] = ()
    tried: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
    tools: dict[str, str] = field(default_factory=dict)
    request: str = ""
    seconds: float | None = None
    peak_rss_bytes: int | None = None
    unavailable: dict[str, str] = field(default_factory=dict)
    schema_version: int = 1


# --- bundles ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a bundle; `path` is relative, with forward slashes, inside the bundle."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in a bundle, how it starts and what made it."""

    name: str
    target: str
    runtime: str
    runtime_versions: str
    format: str
    scheme: str
    model: str
    entry_point: str
    golden: str
    golden_vectors: int
    files: tuple[FileEntry, ...]
    tools: dict[str, str]
    planned_ram_bytes: int | None = None
    schema_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A folder with all that a device needs, and its manifest."""

    path: str
    manifest: Manifest


# --- devices and measurements ----------------------------------------------------------------


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
    """Energy of one inference above idle, with its source."""

    per_inference_mj: float
    idle_mw: float
    load_mw: float
    source: str
    samples: int


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
