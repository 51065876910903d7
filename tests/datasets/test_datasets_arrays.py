"""`.npz` files: rows stream, hostile files are refused without being unpacked."""

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edgeq.datasets.arrays import Rows, names
from edgeq.errors import DatasetError


def member(array: Any) -> bytes:
    """The bytes of an `.npy`."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, allow_pickle=True)
    return stream.getvalue()


def packed(path: Path, content: bytes, name: str = "x.npy", method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, content)
    return path


def header(text: str, version: int = 1) -> bytes:
    length = struct.pack("<H" if version == 1 else "<I", len(text))
    return b"\x93NUMPY" + bytes([version, 0]) + length + text.encode()


DTYPES = st.sampled_from(["<f4", ">f4", "<f8", "u1", "i1", "<i8", ">i2", "?", "<f2"])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_rows_are_numpys_in_any_order(tmp_path: Path, data: st.DataObject) -> None:
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=5))
    array = data.draw(hnp.arrays(np.dtype(data.draw(DTYPES)), shape))
    array = np.asfortranarray(array) if data.draw(st.booleans()) else array
    save = np.savez if data.draw(st.booleans()) else np.savez_compressed
    save(tmp_path / "a.npz", x=array)
    order = data.draw(st.lists(st.integers(0, shape[0] - 1), max_size=8))
    with contextlib.closing(Rows(tmp_path / "a.npz", "x")) as rows:
        assert (rows.count, rows.shape, rows.dtype) == (shape[0], shape[1:], array.dtype)
        for index in order:
            np.testing.assert_array_equal(rows.read(index), array[index])


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_every_version_of_the_header_is_read(tmp_path: Path, version: tuple[int, int]) -> None:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.arange(6).reshape(3, 2), version=version)
    rows = Rows(packed(tmp_path / "a.npz", stream.getvalue()), "x")
    assert rows.read(2).tolist() == [4, 5]
    rows.close()


def test_memory_does_not_grow_with_the_number_of_samples(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", x=np.zeros((4000, 64, 64), np.uint8))
    tracemalloc.start()
    rows = Rows(tmp_path / "a.npz", "x")
    total = sum(int(rows.read(index).sum()) for index in range(rows.count))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    rows.close()
    assert total == 0
    assert peak < 1 << 20  # of 16 MiB


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "not an array"),
        (b"\x93NUMPY", "not an array"),
        (b"\x93NUMPY\x09\x00" + b" " * 100, "not an array"),
        (member(np.zeros((4, 4)))[:60], "cut off"),
        (member(np.zeros((4, 4)))[:-1], "says it has 128 bytes, the file has 127"),
        (member(np.zeros((4, 4))) + b"!", "the file has 129"),
        (member(np.array([1, "a"], dtype=object)), "pickled Python objects"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000, 9)}"), "says it has"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4)}"), "header is not NumPy's"),
        (header("{'descr': '<f4', 'fortran_order': False, 'shape': (True,)}"), "header is not NumPy's"),
        (header("{'descr': '<f4', 'fortran_order': False}"), "header is not NumPy's"),
        (header("{'descr': 'nonsense', 'fortran_order': False, 'shape': (1,)}"), "header is not NumPy's"),
        (header("__import__('os').system('true')"), "header is not NumPy's"),
        (header("(" * 2000), "header is not NumPy's"),
        (header("{'a':" * 600), "header is not NumPy's"),
        (header(" " * 5000), "too long"),
        (header(" " * 70000, version=2), "too long"),
        (header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (0,)}"), "records"),
    ],
)
def test_hostile_arrays_are_refused(tmp_path: Path, content: bytes, words: str) -> None:
    with pytest.raises(DatasetError, match=words):
        Rows(packed(tmp_path / "a.npz", content), "x")


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path) -> None:
    bomb = header("{'descr': '|u1', 'fortran_order': False, 'shape': (1, 300000000)}") + bytes(300_000_000)
    path = packed(tmp_path / "a.npz", bomb)
    del bomb
    assert path.stat().st_size < 1 << 20
    tracemalloc.start()
    with pytest.raises(DatasetError, match="one sample is larger than 256 MiB"):
        Rows(path, "x")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_declared_size_over_the_limit_is_refused(tmp_path: Path) -> None:
    """The zip's directory is made to say 5 GiB, as a bomb's would."""
    size = 5 << 30
    content = header(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size >> 10}, 1024)}}")
    path = packed(tmp_path / "a.npz", content)
    declared = len(content) + size
    extra = struct.pack("<HHQ", 1, 8, declared)
    data = path.read_bytes()
    place = data.rindex(b"PK\x01\x02")
    entry = bytearray(data[place : data.rindex(b"PK\x05\x06")])
    entry[24:28] = b"\xff" * 4
    entry[30:32] = struct.pack("<H", len(extra))
    tail = bytearray(data[data.rindex(b"PK\x05\x06") :])
    tail[12:16] = struct.pack("<I", len(entry) + len(extra))
    path.write_bytes(data[:place] + bytes(entry) + extra + bytes(tail))
    with pytest.raises(DatasetError, match="larger than 4 GiB"):
        Rows(path, "x")


def test_a_large_column_major_array_is_refused(tmp_path: Path) -> None:
    text = "{'descr': '|u1', 'fortran_order': True, 'shape': (300, 1000000)}"
    path = packed(tmp_path / "a.npz", header(text) + bytes(300_000_000))
    with pytest.raises(DatasetError, match="column by column"):
        Rows(path, "x")


@pytest.mark.parametrize("content", [b"", b"PK", b"not a zip" * 100, b"\x93NUMPY" * 20])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(DatasetError, match=r"not an \.npz"):
        names(tmp_path / "a.npz")


def test_an_encrypted_member_is_refused(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.npz", member(np.zeros((4, 4))))
    data = bytearray(path.read_bytes())
    data[6] |= 1
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(DatasetError, match="encrypted"):
        Rows(path, "x")


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(1000))
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data[: len(data) // 2])
    with pytest.raises(DatasetError):
        Rows(tmp_path / "a.npz", "x")


def test_a_thousand_flipped_bits_are_read_or_refused(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    np.savez_compressed(tmp_path / "a.npz", x=np.arange(64, dtype=np.float32).reshape(8, 8))
    good = (tmp_path / "a.npz").read_bytes()
    refused = 0
    for _ in range(1000):
        data = bytearray(good)
        for _ in range(rng.integers(1, 5)):
            data[rng.integers(len(data))] ^= 1 << int(rng.integers(8))
        (tmp_path / "b.npz").write_bytes(data)
        try:
            rows = Rows(tmp_path / "b.npz", "x")
            for index in range(min(rows.count, 8)):
                rows.read(index)
            rows.close()
        except DatasetError:
            refused += 1
    assert refused > 500
