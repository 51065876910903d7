"""What a plan says of each operator is what the converted file holds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq import backends, datasets, models, planning, targets
from edgeq.testing import models as tiny
from edgeq.testing.planned import FRAMED, disagreements, numbered
from edgeq.testing.tflite import write_tflite
from edgeq.types import Dataset, ModelGraph, Plan, Signature

Bound = tuple[ModelGraph, Dataset]

TFLITE = (
    "kws_dscnn/kws_float.tflite",
    "ic_resnet8/resnet8_float.tflite",
    "sine_hello_world/hello_world_float.tflite",
    "sr_espcn/espcn_float.tflite",
    "lstm_mnist/mnist_lstm_float.tflite",
    "vww_mobilenetv1/vww_float.tflite",
    "ad_autoencoder/ad_float.tflite",
    "seg_mobilenetv3/portrait_float.tflite",
)
ONNX = (
    "kws_dscnn/kws_float.onnx",
    "ic_resnet8/resnet8_float.onnx",
    "sr_espcn/espcn_float.onnx",
    "ad_autoencoder/ad_float.onnx",
    "vww_mobilenetv1/vww_float.onnx",
    pytest.param("seg_mobilenetv3/portrait_float.onnx", marks=pytest.mark.slow),
    pytest.param("imagenet_mobilenetv2/mobilenet_v2_float.onnx", marks=pytest.mark.slow),
    pytest.param("det_fastestdet/fastestdet_float.onnx", marks=pytest.mark.slow),
    pytest.param("text_minilm_l3/minilm_l3_float.onnx", marks=pytest.mark.slow),
)
SCHEMES = ("static_wi8_ai8", "static_wi8_ai8_mixed")
TARGETS = ("generic-linux-x86_64", "raspberry-pi-4")
LAYERS = {"onnx": ("Conv", "ConvTranspose", "Gemm", "MatMul"), "tflite": ("CONV_2D", "FULLY_CONNECTED")}


def bound(model: Path, description: Path, samples: int = 4) -> Bound:
    """Few samples calibrate: ranges do not decide where an operator runs."""
    graph = models.read(model)
    dataset = datasets.bind(datasets.load(description), graph)
    return graph, dataclasses.replace(dataset, calibration=dataset.calibration[:samples])


def planned(graph: ModelGraph, scheme: str, target: str = TARGETS[0]) -> Plan:
    found = targets.load(target)
    return planning.choose(graph, found, targets.load_tables(found), scheme=scheme)


def converted(bound: Bound, plan: Plan, folder: Path) -> ModelGraph:
    graph, dataset = bound
    out = folder / f"model.{graph.format}"
    backends.find("converters", graph.format).convert(graph, plan, dataset, out)
    return models.read(out)


# --- TFLite ----------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("file", TFLITE)
def test_tflite_operators_have_the_planned_types(shared: Path, tmp_path: Path, file: str, scheme: str) -> None:
    model = bound(shared / file, (shared / file).parent / "dataset.yaml")
    plan = planned(model[0], scheme)
    assert list(disagreements(model[0], plan, converted(model, plan, tmp_path))) == []


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("signature", [True, False])
def test_tiny_tflite_operators_have_the_planned_types(tmp_path: Path, scheme: str, signature: bool) -> None:
    """Mixed schemes failed in litert-quantizer on files without signatures whose ports stay in float."""
    path = write_tflite(tmp_path / "conv.tflite", tiny.conv_graph(), signature=signature)
    model = bound(path, tiny.tiny_dataset(tmp_path))
    plan = planned(model[0], scheme)
    assert list(disagreements(model[0], plan, converted(model, plan, tmp_path))) == []


def test_a_disagreement_is_found(tmp_path: Path) -> None:
    """The check itself: a mixed plan is not the plan of a wholly static file."""
    model = bound(tiny.conv_tflite(tmp_path), tiny.tiny_dataset(tmp_path))
    made = converted(model, planned(model[0], "static_wi8_ai8"), tmp_path)
    found = list(disagreements(model[0], planned(model[0], "static_wi8_ai8_mixed"), made))
    assert "operator 0 CONV_2D is planned float32 (kept-in-float), the file has int8" in found


def test_a_recurrent_layer_is_planned_and_written_in_float(shared: Path, tmp_path: Path) -> None:
    path = shared / "lstm_mnist/mnist_lstm_float.tflite"
    model = bound(path, path.parent / "dataset.yaml")
    plan = planned(model[0], "static_wi8_ai8")
    (one,) = [one for one in plan.operators if one.type == "UNIDIRECTIONAL_SEQUENCE_LSTM"]
    assert (one.placement, one.rule) == ("float", "left-in-float")
    assert one.signature.startswith("float32")
    made = converted(model, plan, tmp_path)
    (cell,) = [operator for operator in made.operators if operator.type == one.type]
    tensors = numbered(made)
    present = {tensors[index].dtype for index in (*cell.inputs, *cell.outputs) if index >= 0}
    assert present == {"float32"}


@pytest.mark.parametrize("file", [*TFLITE, *ONNX[:4]])
def test_plans_name_every_operator_in_order(shared: Path, file: str) -> None:
    graph = models.read(shared / file)
    for name in TARGETS:
        plan = planned(graph, "static_wi8_ai8", name)
        assert [(one.index, one.type) for one in plan.operators] == [(one.index, one.type) for one in graph.operators]
        assert all(one.why.endswith(".") for one in plan.operators)


# --- ONNX ------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [TARGETS[0], pytest.param(TARGETS[1], marks=pytest.mark.slow)])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("file", ONNX)
def test_onnx_operators_stand_between_the_planned_quantizers(
    shared: Path, tmp_path: Path, file: str, scheme: str, target: str
) -> None:
    model = bound(shared / file, (shared / file).parent / "dataset.yaml", samples=2)
    plan = planned(model[0], scheme, target)
    if not plan.ok:
        pytest.skip(f"{scheme} is not ok here: {[check.why for check in plan.checks if not check.ok]}")
    assert list(disagreements(model[0], plan, converted(model, plan, tmp_path))) == []


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tiny_onnx_operators_stand_between_the_planned_quantizers(tmp_path: Path, scheme: str) -> None:
    model = bound(tiny.conv_onnx(tmp_path), tiny.tiny_dataset(tmp_path, channels_first=True))
    plan = planned(model[0], scheme)
    assert list(disagreements(model[0], plan, converted(model, plan, tmp_path))) == []


def test_an_onnx_disagreement_is_found(tmp_path: Path) -> None:
    model = bound(tiny.conv_onnx(tmp_path), tiny.tiny_dataset(tmp_path, channels_first=True))
    static, mixed = (planned(model[0], scheme) for scheme in SCHEMES)
    whole, parts = (converted(model, plan, tmp_path) for plan in (static, mixed))
    assert any(
        "has its weights in uint8" in words or "in integers" in words for words in disagreements(model[0], mixed, whole)
    )
    assert any("reads float" in words for words in disagreements(model[0], static, parts))


def placements(plan: Plan, kind: str) -> list[tuple[str, str]]:
    return [(one.placement, one.rule) for one in plan.operators if one.type == kind]


def test_what_follows_the_last_weights_is_planned_in_float(shared: Path) -> None:
    """The plan said that Softmax runs in uint8; the converter leaves it in float."""
    plan = planned(models.read(shared / "kws_dscnn/kws_float.onnx"), "static_wi8_ai8")
    assert placements(plan, "Softmax") == [("float", "left-in-float")]
    assert placements(plan, "MatMul") == [("cpu", "signature-supported")]
    assert placements(plan, "Add") == [("cpu", "signature-supported")], "the bias of the last product is part of it"


def test_a_clip_and_a_bias_go_with_their_layer(shared: Path) -> None:
    plan = planned(models.read(shared / "ic_resnet8/resnet8_float.onnx"), "static_wi8_ai8_mixed")
    relus = placements(plan, "Relu")
    assert relus[0] == ("float", "left-in-float"), "it follows the first layer, which is kept in float"
    assert set(relus[1:]) == {("cpu", "signature-supported")}
    assert placements(plan, "Add")[-1] == ("float", "left-in-float")


def test_what_moves_an_onnx_port_stays_float(shared: Path) -> None:
    plan = planned(models.read(shared / "vww_mobilenetv1/vww_float.onnx"), "static_wi8_ai8")
    assert placements(plan, "Transpose")[0] == ("float", "passes-quantization")


def test_framed_operators_are_no_overrides(shared: Path) -> None:
    """Nine Pad and Resize overrides cost portrait segmentation 2.7 dB: alone they run in float just as well."""
    graph = models.read(shared / "seg_mobilenetv3/portrait_float.onnx")
    plan = planned(graph, "static_wi8_ai8")
    framed = {one.index: one.type for one in plan.operators if one.rule in FRAMED}
    assert set(framed.values()) == {"Pad", "Resize"}
    assert len(framed) == 9
    assert not set(framed) & set(plan.scheme.overrides)
    left = {one.index for one in plan.operators if one.rule == "left-in-float"}
    assert not left & set(plan.scheme.overrides), "a bias listed as float would take its product along"


@pytest.mark.parametrize("file", ["kws_dscnn/kws_float.tflite", "kws_dscnn/kws_float.onnx"])
def test_percentile_ranges_come_first(shared: Path, file: str) -> None:
    """They lost least on most models measured."""
    target = targets.load(TARGETS[0])
    plans = planning.candidates(models.read(shared / file), target, targets.load_tables(target))
    assert (plans[0].scheme.name, plans[0].scheme.ranges) == ("static_wi8_ai8", "percentile")


@pytest.mark.parametrize("make", [tiny.conv_tflite, tiny.conv_onnx])
def test_each_listed_layer_alone_changes_the_file(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    path = make(tmp_path)
    model = bound(path, tiny.tiny_dataset(tmp_path, channels_first=path.suffix == ".onnx"))
    mixed = planned(model[0], "static_wi8_ai8_mixed")
    hashes = [converted(model, with_overrides(mixed, {}), tmp_path).sha256]
    layers = [n for n in mixed.scheme.overrides if model[0].operators[n].type in LAYERS[model[0].format]]
    for index in layers:
        made = converted(model, with_overrides(mixed, {index: mixed.scheme.overrides[index]}), tmp_path)
        assert made.state == "quantized"
        hashes.append(made.sha256)
    assert len(layers) == 2, "the first and the last"
    assert len(set(hashes)) == 3


def with_overrides(plan: Plan, overrides: dict[int, Signature]) -> Plan:
    return dataclasses.replace(plan, scheme=dataclasses.replace(plan.scheme, overrides=overrides))
