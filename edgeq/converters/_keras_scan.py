"""Look into Keras files before they are loaded: which Keras wrote them, and whether they bring code.

Loading a Lambda layer runs its bytecode; some other classes unpickle, read other files or import any module.
Keras's own `safe_mode` does not cover `.h5`, so the configuration is read here first.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq.errors import ModelError

_CONFIG_BYTES = 64 << 20
_ARCHIVE_BYTES = 8 << 30
_DEEPEST = 200
_CODE = {"Lambda", "TorchModuleWrapper", "TFSMLayer", "JaxLayer", "FlaxLayer", "__lambda__", "PyFunc"}
_OWN = {"keras", "tf_keras", "builtins"}
_HARMLESS_BUILTINS = {"function", "bytes", "slice", "tuple", "list", "dict", "set", "int", "float", "str", "bool"}
_HINT = "use layers of Keras itself, or convert the model to .tflite where you trust it"
# Operators by which a SavedModel's graph reaches files, the network or Python when it runs.
_OUTWARD = (
    "PyFunc",
    "EagerPyFunc",
    "ReadFile",
    "WriteFile",
    "MatchingFiles",
    "WholeFileReader",
    "TextLineReader",
    "TextLineDataset",
    "TFRecordReader",
    "TFRecordDataset",
    "FixedLengthRecord",
    "Summary",
    "CreateSummary",
    "Debug",
    "Rpc",
    "LoadLibrary",
    "SaveDataset",
    "LoadDataset",
    "CollectiveBcast",
)


def keras_major(path: Path) -> int:
    """2 or 3: the Keras that wrote a `.keras` or `.h5` file. Raises ModelError for a broken or unsafe file."""
    config, version = _archive(path) if zipfile.is_zipfile(path) else _hdf5(path)
    refuse_code(config)
    return 3 if version.split(".")[0].isdigit() and int(version.split(".")[0]) >= 3 else 2


def _archive(path: Path) -> tuple[Any, str]:
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _ARCHIVE_BYTES:
                raise ModelError("unpacks to more than 8 GiB")
            config, metadata = (_json_member(archive, name) for name in ("config.json", "metadata.json"))
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError, RuntimeError) as error:
        raise ModelError(f"is not a whole Keras archive: {error}") from error
    return config, str(metadata.get("keras_version", "3")) if isinstance(metadata, dict) else "3"


def _json_member(archive: zipfile.ZipFile, name: str) -> Any:
    if name not in archive.namelist():
        raise ModelError(f"is an archive without {name}, not a Keras model")
    if archive.getinfo(name).file_size > _CONFIG_BYTES:
        raise ModelError(f"its {name} is larger than 64 MiB")
    return _parsed(archive.read(name))


def _hdf5(path: Path) -> tuple[Any, str]:
    import h5py  # type: ignore[import-untyped]

    try:
        with h5py.File(path, "r") as file:
            if "model_config" not in file.attrs:
                raise ModelError("holds weights only, no model", hint="save the whole model: model.save('m.keras')")
            _refuse_outside(file)
            return _parsed(file.attrs["model_config"]), str(file.attrs.get("keras_version", "2"))
    except (OSError, KeyError, RuntimeError, ValueError) as error:
        raise ModelError(f"is not a whole HDF5 file: {error}") from error


def _refuse_outside(group: Any) -> None:
    """Raise ModelError for weights that lie in another file: reading them would read any file of this host."""
    import h5py

    for name in group:
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise ModelError(f"{name!r} links to another file")
        if not isinstance(link, h5py.HardLink):
            continue
        if isinstance(group[name], h5py.Group):
            _refuse_outside(group[name])
        elif group[name].external:
            raise ModelError(f"{name!r} is stored in another file")


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ModelError(f"its configuration is not JSON: {error}") from error


def refuse_code(config: Any) -> None:
    """Raise ModelError for a configuration that would run code of its own when it is loaded."""
    for part in _dicts(config, 0):
        name = part.get("class_name")
        if isinstance(name, str) and name.rpartition(">")[2] in _CODE:
            label = str(part.get("name") or _inner_name(part))[:60]
            kind = name.rpartition(">")[2]
            raise ModelError(f"holds a {kind} layer ({label!r}), whose code would run on this host", hint=_HINT)
        module = part.get("module")
        if isinstance(module, str) and name is not None:
            _refuse_module(module, str(name))


def _refuse_module(module: str, name: str) -> None:
    root = module.partition(".")[0]
    if root not in _OWN or (root == "builtins" and name not in _HARMLESS_BUILTINS):
        wanted = f"{module[:60]}.{name[:60]}"
        raise ModelError(f"needs code from outside Keras: {wanted!r}", hint=_HINT)


def _inner_name(part: dict[str, Any]) -> str:
    config = part.get("config")
    return str(config.get("name", "unnamed")) if isinstance(config, dict) else "unnamed"


def _dicts(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth > _DEEPEST:
        raise ModelError(f"its configuration is nested deeper than {_DEEPEST} levels")
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _dicts(inner, depth + 1)


def refuse_outward(operators: set[str]) -> None:
    """Raise ModelError for a graph whose operators reach files, the network or Python."""
    found = sorted(name for name in operators if name.startswith(_OUTWARD))
    if found:
        raise ModelError(f"its graph reaches outside the model: {', '.join(found[:5])}", hint=_HINT)
