"""Datasets against models: what fits, what is adapted, what is refused with the change that would mend it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import datasets
from edgeq.errors import DatasetError
from edgeq.types import ModelGraph

Made = Callable[..., Path]
PLAIN = "inputs: [{npz: data.npz, array: x}]\nlabels: {npz: data.npz, array: y}\nmetric: top1\n"


def refused(path: Path, graph: ModelGraph) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        datasets.bind(datasets.load(path), graph)
    return caught.value


def fed(path: Path, graph: ModelGraph) -> list[np.ndarray[Any, Any]]:
    """The first sample, after everything was checked."""
    bound = datasets.bind(datasets.load(path), graph)
    return list(next(iter(datasets.samples(bound, graph, [0]))))


def test_a_dataset_that_fits_is_left_as_it_is(made: Made, pictures: dict[str, Any], classifier: ModelGraph) -> None:
    found = datasets.load(made(PLAIN, **pictures))
    assert datasets.bind(found, classifier) == found


def test_the_wrong_layout_is_told_the_transpose(made: Made, pictures: dict[str, Any], model: Any, port: Any) -> None:
    graph = model([port("image", (1, 3, 4, 4))], [port("scores", (1, 5))])
    error = refused(made(PLAIN, **pictures), graph)
    assert error.message == "input 'image': samples are 4x4x3, the model wants 3x4x4"
    assert error.hint == "transpose: [2, 0, 1]"
    mended = fed(made(PLAIN.replace("array: x}", f"array: x, {error.hint}}}", 1), **pictures), graph)
    np.testing.assert_array_equal(mended[0][0], np.moveaxis(pictures["x"][0], 2, 0).astype(np.float32))


def test_a_wrong_transpose_is_told_the_right_one(made: Made, pictures: dict[str, Any], model: Any, port: Any) -> None:
    graph = model([port("image", (1, 3, 4, 6))], [port("scores", (1, 5))])
    arrays = {**pictures, "x": np.zeros((10, 4, 6, 3), np.uint8)}
    error = refused(made(PLAIN.replace("array: x}", "array: x, transpose: [1, 0, 2]}", 1), **arrays), graph)
    assert error.hint == "transpose: [2, 0, 1]"


@pytest.mark.parametrize(
    ("stored", "wanted", "expected"),
    [
        ((4, 6), (4, 6, 1), (1, 4, 6, 1)),
        ((4, 6, 1), (4, 6), (1, 4, 6)),
        ((1, 4, 6), (4, 6, 1), (1, 4, 6, 1)),
        ((), (1,), (1, 1)),
        ((1,), (), (1,)),
    ],
)
def test_unit_axes_are_adapted_and_noted(
    made: Made, model: Any, port: Any, stored: tuple[int, ...], wanted: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    graph = model([port("in", (-1, *wanted))], [port("scores", (-1, 5))])
    path = made("inputs: [{npz: data.npz, array: x}]", x=np.zeros((10, *stored), np.float32))
    assert fed(path, graph)[0].shape == expected
    (note,) = datasets.bind(datasets.load(path), graph).notes
    assert "are fed as" in note


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [((4, 6), (6, 4, 1)), ((4,), (-1, 4)), ((1, 4, 6), (-1, 4, 6, 1)), ((24,), (4, 6)), ((5,), (6,))],
)
def test_no_other_shape_is_made_to_fit(
    made: Made, model: Any, port: Any, stored: tuple[int, ...], wanted: tuple[int, ...]
) -> None:
    graph = model([port("in", (-1, *wanted))], [port("scores", (-1, 5))])
    error = refused(made("inputs: [{npz: data.npz, array: x}]", x=np.zeros((10, *stored), np.float32)), graph)
    assert "the model wants" in error.message


def test_axes_that_the_model_leaves_open_take_any_length(made: Made, model: Any, port: Any) -> None:
    graph = model([port("in", (-1, -1, 3))], [port("out", (-1, -1))])
    path = made("inputs: [{npz: data.npz, array: x}]", x=np.zeros((10, 7, 3), np.float32))
    assert fed(path, graph)[0].shape == (1, 7, 3)


def test_models_without_a_batch_axis_are_fed_without(made: Made, model: Any, port: Any) -> None:
    path = made("inputs: [{npz: data.npz, array: x}]", x=np.zeros((10, 7), np.float32))
    assert fed(path, model([port("in", (7,))], [port("out", (2,))]))[0].shape == (7,)


def test_a_fixed_batch_of_several_is_refused(made: Made, model: Any, port: Any) -> None:
    path = made("inputs: [{npz: data.npz, array: x}]", x=np.zeros((10, 7), np.float32))
    assert "takes 8 samples at once" in refused(path, model([port("in", (8, 7))], [port("out", (8, 2))])).message


def test_inputs_are_brought_into_the_models_order(made: Made, model: Any, port: Any) -> None:
    graph = model([port("ids", (-1, 3), "int32"), port("mask", (-1, 3), "int64")], [port("out", (-1, 2))])
    path = made(
        "inputs: [{npz: data.npz, array: m}, {name: ids, npz: data.npz, array: i}]",
        m=np.ones((4, 3), np.uint8),
        i=np.arange(12).reshape(4, 3),
    )
    ids, mask = fed(path, graph)
    assert (ids.tolist(), mask.tolist()) == ([[0, 1, 2]], [[1, 1, 1]])
    assert (ids.dtype, mask.dtype) == (np.int32, np.int64)
    again = datasets.bind(datasets.bind(datasets.load(path), graph), graph)
    assert [spec.array for spec in again.inputs] == ["i", "m"]


@pytest.mark.parametrize("name", ["image", "serving_default_image", "serving_default_image:0"])
def test_tflites_name_dressing_may_be_left_out(
    made: Made, pictures: dict[str, Any], model: Any, port: Any, name: str
) -> None:
    graph = model([port("serving_default_image:0", (-1, 4, 4, 3))], [port("scores", (-1, 5))])
    assert len(fed(made(f"inputs: [{{name: '{name}', npz: data.npz, array: x}}]", **pictures), graph)) == 1


def test_unknown_and_doubled_names_and_wrong_counts_are_refused(
    made: Made, pictures: dict[str, Any], classifier: ModelGraph
) -> None:
    one = "{name: %s, npz: data.npz, array: x}"
    assert "no input 'picture'" in refused(made(f"inputs: [{one % 'picture'}]", **pictures), classifier).message
    for text in (
        f"inputs: [{one % 'image'}, {one % 'image'}]",
        "inputs: [{npz: data.npz, array: x}, " * 1 + one % "image" + "]",
    ):
        assert "2 inputs are described, the model has 1" in refused(made(text), classifier).message


def test_an_npz_alone_is_bound_by_name(tmp_path: Path, model: Any, port: Any) -> None:
    graph = model([port("b", (-1, 2)), port("a", (-1, 3))], [port("out", (-1, 2))])
    np.savez(tmp_path / "in.npz", a=np.zeros((4, 3), np.float32), b=np.ones((4, 2), np.float32))
    assert [array.shape for array in fed(tmp_path / "in.npz", graph)] == [(1, 2), (1, 3)]


def test_an_npz_of_one_array_fits_the_one_input(
    tmp_path: Path, pictures: dict[str, Any], classifier: ModelGraph
) -> None:
    np.savez(tmp_path / "in.npz", anything=pictures["x"])
    assert fed(tmp_path / "in.npz", classifier)[0].shape == (1, 4, 4, 3)
    np.savez(tmp_path / "two.npz", image=pictures["x"], y=pictures["y"])
    assert "no input 'y'" in refused(tmp_path / "two.npz", classifier).message


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((4, 3), np.float32), "takes whole numbers"),
        (np.full((4, 3), 1 << 40), "input 'ids' takes int32"),
        (np.full((4, 3), -(1 << 40)), "input 'ids' takes int32"),
    ],
)
def test_token_ids_must_be_whole_numbers_that_fit(made: Made, model: Any, port: Any, array: Any, words: str) -> None:
    graph = model([port("ids", (-1, 3), "int32")], [port("out", (-1, 2))])
    assert words in str(refused(made("inputs: [{npz: data.npz, array: x}]", x=array), graph))


def test_token_ids_cannot_be_scaled(made: Made, model: Any, port: Any) -> None:
    graph = model([port("ids", (-1, 3), "int64")], [port("out", (-1, 2))])
    text = "inputs: [{npz: data.npz, array: x, scale: 0.5}]"
    assert "make real values" in refused(made(text, x=np.zeros((4, 3), int)), graph).message


def test_quantized_inputs_are_fed_real_values(made: Made, pictures: dict[str, Any], model: Any, port: Any) -> None:
    graph = model(
        [port("image", (-1, 4, 4, 3), "int8", 1 / 255, -128)], [port("scores", (-1, 5), "int8", 1 / 256, -128)]
    )
    (sample,) = fed(made(PLAIN.replace("array: x}", "array: x, scale: 0.00392156862745098}", 1), **pictures), graph)
    assert sample.dtype == np.float32
    assert 0.9 < sample.max() <= 1
    error = refused(made(PLAIN), graph)
    assert "represents 0 to 1, the values are" in error.message
    assert "`scale`" in error.message


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("scale: [1, 2]", "`scale` has 2 values, a sample has 3 channels"),
        ("mean: [1, 2, 3, 4]", "`mean` has 4 values"),
        ("std: [1, 2]", "`std` has 2 values"),
        ("transpose: [1, 0]", "`transpose` names 2 axes, a sample has 3"),
    ],
)
def test_steps_must_fit_the_samples(
    made: Made, pictures: dict[str, Any], classifier: ModelGraph, steps: str, words: str
) -> None:
    assert words in refused(made(PLAIN.replace("array: x}", f"array: x, {steps}}}", 1), **pictures), classifier).message


def test_nan_and_infinity_are_refused_with_the_sample(made: Made, classifier: ModelGraph) -> None:
    for value in (np.nan, np.inf, -np.inf):
        samples = np.zeros((10, 4, 4, 3), np.float32)
        samples[7, 1, 2, 0] = value
        bound = datasets.bind(
            datasets.load(made("inputs: [{npz: data.npz, array: x}]", x=np.zeros_like(samples))), classifier
        )
        made("inputs: [{npz: data.npz, array: x}]", x=samples)
        with pytest.raises(DatasetError, match="NaN or infinity") as caught:
            list(datasets.samples(bound, classifier, range(10)))
        assert (caught.value.where or "").endswith("sample 7")


def test_values_that_overflow_float32_are_refused(made: Made, classifier: ModelGraph) -> None:
    path = made("inputs: [{npz: data.npz, array: x}]", x=np.full((10, 4, 4, 3), 1e300))
    assert "infinity" in refused(path, classifier).message


@pytest.mark.parametrize(
    ("metric", "output", "labels", "words"),
    [
        ("top1", (5,), np.array([0, 1, 2, 5]), "class 5 is out of range; the model has 5 classes"),
        ("top1", (5,), np.array([0, 1, 2, -1]), "class -1 is out of range"),
        ("top1", (5,), np.array([0, 1, 2, 0.5]), "whole number"),
        ("top1", (5,), np.array([0, 1, 2, np.nan]), "NaN"),
        ("top1", (5,), np.eye(4, 5, dtype=int) * 7, "class 7 is out of range"),
        ("top1", (5,), np.zeros((4, 3), int), "labels of 3 for an output of 5"),
        ("f1", (1,), np.array([0, 1, 2, 0]), "the model has 2 classes"),
        ("auc", (2,), np.array([0, 1, 2, 0]), "the model has 2 classes"),
        ("top5", (5,), np.array([0, 1, 2, 3]), "more than 5 classes"),
        ("miou", (8, 8, 3), np.full((4, 8, 8), 3), "class 3 is out of range"),
        ("miou", (3, 8, 8), np.full((4, 8, 8), 3), "class 3 is out of range"),
        ("miou", (8, 8, 3), np.zeros((4, 6, 6), int), "labels of 6x6 for an output of 8x8x3"),
        ("mse", (6,), np.zeros((4, 5), np.float32), "labels are 5, the model's output is 6"),
        ("mae", (), np.zeros((4, 5), np.float32), "labels are 5"),
        ("psnr", (8, 8, 3), np.zeros((4, 8, 8), np.float32), "labels are 8x8"),
    ],
)
def test_labels_that_do_not_fit_are_refused(
    made: Made, model: Any, port: Any, metric: str, output: tuple[int, ...], labels: Any, words: str
) -> None:
    graph = model([port("in", (-1, 2))], [port("out", (-1, *output))])
    path = made(PLAIN.replace("top1", metric), x=np.zeros((4, 2), np.float32), y=labels)
    assert words in refused(path, graph).message


@pytest.mark.parametrize(
    ("metric", "output", "labels"),
    [
        ("top1", (5,), np.array([0, 1, 2, 4])),
        ("top1", (5,), np.array([[0], [1], [2], [4]], np.float32)),
        ("top1", (1, 1, 5), np.array([0, 1, 2, 4])),
        ("top1", (7, 5), np.full((4, 7), 4)),
        ("top1", (-1,), np.array([0, 1, 2, 400])),
        ("f1", (1,), np.array([0, 1, 1, 0])),
        ("miou", (3, 8, 8), np.full((4, 8, 8, 1), 2)),
        ("psnr", (3, 8, 8), np.zeros((4, 8, 8, 3), np.float32)),
        ("ssim", (1, 8, 8), np.zeros((4, 8, 8), np.float32)),
        ("mae", (), np.zeros((4, 1), np.float32)),
    ],
)
def test_labels_that_fit_are_taken(
    made: Made, model: Any, port: Any, metric: str, output: tuple[int, ...], labels: Any
) -> None:
    graph = model([port("in", (-1, 2))], [port("out", (-1, *output))])
    path = made(PLAIN.replace("top1", metric), x=np.zeros((4, 2), np.float32), y=labels)
    assert datasets.bind(datasets.load(path), graph).metric == metric


def test_ignored_labels_may_be_out_of_range_but_only_scored_ones_are_looked_at(
    made: Made, model: Any, port: Any
) -> None:
    graph = model([port("in", (-1, 2))], [port("out", (-1, 5))])
    arrays = {"x": np.zeros((4, 2), np.float32), "y": np.array([99, 1, 2, 255])}
    text = PLAIN.replace("array: y}", "array: y, ignore: 255}")
    assert "class 99" in refused(made(text, **arrays), graph).message
    assert datasets.bind(datasets.load(made(text + "evaluation: '1:'\n")), graph).evaluation == (1, 2, 3)
