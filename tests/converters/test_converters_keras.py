"""Keras files and SavedModels to float TFLite; what is refused before TensorFlow sees it."""

from __future__ import annotations

import importlib.util
import json
import pickle
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.converters import _keras_scan, keras
from edgeq.errors import ConvertError, ModelError
from edgeq.runtimes import litert

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None, reason="the tensorflow extra is not installed"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keras")
    script = Path(__file__).with_name("make_keras_models.py")
    subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True, timeout=280)
    return folder


@pytest.mark.slow
@needs_tensorflow
@pytest.mark.parametrize(("name", "answer"), [("k3.keras", "k3"), ("k3.h5", "k3"), ("k2.h5", "k2"), ("saved", "k3")])
def test_each_format_becomes_a_float_model_that_answers_alike(
    made: Path, tmp_path: Path, name: str, answer: str, capfd: pytest.CaptureFixture[str]
) -> None:
    out = keras.to_tflite(made / name, tmp_path / "deep" / "model.tflite")
    assert out == tmp_path / "deep" / "model.tflite"
    session = litert.open(out)
    assert [(port.name, port.shape, port.dtype) for port in session.inputs] == [("picture", (1, 8, 8, 3), "float32")]
    known = np.load(made / "answers.npz")
    np.testing.assert_allclose(session.run([known["sample"]])[0], known[answer], atol=1e-5)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
@needs_tensorflow
def test_ports_stand_in_the_models_own_order(made: Path, tmp_path: Path) -> None:
    session = litert.open(keras.to_tflite(made / "two.keras", tmp_path / "two.tflite"))
    assert [(port.name, port.shape) for port in session.inputs] == [("b_first", (1, 5)), ("a_second", (1, 3))]
    given_values = session.run([np.ones((1, 5), np.float32), np.full((1, 3), 2, np.float32)])
    known = np.load(made / "two.npz")
    for one, key in zip(given_values, ("arr_0", "arr_1"), strict=True):
        np.testing.assert_allclose(one, known[key], atol=1e-5)


@pytest.mark.slow
@needs_tensorflow
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("lambda.keras", "holds a Lambda layer ('doubled')"),
        ("lambda.h5", "holds a Lambda layer ('doubled')"),
        ("open.keras", "input 'picture' has an open axis: [1, ?, ?, 3]"),
        ("only.weights.h5", "holds weights only"),
        ("writes", "reaches outside the model: WriteFile"),
    ],
)
def test_what_is_unsafe_or_incomplete_is_refused(made: Path, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(ModelError) as caught:
        keras.to_tflite(made / name, tmp_path / "model.tflite")
    assert said in caught.value.message
    assert caught.value.where == str(made / name)
    assert caught.value.hint
    assert not (made / "pwned").exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@needs_tensorflow
def test_a_truncated_file_is_refused(made: Path, tmp_path: Path) -> None:
    for name in ("k3.keras", "k2.h5"):
        path = tmp_path / name
        path.write_bytes((made / name).read_bytes()[:6000])
        with pytest.raises(ModelError) as caught:
            keras.to_tflite(path, tmp_path / "model.tflite")
        assert "\n" not in caught.value.message


@pytest.mark.slow
@needs_tensorflow
@pytest.mark.parametrize(
    ("case", "keras_name", "tflite_name", "least_db"),
    [
        ("ic_resnet8", "resnet8.h5", "resnet8_float.tflite", 100),
        ("vww_mobilenetv1", "vww.h5", "vww_float.tflite", 100),
        ("ad_autoencoder", "ad.h5", "ad_float.tflite", 30),  # the published files differ in their weights
    ],
)
def test_the_shared_h5_files_answer_like_their_tflite_twins(
    shared: Path, tmp_path: Path, case: str, keras_name: str, tflite_name: str, least_db: float
) -> None:
    out = keras.to_tflite(shared / case / keras_name, tmp_path / "model.tflite")
    session, twin = litert.open(out), litert.open(shared / case / tflite_name)
    (stored,) = [value for value in np.load(next((shared / case).glob("*.npz"))).values() if value.ndim in (2, 4)]
    scale = 1 / 255 if case == "vww_mobilenetv1" else 1
    noise = signal = 0.0
    for sample in stored[:20]:
        array = (sample * np.float32(scale)).astype(np.float32).reshape(session.inputs[0].shape)
        wanted, given_values = twin.run([array])[0], session.run([array])[0]
        noise += float(np.square(wanted - given_values).sum())
        signal += float(np.square(wanted).sum())
    assert 10 * np.log10(signal / max(noise, 1e-30)) > least_db


@needs_tensorflow
def test_a_worker_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    path = archive(tmp_path / "slow.keras", {"class_name": "Sequential", "module": "keras", "config": {"layers": []}})
    start = time.monotonic()
    with pytest.raises(ConvertError, match=r"does not finish within 0\.3 s"):
        keras.to_tflite(path, tmp_path / "m.tflite", timeout_seconds=0.3)
    assert time.monotonic() - start < 10


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        keras.to_tflite(tmp_path / "absent.keras", tmp_path / "m.tflite")


def test_a_folder_that_is_no_saved_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"without a saved_model\.pb"):
        keras.to_tflite(tmp_path, tmp_path / "m.tflite")


