"""The whole chain on real conversions: healthy ones blame nobody, planted faults are found."""

from __future__ import annotations

import dataclasses
import itertools
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from edgeq import store
from edgeq.analysis import attribution, judging, rows
from edgeq.errors import ModelError
from edgeq.testing import models
from edgeq.types import Analysis


@pytest.fixture(scope="module")
def healthy(digits: Any) -> Analysis:
    found: Analysis = digits.analyse()
    return found


def test_a_healthy_conversion_has_nobody_to_blame(healthy: Analysis) -> None:
    assert healthy.guilty is None
    assert healthy.first_wrong is None
    assert [step.wrong_operators for step in healthy.steps] == [0, 0, 0]
    assert [step.step for step in healthy.steps] == ["prepared", "quantized", "runtime"]
    assert healthy.notes == ()


def test_every_operator_has_its_numbers(healthy: Analysis) -> None:
    assert healthy.samples == 12
    for row in healthy.operators:
        assert not row.unavailable
        assert row.alone_db is not None
        assert row.accumulated_db is not None
        assert row.expected_db is not None
        assert row.used is not None
        assert row.used[0] <= row.used[1]
        assert 0 <= row.clipped_share <= 1
        assert row.histogram is not None
        assert sum(row.histogram.counts) > 0
        assert row.why == ()
    weighted = [weight for row in healthy.operators for weight in row.weights if weight.quantizers]
    assert len(weighted) >= 5
    for weight in weighted:
        assert weight.sqnr_db is not None
        assert weight.sqnr_db > 30
        assert weight.channel_spread is not None
        assert weight.channel_spread >= 1
        assert weight.clipped_share == 0


def test_soundness_is_what_is_measured(healthy: Analysis) -> None:
    """What is expected is no loose bound: a sound operator that clips nothing lies within a few dB of it."""
    stored = [row for row in healthy.operators if row.range and row.weights and not row.clipped_share]
    gaps = [abs(min(row.alone_db or 0, 45) - min(row.expected_db or 0, 45)) for row in stored]
    assert gaps
    assert max(gaps) < 6


def test_per_channel_costs_less_than_per_tensor_and_4_bits_more_than_8(healthy: Analysis) -> None:
    for row in healthy.operators:
        for weight in row.weights:
            if weight.quantizers:
                costs = {name: value or 0 for name, value in weight.quantizers.items()}
                assert costs["symmetric_per_channel"] >= costs["symmetric_per_tensor"] - 0.5
                assert costs["symmetric_per_tensor"] >= costs["power_of_two"] - 0.5
                assert costs["k_means"] > costs["k_means_4_bit"]


def test_the_document_is_json_and_comes_back(healthy: Analysis, tmp_path: Path) -> None:
    store.write(tmp_path / "analysis.json", healthy)
    assert json.loads((tmp_path / "analysis.json").read_text())["schema_version"] == 1
    assert store.read(tmp_path / "analysis.json", Analysis) == healthy


FAULTS = [
    ("quantized", "weight_scale"),
    ("quantized", "channel_scale"),
    ("quantized", "weight_codes"),
    ("quantized", "bias"),
    ("quantized", "narrow"),
    ("quantized", "wide"),
    ("quantized", "zero_point"),
    ("runtime", "weight_codes"),
    ("prepared", "noisy_weights"),
]


@pytest.mark.parametrize(("step", "fault"), FAULTS)
def test_a_planted_fault_is_named(digits: Any, planting: ModuleType, tmp_path: Path, step: str, fault: str) -> None:
    source = digits.files.prepared if step == "prepared" else digits.files.quantized
    path, name = _planted(digits, planting, source, fault, tmp_path, step)
    files = {
        "quantized": digits.files._replace(quantized=path, runtime=path),
        "runtime": digits.files._replace(runtime=path),
        "prepared": digits.files._replace(prepared=path),
    }[step]
    found = digits.analyse(files)
    if step == "prepared":  # the quantized file was made from a sound one, so that both steps are wrong
        assert found.first_wrong is not None
        assert found.first_wrong.step == "prepared"
        return
    assert found.guilty is not None
    assert (found.guilty.step, found.guilty.name) == (step, name)
    assert found.guilty.excess_db > judging.WRONG_DB
    assert found.guilty.why
    row = next(row for row in found.operators if row.name == name and row.why)
    assert set(found.guilty.why) <= set(row.why)


