"""Bundle for a Linux board: model, I/O contract, golden vectors, the onboard runner, manifest."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import edgeq
from edgeq import backends, store
from edgeq.errors import BuildError
from edgeq.runtimes import Session, encode
from edgeq.types import Bundle, FileEntry, Manifest, QuantizedModel

if TYPE_CHECKING:
    from edgeq.runtimes import Array

MINIMUM_VECTORS = 16
RUNNER = Path(edgeq.__file__).parent / "lab" / "onboard"


def build(quantized: QuantizedModel, folder: Path, samples: Iterable[Sequence[Array]], out: Path, name: str) -> Bundle:
    """Build the bundle `out`; raises BuildError and OutputError."""
    store.make_folder(out.parent)
    with (
        store.writing(out),
        tempfile.TemporaryDirectory(prefix=f".{out.name}.", suffix=".part", dir=out.parent) as part,
    ):
        manifest = _fill(Path(part) / out.name, quantized, folder, samples, name)
        if out.exists():
            out.rename(Path(part) / "old")
        (Path(part) / out.name).rename(out)
    return Bundle(path=str(out), manifest=manifest)


def _fill(
    place: Path, quantized: QuantizedModel, folder: Path, samples: Iterable[Sequence[Array]], name: str
) -> Manifest:
    place.mkdir()
    model = place / f"model.{quantized.artifact.format}"
    shutil.copyfile(folder / quantized.artifact.path, model)
    if store.sha256(model) != quantized.artifact.sha256:
        raise BuildError("the model is not the one that was quantized", where=str(folder / quantized.artifact.path))
    vectors = _write_golden(place / "golden.npz", model, quantized, samples)
    ports = {"inputs": quantized.inputs, "outputs": quantized.outputs}
    store.write(place / "io.json", {side: [dataclasses.asdict(port) for port in of] for side, of in ports.items()})
    # The bundle leaves this host: no path of it goes along.
    store.write(place / "quantized.json", dataclasses.replace(quantized, float_path=Path(quantized.float_path).name))
    shutil.copytree(RUNNER, place / "runner", ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    manifest = _manifest(place, quantized, name, vectors)
    store.write(place / "manifest.json", manifest)
    return manifest


def _write_golden(path: Path, model: Path, quantized: QuantizedModel, samples: Iterable[Sequence[Array]]) -> int:
    """Run the samples on the host and keep inputs and outputs as stored values, vectors on the first axis."""
    import numpy as np

    session = cast(Session, backends.find("runtimes", quantized.plan.runtime).open(model))
    inputs = [
        [encode(port, real) for port, real in zip(session.inputs, sample, strict=True)] for sample in at_least(samples)
    ]
    outputs = [session.run(stored) for stored in inputs]
    arrays = {f"input_{i}": np.concatenate(column) for i, column in enumerate(zip(*inputs, strict=True))}
    arrays |= {f"output_{i}": np.concatenate(column) for i, column in enumerate(zip(*outputs, strict=True))}
    with path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]  # the stub takes **kwds for a flag
    return len(inputs)


def at_least(samples: Iterable[Sequence[Array]], count: int = MINIMUM_VECTORS) -> list[Sequence[Array]]:
    """The samples, filled up to `count` with shuffled copies of them, which stay in the inputs' value range."""
    import numpy as np

    vectors = list(samples)
    if not vectors:
        raise BuildError("no samples for the golden vectors", hint="give a dataset with --data")
    own = len(vectors)
    random = np.random.default_rng(0)
    while len(vectors) < count:
        source = vectors[len(vectors) % own]
        vectors.append([random.permutation(array.ravel()).reshape(array.shape) for array in source])
    return vectors


def _manifest(place: Path, quantized: QuantizedModel, name: str, vectors: int) -> Manifest:
    paths = sorted(path for path in place.rglob("*") if path.is_file())
    return Manifest(
        name=name,
        target=quantized.plan.target,
        runtime=quantized.plan.runtime,
        runtime_versions=quantized.tools.get(quantized.plan.runtime, ""),
        format=quantized.artifact.format,
        scheme=quantized.plan.scheme.name,
        model=f"model.{quantized.artifact.format}",
        entry_point="runner/__main__.py",
        golden="golden.npz",
        golden_vectors=vectors,
        files=tuple(
            FileEntry(
                path=path.relative_to(place).as_posix(), sha256=store.sha256(path), size_bytes=path.stat().st_size
            )
            for path in paths
        ),
        tools={**quantized.tools, "edgeq": edgeq.__version__},
        planned_ram_bytes=quantized.plan.memory.ram_bytes,
    )