def test_without_the_extra_the_error_gives_the_command(tmp_path: Path) -> None:
    """In an interpreter that sees edgeq's own needs but no TensorFlow."""
    (tmp_path / "m.h5").write_bytes(b"")
    hidden = (
        "import sys, importlib.util as u; find = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'tensorflow' else find(name, *rest)\n"
        "from pathlib import Path; from edgeq.converters import keras; from edgeq.errors import ToolError\n"
        "try: keras.to_tflite(Path(sys.argv[1]), Path('out'))\n"
        "except ToolError as error: print(error.hint)\n"
    )
    root = Path(__file__).resolve().parents[2]
    argv = [sys.executable, "-c", hidden, str(tmp_path / "m.h5")]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, cwd=root, timeout=60)
    assert done.stdout.strip() == "pip install 'edgeq[tensorflow]'"


@pytest.mark.parametrize(
    ("name", "wanted"), [("a.keras", True), ("a.h5", True), ("a.HDF5", True), ("a.tflite", False), ("a", False)]
)
def test_sources_are_known_by_their_suffix(tmp_path: Path, name: str, wanted: bool) -> None:
    assert keras.is_source(tmp_path / name) is wanted


def test_a_saved_model_is_known_by_its_file(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"")
    assert keras.is_source(tmp_path)


def archive(path: Path, config: Any, version: str = "3.5.0", **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("config.json", json.dumps(config))
        file.writestr("metadata.json", json.dumps({"keras_version": version}))
        for name, content in members.items():
            file.writestr(name, content)
    return path


def layer(name: str, module: str | None = "keras.layers", **config: Any) -> dict[str, Any]:
    return {"module": module, "class_name": name, "config": {"name": "mine", **config}}


@pytest.mark.parametrize(("version", "major"), [("2.15.0", 2), ("3.0.5", 3), ("3.15.1", 3), ("", 2)])
def test_the_version_decides_which_keras_reads_it(tmp_path: Path, version: str, major: int) -> None:
    path = archive(tmp_path / "m.keras", {"config": {"layers": [layer("Dense")]}}, version)
    assert _keras_scan.keras_major(path) == major


@pytest.mark.parametrize(
    "bad",
    [
        layer("Lambda"),
        layer("TorchModuleWrapper"),
        layer("TFSMLayer"),
        layer("Custom>Lambda", module=None),
        layer("system", module="os"),
        layer("function", module="subprocess"),
        layer("exec", module="builtins"),
        layer("Dense", activation={"class_name": "__lambda__", "config": {"value": "4wA="}}),
        layer("TimeDistributed", layer=layer("Lambda")),
    ],
)
def test_configurations_with_code_are_refused_wherever_it_hides(tmp_path: Path, bad: dict[str, Any]) -> None:
    path = archive(tmp_path / "m.keras", {"config": {"layers": [layer("Dense"), bad]}})
    with pytest.raises(ModelError, match=r"would run on this host|outside Keras"):
        _keras_scan.keras_major(path)


def test_builtin_activations_are_no_code() -> None:
    _keras_scan.refuse_code(
        layer("Dense", activation={"module": "builtins", "class_name": "function", "config": "relu"})
    )


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "HDF5"),
        (b"hello" * 50, "HDF5"),
        (pickle.dumps({"a": 1}), "HDF5"),
        (b"PK\x05\x06" + bytes(18), "config.json"),
    ],
)
def test_what_is_no_keras_file_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "m.h5"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=said):
        _keras_scan.keras_major(path)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path: Path) -> None:
    path = archive(tmp_path / "bomb.keras", {})
    content = bytearray(path.read_bytes())
    entry = content.index(b"PK\x01\x02")  # the first central entry: its sizes stand at 20 and 24
    content[entry + 24 : entry + 28] = (2**32 - 2).to_bytes(4, "little")
    second = content.index(b"PK\x01\x02", entry + 4)
    content[second + 24 : second + 28] = (2**32 - 2).to_bytes(4, "little")
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"64 MiB|8 GiB"):
        _keras_scan.keras_major(path)


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py comes with the tensorflow extra")
    path = tmp_path / "m.h5"
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(layer("Dense"))
        file.create_group("weights")["stolen"] = h5py.ExternalLink("/etc/hostname", "/x")
    with pytest.raises(ModelError, match="'stolen' links to another file"):
        _keras_scan.keras_major(path)
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(layer("Dense"))
        file.create_dataset("raw", (8,), dtype="uint8", external=[(str(tmp_path / "other"), 0, 8)])
    with pytest.raises(ModelError, match="'raw' is stored in another file"):
        _keras_scan.keras_major(path)


def test_deep_nesting_is_refused() -> None:
    config: Any = {}
    for _ in range(500):
        config = {"config": config}
    with pytest.raises(ModelError, match="nested deeper"):
        _keras_scan.refuse_code(config)


@pytest.mark.parametrize(
    "name", ["PyFunc", "EagerPyFunc", "WriteFile", "ReadFile", "TFRecordDatasetV2", "SummaryWriter"]
)
def test_graphs_that_reach_outside_are_refused(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        _keras_scan.refuse_outward({"Conv2D", name})


def test_the_saver_of_every_saved_model_is_allowed() -> None:
    _keras_scan.refuse_outward({"SaveV2", "RestoreV2", "MergeV2Checkpoints", "ShardedFilename", "ReadVariableOp"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["class_name", "module", "config", "name", "layers", "x"]), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=200, deadline=None)
@given(config=json_values)
def test_any_configuration_is_read_or_refused(config: Any) -> None:
    try:
        _keras_scan.refuse_code(config)
    except ModelError as error:
        assert "\n" not in error.message
