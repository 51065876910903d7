"""The scoring samples on the device, beside host float and host INT8."""

from __future__ import annotations

import dataclasses
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import datasets, devices, models, search, store
from edgeq.runtimes import decode, encode
from edgeq.types import Bundle, Dataset, ModelGraph, Progress, QuantizedModel, Validation, silent
from edgeq.workflow.device import connected, packed, send

if TYPE_CHECKING:
    from edgeq.evaluation.scoring import Outputs
    from edgeq.lab.transports import Transport
    from edgeq.runtimes import Array, Session


def validate(
    bundle: Path, device: str, data: str, *, output: Path | None = None, progress: Progress = silent
) -> Validation:
    """Run the scoring samples on the device and compare with host float and host INT8; written to validation.json."""
    from edgeq.lab import deploy as deploying

    found = deploying.load_bundle(bundle)
    folder = store.make_folder(output or bundle.resolve().parent)
    layouts = tuple(port.layout for port in packed(bundle).inputs)
    graph = dataclasses.replace(models.read(bundle / found.manifest.model), input_layouts=layouts)
    dataset = datasets.bind(datasets.load(data), graph)
    session = search.open_session(found.manifest.format, Path(found.path) / found.manifest.model)
    with connected(devices.load(device)) as transport:
        there = _on_device(found, session, graph, dataset, transport, progress)
    result = _compare(packed(bundle), session, graph, dataset, there, progress)
    store.write(folder / "validation.json", result)
    return result


def _on_device(
    bundle: Bundle, session: Session, graph: ModelGraph, dataset: Dataset, transport: Transport, progress: Progress
) -> Outputs:
    from edgeq.lab import bench

    deployment = send(bundle, transport, progress)
    with tempfile.TemporaryDirectory(prefix="edgeq-validate-") as scratch:
        stored = _stored(session, graph, dataset, Path(scratch))
        answers = bench.evaluate(transport, deployment.folder, bundle.manifest, stored, Path(scratch), progress)
        return tuple(decode(port, answer).copy() for port, answer in zip(session.outputs, answers, strict=True))


def _stored(session: Session, graph: ModelGraph, dataset: Dataset, scratch: Path) -> list[Array]:
    """Stored values of the scoring samples, one array for each input, on disk: they may be many."""
    import numpy as np

    found: list[Array] = []
    for place, sample in enumerate(datasets.samples(dataset, graph, dataset.evaluation)):
        values = [encode(port, real) for port, real in zip(session.inputs, sample, strict=True)]
        found = found or [
            np.lib.format.open_memmap(
                scratch / f"input_{i}.npy", "w+", value.dtype, (len(dataset.evaluation), *value.shape[1:])
            )
            for i, value in enumerate(values)
        ]
        for column, value in zip(found, values, strict=True):
            column[place] = value[0]
    return found


def _compare(
    quantized: QuantizedModel,
    session: Session,
    graph: ModelGraph,
    dataset: Dataset,
    there: Outputs,
    progress: Progress,
) -> Validation:
    from edgeq.evaluation import scoring

    here = scoring.collect(session, dataset, graph, dataset.evaluation, progress, step="scoring on the host")
    result = scoring.accuracy(
        dataset, here, there, max_drop=quantized.accuracy.tolerance if quantized.accuracy else None
    )
    return Validation(
        metric=dataset.metric,
        samples=len(dataset.evaluation),
        float_score=quantized.accuracy.float_score if quantized.accuracy else None,
        host_score=result.float_score,
        device_score=result.quantized_score,
        differing_samples=_differing(here, there),
        ok=result.ok,
    )


def _differing(here: Outputs, there: Outputs) -> int:
    """How many samples have an output that is not the same to the bit."""
    import numpy as np

    rows = [(a != b).reshape(len(a), -1).any(axis=1) for a, b in zip(here, there, strict=True)]
    return int(np.count_nonzero(np.any(rows, axis=0)))
