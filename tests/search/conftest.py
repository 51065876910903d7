"""Tiny jobs for the search: a graph, its plans and its samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from edgeq import datasets, planning, targets
from edgeq.models import read
from edgeq.testing import models
from edgeq.types import Dataset, ModelGraph, Plan

TARGET = "generic-linux-x86_64"


class Job(NamedTuple):
    """What `search` takes."""

    graph: ModelGraph
    plans: tuple[Plan, ...]
    dataset: Dataset

    def only(self, *names: str) -> tuple[Plan, ...]:
        """The first plan of each of these schemes, in this order."""
        return tuple(next(plan for plan in self.plans if plan.scheme.name == name) for name in names)


def _job(model: Path, data: Path, scheme: str | None = None) -> Job:
    graph = read(model)
    profile = targets.load(TARGET)
    plans = planning.candidates(graph, profile, targets.load_tables(profile, TARGET), scheme=scheme)
    return Job(graph, tuple(plan for plan in plans if plan.ok), datasets.bind(datasets.load(str(data)), graph))


@pytest.fixture
def make_job() -> Callable[..., Job]:
    """Plans and bound samples for a model file."""
    return _job


@pytest.fixture
def dense(tmp_path: Path) -> Job:
    """The dense classifier in TFLite."""
    return _job(models.mlp_tflite(tmp_path), models.tiny_dataset(tmp_path, models.MLP_SHAPE))


@pytest.fixture
def sine(shared: Path) -> Job:
    """The smallest real model: a regression whose schemes lose measurably different amounts."""
    folder = shared / "sine_hello_world"
    return _job(folder / "hello_world_float.tflite", folder / "dataset.yaml")
