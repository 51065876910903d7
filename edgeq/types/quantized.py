"""A converted model, its scores, and the bundle that it goes into."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edgeq.types.common import Shape
from edgeq.types.datasets import Finding
from edgeq.types.plans import Plan, Rejected


@dataclass(frozen=True, slots=True, kw_only=True)
class Port:
    """One input or output of a model file as it is stored.

    `scale` and `zero_point` are None for a float port: stored = round(real / scale) + zero_point.
    `preprocessing` repeats the dataset's steps (scale, mean, std, transpose, resize, color). `layout` is set where
    the port has the axes of the user's own model in another order: (0, 2, 3, 1) is NHWC of NCHW.
    """

    name: str
    shape: Shape
    dtype: str
    scale: float | None = None
    zero_point: int | None = None
    preprocessing: dict[str, object] = field(default_factory=dict)
    layout: tuple[int, ...] | None = None


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
    findings: tuple[Finding, ...] = ()
    tools: dict[str, str] = field(default_factory=dict)
    request: str = ""
    seconds: float | None = None
    peak_rss_bytes: int | None = None
    unavailable: dict[str, str] = field(default_factory=dict)
    schema_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """One file of a bundle; `path` is relative, with forward slashes, inside the bundle."""

    path: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What is in a bundle, how it starts and what made it.

    `float_model` is the float file that lies beside the quantized one, if any, for the speed-up.
    `estimates` are the target compiler's own predictions (`sram_bytes`, `cycles_total`), never measurements;
    `placed` counts its operators by where it placed them.
    """

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
    float_model: str | None = None
    estimates: dict[str, float] = field(default_factory=dict)
    placed: dict[str, int] = field(default_factory=dict)
    schema_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A folder with all that a device needs, and its manifest."""

    path: str
    manifest: Manifest
