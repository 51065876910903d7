"""Chunks of vectors on their way to a device, and archives that come back wrong on purpose."""

from __future__ import annotations

import io
import itertools
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeq.errors import CommandFailed, DatasetError, OutputError
from edgeq.lab import vectors
from edgeq.types import Port


def contract(
    batch: int = -1, width: int = 2, dtype: str = "int8", out: tuple[int, ...] = (3,), out_dtype: str = "int8"
) -> vectors.Contract:
    return vectors.Contract(
        inputs=(Port(name="x", shape=(batch, width), dtype=dtype),),
        outputs=(Port(name="y", shape=(batch, *out), dtype=out_dtype),),
    )


def npy(array: np.ndarray[Any, Any], **how: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **how)
    return stream.getvalue()


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def header(text: str, data: bytes = b"") -> bytes:
    raw = text.encode("utf-8", "surrogatepass") + b"\n"
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw + data


# --- chunks ---


@settings(suppress_health_check=[HealthCheck.too_slow])  # on a busy host
@given(
    count=st.integers(1, 50_000),
    batch=st.sampled_from([-1, 1, 2, 7, 32, 1000]),
    width=st.sampled_from([1, 100, 150_528, 5_000_000, 40_000_000]),
    dtype=st.sampled_from(["int8", "float32"]),
)
def test_chunks_cover_all_in_order_and_whole_batches(count: int, batch: int, width: int, dtype: str) -> None:
    found = contract(batch, width, dtype)
    parts = list(itertools.islice(vectors.chunks(found, count), 60_000))
    assert parts[0][0] == 0
    assert parts[-1][1] == count
    assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
    sizes = [stop - start for start, stop in parts]
    assert all(size % found.batch == 0 for size in sizes[:-1])
    vector_bytes = width * np.dtype(dtype).itemsize + 3
    assert all(size * vector_bytes <= vectors.CHUNK_BYTES or size <= found.batch for size in sizes)


def test_a_chunk_is_as_large_as_it_may_be() -> None:
    first = next(vectors.chunks(contract(-1, 1000), 10**6))
    assert first[1] * 1003 <= vectors.CHUNK_BYTES < (first[1] + 1) * 1003


@pytest.mark.parametrize(("batch", "count", "sent"), [(1, 3, 3), (4, 3, 4), (4, 4, 4), (4, 5, 8), (-1, 5, 5)])
def test_the_last_batch_is_filled_with_its_last_vector(tmp_path: Path, batch: int, count: int, sent: int) -> None:
    data = np.arange(count * 2, dtype=np.int8).reshape(count, 2)
    assert vectors.write_inputs(contract(batch), [data], 0, count, tmp_path / "in.npz") == sent
    with np.load(tmp_path / "in.npz", allow_pickle=False) as stored:
        assert stored.files == ["input_0"]
        assert np.array_equal(stored["input_0"][:count], data)
        assert all(np.array_equal(row, data[-1]) for row in stored["input_0"][count:])


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 40), st.sampled_from([-1, 1, 3, 4]), st.integers(1, 5))
def test_there_and_back_is_every_vector_once(
    tmp_path_factory: pytest.TempPathFactory, count: int, batch: int, batches: int
) -> None:
    folder, found = tmp_path_factory.mktemp("there"), contract(batch)
    data = np.arange(count * 2, dtype=np.int64).reshape(count, 2).astype(np.int8)
    results, size = vectors.Results(found, count, folder), batches * found.batch
    for start in range(0, count, size):
        stop = min(start + size, count)
        sent = vectors.write_inputs(found, [data], start, stop, folder / "in.npz")
        with np.load(folder / "in.npz") as stored:
            np.savez(folder / "out.npz", output_0=np.repeat(stored["input_0"][:, :1], 3, axis=1))
        assert (folder / "out.npz").stat().st_size <= vectors.limit_bytes(found, sent)
        results.add(vectors.read_outputs(found, folder / "out.npz", sent), start, stop)
    assert np.array_equal(results.arrays[0], np.repeat(data[:, :1], 3, axis=1))


