"""Real models on the shelf's targets and tables."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeq import backends, datasets, models, planning, targets
from edgeq.types import Plan

LINUX = ("generic-linux-x86_64", "generic-linux-aarch64", "raspberry-pi-zero-2w", "raspberry-pi-5")


def _choose(path: Path, name: str) -> Plan:
    target = targets.load(name)
    return planning.choose(models.read(path), target, targets.load_tables(target))


@pytest.mark.parametrize("name", LINUX)
@pytest.mark.parametrize(
    "file",
    [
        "kws_dscnn/kws_float.tflite",
        "kws_dscnn/kws_float.onnx",
        "kws_dscnn/kws_hybrid.tflite",
        "ic_resnet8/resnet8_float.tflite",
        "vww_mobilenetv1/vww_float.tflite",
        "lstm_mnist/mnist_lstm_float.tflite",
        "sr_espcn/espcn_float.tflite",
        "sine_hello_world/hello_world_float.tflite",
    ],
)
def test_float_models_get_a_static_plan(shared: Path, file: str, name: str) -> None:
    plan = _choose(shared / file, name)
    assert plan.ok
    assert plan.scheme.name == "static_wi8_ai8"
    assert {one.placement for one in plan.operators} <= {"cpu", "float"}
    unsigned = name.endswith("x86_64") and file.endswith(".onnx")
    assert plan.scheme.default.activations == ("uint8" if unsigned else "int8")


@pytest.mark.parametrize(
    "file",
    [
        "ad_autoencoder/ad_reference_int8.tflite",
        "ic_resnet8/resnet8_reference_int8.tflite",
        "kws_dscnn/kws_reference_int8.tflite",
        "lstm_mnist/mnist_lstm_reference_int8.tflite",
        "seg_mobilenetv3/portrait_reference_uint8.tflite",
        "sine_hello_world/hello_world_reference_int8.tflite",
        "vww_mobilenetv1/vww_reference_int8.tflite",
    ],
)
def test_published_int8_models_are_taken_as_they_stand(shared: Path, file: str) -> None:
    plan = _choose(shared / file, "raspberry-pi-4")
    assert plan.ok
    assert plan.scheme.name == "as_is"
    assert plan.memory.flash_bytes == (shared / file).stat().st_size


@pytest.mark.parametrize(
    ("float_file", "int8_file"),
    [
        ("kws_dscnn/kws_float.tflite", "kws_dscnn/kws_reference_int8.tflite"),
        ("ic_resnet8/resnet8_float.tflite", "ic_resnet8/resnet8_reference_int8.tflite"),
        ("vww_mobilenetv1/vww_float.tflite", "vww_mobilenetv1/vww_reference_int8.tflite"),
    ],
)
def test_the_predicted_arena_is_that_of_the_published_file(shared: Path, float_file: str, int8_file: str) -> None:
    predicted = _choose(shared / float_file, "raspberry-pi-4").memory
    published = _choose(shared / int8_file, "raspberry-pi-4").memory
    assert predicted.arena_bytes == pytest.approx(published.arena_bytes, rel=0.02)


@pytest.mark.parametrize(
    "file",
    [
        "kws_dscnn/kws_float.tflite",
        "kws_dscnn/kws_float.onnx",
        "ic_resnet8/resnet8_float.tflite",
        "ic_resnet8/resnet8_float.onnx",
        "vww_mobilenetv1/vww_float.tflite",
        "ad_autoencoder/ad_float.tflite",
        "sine_hello_world/hello_world_float.tflite",
    ],
)
def test_the_predicted_file_is_within_a_twentieth_of_the_written_one(shared: Path, tmp_path: Path, file: str) -> None:
    path = shared / file
    plan, graph = _choose(path, "generic-linux-x86_64"), models.read(path)
    dataset = datasets.bind(datasets.load(str(path.with_name("dataset.yaml"))), graph)
    few = dataclasses.replace(dataset, calibration=dataset.calibration[:4])
    out = tmp_path / f"q{path.suffix}"
    backends.find("converters", graph.format).convert(graph, plan, few, out)
    assert plan.memory.flash_bytes == pytest.approx(out.stat().st_size, rel=0.05)


def test_a_transformer_keeps_all_but_products_in_float(shared: Path) -> None:
    plan = _choose(shared / "text_minilm_l3/minilm_l3_float.onnx", "generic-linux-aarch64")
    assert plan.ok
    quantized = {one.type for one in plan.operators if one.signature.startswith("int8")}
    assert quantized == {"MatMul"}
