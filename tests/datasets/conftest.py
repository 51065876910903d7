"""Model structures and small datasets on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.types import ModelGraph, Quantization, TensorSpec

Made = Callable[..., Path]


def tensor(name: str, shape: tuple[int, ...], dtype: str = "float32", scale: float | None = None, zero: int = 0) -> Any:
    """A function of the index, so that tensors can be numbered later."""
    quantization = Quantization(scales=(scale,), zero_points=(zero,)) if scale else None
    return lambda index: TensorSpec(
        index=index, name=name, shape=shape, dtype=dtype, size_bytes=0, quantization=quantization
    )


def structure(inputs: list[Any], outputs: list[Any]) -> ModelGraph:
    """A model of which only the ports are known."""
    tensors = tuple(make(index) for index, make in enumerate([*inputs, *outputs]))
    return ModelGraph(
        format="onnx",
        path="model.onnx",
        sha256="",
        size_bytes=0,
        inputs=tuple(range(len(inputs))),
        outputs=tuple(range(len(inputs), len(tensors))),
        tensors=tensors,
        operators=(),
        parameters=0,
        weight_bytes=0,
        macs=0,
        peak_activation_bytes=0,
    )


@pytest.fixture
def port() -> Callable[..., Any]:
    return tensor


@pytest.fixture
def model() -> Callable[[list[Any], list[Any]], ModelGraph]:
    return structure


@pytest.fixture
def classifier() -> ModelGraph:
    """4x4x3 pictures to five classes."""
    return structure([tensor("image", (-1, 4, 4, 3))], [tensor("scores", (-1, 5))])


@pytest.fixture
def made(tmp_path: Path) -> Made:
    """Write arrays to data.npz and a dataset.yaml; `made(yaml, x=..., y=...)`."""

    def write(text: str, **arrays: Any) -> Path:
        if arrays:
            np.savez_compressed(tmp_path / "data.npz", **arrays)
        path = tmp_path / "dataset.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def pictures() -> dict[str, Any]:
    """Ten uint8 pictures and their classes."""
    rng = np.random.default_rng(0)
    return {"x": rng.integers(0, 256, (10, 4, 4, 3), dtype=np.uint8), "y": np.arange(10) % 5}
