"""Bundles around tiny models, as the Linux builder lays them out, for tests of what runs on a device."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq import backends, store
from edgeq.types import FileEntry, Manifest

RUNTIMES = {".tflite": "litert", ".onnx": "onnxruntime"}


def make_bundle(model: Path, folder: Path, inputs: Sequence[NDArray[Any]]) -> Manifest:
    """Lay out model, io.json, golden vectors made by the host's runtime, runner and manifest in `folder`."""
    from edgeq.lab import runner

    suffix = model.suffix
    session = backends.find("runtimes", RUNTIMES[suffix]).open(model)
    (folder / "runner").mkdir(parents=True)
    for path in runner.files():
        shutil.copy(path, folder / "runner" / path.name)
    shutil.copy(model, folder / f"model{suffix}")
    ports = {"inputs": session.inputs, "outputs": session.outputs}
    store.write(folder / "io.json", {side: [asdict(port) for port in of] for side, of in ports.items()})
    write_golden(folder / "golden.npz", session, inputs)
    return write_manifest(folder, suffix)


def write_golden(path: Path, session: Any, inputs: Sequence[NDArray[Any]]) -> None:
    """Golden vectors one at a time, so that nothing depends on the batch."""
    rows = [session.run([array[n : n + 1] for array in inputs]) for n in range(len(inputs[0]))]
    outputs = [np.concatenate(column) for column in zip(*rows, strict=True)]
    arrays: dict[str, Any] = {f"input_{n}": array for n, array in enumerate(inputs)}
    arrays.update({f"output_{n}": array for n, array in enumerate(outputs)})
    np.savez(path, **arrays)


def write_manifest(folder: Path, suffix: str) -> Manifest:
    """The manifest over what lies in `folder` now; also call it after a change that should count as sent."""
    (folder / "manifest.json").unlink(missing_ok=True)
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    with np.load(folder / "golden.npz") as golden:
        vectors = len(golden["input_0"])
    manifest = Manifest(
        name="tiny",
        target="generic-linux-x86_64",
        runtime=RUNTIMES[suffix],
        runtime_versions="",
        format=suffix[1:],
        scheme="float32",
        model=f"model{suffix}",
        entry_point="runner/__main__.py",
        golden="golden.npz",
        golden_vectors=vectors,
        files=tuple(
            FileEntry(path=p.relative_to(folder).as_posix(), sha256=store.sha256(p), size_bytes=p.stat().st_size)
            for p in paths
        ),
        tools={},
    )
    store.write(folder / "manifest.json", manifest)
    return manifest


def with_float(folder: Path, suffix: str = ".tflite") -> Manifest:
    """The bundle's own model once more as its float model: what is faster than itself?"""
    shutil.copy(folder / f"model{suffix}", folder / f"float{suffix}")
    manifest = replace(write_manifest(folder, suffix), float_model=f"float{suffix}")
    store.write(folder / "manifest.json", manifest)
    return manifest
