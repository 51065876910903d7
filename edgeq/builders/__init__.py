"""Pack a converted model into what a device needs. Each module builds one kind of artifact.

`build(quantized, folder, samples, out, name) -> Bundle`: `folder` holds the artifact, `samples` are real inputs for the
golden vectors, `out` is the bundle's folder, which appears whole or not at all. The steps that all bundles share are
here.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, cast

import edgeq
from edgeq import backends, store
from edgeq.errors import BuildError
from edgeq.types import FileEntry, Manifest, QuantizedModel

if TYPE_CHECKING:
    from edgeq.runtimes import Array, Session

MINIMUM_VECTORS = 16
LARGEST_FLOAT_BYTES = 256 << 20
"""A float model above this size is not carried along only to be measured beside the quantized one."""


@contextmanager
def whole(out: Path) -> Iterator[Path]:
    """A new folder that takes the place of `out` when the block ends well; raises OutputError."""
    with store.part(out, folder=True) as part, store.writing(out):
        place = part / out.name
        place.mkdir()
        yield place
        if out.exists():
            out.rename(part / "old")
        place.rename(out)


def copy_model(place: Path, quantized: QuantizedModel, folder: Path) -> Path:
    """Copy the artifact to `model.<format>`, its hash checked; raises BuildError."""
    model = place / f"model.{quantized.artifact.format}"
    shutil.copyfile(folder / quantized.artifact.path, model)
    if store.sha256(model) != quantized.artifact.sha256:
        raise BuildError("the model is not the one that was quantized", where=str(folder / quantized.artifact.path))
    return model


def copy_float(place: Path, quantized: QuantizedModel) -> Path | None:
    """Copy the float model to `float.<format>` for the speed-up; None where the target's runtime could not run it.

    It is left out where it has another format, is gone or changed since, is what is being shipped, or is too large.
    """
    source = Path(quantized.float_path)
    is_other = quantized.float_sha256 != quantized.artifact.sha256
    if not is_other or source.suffix != f".{quantized.artifact.format}" or not source.is_file():
        return None
    if source.stat().st_size > LARGEST_FLOAT_BYTES or store.sha256(source) != quantized.float_sha256:
        return None
    copied = place / f"float{source.suffix}"
    shutil.copyfile(source, copied)
    return copied


def write_contract(place: Path, quantized: QuantizedModel) -> None:
    """Write `io.json` and `quantized.json`. The bundle leaves this host: no path of it goes along."""
    ports = {"inputs": quantized.inputs, "outputs": quantized.outputs}
    store.write(place / "io.json", {side: [dataclasses.asdict(port) for port in of] for side, of in ports.items()})
    store.write(place / "quantized.json", dataclasses.replace(quantized, float_path=Path(quantized.float_path).name))


def write_golden(
    path: Path, model: Path, runtime: str, samples: Iterable[Sequence[Array]], session: Session | None = None
) -> int:
    """Run the samples on the host and keep inputs and outputs as stored values, vectors on the first axis.

    `session` runs them instead of `runtime` where the device computes otherwise than that.
    """
    import numpy as np

    from edgeq.runtimes import encode

    session = session or cast("Session", backends.find("runtimes", runtime).open(model))
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


def describe(
    place: Path,
    quantized: QuantizedModel,
    name: str,
    *,
    model: str,
    entry_point: str,
    vectors: int,
    float_model: str | None = None,
) -> Manifest:
    """The manifest over all files in `place`; it is not written yet."""
    paths = sorted(path for path in place.rglob("*") if path.is_file())
    return Manifest(
        name=name,
        target=quantized.plan.target,
        runtime=quantized.plan.runtime,
        runtime_versions=quantized.tools.get(quantized.plan.runtime, ""),
        format=quantized.artifact.format,
        scheme=quantized.plan.scheme.name,
        model=model,
        entry_point=entry_point,
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
        float_model=float_model,
    )