def test_outputs_of_several_rows_a_vector_keep_together(tmp_path: Path) -> None:
    port = Port(name="x", shape=(2, 1), dtype="int8")
    found = vectors.Contract(inputs=(port,), outputs=(Port(name="y", shape=(6, 1), dtype="int8"),))
    results = vectors.Results(found, 3, tmp_path)
    results.add([np.arange(12, dtype=np.int8).reshape(12, 1)], 0, 3)
    assert results.arrays[0].ravel().tolist() == list(range(9))


def test_outputs_that_do_not_divide_among_the_vectors(tmp_path: Path) -> None:
    port = Port(name="x", shape=(2, 1), dtype="int8")
    found = vectors.Contract(inputs=(port,), outputs=(Port(name="y", shape=(3, 1), dtype="int8"),))
    with pytest.raises(CommandFailed, match="3 rows for 2 vectors"):
        vectors.Results(found, 2, tmp_path).add([np.zeros((3, 1), np.int8)], 0, 2)


def test_a_folder_that_cannot_be_written_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        vectors.write_inputs(contract(), [np.zeros((1, 2), np.int8)], 0, 1, tmp_path / "gone/in.npz")
    with pytest.raises(OutputError):
        vectors.Results(contract(), 1, tmp_path / "gone").add([np.zeros((1, 3), np.int8)], 0, 1)


@pytest.mark.parametrize(
    "inputs",
    [
        [],
        [np.zeros((4, 2), np.int8)] * 2,
        [np.zeros((0, 2), np.int8)],
        [np.zeros((4, 3), np.int8)],
        [np.zeros((4, 2, 1), np.int8)],
        [np.zeros((4,), np.int8)],
        [np.zeros((), np.int8)],
        [np.zeros((4, 2), np.uint8)],
        [np.zeros((4, 2), ">i2")],
        [np.array([["a", "b"]])],
        [np.array([[None, None]])],
    ],
)
def test_inputs_that_do_not_fit(inputs: list[Any]) -> None:
    with pytest.raises(DatasetError):
        vectors.check_inputs(contract(), inputs)


def test_inputs_of_two_lengths_do_not_fit() -> None:
    two = vectors.Contract(inputs=(Port(name="a", shape=(-1,), dtype="int8"),) * 2, outputs=())
    assert vectors.check_inputs(two, [np.zeros(3, np.int8), np.zeros(3, np.int8)]) == 3
    with pytest.raises(DatasetError, match="2 inputs with one number of vectors"):
        vectors.check_inputs(two, [np.zeros(3, np.int8), np.zeros(4, np.int8)])


# --- what comes back ---

RIGHT = np.arange(15, dtype=np.int8).reshape(5, 3)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "bool", "int16", "int32", "int64", "float16", "float32", "float64"])
def test_every_dtype_comes_back(tmp_path: Path, dtype: str) -> None:
    data = RIGHT.astype(dtype)
    np.savez(tmp_path / "out.npz", output_0=data)
    found = vectors.read_outputs(contract(out_dtype=dtype), tmp_path / "out.npz", 5)[0]
    assert found.dtype == dtype
    assert np.array_equal(found, data)


@pytest.mark.parametrize("out", [(), (3,), (1, 2, 3), (0,), (3, 1)])
def test_every_shape_comes_back(tmp_path: Path, out: tuple[int, ...]) -> None:
    np.savez(tmp_path / "out.npz", output_0=np.zeros((5, *out), np.int8))
    assert vectors.read_outputs(contract(out=out), tmp_path / "out.npz", 5)[0].shape == (5, *out)


def test_open_axes_take_what_comes_even_nothing(tmp_path: Path) -> None:
    for size in (0, 1, 17):
        np.savez(tmp_path / "out.npz", output_0=np.ones((5, size), np.int8))
        assert vectors.read_outputs(contract(out=(-1,)), tmp_path / "out.npz", 5)[0].shape == (5, size)


DATA = bytes(15)


