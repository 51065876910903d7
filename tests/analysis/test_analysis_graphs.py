"""Walking on graphs, matching tensors of two models, and cutting models into operators."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import runtimes
from edgeq.analysis import attribution, rows
from edgeq.analysis.cutting import cuts
from edgeq.analysis.matching import same_tensors
from edgeq.analysis.net import LARGEST_REGION, Net, parts, real_values, region
from edgeq.errors import ModelError
from edgeq.testing import models
from edgeq.types import Quantization


def load(path: Path) -> tuple[Net, Any]:
    formats = attribution._formats(path)
    return formats.load(path), formats


@pytest.fixture(params=["tflite", "onnx"])
def conv(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return models.conv_tflite(tmp_path) if request.param == "tflite" else models.conv_onnx(tmp_path)


def sample_for(net: Net) -> tuple[Any, ...]:
    shapes = [[1 if size < 0 else size for size in net.graph.tensors[index].shape] for index in net.graph.inputs]
    return tuple(np.random.default_rng(1).random(shape, np.float32) for shape in shapes)


def test_a_region_from_input_to_output_is_the_whole_model(conv: Path) -> None:
    net, _ = load(conv)
    found = region(net, net.graph.outputs, net.graph.inputs)
    assert found is not None
    live = {operator.index for operator in net.operators if net.is_activation(operator.outputs[0])}
    assert live <= {operator.index for operator in found.operators}
    assert found.ends == net.graph.inputs


def test_a_region_stops_at_its_ends(conv: Path) -> None:
    net, _ = load(conv)
    last = net.makers[net.graph.outputs[0]]
    found = region(net, net.graph.outputs, net.read(last))
    assert found is not None
    assert [operator.index for operator in found.operators if net.is_activation(operator.outputs[0])] == [last.index]
    assert found.ends == net.read(last)


def test_a_region_that_is_too_large_is_none() -> None:
    from edgeq.types import ModelGraph, Operator, TensorSpec

    count = LARGEST_REGION + 2
    tensors = [TensorSpec(index=i, name=str(i), shape=(1,), dtype="float32", size_bytes=4) for i in range(count + 1)]
    chain = [Operator(index=i, type="RELU", version=1, inputs=(i,), outputs=(i + 1,)) for i in range(count)]
    graph = ModelGraph(
        format="tflite", path="x", sha256="", size_bytes=0, inputs=(0,), outputs=(count,), tensors=tuple(tensors),
        operators=tuple(chain), parameters=0, weight_bytes=0, macs=0, peak_activation_bytes=0,
    )  # fmt: skip
    net = Net(graph, None)
    assert region(net, (count,), {0}) is None
    assert region(net, (count,), {count - 3}) is not None


def test_constants_and_what_follows_from_them_are_no_activations(conv: Path) -> None:
    net, _ = load(conv)
    for tensor in net.graph.tensors:
        if tensor.is_constant:
            assert not net.is_activation(tensor.index)
    assert all(net.is_activation(tensor) for tensor in (*net.graph.inputs, *net.graph.outputs))


def test_operators_cut_apart_compute_what_they_compute_in_the_model(conv: Path) -> None:
    net, formats = load(conv)
    each = [part for part in parts(net) if part.ends]
    regions = {n: region(net, part.goals, part.ends) for n, part in enumerate(each)}
    assert all(one is not None for one in regions.values())
    wanted = sorted({tensor for part in each for tensor in (*part.ends, *part.goals)})
    with tempfile.TemporaryDirectory() as folder:
        traced = formats.trace(net, wanted, Path(folder), exact=True)(sample_for(net))
        feeds = {n: {end: traced[end] for end in one.ends} for n, one in regions.items() if one is not None}
        seen = {end: value for one in feeds.values() for end, value in one.items()}

        def open_cut(chosen: Any, place: Path) -> runtimes.Session:
            made: runtimes.Session = formats.cut(
                net, chosen, seen, place / f"cut.{net.graph.format}", exact=True, replaced={}
            )
            return made

        found = cuts({n: one for n, one in regions.items() if one is not None}, feeds, Path(folder), open_cut)
        made = {n: values for cut in found for n, values in cut.run(feeds)}
    assert made.keys() == regions.keys()
    for number, part in enumerate(each):
        for goal, value in zip(part.goals, made[number], strict=True):
            np.testing.assert_allclose(value, traced[goal], rtol=1e-5, atol=1e-6)


def test_a_region_that_a_runtime_refuses_leaves_the_others(conv: Path) -> None:
    net, formats = load(conv)
    regions = {n: region(net, part.goals, part.ends) for n, part in enumerate(parts(net))}
    known = {n: one for n, one in regions.items() if one is not None}
    bad = sorted(known)[1]

    def open_cut(chosen: Any, place: Path) -> runtimes.Session:
        if known[bad] in chosen:
            raise ModelError("refused")
        made: runtimes.Session = formats.cut(
            net, chosen, seen, place / f"c.{net.graph.format}", exact=True, replaced={}
        )
        return made

    with tempfile.TemporaryDirectory() as folder:
        wanted = sorted({end for one in known.values() for end in one.ends})
        traced = formats.trace(net, wanted, Path(folder), exact=True)(sample_for(net))
        feeds = {n: {end: traced[end] for end in one.ends} for n, one in known.items()}
        seen = traced
        found = cuts(known, feeds, Path(folder), open_cut)
    assert {number for cut in found for number in cut.numbers} == known.keys() - {bad}


def test_a_model_matches_itself(conv: Path) -> None:
    net, _ = load(conv)
    same = same_tensors(net, net)
    made = [tensor for operator in net.operators for tensor in operator.outputs if net.is_activation(tensor)]
    assert all(same[tensor] == tensor for tensor in (*made, *net.graph.inputs))


def test_every_quantized_operator_of_the_example_has_its_float_one(digits: Any) -> None:
    formats = attribution._formats(digits.files.quantized)
    later, earlier = formats.load(digits.files.quantized), formats.load(digits.files.prepared)
    found = rows.quantized_rows(later, earlier)
    assert found
    for row in found:
        assert isinstance(row, rows.Row), row
        if row.weights:
            assert row.before is not None
            shapes = {later.graph.tensors[one.stored].shape for one in row.weights}
            assert shapes == {earlier.graph.tensors[one.original].shape for one in row.weights}


def test_tensors_without_names_are_matched_by_order(digits: Any) -> None:
    formats = attribution._formats(digits.files.quantized)
    later, earlier = formats.load(digits.files.quantized), formats.load(digits.files.prepared)
    known = same_tensors(later, earlier)
    nameless = Net(_without_names(later.graph), later.raw)
    found = same_tensors(nameless, earlier)
    weighted = [part for part in parts(later) if part.operator.type in ("CONV_2D", "Conv", "FULLY_CONNECTED", "Gemm")]
    assert weighted
    if later.graph.format == "tflite":  # ONNX: a Relu is gone, so that the orders differ
        assert all(found[part.goals[0]] == known[part.goals[0]] for part in weighted)


def _without_names(graph: Any) -> Any:
    import dataclasses

    tensors = tuple(dataclasses.replace(tensor, name="") for tensor in graph.tensors)
    return dataclasses.replace(graph, tensors=tensors)


def test_real_values_follow_the_definition() -> None:
    stored = np.arange(-6, 6, dtype=np.int8).reshape(2, 3, 2)
    found = real_values(stored, Quantization(scales=(0.5, 2.0, 4.0), zero_points=(0, 1, -1), axis=1))
    for channel, (scale, zero) in enumerate(((0.5, 0), (2.0, 1), (4.0, -1))):
        np.testing.assert_array_equal(found[:, channel], (stored[:, channel].astype(np.float32) - zero) * scale)
    whole = real_values(stored, Quantization(scales=(0.25,), zero_points=(3,)))
    np.testing.assert_array_equal(whole, (stored.astype(np.float32) - 3) * 0.25)
