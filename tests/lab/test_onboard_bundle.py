"""Bundles that were spoilt on the device: a named failure, never a traceback and never another file's content."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.lab.onboard import bundle as bundles
from edgeq.lab.onboard.events import Failure

PORT = {"name": "x", "dtype": "float32", "shape": [-1, 3]}
CONTENT: dict[str, bytes] = {
    "model.tflite": b"model",
    "golden.npz": b"golden",
    "io.json": json.dumps({"inputs": [PORT], "outputs": [PORT]}).encode(),
}


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def manifest(**changes: object) -> dict[str, object]:
    """A manifest over CONTENT."""
    files = [{"path": name, "sha256": digest(content)} for name, content in CONTENT.items()]
    return {"model": "model.tflite", "golden": "golden.npz", "format": "tflite", "files": files, **changes}


def lay(folder: Path, told: object, **files: bytes) -> Path:
    """A bundle with this manifest (bytes as they are) and these files in place of CONTENT's."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in CONTENT.items():
        (folder / name).write_bytes(files.get(name.partition(".")[0], content))
    (folder / "manifest.json").write_bytes(told if isinstance(told, bytes) else json.dumps(told).encode())
    return folder


def refused(folder: Path, expected: dict[str, str] | None = None) -> Failure:
    with pytest.raises(Failure) as caught:
        bundles.Bundle(folder, expected)
    assert caught.value.kind == "altered"
    return caught.value


def test_a_whole_bundle_is_taken(tmp_path: Path) -> None:
    found = bundles.Bundle(lay(tmp_path, manifest()))
    assert (found.model, found.golden) == (tmp_path / "model.tflite", tmp_path / "golden.npz")
    assert (found.inputs, found.outputs, found.format) == ([PORT], [PORT], "tflite")


@pytest.mark.parametrize("name", ["model.tflite", "golden.npz", "io.json", "manifest.json"])
def test_a_file_that_is_gone_is_named(tmp_path: Path, name: str) -> None:
    (lay(tmp_path, manifest()) / name).unlink()
    failure = refused(tmp_path)
    assert failure.facts == {"path": name}
    assert name in failure.message


@pytest.mark.parametrize("name", ["model.tflite", "golden.npz", "io.json", "manifest.json"])
def test_a_folder_in_a_files_place_is_named(tmp_path: Path, name: str) -> None:
    (lay(tmp_path, manifest()) / name).unlink()
    (tmp_path / name).mkdir()
    assert refused(tmp_path).facts == {"path": name}


@pytest.mark.parametrize(
    "told",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 200_000,
        b"null",
        [],
        {},
        3,
        manifest(files=None),
        manifest(files={}),
        manifest(files=[1]),
        manifest(files=[{}]),
        manifest(files=[{"path": "model.tflite"}]),
        manifest(files=[{"path": ["x"], "sha256": "0"}]),
        manifest(files=[{"path": "model.tflite", "sha256": 0}]),
        manifest(model=None),
        manifest(model=["model.tflite"]),
        manifest(golden=7),
        manifest(format="exe"),
        manifest(format=["tflite"]),
        manifest(format=None),
    ],
)
def test_a_manifest_that_is_none(tmp_path: Path, told: object) -> None:
    assert refused(lay(tmp_path, told)).facts == {"path": "manifest.json"}


@pytest.mark.parametrize("path", ["other", "../other", "/etc/os-release", "", "model.tflite\0"])
@pytest.mark.parametrize("key", ["model", "golden"])
def test_a_manifest_that_points_elsewhere(tmp_path: Path, key: str, path: str) -> None:
    """What the host did not hash is not opened, whether it exists or not: absent is not equal to unlisted."""
    (tmp_path / "other").write_bytes(b"x")
    refused(lay(tmp_path / "bundle", manifest(**{key: path})))
    (tmp_path / "bundle/other").write_bytes(b"x")
    refused(tmp_path / "bundle")


def test_the_hosts_hashes_hold_before_the_manifests_own(tmp_path: Path) -> None:
    told = {name: digest(content) for name, content in CONTENT.items()}
    lay(tmp_path, manifest())
    assert bundles.Bundle(tmp_path, told).expected == told
    failure = refused(tmp_path, {**told, "golden.npz": digest(b"another")})
    assert failure.facts == {"path": "golden.npz"}
    assert refused(tmp_path, {"model.tflite": told["model.tflite"]}).facts == {"path": "golden.npz"}


def test_a_manifest_rewritten_to_fit_an_altered_file_does_not_help(tmp_path: Path) -> None:
    told = {name: digest(content) for name, content in CONTENT.items()}
    files = [{"path": name, "sha256": digest(b"evil") if "model" in name else told[name]} for name in CONTENT]
    lay(tmp_path, manifest(files=files), model=b"evil")
    assert bundles.Bundle(tmp_path).model.read_bytes() == b"evil"
    assert refused(tmp_path, told).facts == {"path": "model.tflite"}


@pytest.mark.parametrize(
    "contract",
    [
        b"",
        b"[]",
        b"[" * 200_000,
        b"{}",
        {"inputs": [PORT]},
        {"inputs": PORT, "outputs": [PORT]},
        {"inputs": [1], "outputs": [PORT]},
        {"inputs": [PORT], "outputs": [{}]},
        {"inputs": [PORT], "outputs": [{**PORT, "name": 1}]},
        {"inputs": [PORT], "outputs": [{**PORT, "dtype": None}]},
        {"inputs": [PORT], "outputs": [{**PORT, "shape": "3"}]},
        {"inputs": [PORT], "outputs": [{**PORT, "shape": [1.5]}]},
        {"inputs": [PORT], "outputs": [{**PORT, "shape": [True]}]},
    ],
)
def test_a_contract_that_is_none(tmp_path: Path, contract: object) -> None:
    content = contract if isinstance(contract, bytes) else json.dumps(contract).encode()
    files = [{"path": name, "sha256": digest(CONTENT[name])} for name in ("model.tflite", "golden.npz")]
    told = manifest(files=[*files, {"path": "io.json", "sha256": digest(content)}])
    assert refused(lay(tmp_path, told, io=content)).facts == {"path": "io.json"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=80)