@pytest.mark.parametrize(
    "content",
    [
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (5L, 3L), }", DATA),
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (5, 3", DATA),
        header("{'descr': '|i1', 'fortran_order': True, 'shape': (5, 3), }", DATA),
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (-5, 3), }", DATA),
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (5, -1), }", DATA),
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (5, 3, 1), }", DATA),
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (15,), }", DATA),
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (), }", DATA),
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (999999999999, 3), }", DATA),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (5, 3), }", DATA),
        header("{'descr': '>i2', 'fortran_order': False, 'shape': (5, 3), }", DATA * 2),
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (5, 3), }", DATA[:-1]),
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (5, 3), }", DATA + b"x"),
        header("(" * 5000),
        header("-" * 9000 + "1"),
        header("[" * 9000),
        header("  1\n 2L\n'''"),
        header("\0"),
        header("\ud800"),
        header("1" * 60_000),
        header("{'descr': '|i1', 'fortran_order': False, 'shape': (" + "1, " * 15_000 + "), }", DATA),
        b"",
        b"\x93",
        b"\x93NUMPY",
        b"\x93NUMPY\x01\x00",
        b"\x93NUMPY\x01\x00\xff\xff",
        b"\x93NUMPY\x01\x00\x00\x00" + DATA,
        b"\x93NUMPY\x09\x00" + header("")[8:],
        npy(RIGHT, version=(2, 0)),
        npy(RIGHT, version=(3, 0)),
        npy(RIGHT.astype(object), allow_pickle=True),
        b"\x80\x04\x95cos\nsystem\n",
    ],
)
def test_headers_that_are_not_numpys_are_refused_without_a_word(tmp_path: Path, content: bytes) -> None:
    """NumPy's own reader evaluates the text, and ends some of these in TokenError, MemoryError or a warning."""
    with pytest.raises(CommandFailed):
        vectors.read_outputs(contract(), archive(tmp_path / "out.npz", {"output_0.npy": content}), 5)


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=80) | st.from_regex(r"\{'descr': '.{1,4}', 'fortran_order': \w+, 'shape': \([-\d, ]*\), \}"))
@example("{'descr': '|i1', 'fortran_order': False, 'shape': (5, 3), }")
def test_any_header_is_read_right_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "headers.npz"
    archive(path, {"output_0.npy": header(text, RIGHT.tobytes())})
    try:
        found = vectors.read_outputs(contract(), path, 5)[0]
    except CommandFailed:
        return
    assert np.array_equal(found, RIGHT)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_any_dtype_and_shape_but_the_contracts_is_refused(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    dtype = data.draw(st.sampled_from(["int8", "uint8", "int16", "float32", "bool", "complex64", "S3", "U1", "M8[s]"]))
    shape = tuple(data.draw(st.lists(st.sampled_from([0, 1, 3, 5, 6]), max_size=3)))
    path = tmp_path_factory.getbasetemp() / "shapes.npz"
    np.savez(path, output_0=np.zeros(shape, dtype))
    if (dtype, shape) == ("int8", (5, 3)):
        assert vectors.read_outputs(contract(), path, 5)[0].shape == shape
    else:
        with pytest.raises(CommandFailed):
            vectors.read_outputs(contract(), path, 5)


@pytest.mark.parametrize("compression", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_nothing_is_decompressed(tmp_path: Path, compression: int) -> None:
    path = archive(tmp_path / "bomb.npz", {"output_0.npy": npy(RIGHT) + bytes(50 << 20)}, compression)
    assert path.stat().st_size < 1 << 20
    with pytest.raises(CommandFailed, match="compressed"):
        vectors.read_outputs(contract(), path, 5)


@pytest.mark.parametrize(
    "names",
    [
        ["output_0.npy", "output_0.npy"],
        ["output_0.npy", "output_1.npy"],
        ["output_0"],
        ["OUTPUT_0.npy"],
        ["../output_0.npy"],
        ["/output_0.npy"],
        ["arr_0.npy"],
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_other_members_are_refused(tmp_path: Path, names: list[str]) -> None:
    with zipfile.ZipFile(tmp_path / "out.npz", "w") as zipped:
        for name in names:
            zipped.writestr(name, npy(RIGHT))
    with pytest.raises(CommandFailed, match="not those of the contract"):
        vectors.read_outputs(contract(), tmp_path / "out.npz", 5)


def test_an_absent_file_is_the_devices_fault(tmp_path: Path) -> None:
    with pytest.raises(CommandFailed, match="cannot be read"):
        vectors.read_outputs(contract(), tmp_path / "absent.npz", 5)
