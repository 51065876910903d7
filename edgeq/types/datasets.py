"""Samples and how they are scored."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What speaks against the samples, their labels or the float model, found before anything is converted.

    `why` is the rule's sentence with its figures, `evidence` the figures by name, `hint` what would be right. `stop`
    says that a conversion makes no sense, `note` that nothing need be done.
    """

    rule: str
    severity: Literal["stop", "warning", "note"]
    why: str
    evidence: dict[str, float] = field(default_factory=dict)
    hint: str | None = None
