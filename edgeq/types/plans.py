"""Which scheme a target gets, and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgeq.types.targets import Signature

FLOAT32 = Signature(activations="float32", weights="float32", bias="float32")
RangeMethod = Literal["min-max", "mean-min-max", "percentile", "mean-squared-error", "entropy"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """What gets which signature: a default, and overrides by operator index.

    Names follow the field: `static_wi8_ai8`, `static_wi8_ai8_per_tensor`, `static_wi8_ai16` (16-bit activations),
    `dynamic_wi8_af32`, `weight_only_wi8`, `weight_only_wi4` and `weight_only_wf16` (weights are expanded to float for
    float kernels), `float32`, `as_is` (a model that came quantized). `ranges` is how static
    activations' ranges are chosen. `reduce_range` keeps weights to 7 bits, so that x86 kernels without
    VNNI cannot saturate. `corrected` equalizes channels first, and rounds weights and mends biases by what layers read.
    `islands` are operators that a search keeps in float because they were measured to lose the most.
    """

    name: str
    default: Signature
    overrides: dict[int, Signature] = field(default_factory=dict)
    ranges: RangeMethod = "min-max"
    reduce_range: bool = False
    corrected: bool = False
    islands: tuple[int, ...] = ()

    @property
    def is_static(self) -> bool:
        """Whether activations are quantized ahead of time, so that calibration is needed."""
        return self.default.activations in ("int8", "uint8", "int16", "uint16")

    @property
    def expands_weights(self) -> bool:
        """Whether integer weights are stored behind a DEQUANTIZE, so that float kernels read them."""
        return self.name.startswith("weight_only_wi")


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
class Alternative:
    """What an operator could not have: a signature (`int8/int8/int32 per-channel`) or a place (`npu`), and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where one operator runs, with the rule that decided.

    `placement` is npu, gpu, cpu, float (on the CPU, in float) or refused. `alternatives` were refused for this
    operator; `edit` is the smallest change of the model or the command that makes the best of them legal. Both are
    there in the plan that was chosen, not in candidates.
    """

    index: int
    type: str
    signature: str
    placement: str
    rule: str
    why: str
    alternatives: tuple[Alternative, ...] = ()
    edit: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """What may cost accuracy: the rule, the operators (by index) that it strikes, a sentence.

    `score` is 0 (none) to 1; it orders plans and predicts no figure.
    """

    rule: str
    operators: tuple[int, ...]
    why: str
    score: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedMemory:
    """Predicted bytes: model file in flash, all run-time memory, activations arena.

    `arena_parts_bytes` are bytes of the arena by what they hold: `activations` everywhere; where the interpreter lives
    in the arena too, `interpreter`, `operators` (their parameters) and `variables` (state that outlives an inference).
    `compiled_bytes` is what the model compiled to C takes of a microcontroller instead: `arena` in RAM, `constants` and
    `code` in flash; empty where it cannot be compiled. For a microcontroller `compiled_refusal` then names the operator
    that has no kernel in C.
    """

    flash_bytes: int
    ram_bytes: int
    arena_bytes: int
    arena_parts_bytes: dict[str, int] = field(default_factory=dict)
    compiled_bytes: dict[str, int] = field(default_factory=dict)
    compiled_refusal: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """Predicted figures; None with a reason in the plan's `unavailable`.

    `work` is what one inference does: MACs by arithmetic and class of operator (`int8 conv`), `bytes` moved,
    `operators` run. `source` says what the latency was predicted from.
    """

    latency_ms: float | None = None
    source: str | None = None
    work: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One latency measured on a device of a target; `work` as in Predicted, `latency_ms` the p50 of one inference."""

    runtime: str
    artifact_sha256: str
    device: str
    date: str
    latency_ms: float
    work: dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected:
    """An alternative that was not taken, and why.

    `rule` is the check that failed, `comes-later` (it is worth less by the preference), `tried` (it was converted and
    lost too much), `runtime-format` or `not-offered`.
    """

    scheme: str
    why: str
    rule: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate of a search: what it is, what it scored, and whether another is better in every respect.

    `score` and `drop` are in the metric's unit, `sqnr_db` is the least of the outputs'; None where nothing was scored.
    `latency_ms` is predicted. `on_front`: no other candidate is at least as good in drop, size and latency and
    better in one of them (the Pareto front).
    """

    scheme: str
    ok: bool
    why: str = ""
    score: float | None = None
    drop: float | None = None
    sqnr_db: float | None = None
    size_bytes: int | None = None
    latency_ms: float | None = None
    seconds: float = 0.0
    on_front: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """Limits that the user set; None is no limit."""

    max_drop: float | None = None
    min_sqnr_db: float | None = None
    max_latency_ms: float | None = None
    max_flash_bytes: int | None = None
    max_ram_bytes: int | None = None
    max_energy_mj: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Which runtime and scheme a target gets, where every operator runs, and what was refused.

    `trials` are the candidates that a search converted and scored, in its order; the last one was taken when it is ok.
    `prefer`, `budgets` and `forced_scheme` are what was asked. `tables_sha256` covers the target and its operator
    tables as they were. `model_path` and `target_ref` are set in a plan.json, so that it can be checked alone.
    """

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
    risks: tuple[Risk, ...] = ()
    trials: tuple[Trial, ...] = ()
    prefer: Literal["latency", "memory", "accuracy"] = "latency"
    budgets: Budgets = field(default_factory=Budgets)
    forced_scheme: str | None = None
    tables_sha256: str = ""
    model_path: str = ""
    target_ref: str = ""
    schema_version: int = 1
