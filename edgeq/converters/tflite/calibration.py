"""Ranges of a float TFLite model's activations over the calibration samples, one sample at a time."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeq.converters import observing
from edgeq.converters._flatbuffer import Model, Names, is_constant, numbered
from edgeq.converters.observing import Ranges, Sample, Shown, Store
from edgeq.converters.tflite.restore import type_name
from edgeq.runtimes import encode, litert
from edgeq.store import sha256
from edgeq.types import Progress, RangeMethod


def ranges(
    path: Path,
    labels: Mapping[str, str],
    given: Shown,
    method: RangeMethod,
    progress: Progress,
    where: str,
    state: Path | None = None,
) -> Ranges:
    """Ranges by tensor name of the file `path`; `labels` gives the names that errors use, `where` the user's model.

    Memory holds two samples' tensors and the observer, however many samples there are; `state` is a folder in which an
    interrupted pass is kept. Raises ConvertError, ModelError.
    """
    store = Store(state, f"{litert.version()} {sha256(path)}") if state else None
    found = observing.ranges(
        method, labels, given, lambda samples: _watch(path, labels, samples), progress, where, store
    )
    return {name: found[label] for name, label in labels.items() if label in found}


def _watch(path: Path, names: Container[str], samples: Iterable[Sample]) -> Iterator[Mapping[str, NDArray[Any]]]:
    """Those tensors' values, sample by sample."""
    session = litert.open(path, threads=_threads(), preserve=True)
    for sample in samples:
        session.run([encode(port, real) for port, real in zip(session.inputs, sample, strict=True)])
        yield dict(session.tensors(names))


def activation_labels(model: Model, names: Names) -> dict[str, str]:
    """Float tensors of the first subgraph that are computed: numbered name to a unique one that people know."""
    labels = {}
    for index, tensor in enumerate(model.subgraphs[0].tensors):
        if type_name(tensor) == "FLOAT32" and not is_constant(model, tensor):
            known = names[0][index].decode(errors="replace")
            labels[numbered(0, index)] = f"{known} (tensor {index})"
    return labels


def calibration_result(found: Ranges) -> dict[str, dict[str, NDArray[np.float32]]]:
    """Ranges as litert-quantizer takes them."""
    return {
        name: {"min": np.float32(low).reshape(1), "max": np.float32(high).reshape(1)}
        for name, (low, high) in found.items()
    }


def _threads() -> int:
    import os

    return max(1, min(4, os.cpu_count() or 1))
