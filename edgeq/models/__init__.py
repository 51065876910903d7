"""Read model files into ModelGraph: operators, shapes, data types, MACs, weights, peak memory."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from edgeq.errors import ModelError
from edgeq.types import ModelGraph

_SUFFIXES: dict[str, Literal["tflite", "onnx"]] = {".tflite": "tflite", ".lite": "tflite", ".onnx": "onnx"}
_KERAS = (".keras", ".h5", ".hdf5")
_IMPORTED = "give it to `edgeq quantize`, `edgeq build` or `edgeq run`"
_HEAD_BYTES = 64


def read(path: Path) -> ModelGraph:
    """The structure of a `.tflite` or `.onnx` file, chosen by suffix and first bytes; raises ModelError.

    Nothing of the file is run. Keras files and SavedModel folders are not read here: they are imported to
    float TFLite first.
    """
    head = _head(path)
    if _find_format(path, head) == "tflite":
        from edgeq.models import tflite

        return tflite.read(path)
    from edgeq.models import onnx

    return onnx.read(path)


def _head(path: Path) -> bytes:
    """The first bytes of a file; refuses what is no file."""
    where = str(path)
    try:
        if path.is_dir():
            raise _folder_error(path)
        if path.exists() and not path.is_file():
            raise ModelError("is a device or a pipe, not a model file", where=where)
        with path.open("rb") as stream:
            head = stream.read(_HEAD_BYTES)
    except FileNotFoundError as error:
        raise ModelError("there is no such file", where=where) from error
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror or error}", where=where) from error
    if not head:
        raise ModelError("is empty", where=where)
    return head


def _folder_error(path: Path) -> ModelError:
    if (path / "saved_model.pb").exists():
        return ModelError("is a SavedModel folder, which is imported first", where=str(path), hint=_IMPORTED)
    return ModelError("is a folder, not a model file", where=str(path), hint="name a .tflite or .onnx file")


def _find_format(path: Path, head: bytes) -> Literal["tflite", "onnx"]:
    where, suffix = str(path), path.suffix.lower()
    if suffix in _KERAS or head.startswith(b"\x89HDF"):
        raise ModelError("is a Keras file, which is imported first", where=where, hint=_IMPORTED)
    if head.startswith(b"version https://git-lfs"):
        raise ModelError("is a Git LFS pointer, not the model itself", where=where, hint="git lfs pull")
    format = _SUFFIXES.get(suffix)
    if head[4:8] == b"TFL3":
        if format == "onnx":
            raise ModelError(
                "is a TFLite file named .onnx", where=where, hint=f"mv {path} {path.with_suffix('.tflite')}"
            )
        return "tflite"
    if format == "tflite":
        kind = "is text" if _is_text(head) else "is not a TFLite file: the mark TFL3 is missing at byte 4"
        raise ModelError(kind + (", not a TFLite file" if kind == "is text" else ""), where=where)
    if format is None:
        raise ModelError(f"has the unknown suffix {suffix!r}", where=where, hint="name a .tflite or .onnx file")
    if _is_text(head):
        raise ModelError("is text, not an ONNX file", where=where)
    return format


def _is_text(head: bytes) -> bool:
    """Whether the bytes are printable UTF-8; a character may be cut off at the end."""
    text = head.decode(errors="ignore")
    return len(text.encode()) >= len(head) - 3 and all(sign.isprintable() or sign in "\t\r\n" for sign in text)