def _planted(digits: Any, planting: ModuleType, source: Path, fault: str, folder: Path, step: str) -> tuple[Path, str]:
    """A file with the fault in its third operator with weights, and the name of its result."""
    formats = attribution._formats(source)
    prepared = formats.load(digits.files.prepared)
    net = formats.load(source)
    kinds = ("CONV_2D", "Conv")
    if step == "prepared":
        chosen = [operator for operator in net.operators if operator.type in kinds][2]
        name = net.graph.tensors[chosen.outputs[0]].name
    else:
        row = [row for row in rows.quantized_rows(net, prepared) if row.part.operator.type in kinds][2]
        assert isinstance(row, rows.Row)
        chosen, name = row.part.operator, prepared.graph.tensors[row.goals[0]].name
    model = planting.editable(net)
    if fault == "zero_point":  # a shift down is lost on a Relu's result, which starts at the lowest code
        model.rescale_result(chosen, 1.0, 90)
    else:
        getattr(planting, fault)(model, chosen, np.random.default_rng(7))
    path = folder / source.name
    model.save(path)
    return path, name


def test_reasons_tell_narrow_from_wide(digits: Any, planting: ModuleType, tmp_path: Path) -> None:
    said = {}
    for fault in ("narrow", "wide"):
        (tmp_path / fault).mkdir()
        path, _ = _planted(digits, planting, digits.files.quantized, fault, tmp_path / fault, "quantized")
        found = digits.analyse(digits.files._replace(quantized=path, runtime=path))
        said[fault] = " ".join(found.guilty.why)
    assert "is clipped" in said["narrow"]
    assert "bits are lost" not in said["narrow"]
    assert "bits are lost" in said["wide"]


def test_equalized_channels_are_no_fault_and_a_fault_among_them_is(
    digits: Any, planting: ModuleType, tmp_path: Path
) -> None:
    """The prepared model with channels multiplied in one layer and divided in the next."""
    path, first = _equalized(digits, planting, tmp_path / f"even{digits.files.prepared.suffix}", break_bias=False)
    found = digits.analyse(digits.files._replace(prepared=path))
    assert found.steps[0].sqnr_db is not None
    assert found.steps[0].sqnr_db > 80
    assert found.steps[0].wrong_operators == 0
    path, first = _equalized(digits, planting, tmp_path / f"odd{digits.files.prepared.suffix}", break_bias=True)
    found = digits.analyse(digits.files._replace(prepared=path))
    assert found.first_wrong is not None
    assert (found.first_wrong.step, found.first_wrong.name) == ("prepared", first)


def _equalized(digits: Any, planting: ModuleType, path: Path, *, break_bias: bool) -> tuple[Path, str]:
    net = attribution._formats(digits.files.prepared).load(digits.files.prepared)
    model = planting.editable(net)
    convs = [operator for operator in net.operators if operator.type in ("CONV_2D", "Conv", "DEPTHWISE_CONV_2D")]
    maker, reader = [(one, other) for one, other in itertools.pairwise(convs) if _feeds(net, one, other)][-1]
    weights, bias = model.operand(maker, 1), model.operand(maker, 2)
    is_onnx = net.graph.format == "onnx"
    values = model.values(weights)
    factors = (2.0 ** np.random.default_rng(1).integers(1, 5, values.shape[0])).astype(np.float32)
    model.set_values(weights, values * factors.reshape(-1, 1, 1, 1))
    model.set_values(bias, model.values(bias) * factors * (-1 if break_bias else 1))
    read = model.operand(reader, 1)
    model.set_values(read, model.values(read) / factors.reshape((-1, 1, 1, 1) if is_onnx else (1, 1, 1, -1)))
    model.save(path)
    return path, net.graph.tensors[maker.outputs[0]].name


