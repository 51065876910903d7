"""Properties of the small parts: names, shapes, hints, class axes, single steps."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from edgeq import datasets
from edgeq.datasets import files, scripts, shapes, steps, truth
from edgeq.errors import DatasetError
from edgeq.types import InputSpec, TensorSpec

Made = Callable[..., Path]
SIDES = st.lists(st.integers(1, 6), min_size=1, max_size=4).map(tuple)


def tensor(shape: tuple[int, ...], dtype: str = "float32") -> TensorSpec:
    return TensorSpec(index=0, name="in", shape=shape, dtype=dtype, size_bytes=0)


# --- names -----------------------------------------------------------------------------------


@given(st.text(alphabet="ab./\\:~\0 ", max_size=12))
def test_no_name_leaves_the_folder(name: str) -> None:
    root = Path("/data/set")
    try:
        found = files.inside(str(root), name)
    except DatasetError:
        return
    assert found == root or root in found.parents
    assert ".." not in found.parts


@pytest.mark.parametrize("name", ["a.npz", "sub/a.npz", "a..b.npz", "...", "~/a", "a b.npz", "ü.npz"])
def test_ordinary_names_are_taken(name: str) -> None:
    assert files.inside("/data", name) == Path("/data") / name


def test_links_are_followed_but_not_to_devices(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("x")
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "zero").symlink_to("/dev/zero")
    assert files.regular(tmp_path / "link") == tmp_path / "link"
    with pytest.raises(DatasetError, match="not a regular file"):
        files.regular(tmp_path / "zero")
    with pytest.raises(DatasetError, match="not a regular file"):
        files.regular(tmp_path)


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("a.py:make", (Path("a.py"), "make")),
        ("/x/a.py:make_2", (Path("/x/a.py"), "make_2")),
        ("a.py", None),
        ("a.py:", None),
        ("a.py:2x", None),
        ("a.yaml:make", None),
        ("a.py:make()", None),
        ("a.py:os.system", None),
    ],
)
def test_only_a_script_and_a_plain_name_are_a_generator(ref: str, expected: Any) -> None:
    assert scripts.split(ref) == expected


def test_a_table_keeps_its_order_and_skips_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text('\ufefffile,"the, class"\n b ,1\n\n"a,1",2\n', encoding="utf-8")
    assert files.column(tmp_path / "t.csv", "file") == ["b", "a,1"]
    assert files.column(tmp_path / "t.csv", "the, class") == ["1", "2"]


def test_labels_of_a_table_are_whole_or_real_numbers(made: Made, tmp_path: Path) -> None:
    text = "inputs: [{npz: data.npz, array: x}]\nlabels: {csv: t.csv, column: y}\nmetric: mse\n"
    for column, expected in (("1\n-2\n+3", [1, -2, 3]), ("1.5\n-2\n1e3", [1.5, -2, 1000])):
        (tmp_path / "t.csv").write_text(f"y\n{column}\n")
        found = datasets.labels(datasets.load(made(text, x=np.zeros((3, 1)))), [0])
        assert found is not None
        assert found[0] == expected[0]
    (tmp_path / "t.csv").write_text("y\nnan\n2\n3\n")
    loaded = datasets.load(made(text))
    with pytest.raises(DatasetError, match="NaN") as caught:
        datasets.labels(loaded, [1, 0])
    assert (caught.value.where or "").endswith("label 0")


# --- shapes ----------------------------------------------------------------------------------


@given(SIDES, st.sampled_from([1, -1]))
def test_a_shape_fits_itself(sample: tuple[int, ...], batch: int) -> None:
    assert shapes.fit(sample, tensor((batch, *sample)), "here") == shapes.Fit((1, *sample), None)


@given(SIDES, st.data())
def test_a_fit_never_changes_the_number_or_order_of_values(sample: tuple[int, ...], data: st.DataObject) -> None:
    model = list(sample)
    for _ in range(data.draw(st.integers(0, 2))):
        model.insert(data.draw(st.integers(0, len(model))), 1)
    found = shapes.fit(sample, tensor((1, *model)), "here")
    assert math.prod(found.shape) == math.prod(sample)
    assert [n for n in found.shape if n != 1] == [n for n in sample if n != 1]
    assert (found.note is None) == (tuple(model) == sample)


@given(st.permutations([3, 4, 5]), st.permutations(range(3)))
def test_the_transpose_in_the_hint_mends_the_layout(sample: list[int], order: list[int]) -> None:
    wanted = tuple(sample[axis] for axis in order)
    assume(wanted != tuple(sample))
    with pytest.raises(DatasetError) as caught:
        shapes.fit(tuple(sample), tensor((1, *wanted)), "here", InputSpec(npz="d", array="x"))
    hint = caught.value.hint or ""
    axes = tuple(int(n) for n in hint.removeprefix("transpose: ").strip("[]").split(","))
    spec = InputSpec(npz="d", array="x", transpose=axes)
    assert shapes.fit(steps.outcome(spec, tuple(sample)), tensor((1, *wanted)), "here", spec).note is None


@given(SIDES, SIDES)
def test_every_pair_of_shapes_fits_or_is_explained(sample: tuple[int, ...], model: tuple[int, ...]) -> None:
    try:
        found = shapes.fit(sample, tensor((1, *model)), "here", InputSpec(images="i"))
    except DatasetError as error:
        assert steps.shown(sample) in error.message
        assert steps.shown(model) in error.message
        return
    assert math.prod(found.shape) == math.prod(sample) == math.prod(model)


def test_a_model_of_unknown_rank_is_fed_with_a_batch_axis() -> None:
    assert shapes.fit((3, 4), tensor(()), "here").shape == (1, 3, 4)
    assert shapes.fit((), tensor(()), "here").shape == ()


@pytest.mark.parametrize(("shape", "text"), [((3, 32, 32), "3x32x32"), ((-1, 4), "?x4"), ((), "single numbers")])
def test_shapes_are_shown_as_people_write_them(shape: tuple[int, ...], text: str) -> None:
    assert steps.shown(shape) == text


# --- class axes ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "label", "axis"),
    [
        ((10,), (), 0),
        ((), (), None),
        ((8, 9, 3), (8, 9), 2),
        ((3, 8, 9), (8, 9), 0),
        ((8, 8, 8), (8, 8), 2),
        ((8, 9), (8, 9), None),
        ((-1, -1, 21), (8, 9), 2),
        ((-1, 21), (7,), 1),
    ],
)
def test_the_class_axis_is_the_one_that_labels_have_not(
    output: tuple[int, ...], label: tuple[int, ...], axis: int | None
) -> None:
    assert truth.class_axis(output, label) == axis


@given(SIDES, SIDES)
def test_any_shapes_have_a_class_axis_or_are_refused(output: tuple[int, ...], label: tuple[int, ...]) -> None:
    try:
        axis = truth.class_axis(output, label)
    except ValueError as error:
        assert steps.shown(label) in str(error)
        return
    assert output == label if axis is None else output[:axis] + output[axis + 1 :] == label


# --- integers --------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    st.lists(st.integers(-(2**40), 2**40), min_size=1, max_size=5),
    st.sampled_from(["int8", "uint8", "int32", "int64", "bool"]),
)
def test_integers_arrive_unchanged_or_are_refused(values: list[int], dtype: str) -> None:
    raw = np.array(values)
    try:
        found = steps.apply(InputSpec(npz="d", array="x"), raw, tensor((-1, len(values)), dtype), "here")
    except DatasetError:
        limits = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
        assert not limits[0] <= min(values) <= max(values) <= limits[1]
        return
    assert found.dtype == dtype
    assert [int(n) for n in found] == values
