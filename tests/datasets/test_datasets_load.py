"""Descriptions to Dataset: what is understood, and what is refused at which line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import datasets
from edgeq.datasets.loading import pick
from edgeq.documents import PathError
from edgeq.errors import DatasetError, EdgeqError

Made = Callable[..., Path]
PLAIN = """inputs:
  - {npz: data.npz, array: x}
labels: {npz: data.npz, array: y}
metric: top1
calibration: "0:4"
evaluation: "4:10"
"""


def test_a_whole_description_is_read(made: Made, pictures: dict[str, Any]) -> None:
    found = datasets.load(made(PLAIN, **pictures))
    assert (found.count, found.metric, found.calibration) == (10, "top1", (0, 1, 2, 3))
    assert found.evaluation == (4, 5, 6, 7, 8, 9)
    assert found.labels is not None
    assert found.labels.array == "y"


def test_defaults_are_all_samples_and_cosine(made: Made, pictures: dict[str, Any]) -> None:
    found = datasets.load(made("inputs: [{npz: data.npz, array: x}]", **pictures))
    assert (found.metric, found.labels) == ("cosine", None)
    assert found.calibration == found.evaluation == tuple(range(10))


def test_the_whole_vocabulary_is_understood(made: Made, pictures: dict[str, Any]) -> None:
    text = (
        "inputs:\n  - {name: image, npz: data.npz, array: x, scale: 0.5, mean: [1, 2.5, 3], std: [1, 1, 2],"
        " transpose: [2, 0, 1]}\n"
        "labels: {npz: data.npz, array: y, ignore: 255, scale: 2, border: 1}\nmetric: top1\n"
        "calibration: [1, 3]\nevaluation: '::5'\n"
    )
    found = datasets.load(made(text, **pictures))
    assert found.inputs[0].mean == (1, 2.5, 3)
    assert (found.calibration, found.evaluation) == ((1, 3), (0, 5))
    assert found.labels is not None
    assert (found.labels.ignore, found.labels.scale, found.labels.border) == (255, 2, 1)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("metric: top1", "metric: top9", 4, "metric: should be"),
        ("metric: top1", "metrik: top1", 4, "unknown key; did you mean 'metric'"),
        ("metric: top1", "metric: 3", 4, "metric"),
        ("metric: top1\n", "", None, "no `metric`"),
        ("array: x}", "array: x, resize: [2, 2]}", 2, "is for `images`"),
        ("array: x}", "array: x, color: bgr}", 2, "is for `images`"),
        ("array: x}", "array: x, list: a.csv#f}", 2, "is for `images`"),
        ("array: x}", "array: x, images: folder}", 2, "cannot stand together"),
        ("array: x}", "array: x, scale: 0}", 2, "cannot be 0"),
        ("array: x}", "array: x, scale: .nan}", 2, ".nan"),
        ("array: x}", "array: x, scale: [1, 2}", None, "not YAML"),
        ("array: x}", "array: x, scale: []}", 2, "empty"),
        ("array: x}", "array: x, std: [1, 0, 1]}", 2, "positive"),
        ("array: x}", "array: x, transpose: [0, 0, 1]}", 2, "each axis"),
        ("array: x}", "array: x, transpose: [2.5, 0, 1]}", 2, "whole number"),
        (", array: x}", "}", 2, "array"),
        ("inputs:\n  - {npz: data.npz, array: x}", "inputs: []", 1, "inputs: is empty"),
        ("npz: data.npz, array: x}", "name: x}", 2, "needs `npz` or `images`"),
        ("- {npz: data.npz, array: x}", "- []", 2, "should be a mapping"),
        ("array: y}", "column: y}", 3, "`npz` with `array`"),
        ("array: y}", "array: y, csv: a.csv}", 3, "`npz` with `array`"),
        ("array: y}", "array: y, border: -1}", 3, "negative"),
        ("array: y}", "array: y, scale: 0}", 3, "cannot be 0"),
        ('"0:4"', '"0:4:0"', 5, "step"),
        ('"0:4"', '"4:4"', 5, "takes no sample"),
        ('"4:10"', '"99:"', 6, "takes no sample; there are 10"),
        ('"0:4"', '"first ten"', 5, "not a slice"),
        ('"0:4"', "[1, 10]", 5, "no sample 10"),
        ('"0:4"', "[1, 1]", 5, "twice"),
        ('"0:4"', "4", 5, "calibration"),
        ('"0:4"', "[true]", 5, "calibration"),
        ("metric: top1", "metric: &a top1", 4, "anchors"),
        ("metric: top1", "metric: !!python/object:os.system top1", 4, "tags"),
    ],
)
def test_a_wrong_description_is_refused_at_its_line(
    made: Made, pictures: dict[str, Any], old: str, new: str, line: int | None, words: str
) -> None:
    assert old in PLAIN
    path = made(PLAIN.replace(old, new), **pictures)
    with pytest.raises(DatasetError) as caught:
        datasets.load(path)
    assert words in str(caught.value)
    if line is not None:
        assert caught.value.where == f"{path}:{line}"


@pytest.mark.parametrize("metric", ["top1", "mse", "psnr", "pair_spearman"])
def test_a_metric_without_its_labels_is_refused(made: Made, pictures: dict[str, Any], metric: str) -> None:
    with pytest.raises(DatasetError, match="needs `labels`"):
        datasets.load(made(f"inputs: [{{npz: data.npz, array: x}}]\nmetric: {metric}\n", **pictures))


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"y": np.arange(9)}, "9 labels for 10 samples"),
        ({"x": np.zeros((0, 4, 4, 3), np.uint8), "y": np.zeros(0, int)}, "takes no sample"),
        ({"x": np.float32(3)}, "a single number"),
        ({"x": np.array(["a"] * 10)}, "holds text"),
        ({"x": np.zeros(10, dtype=[("a", "f4")])}, "holds records"),
        ({"x": np.zeros((10, 2), complex)}, "holds complex numbers"),
        ({"x": np.array([{}] * 10, dtype=object)}, "holds pickled Python objects"),
        ({"y": np.array([print] * 10, dtype=object)}, "holds pickled Python objects"),
    ],
)
def test_wrong_arrays_are_refused(made: Made, pictures: dict[str, Any], arrays: dict[str, Any], words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        datasets.load(made(PLAIN, **{**pictures, **arrays}))


def test_inputs_must_have_equally_many_samples(made: Made) -> None:
    text = "inputs: [{npz: data.npz, array: a}, {npz: data.npz, array: b}]"
    with pytest.raises(DatasetError, match=r"9 samples, but .*data\.npz \(a\) has 10"):
        datasets.load(made(text, a=np.zeros((10, 2)), b=np.zeros((9, 2))))


def test_a_missing_file_and_a_missing_array_are_named(made: Made, pictures: dict[str, Any]) -> None:
    path = made(PLAIN.replace("data.npz", "gone.npz"), **pictures)
    with pytest.raises(DatasetError) as caught:
        datasets.load(path)
    assert caught.value.where == str(path.parent / "gone.npz")
    with pytest.raises(DatasetError, match="no array 'z'; it has x, y"):
        datasets.load(made(PLAIN.replace("array: x", "array: z"), **pictures))


@pytest.mark.parametrize(
    "name", ["../data.npz", "a/../../data.npz", "/etc/passwd", "..\\\\data.npz", "C:data.npz", '""']
)
def test_files_outside_the_folder_are_refused(made: Made, pictures: dict[str, Any], name: str) -> None:
    with pytest.raises(DatasetError, match="inside the dataset's folder"):
        datasets.load(made(PLAIN.replace("{npz: data.npz, array: x", f"{{npz: {name}, array: x"), **pictures))
    with pytest.raises(DatasetError, match="inside the dataset's folder"):
        datasets.load(made(f"inputs: [{{images: {name}}}]"))


def test_a_pipe_is_not_waited_for(made: Made, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "data.npz")
    with pytest.raises(DatasetError, match="not a regular file"):
        datasets.load(made(PLAIN))


@pytest.mark.parametrize("name", ["data.csv", "model.tflite", "nothing", "script.py", "script.py:", "a.py:b c"])
def test_what_is_no_dataset_is_refused_with_the_forms(tmp_path: Path, name: str) -> None:
    with pytest.raises(DatasetError) as caught:
        datasets.load(str(tmp_path / name))
    assert "dataset.yaml" in (caught.value.hint or "")


def test_a_folder_hints_at_the_file_in_it(tmp_path: Path) -> None:
    with pytest.raises(DatasetError) as caught:
        datasets.load(tmp_path)
    assert caught.value.hint == f"name the file: {tmp_path}/dataset.yaml"


def test_an_npz_alone_is_scored_by_likeness(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz", ids=np.zeros((6, 3), int), mask=np.ones((6, 3), int))
    found = datasets.load(tmp_path / "in.npz")
    assert [spec.name for spec in found.inputs] == ["ids", "mask"]
    assert (found.metric, found.labels, found.evaluation) == ("cosine", None, tuple(range(6)))


def test_an_npz_without_arrays_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "in.npz")
    with pytest.raises(DatasetError, match="no arrays"):
        datasets.load(tmp_path / "in.npz")


def test_pairs_need_half_as_many_labels_and_whole_pairs(made: Made) -> None:
    text = PLAIN.replace("top1", "pair_spearman")
    found = datasets.load(made(text, x=np.zeros((10, 3)), y=np.arange(5.0)))
    labels = datasets.labels(found, found.evaluation)
    assert labels is not None
    assert labels.tolist() == [2, 3, 4]
    with pytest.raises(DatasetError, match="10 labels for 5 pairs"):
        datasets.load(made(text, x=np.zeros((10, 3)), y=np.arange(10.0)))
    with pytest.raises(DatasetError, match="whole pairs"):
        datasets.load(made(text.replace('"4:10"', '"5:10"'), x=np.zeros((10, 3)), y=np.arange(5.0)))
    with pytest.raises(DatasetError, match="whole pairs"):
        datasets.load(made(text.replace('"4:10"', '"::2"'), x=np.zeros((10, 3)), y=np.arange(5.0)))


@given(st.integers(0, 50), *[st.none() | st.integers(-60, 60)] * 3)
def test_slices_are_pythons(count: int, start: int | None, stop: int | None, step: int | None) -> None:
    text = ":".join("" if part is None else str(part) for part in (start, stop, step))
    if step == 0 or not list(range(count))[start:stop:step]:
        with pytest.raises(PathError):
            pick(text, count, ("evaluation",))
    else:
        assert pick(text, count, ("evaluation",)) == tuple(range(count)[start:stop:step])


@given(st.text(max_size=20))
def test_any_other_text_is_a_slice_or_refused(text: str) -> None:
    try:
        found = pick(text, 10, ("evaluation",))
    except PathError:
        return
    assert found
    assert set(found) <= set(range(10))


def test_too_many_samples_are_refused_before_they_are_listed() -> None:
    with pytest.raises(PathError, match="at most 1,000,000"):
        pick("all", 10**12, ())


def test_the_fingerprint_follows_text_and_files(made: Made, pictures: dict[str, Any]) -> None:
    path = made(PLAIN, **pictures)
    first = datasets.fingerprint(datasets.load(path))
    assert datasets.fingerprint(datasets.load(path)) == first
    made(PLAIN + "# more\n")
    second = datasets.fingerprint(datasets.load(path))
    made(PLAIN)
    os.utime(path.parent / "data.npz", (time.time() + 9, time.time() + 9))
    assert len({first, second, datasets.fingerprint(datasets.load(path))}) == 3


def test_the_fingerprint_of_pictures_and_tables_follows_each_file(made: Made, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    (tmp_path / "images").mkdir()
    for number in range(2):
        image.new("RGB", (4, 4), (number, 0, 0)).save(tmp_path / f"images/{number}.png")
    (tmp_path / "list.csv").write_text("file,y\n0.png,1\n1.png,2\n")
    path = made("inputs: [{images: images, list: list.csv#file}]\nlabels: {csv: list.csv, column: y}\nmetric: top1\n")
    first = datasets.fingerprint(datasets.load(path))
    image.new("RGB", (40, 40), (9, 9, 9)).save(tmp_path / "images/1.png")
    assert datasets.fingerprint(datasets.load(path)) != first


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_a_mutated_description_never_breaks_the_reader(
    made: Made, pictures: dict[str, Any], data: st.DataObject
) -> None:
    text = list(PLAIN.replace("array: x}", "array: x, scale: 0.5, mean: [1, 2, 3], transpose: [2, 0, 1]}"))
    for _ in range(data.draw(st.integers(1, 6))):
        place = data.draw(st.integers(0, len(text) - 1))
        piece = data.draw(
            st.sampled_from(["", "-", ":", "[", "{", "}", '"', "&a", "*a", "9" * 30, "\n", "..", "/", "\0"])
        )
        text[place] = piece if data.draw(st.booleans()) else text[place] + piece
    path = made("".join(text))
    if not (path.parent / "data.npz").exists():
        np.savez(path.parent / "data.npz", **pictures)
    try:
        found = datasets.load(path)
    except EdgeqError as error:
        assert "\n" not in error.message
        return
    assert found.evaluation


@pytest.mark.parametrize("name", ["dataset.yaml", "./dataset.yaml", "data.npz"])
def test_a_name_relative_to_the_working_folder_is_enough(
    made: Made, pictures: dict[str, Any], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(made(PLAIN, **pictures).parent)
    found = datasets.load(name)
    assert (found.count, found.root) == (10, ".")
    assert len(datasets.fingerprint(found)) == 64