def _feeds(net: Any, maker: Any, reader: Any) -> bool:
    """Whether a depthwise convolution alone reads the other's channels, through nothing but a Relu."""
    behind = net.readers.get(maker.outputs[0], [])
    if [one.type for one in behind] == ["Relu"]:
        behind = net.readers.get(behind[0].outputs[0], [])
    is_depthwise = reader.type == "DEPTHWISE_CONV_2D" or reader.attributes.get("group", 1) > 1
    return is_depthwise and [one.index for one in behind] == [reader.index]


def test_an_input_with_a_wrong_range_is_named(
    make_conversion: Callable[..., Any], planting: ModuleType, tmp_path: Path
) -> None:
    data = models.tiny_dataset(tmp_path)
    made = make_conversion(models.conv_tflite(tmp_path), data, tmp_path)
    net = attribution._formats(made.files.quantized).load(made.files.quantized)
    model = planting.editable(net)
    tensor = net.graph.inputs[0]
    model.set_scales(tensor, model.scales(tensor) / 4)
    path = tmp_path / "narrow.tflite"
    model.save(path)
    found = made.analyse(made.files._replace(quantized=path, runtime=path))
    assert found.first_wrong is not None
    assert (found.first_wrong.index, found.first_wrong.type) == (-1, "INPUT")
    assert "is clipped" in " ".join(found.first_wrong.why)


@pytest.mark.parametrize("scheme", ["weight_only_wi8", "dynamic_wi8_af32"])
def test_float_activations_are_analysed_too(make_conversion: Callable[..., Any], tmp_path: Path, scheme: str) -> None:
    data = models.tiny_dataset(tmp_path, models.MLP_SHAPE)
    made = make_conversion(models.mlp_tflite(tmp_path), data, tmp_path, scheme=scheme)
    found = made.analyse()
    assert found.guilty is None
    measured = [row for row in found.operators if row.weights and any(weight.quantizers for weight in row.weights)]
    assert measured
    assert all(row.range is None for row in measured)


def test_memory_does_not_grow_once_enough_values_are_kept(digits: Any) -> None:
    if digits.files.quantized.suffix == ".onnx":
        pytest.skip("what is kept does not depend on the format")

    def peak(repeats: int) -> int:
        samples = (sample for _ in range(repeats) for sample in digits.samples)
        tracemalloc.start()
        attribution.attribute(digits.files, samples, repeats * len(digits.samples))
        size = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return size

    assert peak(18) < 1.25 * peak(6)


def test_what_cannot_be_compared_is_refused(digits: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="not quantized"):
        digits.analyse(digits.files._replace(quantized=digits.files.floating, runtime=digits.files.floating))
    with pytest.raises(ModelError, match="no samples"):
        attribution.attribute(digits.files, [], 0)
    suffix = digits.files.quantized.suffix
    if suffix == ".tflite":
        other = digits.files._replace(
            floating=models.mlp_tflite(tmp_path), prepared=models.mlp_tflite(tmp_path, "b.tflite")
        )
        with pytest.raises(ModelError):
            attribution.attribute(other, [(np.zeros((1, 16), np.float32),)], 1)


def test_a_runtime_file_with_other_operators_is_refused(digits: Any) -> None:
    with pytest.raises(ModelError, match="other operators"):
        digits.analyse(digits.files._replace(runtime=digits.files.floating))


def test_blames_keep_the_first_step_of_the_worst_operator() -> None:
    from edgeq.types import Blame

    one = Blame(step="quantized", index=3, type="CONV_2D", name="a", excess_db=20, why=("x",))
    later = dataclasses.replace(one, step="runtime", excess_db=26)
    other = dataclasses.replace(one, name="b", index=1, excess_db=12)
    assert attribution._guilty([other, one, later]) is one
    assert attribution._guilty([]) is None
