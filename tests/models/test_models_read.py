"""Which reader takes a file, and what is said of files that none can read."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edgeq import models
from edgeq.errors import ModelError
from edgeq.testing import models as tiny


def refusal(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        models.read(path)
    assert caught.value.where == str(path)
    assert "\n" not in caught.value.message
    return caught.value


def test_the_format_follows_from_the_file(tmp_path: Path) -> None:
    assert models.read(tiny.mlp_tflite(tmp_path)).format == "tflite"
    assert models.read(tiny.conv_onnx(tmp_path)).format == "onnx"
    assert models.read(tiny.mlp_tflite(tmp_path, "model.bin")).format == "tflite"
    assert models.read(tiny.conv_onnx(tmp_path, "UPPER.ONNX")).format == "onnx"


def test_missing_and_empty_files_and_folders(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "absent.tflite").message
    (tmp_path / "empty.tflite").touch()
    assert "empty" in refusal(tmp_path / "empty.tflite").message
    (tmp_path / "empty.onnx").touch()
    assert "empty" in refusal(tmp_path / "empty.onnx").message
    assert "folder" in refusal(tmp_path).message


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.tflite")
    assert "pipe" in refusal(tmp_path / "pipe.tflite").message


def test_a_part_of_the_path_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "cannot be read" in refusal(tmp_path / "file" / "model.tflite").message


@pytest.mark.parametrize("name", ["model.keras", "model.h5", "model.HDF5"])
def test_keras_files_are_imported_by_other_verbs(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    error = refusal(tmp_path / name)
    assert "Keras" in error.message
    assert error.hint is not None
    assert "edgeq quantize" in error.hint


def test_a_saved_model_folder_is_imported_by_other_verbs(tmp_path: Path) -> None:
    (tmp_path / "saved_model.pb").write_bytes(b"x")
    error = refusal(tmp_path)
    assert "SavedModel" in error.message
    assert error.hint is not None
    assert "edgeq run" in error.hint


@pytest.mark.parametrize("text", ["hello\n", "# Überschrift ärgerlich öde\n" * 10, "{}"])
@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_text_with_a_model_suffix(tmp_path: Path, text: str, suffix: str) -> None:
    (tmp_path / f"model{suffix}").write_text(text)
    assert "is text" in refusal(tmp_path / f"model{suffix}").message


def test_a_git_lfs_pointer_says_how_to_get_the_model(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n")
    assert refusal(tmp_path / "model.onnx").hint == "git lfs pull"


def test_a_tflite_file_named_onnx(tmp_path: Path) -> None:
    error = refusal(tiny.mlp_tflite(tmp_path, "model.onnx"))
    assert "TFLite file named .onnx" in error.message
    assert str(error.hint).endswith("model.tflite")


def test_unknown_content_and_suffixes(tmp_path: Path) -> None:
    (tmp_path / "model.pt").write_bytes(bytes(range(256)))
    assert "'.pt'" in refusal(tmp_path / "model.pt").message
    (tmp_path / "model.tflite").write_bytes(bytes(range(256)))
    assert "TFL3" in refusal(tmp_path / "model.tflite").message
    (tmp_path / "short.tflite").write_bytes(b"\x1c\0\0\0TFL")
    assert "TFL3" in refusal(tmp_path / "short.tflite").message
    (tmp_path / "model.onnx").write_bytes(bytes(range(256)))
    assert "ONNX" in refusal(tmp_path / "model.onnx").message


def test_a_file_without_read_permission(tmp_path: Path) -> None:
    path = tiny.mlp_tflite(tmp_path)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user reads every file, so permission cannot be denied")
    assert "Permission denied" in refusal(path).message
