"""What is held against a plan, on plans and files that differ in one thing."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeq import backends, datasets, models, planning, targets
from edgeq.testing import agreement, fused, planned
from edgeq.testing import models as tiny
from edgeq.testing.agreement import Job, Seat
from edgeq.types import Dataset, ModelGraph, Placement, Plan

LITERT = Seat("generic-linux-x86_64", "litert", "litert")
ONNX = Seat("raspberry-pi-4", "onnxruntime", "onnxruntime")


def placement(signature: str, rule: str = "signature-supported", place: str = "cpu") -> Placement:
    return Placement(index=0, type="CONV_2D", signature=signature, placement=place, rule=rule, why="So.")


@pytest.mark.parametrize(
    ("one", "how"),
    [
        (placement("int8/int8/int32 per-channel"), "integer"),
        (placement("int16", place="npu"), "integer"),
        (placement("float32/int8/float32 per-channel"), "dynamic"),
        (placement("float32/int8/float32 per-channel", "weights-expanded"), "expanded"),
        (placement("float32/float16/float32"), "expanded"),
        (placement("float32/float32", place="float"), "float"),
        (placement("int8", place="refused"), ""),
        (placement("int64", "carries-integers"), ""),
    ],
)
def test_a_signature_says_how_an_operator_computes(one: Placement, how: str) -> None:
    assert planned.arithmetic(one) == how


def test_the_parts_of_a_signature() -> None:
    assert planned.types(placement("int8/int8/int32 per-channel")) == ("int8", "int8", "per-channel")
    assert planned.types(placement("uint8")) == ("uint8", "", "")


def bound(path: Path, folder: Path) -> tuple[ModelGraph, Dataset]:
    graph = models.read(path)
    description = tiny.tiny_dataset(folder, channels_first=path.suffix == ".onnx")
    return graph, datasets.bind(datasets.load(description), graph)


def plan_of(graph: ModelGraph, scheme: str) -> Plan:
    target = targets.load("raspberry-pi-4")
    return planning.choose(graph, target, targets.load_tables(target), scheme=scheme)


def made(graph: ModelGraph, dataset: Dataset, plan: Plan, folder: Path) -> ModelGraph:
    out = folder / f"made.{graph.format}"
    backends.find("converters", graph.format).convert(graph, plan, dataset, out)
    return models.read(out)


@pytest.mark.parametrize(
    ("has", "said", "words"),
    [
        ("static_wi8_ai8_per_tensor", "static_wi8_ai8", "is planned per-channel, its weights have 1 scales"),
        ("static_wi8_ai16", "static_wi8_ai8", "is planned int8 (signature-supported), the file has int16"),
        ("weight_only_wi8", "dynamic_wi8_af32", "is planned dynamic, the file expands its weights"),
        ("dynamic_wi8_af32", "weight_only_wi8", "is planned expanded, the file does not expand its weights"),
        ("weight_only_wf16", "weight_only_wi8", "has float16 weights, planned are int8"),
        ("dynamic_wi8_af32", "float32", "is planned in float, its weights are int8"),
    ],
)
def test_a_file_of_another_plan_is_told(tmp_path: Path, has: str, said: str, words: str) -> None:
    graph, dataset = bound(tiny.conv_tflite(tmp_path), tmp_path)
    right, wrong = plan_of(graph, has), plan_of(graph, said)
    file = made(graph, dataset, right, tmp_path)
    assert list(planned.disagreements(graph, right, file)) == []
    assert any(words in found for found in planned.disagreements(graph, wrong, file))


def test_what_onnxruntime_runs_is_held_against_the_plan(tmp_path: Path) -> None:
    graph, dataset = bound(tiny.conv_onnx(tmp_path), tmp_path)
    static, whole = plan_of(graph, "static_wi8_ai8"), plan_of(graph, "float32")
    samples = list(datasets.samples(dataset, graph, dataset.calibration[:1]))
    file = made(graph, dataset, static, tmp_path)
    ran = fused.run(tmp_path / "made.onnx", file, samples, tmp_path)
    assert fused.in_integers(ran.kernels) > 0
    assert list(fused.otherwise(graph, static, file, ran.kernels)) == []
    assert any(
        "is planned in float and runs in integers" in words
        for words in fused.otherwise(graph, whole, file, ran.kernels)
    )


def test_a_kernel_in_float_is_told(tmp_path: Path) -> None:
    graph, dataset = bound(tiny.conv_onnx(tmp_path), tmp_path)
    static, whole = plan_of(graph, "static_wi8_ai8"), plan_of(graph, "float32")
    samples = list(datasets.samples(dataset, graph, dataset.calibration[:1]))
    file = made(graph, dataset, whole, tmp_path)
    kernels = fused.run(tmp_path / "made.onnx", file, samples, tmp_path).kernels
    assert fused.in_integers(kernels) == 0
    assert any(
        "is planned in integers and runs in float" in words for words in fused.otherwise(graph, static, file, kernels)
    )


def job(examples: Path, scheme: str, seat: Seat, suffix: str) -> Job:
    folder = examples / "digits"
    return Job(folder / f"digits_float.{suffix}", folder / "dataset.yaml", scheme, (seat,))


def test_a_row_of_each_choice_of_types(examples: Path) -> None:
    rows = agreement.examine(job(examples, "static_wi8_ai8", ONNX._replace(target="generic-linux-x86_64"), "onnx"))
    assert {row.scheme for row in rows} == {"static_wi8_ai8 uint8/uint8", "static_wi8_ai8 uint8/int8 7 bits"}
    assert all(row.agrees and row.is_run and row.plan == "yes" for row in rows)


def test_what_a_plan_refuses_is_not_computed(examples: Path) -> None:
    (row,) = agreement.examine(job(examples, "static_wi8_ai16", ONNX, "onnx"))
    assert row.plan.startswith("no: ")
    assert (row.reality, row.wrong) == ("nothing of it is computed as asked", ())
    assert ("Gemm", "int16/int8/int64 per-channel") in {(case.operator, str(case.signature)) for case in row.denied}


def test_a_float_file_is_not_quantized_as_it_is(examples: Path) -> None:
    (row,) = agreement.examine(job(examples, "as_is", LITERT, "tflite"))
    assert (row.reality, row.wrong) == ("nothing of it is computed as asked", ())


def test_seats_read_their_own_format() -> None:
    assert agreement.reads(LITERT, ".tflite")
    assert not agreement.reads(LITERT, ".onnx")
    target, tables = agreement.seated(LITERT._replace(operators="tflite-litert-reference"))
    assert [one.operators for one in target.runtimes] == ["tflite-litert-reference"] == list(tables)
