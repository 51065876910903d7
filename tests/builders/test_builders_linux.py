"""The Linux bundle: whole or absent, and true to the model."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeq import builders, models, store, types
from edgeq.builders import linux
from edgeq.errors import BuildError, OutputError
from edgeq.runtimes import litert
from edgeq.testing import models as made
from edgeq.testing.plans import plan_of, quantized_of

FLOAT = types.Scheme(name="float32", default=types.FLOAT32)


@pytest.fixture
def quantized(tmp_path: Path) -> types.QuantizedModel:
    """A float model taken for a converted one: the builder does not care how it came about."""
    path = made.conv_tflite(tmp_path)
    graph = models.read(path)
    session = litert.open(path)
    return quantized_of(graph, plan_of(graph, FLOAT), session, path, tools={"litert": litert.version()})


def _samples(count: int) -> Iterator[tuple[np.ndarray, ...]]:
    values, _ = made.tiny_samples(made.CONV_SHAPE, made.CLASSES, count)
    return ((values[i : i + 1],) for i in range(count))


def test_every_file_is_listed_with_its_hash(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    bundle = linux.build(quantized, tmp_path, _samples(20), tmp_path / "bundle", "conv")
    folder = Path(bundle.path)
    listed = {entry.path: entry for entry in bundle.manifest.files}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there - set(listed) == {"manifest.json"}
    assert set(listed) <= there
    for name, entry in listed.items():
        assert store.sha256(folder / name) == entry.sha256
        assert (folder / name).stat().st_size == entry.size_bytes
    assert store.read(folder / "manifest.json", types.Manifest) == bundle.manifest
    assert {"model.tflite", "io.json", "golden.npz", "runner/__main__.py"} <= set(listed)
    assert bundle.manifest.tools["litert"] == litert.version()


def test_golden_vectors_are_what_the_runtime_answers(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    bundle = linux.build(quantized, tmp_path, _samples(20), tmp_path / "bundle", "conv")
    golden = np.load(Path(bundle.path) / "golden.npz")
    assert bundle.manifest.golden_vectors == len(golden["input_0"]) == len(golden["output_0"]) == 20
    session = litert.open(Path(bundle.path) / "model.tflite")
    for given, expected in zip(golden["input_0"], golden["output_0"], strict=True):
        assert np.array_equal(session.run([given[np.newaxis]])[0][0], expected)


def test_the_contract_names_every_port(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    bundle = linux.build(quantized, tmp_path, _samples(3), tmp_path / "bundle", "conv")
    ports = json.loads((Path(bundle.path) / "io.json").read_text())
    assert [port["name"] for port in ports["inputs"]] == [port.name for port in quantized.inputs]
    assert ports["outputs"][0]["shape"] == list(quantized.outputs[0].shape)


@pytest.mark.parametrize("count", [1, 5, 16, 31])
def test_there_are_at_least_sixteen_vectors(tmp_path: Path, quantized: types.QuantizedModel, count: int) -> None:
    bundle = linux.build(quantized, tmp_path, _samples(count), tmp_path / "bundle", "conv")
    assert bundle.manifest.golden_vectors == max(16, count)
    golden = np.load(Path(bundle.path) / "golden.npz")["input_0"]
    values, _ = made.tiny_samples(made.CONV_SHAPE, made.CLASSES, count)
    assert np.array_equal(golden[:count], values)
    assert golden.min() == values.min()
    assert golden.max() == values.max()


def test_fillers_differ_from_each_other_and_are_the_same_every_time() -> None:
    one, two = (builders.at_least(_samples(2)) for _ in range(2))
    flat = [np.concatenate([array.ravel() for array in vector]).tobytes() for vector in one]
    assert len(set(flat)) == 16
    assert all(np.array_equal(a[0], b[0]) for a, b in zip(one, two, strict=True))


def test_no_samples_no_bundle(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    with pytest.raises(BuildError, match="golden"):
        linux.build(quantized, tmp_path, iter(()), tmp_path / "bundle", "conv")
    assert not (tmp_path / "bundle").exists()


def test_a_model_changed_since_it_was_quantized(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    (tmp_path / quantized.artifact.path).write_bytes(b"other")
    with pytest.raises(BuildError, match="not the one"):
        linux.build(quantized, tmp_path, _samples(3), tmp_path / "bundle", "conv")
    assert sorted(path.name for path in tmp_path.iterdir()) == [quantized.artifact.path]


def test_a_second_build_replaces_the_first(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    first = linux.build(quantized, tmp_path, _samples(16), tmp_path / "bundle", "conv")
    (Path(first.path) / "stale").write_text("")
    second = linux.build(quantized, tmp_path, _samples(16), tmp_path / "bundle", "conv")
    assert second.manifest == first.manifest
    assert not (tmp_path / "bundle" / "stale").exists()
    assert not list(tmp_path.glob(".*.part"))


def test_an_exception_keeps_the_old_bundle(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    def interrupted() -> Iterator[tuple[np.ndarray, ...]]:
        yield from _samples(2)
        raise KeyboardInterrupt

    first = linux.build(quantized, tmp_path, _samples(16), tmp_path / "bundle", "conv")
    with pytest.raises(KeyboardInterrupt):
        linux.build(quantized, tmp_path, interrupted(), tmp_path / "bundle", "conv")
    assert store.read(tmp_path / "bundle" / "manifest.json", types.Manifest) == first.manifest
    assert not list(tmp_path.glob(".*.part*"))


def test_a_file_in_the_way(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write"):
        linux.build(quantized, tmp_path, _samples(2), tmp_path / "file" / "bundle", "conv")


def test_the_bundle_says_nothing_of_this_host(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    bundle = linux.build(quantized, tmp_path, _samples(2), tmp_path / "bundle", "conv")
    for name in ("manifest.json", "io.json", "quantized.json"):
        assert str(tmp_path) not in (Path(bundle.path) / name).read_text()
    moved = dataclasses.replace(quantized, float_path=str(tmp_path / "conv.tflite"))
    bundle = linux.build(moved, tmp_path, _samples(2), tmp_path / "bundle", "conv")
    assert str(tmp_path) not in (Path(bundle.path) / "quantized.json").read_text()


def with_float(quantized: types.QuantizedModel, path: Path, content: bytes) -> types.QuantizedModel:
    """The conversion with a float model of its own."""
    path.write_bytes(content)
    return dataclasses.replace(quantized, float_path=str(path), float_sha256=store.sha256(path))


def test_the_float_model_lies_beside_the_quantized_one(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    made = with_float(quantized, tmp_path / "other.tflite", b"the float model")
    bundle = linux.build(made, tmp_path, _samples(2), tmp_path / "bundle", "conv")
    assert bundle.manifest.float_model == "float.tflite"
    assert (Path(bundle.path) / "float.tflite").read_bytes() == b"the float model"
    assert "float.tflite" in {entry.path for entry in bundle.manifest.files}


def test_a_float_model_that_could_not_be_run_beside_is_left_out(
    tmp_path: Path, quantized: types.QuantizedModel
) -> None:
    other_format = with_float(quantized, tmp_path / "other.onnx", b"x")
    changed = with_float(quantized, tmp_path / "changed.tflite", b"x")
    (tmp_path / "changed.tflite").write_bytes(b"y")
    gone = dataclasses.replace(quantized, float_path=str(tmp_path / "gone.tflite"), float_sha256="0" * 64)
    large = with_float(quantized, tmp_path / "large.tflite", b"x")
    with (tmp_path / "large.tflite").open("r+b") as stream:
        stream.truncate(builders.LARGEST_FLOAT_BYTES + 1)
    for number, one in enumerate((quantized, other_format, changed, gone, large)):
        bundle = linux.build(one, tmp_path, _samples(2), tmp_path / f"bundle{number}", "conv")
        assert bundle.manifest.float_model is None
        assert not list(Path(bundle.path).glob("float.*"))


def test_manifests_of_older_bundles_are_read(tmp_path: Path, quantized: types.QuantizedModel) -> None:
    bundle = linux.build(quantized, tmp_path, _samples(2), tmp_path / "bundle", "conv")
    told = json.loads((Path(bundle.path) / "manifest.json").read_text())
    del told["float_model"]
    (tmp_path / "old.json").write_text(json.dumps(told))
    assert store.read(tmp_path / "old.json", types.Manifest) == bundle.manifest