@given(st.sampled_from(["model", "golden", "format", "files"]), JSON)
def test_any_value_in_a_manifest_is_refused_or_fits(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: object
) -> None:
    folder = lay(tmp_path_factory.getbasetemp() / "any-manifest", manifest(**{key: value}))
    try:
        bundles.Bundle(folder)
    except Failure as failure:
        assert failure.kind == "altered"
    else:
        assert manifest()[key] == value


@given(st.binary(max_size=300_000))
def test_hashes_are_sha256_over_any_number_of_chunks(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "hashed"
    path.write_bytes(content * 5)
    assert bundles.sha256(path) == digest(content * 5)


def test_what_cannot_be_read_has_no_hash(tmp_path: Path) -> None:
    assert bundles.sha256(tmp_path) is None
    assert bundles.sha256(tmp_path / "absent") is None


# --- arrays ---


def npy(array: np.ndarray[Any, Any], **how: Any) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, array, **how)
    return stream.getvalue()


def archive(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as zipped:
        for name, content in members.items():
            zipped.writestr(name, content)
    return path


def header(text: str) -> bytes:
    raw = text.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(raw).to_bytes(2, "little") + raw


RIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


class Trap:
    """Unpickling it would leave a file."""

    def __reduce__(self) -> tuple[Any, tuple[str, str]]:
        return open, ("pwned", "w")


def test_arrays_come_in_the_ports_order(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", input_1=RIGHT + 1, input_0=RIGHT, output_0=RIGHT)
    first, second = bundles.arrays(tmp_path / "a.npz", "input", [PORT, PORT])
    assert np.array_equal(first, RIGHT)
    assert np.array_equal(second, RIGHT + 1)


@pytest.mark.parametrize(
    "members",
    [
        {},
        {"input_1.npy": npy(RIGHT)},
        {"input_0.npy": b""},
        {"input_0.npy": b"\x93NUMPY"},
        {"input_0": b"no array at all"},
        {"input_0.npy": npy(RIGHT)[:-4]},
        {"input_0.npy": npy(RIGHT.astype(np.float64))},
        {"input_0.npy": npy(RIGHT.astype(">f4"))},
        {"input_0.npy": npy(RIGHT[:, :2])},
        {"input_0.npy": npy(RIGHT[:0])},
        {"input_0.npy": npy(RIGHT[0])},
        {"input_0.npy": npy(np.float32(3) * np.ones((), np.float32))},
        {"input_0.npy": npy(np.array([[Trap()] * 3]), allow_pickle=True)},
        {"input_0.npy": header("(" * 3000)},
        {"input_0.npy": header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3")},
        {"input_0.npy": header("  1\n 2L\n'''")},
        {"input_0.npy": header("{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 3), }")},
        {"input_0.npy": header("{'descr': '<f4', 'fortran_order': 0, 'shape': 'x', }")},
    ],
)
def test_arrays_that_do_not_fit(tmp_path: Path, members: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Failure) as caught:
        bundles.arrays(archive(tmp_path / "golden.npz", members), "input", [PORT])
    assert caught.value.kind == "bad-vectors"
    assert "golden.npz" in caught.value.message
    assert not (tmp_path / "pwned").exists()


def test_a_number_without_axes_is_no_vector(tmp_path: Path) -> None:
    path = archive(tmp_path / "a.npz", {"input_0.npy": npy(np.ones((), np.float32))})
    with pytest.raises(Failure, match="the contract says"):
        bundles.arrays(path, "input", [{"name": "x", "dtype": "float32", "shape": [1]}])


@pytest.mark.parametrize("content", [b"", b"PK", b"PK\x03\x04" + bytes(100), npy(RIGHT), b"\x80\x04N.", bytes(5000)])
def test_files_that_are_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(Failure, match=r"a\.npz cannot be read"):
        bundles.arrays(tmp_path / "a.npz", "input", [PORT])


def test_an_absent_archive(tmp_path: Path) -> None:
    with pytest.raises(Failure, match="No such file"):
        bundles.arrays(tmp_path / "a.npz", "input", [PORT])


def test_a_compressed_archive_of_the_users_own_is_read(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "a.npz", input_0=RIGHT)
    assert np.array_equal(bundles.arrays(tmp_path / "a.npz", "input", [PORT])[0], RIGHT)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_any_flipped_byte_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "flipped.npz"
    compression = data.draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    content = bytearray(archive(path, {"input_0.npy": npy(RIGHT)}, compression).read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = bundles.arrays(path, "input", [PORT])
    except Failure as failure:
        assert failure.kind == "bad-vectors"
    else:
        assert np.array_equal(found[0], RIGHT)


@pytest.mark.parametrize(("shape", "count"), [([], 1), ([-1, 3], 1), ([0, 3], 1), ([1, 3], 1), ([4, 3], 4), ([32], 32)])
def test_the_batch_is_the_first_inputs_first_axis(shape: list[int], count: int) -> None:
    assert bundles.batch([{"shape": shape}, {"shape": [99]}]) == count


def test_a_model_without_inputs_takes_one_vector() -> None:
    assert bundles.batch([]) == 1
