"""One candidate: convert by a plan, score against float. It runs in this process or in a worker's."""

from __future__ import annotations

import dataclasses
import math
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from edgeq import backends, datasets, planning
from edgeq.errors import ConvertError
from edgeq.types import Accuracy, Cpu, Dataset, Fidelity, ModelGraph, Plan, Progress, QuantizedModel, silent

if TYPE_CHECKING:
    from edgeq.evaluation.scoring import Outputs
    from edgeq.runtimes import Session

MOST_THREADS = 8
KERNEL_SAMPLES = 4
KERNEL_MACS = 200_000_000
"""Work of the samples on which kernels are compared; reference kernels are slow."""
HONEST_KERNELS_DB = 12.0
"""Kernels that only round otherwise stay above (mobilenet_v2: 19 dB); those that saturate fall below (kws: -2 dB)."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What all candidates of a search share; it can be sent to another process.

    `reference` are files with the float model's answers, none for a model that came quantized; `folder` is where
    candidates are written. `cpu` is the target's.
    """

    graph: ModelGraph
    dataset: Dataset
    folder: Path
    max_drop: float | None = None
    min_sqnr_db: float | None = None
    reference: tuple[Path, ...] | None = None
    cpu: Cpu | None = None

    @property
    def calibration(self) -> Path:
        """What was observed on calibration samples, which all candidates share."""
        return self.folder / "calibration"


class Attempt(NamedTuple):
    """What became of one plan: a scored model in `file`, or why it could not be converted."""

    plan: Plan
    file: Path
    quantized: QuantizedModel | None = None
    why: str = ""
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether the accuracy holds."""
        return self.quantized is not None and self.quantized.accuracy is not None and self.quantized.accuracy.ok

    @property
    def label(self) -> str:
        """The plan's scheme, as users read it."""
        return planning.label(self.plan.scheme)

    @property
    def reason(self) -> str:
        """Why it was given up."""
        accuracy = self.quantized.accuracy if self.quantized else None
        return self.why or (accuracy.why if accuracy else "not scored")

    @property
    def loss(self) -> float:
        """Drop of the metric; infinite where there is none."""
        accuracy = self.quantized.accuracy if self.quantized else None
        return float("inf") if accuracy is None or accuracy.drop is None else accuracy.drop

    @property
    def sqnr_db(self) -> float:
        """Of the output that is worst; it says more than a metric on few samples."""
        known = [one.sqnr_db for one in self.quantized.fidelity] if self.quantized else []
        return min((value for value in known if value is not None), default=-math.inf)


def attempt(job: Job, plan: Plan, file: Path, progress: Progress = silent) -> Attempt:
    """Convert and score; a plan that cannot be converted is an answer too."""
    started = time.monotonic()
    converter = backends.find("converters", job.graph.format)
    try:
        made = converter.convert(job.graph, plan, job.dataset, file, progress=progress, state=job.calibration)
    except ConvertError as error:
        return Attempt(plan, file, why=error.message, seconds=time.monotonic() - started)
    scored = _scored(made, file, job, progress)
    return Attempt(plan, file, scored, seconds=time.monotonic() - started)


def _scored(quantized: QuantizedModel, file: Path, job: Job, progress: Progress) -> QuantizedModel:
    from edgeq.evaluation import scoring

    graph, dataset, reference = job.graph, job.dataset, answers(job)
    session = open_session(quantized.plan.format, file)
    step = f"scoring {quantized.plan.scheme.name}"
    outputs = scoring.collect(session, dataset, graph, dataset.evaluation, progress, step=step)
    accuracy = scoring.accuracy(dataset, reference, outputs, max_drop=job.max_drop)
    fidelity = scoring.fidelity(session.outputs, reference, outputs) if reference is not None else ()
    accuracy = _faithful(accuracy, fidelity, job.min_sqnr_db)
    notes = (*quantized.notes, *_kernel_notes(quantized.plan, file, job))
    return dataclasses.replace(quantized, accuracy=accuracy, fidelity=fidelity, notes=notes)


def _faithful(accuracy: Accuracy, fidelity: Sequence[Fidelity], least_db: float | None) -> Accuracy:
    """The verdict with what is asked of the SQNR."""
    if least_db is None or not accuracy.ok:
        return accuracy
    worst = min((one.sqnr_db if one.sqnr_db is not None else -math.inf for one in fidelity), default=-math.inf)
    if worst >= least_db:
        return accuracy
    told = f"is {worst:.1f} dB" if math.isfinite(worst) else "is not known"
    return dataclasses.replace(accuracy, ok=False, why=f"the SQNR to float {told}, at least {least_db:g} is asked")


def answers(job: Job) -> Outputs | None:
    """What the float model answered."""
    import numpy as np

    if job.reference is None:
        return None
    return tuple(np.load(path, mmap_mode="r", allow_pickle=False) for path in job.reference)


def write_answers(outputs: Sequence[object], folder: Path) -> tuple[Path, ...]:
    """Keep the float model's answers where workers find them."""
    import numpy as np

    from edgeq import store

    paths = tuple(folder / f"float-{number}.npy" for number, _ in enumerate(outputs))
    for path, values in zip(paths, outputs, strict=True):
        with store.replacing(path) as temporary, temporary.open("wb") as stream:
            np.save(stream, np.asarray(values), allow_pickle=False)
    return paths


def _kernel_notes(plan: Plan, file: Path, job: Job) -> Iterator[str]:
    """Whether this host's integer kernels compute something else than the file says, or than the target's would."""
    converter = backends.find("converters", plan.format)
    if plan.format == "onnx" and job.cpu is not None:
        told = converter.host_differs(job.cpu, plan.scheme)
        yield from () if told is None else (told,)
    if not plan.scheme.is_static:
        return
    count = min(max(KERNEL_MACS // max(job.graph.macs, 1), 1), KERNEL_SAMPLES)
    samples = datasets.samples(job.dataset, job.graph, job.dataset.evaluation[:count])
    gap = converter.kernel_gap(file, samples)
    if gap is not None and gap < HONEST_KERNELS_DB:
        yield (
            f"this host's integer kernels answer differently from the file's own arithmetic (SQNR {gap:.1f} dB): "
            "the score holds for CPUs like this host's"
        )


def open_session(model_format: str, path: Path) -> Session:
    """A host session for a model file, on all cores: answers do not depend on how many there are."""
    from edgeq.runtimes import BY_FORMAT

    runtime = BY_FORMAT[model_format]
    return cast(
        "Session", backends.find("runtimes", runtime).open(path, threads=min(os.cpu_count() or 1, MOST_THREADS))
    )
