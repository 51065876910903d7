"""Bundle for a Linux board: model, float model, I/O contract, golden vectors, the onboard runner, manifest."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import edgeq
from edgeq import builders, store
from edgeq.runtimes import BY_FORMAT
from edgeq.types import Bundle, Manifest, QuantizedModel

if TYPE_CHECKING:
    from edgeq.runtimes import Array

RUNNER = Path(edgeq.__file__).parent / "lab" / "onboard"


def build(quantized: QuantizedModel, folder: Path, samples: Iterable[Sequence[Array]], out: Path, name: str) -> Bundle:
    """Build the bundle `out`; raises BuildError and OutputError."""
    with builders.whole(out) as place:
        manifest = _fill(place, quantized, folder, samples, name)
    return Bundle(path=str(out), manifest=manifest)


def _fill(
    place: Path, quantized: QuantizedModel, folder: Path, samples: Iterable[Sequence[Array]], name: str
) -> Manifest:
    model = builders.copy_model(place, quantized, folder)
    beside = builders.copy_float(place, quantized)
    vectors = builders.write_golden(place / "golden.npz", model, BY_FORMAT[quantized.artifact.format], samples)
    builders.write_contract(place, quantized)
    shutil.copytree(RUNNER, place / "runner", ignore=shutil.ignore_patterns("__pycache__", "*.pyc", ".*"))
    manifest = builders.describe(
        place,
        quantized,
        name,
        model=model.name,
        entry_point="runner/__main__.py",
        vectors=vectors,
        float_model=beside.name if beside else None,
    )
    store.write(place / "manifest.json", manifest)
    return manifest
