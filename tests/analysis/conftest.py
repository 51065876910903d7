"""The digits example, converted once in each format, with every step's file."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from edgeq import backends, datasets, models, workflow
from edgeq.analysis.attribution import Files, attribute
from edgeq.types import Analysis

ROOT = Path(__file__).resolve().parents[2]
DIGITS = ROOT / "examples" / "digits"


class Conversion(NamedTuple):
    """A chain of files and the samples to run through it."""

    files: Files
    samples: list[Any]

    def analyse(self, files: Files | None = None) -> Analysis:
        return attribute(files or self.files, self.samples, len(self.samples))


def convert(model: Path, data: Path, folder: Path, count: int = 4, scheme: str = "static_wi8_ai8") -> Conversion:
    graph = models.read(model)
    dataset = datasets.bind(datasets.load(str(data)), graph)
    plan = workflow.plan(model, "generic-linux-x86_64", output=folder, wish=workflow.Wish(scheme=scheme))
    made, kept = folder / f"quantized.{graph.format}", folder / f"prepared.{graph.format}"
    backends.find("converters", graph.format).convert(graph, plan, dataset, made, prepared=kept)
    samples = list(datasets.samples(dataset, graph, dataset.evaluation[:count]))
    return Conversion(Files(model, kept if kept.is_file() else model, made, made), samples)


@pytest.fixture(scope="session", params=["tflite", "onnx"])
def digits(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    folder = tmp_path_factory.mktemp(f"digits-{request.param}")
    return convert(DIGITS / f"digits_float.{request.param}", DIGITS / "dataset.yaml", folder, count=12)


@pytest.fixture(scope="session")
def make_conversion() -> Callable[..., Conversion]:
    return convert


@pytest.fixture(scope="session")
def planting() -> ModuleType:
    """The faults of `make bench-attribution`."""
    path = ROOT / "tests" / "bench" / "planting.py"
    spec = importlib.util.spec_from_file_location("planting", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["planting"] = module
    spec.loader.exec_module(module)
    return module
