"""Structure of a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from edgeq.types.common import Attribute, Shape


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

    `input_layouts` and `output_layouts` are for a model that was imported from another format: for each port the
    order in which it has the original's axes ((0, 2, 3, 1): NHWC of NCHW), None where nothing changed.
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
    input_layouts: tuple[tuple[int, ...] | None, ...] = ()
    output_layouts: tuple[tuple[int, ...] | None, ...] = ()
