"""What is kept of samples that stream by: ends of their values, four figures and a digest of each sample."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq.datasets import feeding, steps
from edgeq.types import Dataset, ModelGraph, Progress, TensorSpec, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]
    Values = NDArray[np.float64]

SAMPLES = 4096
"""More are not read: what is kept of one takes at most 2.2 KiB, so 9 MiB in all."""
SIGNATURE = 256
FIGURES = ("mean", "standard deviation", "smallest value", "largest value")


class InputSketch(NamedTuple):
    """One input over all samples: `figures` (samples, 4) of what the model is fed, the ends of what is stored."""

    name: str
    is_real: bool
    values_per_sample: int
    figures: Values
    low: float
    high: float
    share_low: float
    share_high: float


class Sketch(NamedTuple):
    """Samples by their numbers; equal ones have equal `digests`, similar ones near `signatures`."""

    numbers: tuple[int, ...]
    inputs: tuple[InputSketch, ...]
    digests: NDArray[np.uint64]
    signatures: Values


class _Ends:
    """Smallest and largest value so far, and how many there are of each."""

    def __init__(self) -> None:
        self.low, self.high = np.inf, -np.inf
        self.at_low = self.at_high = self.values = 0

    def add(self, stored: Array) -> None:
        low, high = float(stored.min()), float(stored.max())
        if low < self.low:
            self.low, self.at_low = low, 0
        if high > self.high:
            self.high, self.at_high = high, 0
        self.at_low += int((stored == self.low).sum())
        self.at_high += int((stored == self.high).sum())
        self.values += stored.size


def sketch(
    dataset: Dataset,
    graph: ModelGraph,
    numbers: Sequence[int],
    progress: Progress = silent,
    step: str = "reading samples",
) -> Sketch:
    """Read samples once, in their order; at most `SAMPLES` of them. Raises DatasetError."""
    numbers = feeding.spread(numbers, SAMPLES)
    ends = [_Ends() for _ in dataset.inputs]
    figures: list[list[Values]] = [[] for _ in dataset.inputs]
    digests, signatures, sizes = [], [], [0] * len(ends)
    for done, sample in enumerate(_both(dataset, graph, numbers)):
        progress(step, done, len(numbers))
        for place, (stored, fed) in enumerate(sample):
            ends[place].add(stored)
            figures[place].append(_figures(fed))
            sizes[place] = fed.size
        digests.append(_digest([fed for _, fed in sample]))
        signatures.append(_signature([fed for _, fed in sample]))
    progress(step, len(numbers), len(numbers))
    tensors = [graph.tensors[index] for index in graph.inputs]
    inputs = tuple(
        _input(tensor, size, np.array(rows).reshape(-1, len(FIGURES)), seen)
        for tensor, size, rows, seen in zip(tensors, sizes, figures, ends, strict=True)
    )
    return Sketch(tuple(numbers), inputs, np.array(digests, np.uint64), _equally_long(signatures))


def _both(dataset: Dataset, graph: ModelGraph, numbers: Sequence[int]) -> Iterator[list[tuple[Array, Array]]]:
    """Each sample's inputs as they are stored and as the model is fed."""
    tensors = [graph.tensors[index] for index in graph.inputs]
    with feeding.opened(dataset) as sources:
        for number in numbers:
            stored = [source.read(number) for source in sources]
            yield [
                (raw, feeding.prepared(spec, raw, tensor, f"{source.where}, sample {number}"))
                for spec, raw, tensor, source in zip(dataset.inputs, stored, tensors, sources, strict=True)
            ]


def _input(tensor: TensorSpec, size: int, figures: Values, seen: _Ends) -> InputSketch:
    low, high = (max(at - 1, 0) / max(seen.values, 1) for at in (seen.at_low, seen.at_high))  # something is at the end
    return InputSketch(tensor.name, steps.is_real(tensor), size, figures, seen.low, seen.high, low, high)


def _figures(fed: Array) -> Values:
    return np.array([fed.mean(dtype=np.float64), fed.std(dtype=np.float64), fed.min(), fed.max()])


def _digest(arrays: Sequence[Array]) -> int:
    digest = hashlib.blake2b(digest_size=8)
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return int.from_bytes(digest.digest(), "little")


def _signature(arrays: Sequence[Array]) -> Values:
    """Values at fixed places, spread irregularly over the sample so that they miss no row or channel."""
    flat = np.concatenate([array.reshape(-1).astype(np.float64) for array in arrays])
    if len(flat) <= SIGNATURE:
        return flat
    return np.asarray(flat[np.random.default_rng(0).integers(0, len(flat), SIGNATURE)])


def _equally_long(rows: Sequence[Values]) -> Values:
    """Signatures as one array, cut to the shortest where samples differ in size."""
    width = min((len(row) for row in rows), default=0)
    return np.array([row[:width] for row in rows]).reshape(len(rows), width)
