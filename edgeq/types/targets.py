"""Kinds of device and what their runtimes can execute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


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
class Accelerator:
    """What runs a part of the model beside the CPU, in its compiler's own words; None does not apply to it.

    `config`, `system_config` and `memory_mode` are Vela's; `soc_id` and `arch` are Qualcomm's (SoC number, Hexagon
    version); `platform` is Rockchip's name of the SoC.
    """

    name: str
    config: str | None = None
    system_config: str | None = None
    memory_mode: str | None = None
    soc_id: int | None = None
    arch: str | None = None
    platform: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeSpec:
    """A runtime or compiler that a target has; `operators` names its operator table.

    `fallback` names the table of the CPU kernels that take what an accelerator's table does not.
    """

    name: str
    format: Literal["tflite", "onnx", "c"]
    operators: str
    versions: str = ""
    fallback: str | None = None


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
    accelerator: Accelerator | None = None
    toolchain: dict[str, str] | None = None
    emulator: dict[str, object] | None = None
    board: str | None = None


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
    """A limit of a runtime on one operator, for one of the measures of `edgeq.planning.measures`.

    `of` names an operand: `input` (the default), `output`, `weights`, `bias`, or `operand 2` by its position from 0.
    """

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
    """What one runtime, delegate or compiler can execute; `fallback` is where the rest goes.

    `placement` is where its operators run. `prover` is the module of `edgeq.conformance` that runs its signatures
    through the real thing; a table without one says in `unproved` why nothing here can. `constraints` hold for every
    operator, beside those of its row.
    """

    name: str
    runtime: str
    version: str
    source: str
    operators: dict[str, OperatorRow]
    constraints: tuple[Constraint, ...] = ()
    fallback: Literal["none", "cpu", "float"] = "none"
    placement: Literal["cpu", "gpu", "npu"] = "cpu"
    prover: str | None = None
    unproved: str | None = None
    schema: int = 1
