"""What quantization costs, operator by operator and step by step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Step = Literal["prepared", "quantized", "runtime"]
Costs = Mapping[str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HistogramCounts:
    """Counts in equal bins over `[low, high]`."""

    low: float
    high: float
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightAnalysis:
    """One stored constant against the float one: SQNR in dB, what sound quantization would reach, share clipped.

    `channel_spread` is the largest over the smallest magnitude of its channels; `quantizers` the SQNR of each.
    """

    operand: int
    name: str
    dtype: str
    granularity: Literal["per-tensor", "per-channel"]
    sqnr_db: float | None
    expected_db: float | None
    clipped_share: float
    channel_spread: float | None
    range: tuple[float, float]
    quantizers: Costs = field(default_factory=dict)
    histogram: HistogramCounts | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorAnalysis:
    """One operator of the quantized model; SQNRs are in dB, None with `unavailable` where there is no counterpart.

    `accumulated_db`: the quantized model's result against the prepared float model's, upstream errors included.
    `alone_db`: the same rounded inputs through this operator in both. `expected_db`: what sound quantization of its
    weights and result to the same data types would reach. `prepared_db` and `runtime_db`: what the step before and
    the step after changed in this operator. `excess_db`: how far each step is beyond what it should cost.
    """

    index: int
    type: str
    name: str
    accumulated_db: float | None = None
    alone_db: float | None = None
    expected_db: float | None = None
    prepared_db: float | None = None
    runtime_db: float | None = None
    excess_db: Mapping[str, float] = field(default_factory=dict)
    range: tuple[float, float] | None = None
    used: tuple[float, float] | None = None
    dtype: str = ""
    clipped_share: float = 0.0
    weights: tuple[WeightAnalysis, ...] = ()
    quantizers: Costs = field(default_factory=dict)
    histogram: HistogramCounts | None = None
    why: tuple[str, ...] = ()
    unavailable: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepAnalysis:
    """One step of the chain: likeness of the model's outputs to those of the step before."""

    step: Step
    path: str
    what: str
    sqnr_db: float | None
    wrong_operators: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Blame:
    """An operator that goes wrong, in which step, and by how many dB more than it should cost."""

    step: Step
    index: int
    type: str
    name: str
    excess_db: float
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Analysis:
    """All of it. `first_wrong` is the first operator beyond what it should cost, by steps, then by execution.

    `guilty` is the one furthest beyond, in the first step in which it goes wrong.
    """

    model: str
    quantized: str
    format: str
    samples: int
    steps: tuple[StepAnalysis, ...]
    operators: tuple[OperatorAnalysis, ...]
    first_wrong: Blame | None
    guilty: Blame | None
    notes: tuple[str, ...] = ()
    tools: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    schema_version: int = 1
