"""Bundles for tests of what runs on a device, and the models whose answer is known by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from edgeq import backends, models, store
from edgeq.lab.onboard import known_answer as carried
from edgeq.testing import known_answer
from edgeq.testing import models as tiny
from edgeq.testing.bundles import RUNTIMES, make_bundle, write_manifest
from edgeq.types import Manifest

MAKERS = {".tflite": tiny.conv_tflite, ".onnx": tiny.conv_onnx}


def samples(suffix: str, count: int = 3) -> np.ndarray:
    made = tiny.tiny_samples(tiny.CONV_SHAPE, tiny.CLASSES, count)[0]
    return made if suffix == ".tflite" else np.ascontiguousarray(made.transpose(0, 3, 1, 2))


@pytest.fixture(params=MAKERS)
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Manifest]:
    folder = tmp_path / "bundle"
    return folder, make_bundle(MAKERS[request.param](tmp_path), folder, [samples(request.param)])


def test_the_manifest_lists_every_file_truly(bundle: tuple[Path, Manifest]) -> None:
    folder, manifest = bundle
    present = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {entry.path for entry in manifest.files} == present - {"manifest.json"}
    for entry in manifest.files:
        path = folder / entry.path
        assert (entry.size_bytes, entry.sha256) == (path.stat().st_size, store.sha256(path))
    assert store.read(folder / "manifest.json", Manifest) == manifest
    assert {manifest.model, manifest.golden, manifest.entry_point} <= present


def test_golden_vectors_are_what_the_runtime_says_of_each_sample_alone(bundle: tuple[Path, Manifest]) -> None:
    folder, manifest = bundle
    session = backends.find("runtimes", manifest.runtime).open(folder / manifest.model)
    with np.load(folder / manifest.golden) as golden:
        assert set(golden) == {"input_0", "output_0"}
        assert len(golden["input_0"]) == manifest.golden_vectors == 3
        for stored, wanted in zip(golden["input_0"], golden["output_0"], strict=True):
            np.testing.assert_array_equal(session.run([stored[np.newaxis]])[0][0], wanted)


def test_ports_are_written_as_the_session_has_them(bundle: tuple[Path, Manifest]) -> None:
    folder, manifest = bundle
    session = backends.find("runtimes", RUNTIMES[f".{manifest.format}"]).open(folder / manifest.model)
    ports = json.loads((folder / "io.json").read_text())
    for side in ("inputs", "outputs"):
        assert [port["name"] for port in ports[side]] == [port.name for port in getattr(session, side)]
        assert [tuple(port["shape"]) for port in ports[side]] == [port.shape for port in getattr(session, side)]


def test_a_changed_file_counts_as_sent_after_a_new_manifest(bundle: tuple[Path, Manifest]) -> None:
    folder, manifest = bundle
    (folder / "note.txt").write_text("added")
    (folder / "io.json").write_text("{}")
    after = write_manifest(folder, f".{manifest.format}")
    before = {entry.path: entry.sha256 for entry in manifest.files}
    changed = {entry.path for entry in after.files if before.get(entry.path) != entry.sha256}
    assert changed == {"note.txt", "io.json"}
    assert not any("__pycache__" in entry.path for entry in after.files)


def test_the_carried_models_are_those_that_the_maker_makes() -> None:
    """`python -m edgeq.testing.known_answer` was run after the last change."""
    assert known_answer.source() == known_answer.TARGET.read_text()
    assert known_answer.tflite_model() == carried.TFLITE
    assert known_answer.onnx_model() == carried.ONNX


def test_the_known_answer_can_be_checked_by_hand() -> None:
    assert carried.INPUT == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert carried.ANSWER == [[1 + 6 + 5 + 14 + 8, 2 + 4 + 6 + 8, 2 + 2 + 3 + 6 + 7 + 16, 36]]


@pytest.mark.parametrize(("content", "suffix"), [(carried.TFLITE, ".tflite"), (carried.ONNX, ".onnx")])
def test_the_runtimes_give_the_known_answer(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"known{suffix}"
    path.write_bytes(content)
    session = backends.find("runtimes", RUNTIMES[suffix]).open(path)
    (port,) = session.inputs
    (found,) = session.run([np.array(carried.INPUT, port.dtype)])
    assert found.tolist() == carried.ANSWER
    assert models.read(path).state == "quantized"
    assert len(content) < 2000, "it travels with every bundle"
