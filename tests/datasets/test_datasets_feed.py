"""Samples and labels as they stream: arithmetic, pictures, tables, scripts."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from edgeq import datasets
from edgeq.errors import DatasetError
from edgeq.types import ModelGraph

Made = Callable[..., Path]


def stream(path: Path | str, graph: ModelGraph, indices: list[int] | None = None) -> list[Any]:
    bound = datasets.bind(datasets.load(path), graph)
    return [sample[0] for sample in datasets.samples(bound, graph, bound.evaluation if indices is None else indices)]


def test_the_package_itself_imports_no_numpy() -> None:
    code = "import sys, edgeq.datasets; print('numpy' in sys.modules, 'pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False False\n"
    with pytest.raises(AttributeError, match="nothing"):
        _ = datasets.nothing  # type: ignore[attr-defined]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.floats(0.01, 4),
    st.floats(-200, 200),
    st.floats(0.1, 50),
    st.permutations(range(3)),
    st.booleans(),
)
def test_the_arithmetic_is_scale_mean_std_transpose(
    made: Made, model: Any, port: Any, scale: float, mean: float, std: float, order: list[int], channels: bool
) -> None:
    x = np.random.default_rng(1).integers(0, 256, (3, 4, 5, 3), dtype=np.uint8)
    wide = [mean, mean + 1, mean + 2] if channels else mean
    path = made(
        f"inputs: [{{npz: data.npz, array: x, scale: {scale}, mean: {wide}, std: {std}, transpose: {order}}}]", x=x
    )
    shape = tuple(x.shape[1:][axis] for axis in order)
    graph = model([port("in", (1, *shape))], [port("out", (1, 2))])
    exact = ((x[2].astype(np.float64) * scale - wide) / std).transpose(order)
    (found,) = stream(path, graph, [2])
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found[0], exact, rtol=1e-5, atol=2e-3)
    steps = datasets.preprocessing(datasets.load(path), 0)
    assert json.loads(json.dumps(steps)) == {"scale": scale, "mean": wide, "std": std, "transpose": order}


def test_integers_without_scale_are_fed_as_they_are(
    made: Made, pictures: dict[str, Any], classifier: ModelGraph
) -> None:
    found = stream(made("inputs: [{npz: data.npz, array: x}]", **pictures), classifier)
    np.testing.assert_array_equal(np.concatenate(found), pictures["x"].astype(np.float32))
    assert datasets.preprocessing(datasets.load(made("inputs: [{npz: data.npz, array: x}]")), 0) == {}


def test_samples_come_in_any_order_and_twice(made: Made, pictures: dict[str, Any], classifier: ModelGraph) -> None:
    order = [9, 0, 5, 5, 1]
    found = stream(made("inputs: [{npz: data.npz, array: x}]", **pictures), classifier, order)
    np.testing.assert_array_equal(np.concatenate(found), pictures["x"][order])
    with pytest.raises(DatasetError, match="no sample 10"):
        stream(made("inputs: [{npz: data.npz, array: x}]"), classifier, [10])


def test_memory_does_not_grow_with_the_number_of_samples(made: Made, model: Any, port: Any) -> None:
    graph = model([port("in", (1, 64, 64))], [port("out", (1, 2))])
    path = made("inputs: [{npz: data.npz, array: x, scale: 0.5}]", x=np.zeros((3000, 64, 64), np.uint8))
    bound = datasets.bind(datasets.load(path), graph)
    peaks = []
    for count in (30, 3000):
        tracemalloc.start()
        for _ in datasets.samples(bound, graph, range(count)):
            pass
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 100_000


def test_labels_are_scaled_picked_and_keep_their_type(made: Made, pictures: dict[str, Any]) -> None:
    text = "inputs: [{npz: data.npz, array: x}]\nlabels: {npz: data.npz, array: y%s}\nmetric: mse\n"
    plain = datasets.labels(datasets.load(made(text % "", **pictures)), [3, 1])
    scaled = datasets.labels(datasets.load(made(text % ", scale: 0.5")), [3, 1])
    assert plain is not None
    assert scaled is not None
    assert (plain.tolist(), plain.dtype) == ([3, 1], pictures["y"].dtype)
    assert (scaled.tolist(), scaled.dtype) == ([1.5, 0.5], np.float32)
    assert datasets.labels(datasets.load(made("inputs: [{npz: data.npz, array: x}]")), [0]) is None


# --- pictures and tables ---------------------------------------------------------------------


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """Three 4x6 pictures (height x width) of one colour each, and a table."""
    (tmp_path / "images").mkdir()
    for name, color in (("b.png", (0, 0, 255)), ("a.png", (255, 0, 0)), ("c.png", (0, 255, 0))):
        Image.new("RGB", (6, 4), color).save(tmp_path / "images" / name)
    (tmp_path / "images/notes.txt").write_text("not a picture")
    (tmp_path / "list.csv").write_text("file,class\nb.png,2\na.png,0\nc.png,1\n")
    return tmp_path


def described(folder: Path, text: str) -> Path:
    path = folder / "dataset.yaml"
    path.write_text(text)
    return path


@pytest.fixture
def viewer(model: Any, port: Any) -> ModelGraph:
    graph: ModelGraph = model([port("image", (1, 4, 6, 3))], [port("scores", (1, 3))])
    return graph


def test_pictures_come_by_name_or_as_listed(album: Path, viewer: ModelGraph) -> None:
    by_name = stream(described(album, "inputs: [{images: images}]"), viewer)
    assert [tuple(sample[0, 0, 0]) for sample in by_name] == [(255, 0, 0), (0, 0, 255), (0, 255, 0)]
    text = "inputs: [{images: images, list: list.csv#file}]\nlabels: {csv: list.csv, column: class}\nmetric: top1\n"
    listed = stream(described(album, text), viewer)
    assert [tuple(sample[0, 0, 0]) for sample in listed] == [(0, 0, 255), (255, 0, 0), (0, 255, 0)]
    labels = datasets.labels(datasets.load(album / "dataset.yaml"), [0, 1, 2])
    assert labels is not None
    assert labels.tolist() == [2, 0, 1]


def test_colors(album: Path, viewer: ModelGraph, model: Any, port: Any) -> None:
    (bgr,) = stream(described(album, "inputs: [{images: images, color: bgr}]"), viewer, [0])
    assert tuple(bgr[0, 0, 0]) == (0, 0, 255)
    gray = model([port("image", (1, 1, 4, 6))], [port("scores", (1, 3))])
    (one,) = stream(described(album, "inputs: [{images: images, color: gray, transpose: [2, 0, 1]}]"), gray, [0])
    assert one.shape == (1, 1, 4, 6)
    assert one[0, 0, 0, 0] == 76  # 0.299 of 255
    spec = datasets.load(album / "dataset.yaml")
    assert datasets.preprocessing(spec, 0) == {"transpose": [2, 0, 1], "color": "gray"}


def test_resize_is_height_and_width(album: Path, model: Any, port: Any) -> None:
    graph = model([port("image", (1, 8, 3, 3))], [port("scores", (1, 3))])
    (found,) = stream(described(album, "inputs: [{images: images, resize: [8, 3]}]"), graph, [0])
    assert found.shape == (1, 8, 3, 3)
    with pytest.raises(DatasetError) as caught:
        stream(described(album, "inputs: [{images: images}]"), graph)
    assert caught.value.hint == "resize: [8, 3]"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:40]), "picture"),
        (lambda p: p.write_bytes(b""), "not a picture"),
        (lambda p: p.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 4 6\n"), "not a picture"),
        (lambda p: p.unlink(), "no such file"),
        (lambda p: Image.new("I;16", (6, 4)).save(p), "more than 8 bits"),
        (lambda p: Image.new("1", (20000, 20000)).save(p), "pixels"),
        (lambda p: Image.new("1", (8000, 8000)).save(p), "pixels"),
        (lambda p: Image.new("RGB", (5, 4)).save(p), "samples are 4x5x3, the model wants 4x6x3"),
    ],
)
def test_a_spoilt_picture_is_named(album: Path, viewer: ModelGraph, spoil: Callable[[Path], Any], words: str) -> None:
    spoil(album / "images/b.png")
    with pytest.raises(DatasetError) as caught:
        stream(described(album, "inputs: [{images: images, list: list.csv#file}]"), viewer)
    assert words in caught.value.message
    assert words.startswith("samples") or (caught.value.where or "").endswith("b.png")


def test_a_truncated_jpeg_is_named(album: Path, viewer: ModelGraph) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(album / "images/b.png", format="JPEG")
    content = (album / "images/b.png").read_bytes()
    (album / "images/b.png").write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match="truncated") as caught:
        stream(described(album, "inputs: [{images: images, resize: [4, 6]}]"), viewer)
    assert (caught.value.where or "").endswith("b.png")


@pytest.mark.parametrize(
    ("yaml", "table", "words"),
    [
        ("list: list.csv", None, "names no column"),
        ("list: list.csv#name", None, "no column 'name'; the header has file, class"),
        ("list: gone.csv#file", None, "no such file"),
        ("list: list.csv#file", "file\n../dataset.yaml\n", "inside the dataset's folder"),
        ("list: list.csv#file", "file\n/etc/passwd\n", "inside the dataset's folder"),
        ("list: list.csv#file", "file,x\na.png,1\n,2\n", "nothing in column"),
        ("list: list.csv#file", "x,file\n1\n", "nothing in column"),
        ("list: list.csv#file", "", "the header has nothing"),
        ("list: list.csv#file", "file\n" + "a" * 200_000, "not a CSV table"),
        ("list: list.csv#file", "file\n", "takes no sample"),
        ("list: list.csv#file", b"\xff\xfe\x00file", "not a CSV table"),
    ],
)
def test_a_wrong_list_is_refused(album: Path, yaml: str, table: str | bytes | None, words: str) -> None:
    if table is not None:
        (album / "list.csv").write_bytes(table if isinstance(table, bytes) else table.encode())
    with pytest.raises(DatasetError) as caught:
        datasets.load(described(album, f"inputs: [{{images: images, {yaml}}}]"))
    assert words in str(caught.value)


def test_labels_in_a_table_must_be_numbers(album: Path) -> None:
    (album / "list.csv").write_text("file,class\nb.png,cat\na.png,0\nc.png,1\n")
    text = "inputs: [{images: images}]\nlabels: {csv: list.csv, column: class}\nmetric: top1\n"
    with pytest.raises(DatasetError, match="'cat' is not a number"):
        datasets.load(described(album, text))


def test_a_folder_without_pictures_and_no_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    with pytest.raises(DatasetError, match="no pictures here"):
        datasets.load(described(tmp_path, "inputs: [{images: images}]"))
    with pytest.raises(DatasetError, match="no such folder"):
        datasets.load(described(tmp_path, "inputs: [{images: pictures}]"))


# --- scripts ---------------------------------------------------------------------------------


def script(folder: Path, body: str) -> str:
    (folder / "samples.py").write_text(f"import numpy as np\n\ndef make():\n    {body}\n")
    return f"{folder / 'samples.py'}:make"


def test_a_generator_feeds_samples_in_any_order(tmp_path: Path, model: Any, port: Any) -> None:
    graph = model([port("in", (-1, 2))], [port("out", (-1, 2))])
    ref = script(tmp_path, "yield from (np.full(2, n) for n in range(5))")
    found = datasets.load(ref)
    assert (found.count, found.metric, found.function) == (5, "cosine", "make")
    assert [sample[0, 0] for sample in stream(ref, graph, [3, 0, 0, 4])] == [3, 0, 0, 4]
    assert datasets.fingerprint(found) != datasets.fingerprint(datasets.load(script(tmp_path, "yield np.zeros(2)")))


@pytest.mark.parametrize("body", ["yield {'b': np.ones(3), 'a': np.zeros(2)}", "yield np.zeros(2), np.ones(3)"])
def test_several_inputs_come_by_name_or_in_order(tmp_path: Path, model: Any, port: Any, body: str) -> None:
    graph = model([port("a", (-1, 2)), port("b", (-1, 3))], [port("out", (-1, 2))])
    bound = datasets.bind(datasets.load(script(tmp_path, body)), graph)
    (sample,) = datasets.samples(bound, graph, [0])
    assert [array.tolist() for array in sample] == [[[0, 0]], [[1, 1, 1]]]


def test_an_endless_generator_gives_a_thousand_samples(tmp_path: Path) -> None:
    assert datasets.load(script(tmp_path, "while True: yield np.zeros(2)")).count == 1000


def test_a_script_may_import_its_neighbours_without_leaving_a_trace(tmp_path: Path) -> None:
    (tmp_path / "edgeq_test_neighbour.py").write_text("VALUE = 7\n")
    before = list(sys.path)
    ref = script(tmp_path, "from edgeq_test_neighbour import VALUE; yield np.full(2, VALUE)")
    (tmp_path / "samples.py").write_text(
        "from edgeq_test_neighbour import VALUE\n" + (tmp_path / "samples.py").read_text()
    )
    assert datasets.load(ref).count == 1
    assert sys.path == before


@pytest.mark.parametrize(
    ("body", "words", "line"),
    [
        ("raise ValueError('no\\n such thing')", "ValueError: no", 4),
        ("yield 1 / 0", "ZeroDivisionError", 4),
        ("yield np.zeros(", "SyntaxError", None),
        ("import sys; sys.exit(3)", "SystemExit: 3", 4),
        ("return 5", "must yield samples", None),
        ("yield 'text'", "must be an array of numbers", None),
        ("yield [np.zeros(2), [1, [2]]]", "not an array", None),
        ("yield ()", "must be an array of numbers", None),
        ("yield from ()", "no sample 0", None),
    ],
)
def test_a_failing_script_is_named_with_its_line(tmp_path: Path, body: str, words: str, line: int | None) -> None:
    with pytest.raises(DatasetError) as caught:
        datasets.load(script(tmp_path, body))
    assert words in caught.value.message
    if line:
        assert caught.value.where == f"{tmp_path / 'samples.py'}:{line}"


def test_a_missing_script_or_function_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no such file"):
        datasets.load(f"{tmp_path}/gone.py:make")
    script(tmp_path, "yield 1")
    with pytest.raises(DatasetError, match="no function 'other'"):
        datasets.load(f"{tmp_path}/samples.py:other")


def test_samples_that_change_their_inputs_are_refused(tmp_path: Path, model: Any, port: Any) -> None:
    graph = model([port("in", (-1, 2))], [port("out", (-1, 2))])
    with pytest.raises(DatasetError, match="sample 1 has no input 'in'"):
        stream(script(tmp_path, "yield {'in': np.zeros(2)}; yield {'on': np.zeros(2)}"), graph)
    with pytest.raises(DatasetError, match="samples are 3, the model wants 2"):
        stream(script(tmp_path, "yield np.zeros(2); yield np.zeros(3)"), graph)
