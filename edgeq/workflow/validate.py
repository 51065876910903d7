"""The scoring samples on the device, beside host float and host INT8."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import datasets, devices, models, store
from edgeq.runtimes import decode, encode
from edgeq.types import Bundle, Dataset, Device, ModelGraph, Progress, QuantizedModel, Validation, silent
from edgeq.workflow.device import connected, packed, send

if TYPE_CHECKING:
    from edgeq.evaluation.scoring import Outputs
    from edgeq.lab.fleet import Reach, Reached
    from edgeq.runtimes import Array, Session


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """A bundle, and the samples that it is scored with on whichever device."""

    bundle: Bundle
    quantized: QuantizedModel
    graph: ModelGraph
    dataset: Dataset
    session: Session


def validate(
    bundle: Path,
    device: str,
    data: str,
    *,
    output: Path | None = None,
    wait_seconds: float = 0.0,
    progress: Progress = silent,
) -> Validation:
    """Run the scoring samples on the device and compare with host float and host INT8; written to validation.json.

    The device is leased meanwhile: DeviceBusy when somebody else has it for longer than `wait_seconds`.
    """
    folder = store.make_folder(output or bundle.resolve().parent)
    scoring, unit = prepare(bundle, data), devices.load(device)
    with tempfile.TemporaryDirectory(prefix="edgeq-validate-") as scratch:
        there = on_device(
            scoring, unit, lambda: stored(scoring, Path(scratch)), wait_seconds=wait_seconds, progress=progress
        )
    return conclude(folder, scoring, on_host(scoring, progress), there)


def prepare(bundle: Path, data: str) -> Scoring:
    """Read a bundle's model and bind the samples to it."""
    from edgeq.lab import deploy as deploying

    found, quantized = deploying.load_bundle(bundle), packed(bundle)
    layouts = tuple(port.layout for port in quantized.inputs)
    graph = dataclasses.replace(models.read(bundle / found.manifest.model), input_layouts=layouts)
    return Scoring(
        bundle=found,
        quantized=quantized,
        graph=graph,
        dataset=datasets.bind(datasets.load(data), graph),
        session=_session(found),
    )


def _session(bundle: Bundle) -> Session:
    """The model on this host, computed as the bundle's runtime does: a firmware rounds as tflite-micro."""
    from edgeq import search
    from edgeq.codegen import reference
    from edgeq.lab.boards import firmware

    model = Path(bundle.path) / bundle.manifest.model
    if firmware.is_for_boards(bundle):
        return reference.open(model)
    return search.open_session(bundle.manifest.format, model)


def on_device(
    scoring: Scoring,
    unit: Device,
    inputs: Callable[[], list[Array]],
    *,
    wait_seconds: float = 0.0,
    progress: Progress = silent,
    reach: Reach = connected,
) -> Outputs:
    """The device's outputs for the stored inputs, which are asked for once it is reached."""
    ports = scoring.session.outputs
    with reach(unit) as reached, tempfile.TemporaryDirectory(prefix="edgeq-validate-") as scratch:
        answers = _answers(scoring.bundle, reached, inputs, Path(scratch), wait_seconds, progress)
        return tuple(decode(port, answer).copy() for port, answer in zip(ports, answers, strict=True))


def _answers(
    bundle: Bundle,
    reached: Reached,
    inputs: Callable[[], list[Array]],
    scratch: Path,
    wait_seconds: float,
    progress: Progress,
) -> list[Array]:
    """Stored outputs, one array for each, by a board's own words or by the runner under a lease."""
    from edgeq.lab import bench
    from edgeq.lab.boards import Board, measuring
    from edgeq.lab.leases import leased

    if isinstance(reached, Board):
        return measuring.evaluate(reached, bundle, inputs(), wait_seconds=wait_seconds, progress=progress)
    with leased(reached, wait_seconds=wait_seconds, progress=progress) as check:
        deployment = send(bundle, reached, progress)
        answers = bench.evaluate(reached, deployment.folder, bundle.manifest, inputs(), scratch, progress)
        check()
        return answers


def stored(scoring: Scoring, scratch: Path) -> list[Array]:
    """Stored values of the scoring samples, one array for each input, on disk: they may be many."""
    import numpy as np

    found: list[Array] = []
    chosen = scoring.dataset.evaluation
    for place, sample in enumerate(datasets.samples(scoring.dataset, scoring.graph, chosen)):
        values = [encode(port, real) for port, real in zip(scoring.session.inputs, sample, strict=True)]
        found = found or [
            np.lib.format.open_memmap(scratch / f"input_{i}.npy", "w+", value.dtype, (len(chosen), *value.shape[1:]))
            for i, value in enumerate(values)
        ]
        for column, value in zip(found, values, strict=True):
            column[place] = value[0]
    return found


def on_host(scoring: Scoring, progress: Progress) -> Outputs:
    """This host's outputs for the same samples."""
    from edgeq.evaluation import scoring as outputs

    chosen = scoring.dataset.evaluation
    return outputs.collect(
        scoring.session, scoring.dataset, scoring.graph, chosen, progress, step="scoring on the host"
    )


def conclude(folder: Path, scoring: Scoring, here: Outputs, there: Outputs) -> Validation:
    """Scores of both beside each other; written to validation.json."""
    result = _compare(scoring.quantized, scoring.dataset, here, there)
    store.write(folder / "validation.json", result)
    return result


def _compare(quantized: QuantizedModel, dataset: Dataset, here: Outputs, there: Outputs) -> Validation:
    from edgeq.evaluation import scoring

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
