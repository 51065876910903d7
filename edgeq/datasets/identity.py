"""Whether a dataset is still the same, so that a finished stage can be resumed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

from edgeq.datasets import files, pictures
from edgeq.errors import DatasetError
from edgeq.types import Dataset


def fingerprint(dataset: Dataset) -> str:
    """Hex sha256 over the description's text and every data file's name, size and time of change.

    Data files are not read, so a file rewritten within the clock's resolution at the same size goes unnoticed.
    """
    digest = hashlib.sha256()
    described = Path(dataset.path)
    if described.suffix.lower() != ".npz":
        digest.update(_text(described))
    digest.update(f"\n{dataset.function}\n".encode())
    for path in sorted(set(_paths(dataset))):
        state = files.regular(path).stat()
        name = path.relative_to(dataset.root)
        digest.update(f"{name}\0{state.st_size}\0{state.st_mtime_ns}\n".encode(errors="surrogateescape"))
    return digest.hexdigest()


def _text(path: Path) -> bytes:
    try:
        return files.regular(path).read_bytes()
    except OSError as error:
        raise DatasetError(f"cannot read: {error.strerror or error}", where=str(path)) from error


def _paths(dataset: Dataset) -> Iterator[Path]:
    """Every data file that the dataset names."""
    for spec in dataset.inputs:
        if spec.npz is not None:
            yield files.inside(dataset.root, spec.npz)
        if spec.images is not None:
            yield from pictures.paths(spec, dataset.root)
        if spec.list is not None:
            yield files.inside(dataset.root, spec.list.partition("#")[0])
    for name in (dataset.labels.npz, dataset.labels.csv) if dataset.labels else ():
        if name is not None:
            yield files.inside(dataset.root, name)
