"""What is planned for a compiled model, before it is built, is what the generator then writes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeq import models, targets, workflow
from edgeq.codegen import footprint, generate, lowering
from edgeq.planning import arenas
from edgeq.testing import models as made
from edgeq.testing.single_op import single, tensor
from edgeq.testing.tflite import write_tflite
from edgeq.types import ModelGraph

CODE_BYTES = {
    "kws_dscnn/kws_reference_int8.tflite": 35_328,
    "ic_resnet8/resnet8_reference_int8.tflite": 87_268,
    "vww_mobilenetv1/vww_reference_int8.tflite": 242_384,
    "ad_autoencoder/ad_reference_int8.tflite": 274_172,
}
"""Flash of the program but its start-up: clang 14, Cortex-M4, the Makefile's options, kernels of November 2026."""


LSTM = "lstm_mnist/mnist_lstm_reference_int8.tflite"


@pytest.mark.parametrize("name", [*CODE_BYTES, LSTM])
def test_a_real_models_footprint(shared: Path, name: str) -> None:
    found = footprint.footprint(models.read(shared / name))
    compiled = generate.compile_model(shared / name)
    assert found["arena"] == compiled.arena_bytes
    assert found["constants"] == pytest.approx(compiled.constant_bytes, rel=0.001)
    assert name not in CODE_BYTES or found["constants"] + found["code"] == pytest.approx(CODE_BYTES[name], rel=0.05)


def test_every_operator_that_is_lowered_has_a_size() -> None:
    assert set(footprint.KERNELS) == set(lowering.LOWERINGS)


@pytest.mark.parametrize("scheme", ["static_wi8_ai8", "static_wi8_ai16"])
def test_from_the_float_model_the_arena_is_exact(tmp_path: Path, scheme: str) -> None:
    """Planned from the float file, built from the converted one."""
    path = made.conv_tflite(tmp_path)
    made.tiny_dataset(tmp_path)
    found, bundle = workflow.build(
        path,
        "stm32l4r5",
        str(tmp_path / "dataset.yaml"),
        output=tmp_path / "out",
        wish=workflow.Wish(scheme=scheme),
    )
    assert bundle is not None
    assert not isinstance(found, workflow.Refused)
    assert found.plan.scheme.name == scheme
    assert found.plan.memory.compiled_refusal is None
    assert found.plan.memory.compiled_bytes["arena"] == bundle.manifest.estimates["arena_bytes"]
    assert found.plan.memory.compiled_bytes["constants"] == pytest.approx(
        bundle.manifest.estimates["constant_bytes"], rel=0.05
    )


def test_what_cannot_be_compiled_has_none(tmp_path: Path) -> None:
    graph = models.read(made.conv_tflite(tmp_path))
    board = targets.load("stm32l4r5")
    assert arenas.compiled(graph, board) == {}
    integers = dataclasses.replace(
        graph, tensors=tuple(dataclasses.replace(t, dtype="int8", size_bytes=t.size_bytes // 4) for t in graph.tensors)
    )
    assert arenas.compiled(integers, board)["arena"] > 0
    assert arenas.compiled(integers, targets.load("raspberry-pi-4")) == {}
    unknown = dataclasses.replace(graph.operators[0], type="COS")
    assert arenas.compiled(dataclasses.replace(integers, operators=(unknown, *graph.operators[1:])), board) == {}
    place = f"operator {unknown.index} (COS)"
    assert arenas.refusal(dataclasses.replace(graph, operators=(unknown,)), board) == f"{place} has no kernel in C"
    assert arenas.refusal(graph, board) == "operator 0 (CONV_2D) has kernels for integers, not for float32"
    assert arenas.refusal(graph, targets.load("raspberry-pi-4")) is None
    assert arenas.refusal(integers, board) is None


def wide(graph: ModelGraph, dtype: str = "int16") -> ModelGraph:
    """The graph with other activations."""
    tensors = (t if t.is_constant else dataclasses.replace(t, dtype=dtype) for t in graph.tensors)
    return dataclasses.replace(graph, tensors=tuple(tensors))


def test_16_bit_activations_have_kernels_of_their_own(tmp_path: Path) -> None:
    graph = models.read(made.conv_tflite(tmp_path))
    narrow, other = (footprint.footprint(wide(graph, dtype)) for dtype in ("int8", "int16"))
    assert other["arena"] > 1.5 * narrow["arena"]
    assert other["constants"] > narrow["constants"]
    assert other["code"] != narrow["code"]
    first = dataclasses.replace(graph.operators[0], type="HARD_SWISH")
    lacking = dataclasses.replace(wide(graph), operators=(first, *graph.operators[1:]))
    assert footprint.footprint(lacking) == {}
    assert footprint.refusal(lacking) == "operator 0 (HARD_SWISH) has a kernel for int8, not for int16"


def test_a_plan_names_the_operator_without_c_where_tflite_micro_runs_it(tmp_path: Path) -> None:
    ends = [tensor("x", (1, 4, 4, 3), dtype="float32")], [tensor("y", (1, 4, 4, 3), dtype="float32")]
    path = write_tflite(tmp_path / "model.tflite", single("ABS", *ends))
    plan = workflow.plan(path, "stm32l4r5", output=tmp_path / "out")
    assert next(check for check in plan.checks if check.rule == "operators-placed").ok
    assert plan.memory.arena_bytes > 0
    assert plan.memory.compiled_bytes == {}
    assert plan.memory.compiled_refusal == "operator 0 (ABS) has no kernel in C"


def test_every_16_bit_operator_has_a_kernel_for_int8_too() -> None:
    assert set(footprint.WIDE) < set(footprint.KERNELS)
