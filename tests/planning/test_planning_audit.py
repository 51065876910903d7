"""`plan --check`: what the planner makes is accepted, what a hand has changed is named."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq import models, planning, targets
from edgeq.types import (
    Budgets,
    Memory,
    ModelGraph,
    OperatorRow,
    OperatorTable,
    Plan,
    Rejected,
    RuntimeSpec,
    Signature,
    Target,
)

MODELS = (
    "kws_dscnn/kws_float.tflite",
    "kws_dscnn/kws_float.onnx",
    "kws_dscnn/kws_reference_int8.tflite",
    "lstm_mnist/mnist_lstm_float.tflite",
    "seg_mobilenetv3/portrait_float.tflite",
    "seg_mobilenetv3/portrait_float.onnx",
    "text_minilm_l3/minilm_l3_float.onnx",
    "imagenet_mobilenetv2/mobilenet_v2_float.onnx",
)


def problems(plan: Plan, graph: ModelGraph, target: Target, found: dict[str, OperatorTable]) -> list[str]:
    return [finding.subject for finding in planning.audit(plan, graph, target, found)]


@pytest.fixture(scope="module")
def shelf() -> list[tuple[Target, dict[str, OperatorTable]]]:
    """Every target with its tables; a table that several name is read once."""
    return [(target, targets.load_tables(target)) for target in targets.load_all()]


@pytest.mark.parametrize("file", MODELS)
def test_every_plan_of_a_shared_model_is_accepted(shared: Path, shelf: Any, file: str) -> None:
    graph = models.read(shared / file)
    for target, found in shelf:
        plan = planning.choose(graph, target, found)
        assert planning.audit(plan, graph, target, found) == (), target.name
