"""Ranges of a float TFLite model's activations over the calibration samples, one sample at a time."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeq.converters._flatbuffer import Model, Names, is_constant, numbered
from edgeq.converters.tflite.restore import type_name
from edgeq.datasets.streaming import ahead
from edgeq.quantization.observers import RangeObserver
from edgeq.runtimes import encode, litert
from edgeq.types import Progress, RangeMethod

Sample: TypeAlias = "tuple[NDArray[Any], ...]"
Ranges: TypeAlias = dict[str, tuple[float, float]]

STEP = "calibrate"


def ranges(
    path: Path,
    labels: Mapping[str, str],
    samples: Iterable[Sample],
    count: int,
    method: RangeMethod,
    progress: Progress,
) -> Ranges:
    """Ranges by tensor name of the file `path`; `labels` gives the names that errors use.

    Memory does not depend on the number of samples: each sample's tensors are read, observed and dropped.
    """
    session = litert.open(path, threads=_threads(), preserve=True)
    observer = RangeObserver(method)
    progress(STEP, 0, count)
    for done, tensors in enumerate(ahead(watch(session, labels, samples)), start=1):
        for name, values in tensors:
            observer.update(labels[name], values)
        progress(STEP, done, count)
    found = observer.ranges()
    return {name: found[label] for name, label in labels.items() if label in found}


def watch(
    session: litert.LiteRtSession, names: Container[str], samples: Iterable[Sample]
) -> Iterator[list[tuple[str, NDArray[Any]]]]:
    """Those tensors' values, sample by sample."""
    for sample in samples:
        session.run([encode(port, real) for port, real in zip(session.inputs, sample, strict=True)])
        yield list(session.tensors(names))


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
