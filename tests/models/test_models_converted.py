"""What the reader says of files that edgeq's own converters wrote, beside what it says of their models."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import NamedTuple

import pytest

from edgeq import backends, datasets, models, planning, targets
from edgeq.models import liveness
from edgeq.testing import models as tiny
from edgeq.types import ModelGraph

FORMATS = {"tflite": tiny.conv_tflite, "onnx": tiny.conv_onnx}
SCHEMES = ("static_wi8_ai8", "static_wi8_ai8_mixed", "dynamic_wi8_af32", "weight_only_wf16", "float32", "as_is")
STATES = {
    "static_wi8_ai8": "quantized",
    "static_wi8_ai8_mixed": "quantized",
    "float32": "float",
    "as_is": "float",
}


class Pair(NamedTuple):
    """A float model and what each scheme made of it."""

    model: ModelGraph
    made: dict[str, ModelGraph]


@pytest.fixture(scope="module", params=FORMATS)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Pair:
    folder = tmp_path_factory.mktemp("pair")
    graph = models.read(FORMATS[request.param](folder))
    description = tiny.tiny_dataset(folder, channels_first=request.param == "onnx")
    dataset = datasets.bind(datasets.load(description), graph)
    target = targets.load("generic-linux-x86_64")
    made = {}
    for scheme in SCHEMES:
        plan = planning.choose(graph, target, targets.load_tables(target), scheme=scheme)
        out = folder / f"{scheme}.{graph.format}"
        backends.find("converters", graph.format).convert(graph, plan, dataset, out)
        made[scheme] = models.read(out)
    return Pair(graph, made)


def of_type(graph: ModelGraph, *kinds: str) -> list[str]:
    return [operator.type for operator in graph.operators if operator.type in kinds]


def test_the_state_follows_from_the_scheme(pair: Pair) -> None:
    assert pair.model.state == "float"
    assert {scheme: pair.made[scheme].state for scheme in STATES} == STATES
    # onnxruntime's dynamic kernels are for products only, so that convolutions keep float weights
    assert pair.made["dynamic_wi8_af32"].state == {"tflite": "weights", "onnx": "partial"}[pair.model.format]
    assert pair.made["weight_only_wf16"].state != "quantized"


def test_macs_do_not_depend_on_the_scheme(pair: Pair) -> None:
    assert pair.model.macs > 10_000
    assert {scheme: graph.macs for scheme, graph in pair.made.items()} == dict.fromkeys(SCHEMES, pair.model.macs)


def test_ports_keep_names_and_shapes(pair: Pair) -> None:
    for scheme, graph in pair.made.items():
        for side in ("inputs", "outputs"):
            ours = [graph.tensors[index] for index in getattr(graph, side)]
            theirs = [pair.model.tensors[index] for index in getattr(pair.model, side)]
            assert [one.shape for one in ours] == [one.shape for one in theirs], scheme
            if graph.format == "onnx":
                assert [one.name for one in ours] == [one.name for one in theirs]
                assert {one.dtype for one in ours} == {"float32"}


def test_the_batch_stays_open_in_tensors_that_quantization_added(pair: Pair) -> None:
    """litert-quantizer closes them: a mixed file took one sample at a time, and said so of its output alone."""
    if pair.model.format == "tflite":
        for scheme, graph in pair.made.items():
            made = {index for operator in graph.operators for index in operator.outputs}
            activations = [graph.tensors[index] for index in made if not graph.tensors[index].is_constant]
            closed = [one.name for one in activations if one.shape[0] != -1 and not one.name.startswith(WEIGHTS)]
            assert closed == [], scheme


WEIGHTS = ("conv/", "depthwise/", "dense/")


def test_layers_survive_every_scheme(pair: Pair) -> None:
    kinds = ("CONV_2D", "DEPTHWISE_CONV_2D", "AVERAGE_POOL_2D", "SOFTMAX", "Conv", "AveragePool", "Softmax")
    wanted = of_type(pair.model, *kinds)
    assert len(wanted) == 4
    for scheme, graph in pair.made.items():
        assert of_type(graph, *kinds) == wanted, scheme


def test_weights_shrink_as_the_scheme_says(pair: Pair) -> None:
    whole = pair.model.weight_bytes
    share = {scheme: graph.weight_bytes / whole for scheme, graph in pair.made.items()}
    assert share["float32"] == share["as_is"] == 1
    assert share["weight_only_wf16"] == pytest.approx(0.5, abs=0.1)
    assert share["static_wi8_ai8"] < 0.6, "small biases of 32 bits weigh much here"
    assert share["static_wi8_ai8"] <= share["static_wi8_ai8_mixed"] < 1


def test_the_arena_of_int8_is_smaller_and_holds_its_peak(pair: Pair) -> None:
    for scheme, graph in pair.made.items():
        assert liveness.arena_bytes(graph) >= graph.peak_activation_bytes > 0, scheme
    if pair.model.format == "tflite":
        ratio = pair.made["static_wi8_ai8"].peak_activation_bytes / pair.model.peak_activation_bytes
        assert ratio == pytest.approx(0.25, abs=0.01)


def test_quantized_activations_have_one_scale_and_weights_one_for_each_channel(pair: Pair) -> None:
    graph = pair.made["static_wi8_ai8"]
    counts = {True: set(), False: set()}  # type: ignore[var-annotated]
    for tensor in graph.tensors:
        if tensor.quantization is not None and tensor.dtype in ("int8", "uint8"):
            counts[tensor.is_constant].add(len(tensor.quantization.scales))
            assert all(scale > 0 for scale in tensor.quantization.scales)
    assert counts[False] <= {1}
    assert max(counts[True]) == 8


def test_reading_twice_and_under_another_name_is_the_same(pair: Pair, tmp_path: Path) -> None:
    graph = pair.made["static_wi8_ai8"]
    copy = tmp_path / f"other.{graph.format}"
    copy.write_bytes(Path(graph.path).read_bytes())
    assert dataclasses.replace(models.read(copy), path=graph.path) == graph


def test_tensors_and_operators_are_numbered_by_their_place(pair: Pair) -> None:
    for graph in (pair.model, *pair.made.values()):
        assert [tensor.index for tensor in graph.tensors] == list(range(len(graph.tensors)))
        assert [operator.index for operator in graph.operators] == list(range(len(graph.operators)))
        made = set(graph.inputs) | {tensor.index for tensor in graph.tensors if tensor.is_constant}
        for operator in graph.operators:
            assert {index for index in operator.inputs if index >= 0} <= made, operator
            made.update(operator.outputs)
        assert set(graph.outputs) <= made
