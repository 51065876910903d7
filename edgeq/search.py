"""Plan, convert, score, again and again, until the accuracy holds."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

from edgeq import backends, datasets, planning, store
from edgeq.errors import ConvertError
from edgeq.types import Dataset, ModelGraph, Plan, Progress, QuantizedModel, Rejected, silent

if TYPE_CHECKING:
    from edgeq.evaluation.scoring import Outputs
    from edgeq.runtimes import Session


MOST_THREADS = 8
KERNEL_SAMPLES = 4
HONEST_KERNELS_DB = 12.0
"""Kernels that only round otherwise stay above (mobilenet_v2: 19 dB); those that saturate fall below (kws: -2 dB)."""


class Candidate(NamedTuple):
    """One conversion that was scored; `file` is in the search's temporary folder."""

    quantized: QuantizedModel
    file: Path


def search(
    graph: ModelGraph,
    plans: Sequence[Plan],
    dataset: Dataset,
    out: Path,
    *,
    max_drop: float | None = None,
    progress: Progress = silent,
    hear: Callable[[Outputs], None] | None = None,
) -> QuantizedModel:
    """Convert by each plan in turn until one holds; the model goes to `out`.

    When none holds, the most accurate one is kept and its `accuracy.ok` is False. `tried` lists what was given up and
    why. Raises ConvertError when nothing could be converted at all.
    `hear` is told the float model's answers before anything is converted, and may raise.
    """
    with tempfile.TemporaryDirectory(prefix="edgeq-search-") as scratch:
        reference = _float_outputs(graph, plans[0], dataset, progress)
        if hear is not None and reference is not None:
            hear(reference)
        tried: list[Rejected] = []
        failed: list[Candidate] = []
        for number, plan in enumerate(plans):
            name = planning.label(plan.scheme)
            try:
                candidate = _convert(graph, plan, dataset, Path(scratch) / f"{number}.{graph.format}", progress)
            except ConvertError as error:
                tried.append(Rejected(scheme=name, why=error.message))
                continue
            candidate = _score(candidate, graph, dataset, reference, max_drop, progress)
            accuracy = candidate.quantized.accuracy
            if accuracy is not None and accuracy.ok:
                return _keep(candidate, out, tried)
            tried.append(Rejected(scheme=name, why=accuracy.why if accuracy else "not scored"))
            failed = [_better(failed[0], candidate)] if failed else [candidate]
        if failed:
            return _keep(failed[0], out, tried)
    raise ConvertError(
        f"no scheme could be converted: {'; '.join(f'{entry.scheme}: {entry.why}' for entry in tried)}",
        where=graph.path,
    )


def _float_outputs(graph: ModelGraph, plan: Plan, dataset: Dataset, progress: Progress) -> Outputs | None:
    """What the float model answers; None when the model came quantized."""
    from edgeq.evaluation import scoring

    if plan.scheme.name == "as_is":
        return None
    session = open_session(graph.format, Path(graph.path))
    return scoring.collect(session, dataset, graph, dataset.evaluation, progress, step="scoring float")


def _convert(graph: ModelGraph, plan: Plan, dataset: Dataset, file: Path, progress: Progress) -> Candidate:
    converter = backends.find("converters", graph.format)
    return Candidate(converter.convert(graph, plan, dataset, file, progress=progress), file)


def _score(
    candidate: Candidate,
    graph: ModelGraph,
    dataset: Dataset,
    reference: Outputs | None,
    max_drop: float | None,
    progress: Progress,
) -> Candidate:
    from edgeq.evaluation import scoring

    quantized = candidate.quantized
    session = open_session(quantized.plan.format, candidate.file)
    step = f"scoring {quantized.plan.scheme.name}"
    outputs = scoring.collect(session, dataset, graph, dataset.evaluation, progress, step=step)
    accuracy = scoring.accuracy(dataset, reference, outputs, max_drop=max_drop)
    fidelity = scoring.fidelity(session.outputs, reference, outputs) if reference is not None else ()
    notes = (*quantized.notes, *_kernel_notes(candidate, graph, dataset))
    return Candidate(dataclasses.replace(quantized, accuracy=accuracy, fidelity=fidelity, notes=notes), candidate.file)


def _kernel_notes(candidate: Candidate, graph: ModelGraph, dataset: Dataset) -> Iterator[str]:
    """Whether this host's integer kernels compute something else than the file says, as they do where they saturate."""
    plan = candidate.quantized.plan
    if plan.format != "onnx" or not plan.scheme.is_static:
        return
    samples = datasets.samples(dataset, graph, dataset.evaluation[:KERNEL_SAMPLES])
    gap = backends.find("converters", "onnx").kernel_gap(candidate.file, samples)
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


def _better(one: Candidate, other: Candidate) -> Candidate:
    """The candidate that lost less."""
    return min(one, other, key=lambda candidate: _loss(candidate.quantized))


def _loss(quantized: QuantizedModel) -> float:
    if quantized.accuracy is None or quantized.accuracy.drop is None:
        return float("inf")
    return quantized.accuracy.drop


def _keep(candidate: Candidate, out: Path, tried: Sequence[Rejected]) -> QuantizedModel:
    """Move the file to `out` and name it there."""
    store.write_bytes(out, candidate.file.read_bytes())
    artifact = dataclasses.replace(candidate.quantized.artifact, path=out.name)
    return dataclasses.replace(candidate.quantized, artifact=artifact, tried=tuple(tried))
