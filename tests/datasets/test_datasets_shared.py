"""The real data sets beside the checkout, bound to each model of their folder."""

from __future__ import annotations

import dataclasses
import functools
import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from edgeq import backends, datasets, models
from edgeq.errors import EdgeqError
from edgeq.runtimes import infer
from edgeq.testing.bundles import RUNTIMES
from edgeq.types import Dataset, ModelGraph

FOLDERS = (
    "ad_autoencoder",
    "det_fastestdet",
    "ic_resnet8",
    "imagenet_mobilenetv2",
    "kws_dscnn",
    "lstm_mnist",
    "seg_mobilenetv3",
    "sine_hello_world",
    "sr_espcn",
    "text_minilm_l3",
    "vww_mobilenetv1",
)


@pytest.fixture(scope="module", params=FOLDERS)
def folder(request: pytest.FixtureRequest, shared: Path) -> Path:
    return shared / str(request.param)


@functools.lru_cache(maxsize=1)
def bound(folder: Path) -> list[tuple[ModelGraph, Dataset]]:
    loaded = datasets.load(folder / "dataset.yaml")
    graphs = [models.read(path) for path in sorted(folder.iterdir()) if path.suffix in RUNTIMES]
    return [(graph, datasets.bind(loaded, graph)) for graph in graphs]


def test_slices_name_samples_that_are_there_once(folder: Path) -> None:
    loaded = datasets.load(folder / "dataset.yaml")
    for numbers in (loaded.calibration, loaded.evaluation):
        assert numbers
        assert len(set(numbers)) == len(numbers)
        assert 0 <= min(numbers) <= max(numbers) < loaded.count


def test_one_description_feeds_every_model_of_its_folder(folder: Path) -> None:
    for graph, dataset in bound(folder):
        tensors = [graph.tensors[index] for index in graph.inputs]
        for sample in islice(datasets.samples(dataset, graph, dataset.calibration[:2]), 2):
            assert len(sample) == len(tensors)
            for array, tensor in zip(sample, tensors, strict=True):
                assert array.flags.c_contiguous
                assert array.ndim == len(tensor.shape)
                assert all(size in (-1, given) for size, given in zip(tensor.shape, array.shape, strict=True))
                assert array.dtype.name == ("float32" if tensor.quantization else tensor.dtype)
                assert np.isfinite(array).all()


def test_the_first_sample_runs_and_the_answer_is_finite(folder: Path) -> None:
    for graph, dataset in bound(folder):
        session = backends.find("runtimes", RUNTIMES[f".{graph.format}"]).open(Path(graph.path))
        (sample,) = datasets.samples(dataset, graph, dataset.evaluation[:1])
        assert all(np.isfinite(output).all() for output in infer(session, sample)), graph.path


def test_samples_are_the_same_whatever_was_read_before(folder: Path) -> None:
    graph, dataset = bound(folder)[0]
    numbers = [*dataset.evaluation[:2], dataset.calibration[0]]
    forwards = list(datasets.samples(dataset, graph, numbers))
    backwards = list(datasets.samples(dataset, graph, numbers[::-1]))[::-1]
    for ours, theirs in zip(forwards, backwards, strict=True):
        assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


def test_the_fingerprint_is_that_of_the_samples_not_of_the_model(folder: Path) -> None:
    loaded = datasets.load(folder / "dataset.yaml")
    assert datasets.fingerprint(loaded) == datasets.fingerprint(datasets.load(folder / "dataset.yaml"))


def test_a_sample_beyond_the_last_is_refused(folder: Path) -> None:
    graph, dataset = bound(folder)[0]
    for number in (-1, dataset.count):
        with pytest.raises(EdgeqError, match="there is no sample"):
            next(datasets.samples(dataset, graph, [number]))


def test_binding_twice_changes_nothing_more(folder: Path) -> None:
    graph, dataset = bound(folder)[0]
    again = datasets.bind(dataset, graph)
    assert dataclasses.replace(again, notes=()) == dataclasses.replace(dataset, notes=())


def test_the_data_of_another_task_is_refused_or_fits_by_shape(shared: Path) -> None:
    """Keyword features do not feed a picture classifier, whatever adapting binding does."""
    loaded = datasets.load(shared / "kws_dscnn/dataset.yaml")
    for name in ("ic_resnet8/resnet8_float.tflite", "vww_mobilenetv1/vww_float.onnx"):
        with pytest.raises(EdgeqError) as caught:
            datasets.bind(loaded, models.read(shared / name))
        assert "\n" not in caught.value.message


def test_preprocessing_is_plain_and_says_what_the_description_does(shared: Path) -> None:
    for name in FOLDERS[2:5]:
        for graph, dataset in bound(shared / name):
            for place in range(len(graph.inputs)):
                steps = datasets.preprocessing(dataset, place)
                assert json.loads(json.dumps(steps)) == steps
                assert set(steps) <= {"scale", "mean", "std", "transpose", "resize", "color"}
                order = steps.get("transpose")
                assert order is None or sorted(order) == list(range(len(order)))  # type: ignore[call-overload, arg-type]
