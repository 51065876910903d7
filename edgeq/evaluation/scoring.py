"""Run a model over samples, score its answers and compare them with the float model's."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from edgeq import datasets
from edgeq.errors import DatasetError, ModelError, OutputError
from edgeq.evaluation import collapse
from edgeq.evaluation.likeness import likeness
from edgeq.evaluation.metrics import METRICS
from edgeq.runtimes import infer
from edgeq.types import Accuracy, Dataset, Fidelity, LabelSpec, ModelGraph, Port, Progress, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeq.runtimes import Session

    Array = NDArray[np.generic]
    Outputs = tuple[Array, ...]

MEMORY_LIMIT_BYTES = 256 << 20
ROUNDING = 1e-9  # 0.90 - 0.89 is a little more than 0.01


def collect(
    session: Session,
    dataset: Dataset,
    graph: ModelGraph,
    indices: Sequence[int],
    progress: Progress = silent,
    step: str = "scoring",
) -> Outputs:
    """One array for each model output, samples on the first axis, real float32 values (integers stay so).

    Outputs of more than 256 MiB are kept in a temporary file that vanishes with the array. Raises
    DatasetError, ModelError when an output changes its shape, OutputError when the disk is full.
    """
    found: list[Array] = []
    for place, sample in enumerate(datasets.ahead(datasets.samples(dataset, graph, indices))):
        progress(step, place, len(indices))
        answer = [_unbatched(value) for value in infer(session, sample)]
        found = found or [_room(len(indices), value) for value in answer]
        for port, store, value in zip(session.outputs, found, answer, strict=True):
            if store.shape[1:] != value.shape:
                shapes = f"{store.shape[1:]}, then {value.shape}"
                raise ModelError(f"output {port.name!r} changes its shape from sample to sample: {shapes}")
            store[place] = value
    progress(step, len(indices), len(indices))
    return tuple(found)


def _unbatched(value: Array) -> Array:
    return value[0] if value.ndim and value.shape[0] == 1 else value


def _room(count: int, value: Array) -> Array:
    """Space for one output of all samples, in memory or in an unnamed file."""
    dtype = value.dtype if value.dtype.kind in "biu" else np.dtype(np.float32)
    size, shape = count * value.size * dtype.itemsize, (count, *value.shape)
    if size <= MEMORY_LIMIT_BYTES:
        return np.empty(shape, dtype)
    try:
        with tempfile.TemporaryFile(prefix="edgeq-outputs-") as file:
            os.posix_fallocate(file.fileno(), 0, size)  # a full disk is an error here, not a SIGBUS later
            return np.memmap(file, dtype=dtype, mode="r+", shape=shape)
    except OSError as error:
        raise OutputError(
            f"no room for {size >> 20} MiB of outputs: {error.strerror}", where=tempfile.gettempdir()
        ) from error


def drop(metric: str, float_score: float, quantized_score: float) -> float:
    """How much worse the second score is, in the metric's unit; negative when it is better."""
    better, worse = (
        (float_score, quantized_score) if METRICS[metric].higher_is_better else (quantized_score, float_score)
    )
    return better - worse


def accuracy(
    dataset: Dataset, float_outputs: Outputs | None, candidate_outputs: Outputs, max_drop: float | None = None
) -> Accuracy:
    """Score the evaluation samples' outputs against float's; `max_drop` replaces the default tolerance.

    Metrics look at the first output. A candidate that collapsed is not ok, whatever its score. Without float
    outputs (a model that came quantized) there is no drop, and no score by cosine. NaN and infinity in
    outputs count as 0. Raises DatasetError.
    """
    metric = METRICS[dataset.metric]
    labels = datasets.labels(dataset, dataset.evaluation) if metric.needs_labels else None
    truth = labels if metric.needs_labels else float_outputs[0] if float_outputs else None
    why = collapse.reason(dataset.metric, float_outputs, candidate_outputs, labels, dataset.labels)
    own = _score(dataset, candidate_outputs, truth)
    base = _score(dataset, float_outputs, truth) if float_outputs else None
    lost = drop(dataset.metric, base, own) if base is not None and own is not None else None
    tolerance = _tolerance(dataset.metric, base if base is not None else own, truth, max_drop)
    if why is None and lost is not None and lost > tolerance + ROUNDING:
        scores = f"{own:.4g}, float {base:.4g}"
        why = f"{dataset.metric} is {lost:.4g} worse than float ({scores}); {tolerance:.4g} is accepted"
    return Accuracy(
        metric=dataset.metric,
        samples=len(dataset.evaluation),
        float_score=base,
        quantized_score=own,
        drop=lost,
        tolerance=tolerance,
        ok=why is None,
        why=why or "",
    )


def _score(dataset: Dataset, outputs: Outputs, truth: Array | None) -> float | None:
    if truth is None:
        return None
    try:
        return METRICS[dataset.metric].score(_finite(outputs[0]), truth, dataset.labels or LabelSpec())
    except DatasetError as error:
        raise DatasetError(error.message, where=error.where or dataset.path, hint=error.hint) from error


def _finite(values: Array) -> Array:
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values
    return np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)


def _tolerance(metric: str, score: float | None, truth: Array | None, max_drop: float | None) -> float:
    if max_drop is not None:
        return max_drop
    return METRICS[metric].tolerance(score or 0.0, truth if truth is not None else np.zeros(1))


def fidelity(ports: Sequence[Port], float_outputs: Outputs, candidate_outputs: Outputs) -> tuple[Fidelity, ...]:
    """Likeness of each output to the float model's over all samples; None for what NaN or all zeros leave undefined."""
    found = []
    for port, reference, candidate in zip(ports, float_outputs, candidate_outputs, strict=True):
        alike = likeness(reference, candidate)
        found.append(
            Fidelity(name=port.name, cosine=alike.cosine, sqnr_db=alike.sqnr_db, max_abs_error=alike.max_abs_error)
        )
    return tuple(found)
