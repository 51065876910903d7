"""Rules about how samples are prepared: the float model answers better to the same samples prepared otherwise.

The float model is the judge: of two preparations of the same samples the one is right whose answers fit the labels
better, beyond chance. Without labels those answers are better that differ more from sample to sample, or else are
surer: a model that is fed what it was trained on is sure of something, and of other things for other samples. Inputs
that are too small make all answers alike; inputs that are too large make it sure of the same everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from edgeq.datasets import feeding, steps
from edgeq.datasets.truth import PAIRED
from edgeq.evaluation.doctor import quality
from edgeq.evaluation.doctor.answers import Answers, answers, chosen, first_output, part
from edgeq.evaluation.doctor.findings import applied, finding
from edgeq.evaluation.doctor.labels import certain
from edgeq.evaluation.doctor.quality import Paired
from edgeq.evaluation.doctor.variants import Extent, Variant, variants
from edgeq.types import Dataset, Finding, ModelGraph, Progress, TensorSpec, silent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgeq.runtimes import Session

    Array = NDArray[Any]
    Values = NDArray[np.float64]
    Sample = tuple[Array, ...]

SAMPLES = 128
FIRST_LOOK = 16
FINALISTS = 3
STORED_BYTES = 256 << 20
BETTER = 0.02
MUCH, ALIKE = 1.5, 0.9
"""Times as distinct: answers that were nearly all the same; answers of which the surer ones are better."""
STEP = "trying other preparations"


class Rival(NamedTuple):
    """Another preparation of one input: how well answers fit as it is given and otherwise, and the gain."""

    variant: Variant
    name: str
    given: float
    other: float
    gain: Paired
    measure: str
    merit: float


Rule = Callable[[Rival], "Finding | None"]


class Bench(NamedTuple):
    """A float model and some stored samples to try on it."""

    session: Session
    dataset: Dataset
    graph: ModelGraph
    numbers: tuple[int, ...]
    stored: tuple[Sample, ...]


def set_up(session: Session, dataset: Dataset, graph: ModelGraph, most: int = SAMPLES) -> Bench:
    """Read at most so many stored samples, or 256 MiB of them."""
    numbers = chosen(dataset, most)
    with feeding.opened(dataset) as sources:
        first = tuple(source.read(numbers[0]) for source in sources)
        room = max(2, STORED_BYTES // max(1, sum(value.nbytes for value in first)))
        numbers = chosen(dataset, min(most, room))
        stored = tuple(tuple(source.read(number) for source in sources) for number in numbers)
    return Bench(session, dataset, graph, tuple(numbers), stored)


def rivals(bench: Bench, progress: Progress = silent) -> Iterator[Rival]:
    """The best other preparations of each real input: all are tried on a few samples, the best on all of them."""
    given = tried(bench, range(len(bench.stored)))
    few = _few(bench)
    for place, tensor in enumerate(_tensors(bench)):
        if not steps.is_real(tensor):
            continue
        ranked: list[tuple[float, Variant]] = []
        known = _variants(bench, place, tensor)
        for done, variant in enumerate(known):
            progress(STEP, done, len(known))
            rival = _rival(part(given, few), tried(bench, few, place, variant), variant, tensor.name)
            if rival is not None and rival.gain.mean > 0:
                ranked.append((rival.merit, variant))
        progress(STEP, len(known), len(known))
        for _, variant in sorted(ranked, key=lambda pair: -pair[0])[:FINALISTS]:
            rival = _rival(given, tried(bench, range(len(bench.stored)), place, variant), variant, tensor.name)
            if rival is not None:
                yield rival


def _few(bench: Bench) -> list[int]:
    """Places of a few samples; all where pairs are compared with one another."""
    count = len(bench.stored)
    return list(range(count)) if bench.dataset.metric == PAIRED else list(range(0, count, -(-count // FIRST_LOOK)))


def _tensors(bench: Bench) -> list[TensorSpec]:
    return [bench.graph.tensors[index] for index in bench.graph.inputs]


def _variants(bench: Bench, place: int, tensor: TensorSpec) -> list[Variant]:
    values = [sample[place] for sample in bench.stored]
    spec = bench.dataset.inputs[place]
    fed = feeding.prepared(spec, values[0], tensor, bench.dataset.path)
    return variants(spec, values[0].shape, _bare(fed, tensor).shape, extent(values))


def extent(values: Iterable[Array]) -> Extent:
    """Ends, mean and standard deviation of stored values."""
    flat = [value.reshape(-1) for value in values]
    count = sum(one.size for one in flat)
    mean = sum(float(one.sum(dtype=np.float64)) for one in flat) / max(count, 1)
    variance = sum(float(((one.astype(np.float64) - mean) ** 2).sum()) for one in flat) / max(count, 1)
    return Extent(min(float(one.min()) for one in flat), max(float(one.max()) for one in flat), mean, variance**0.5)


def tried(bench: Bench, places: Sequence[int], place: int = -1, variant: Variant | None = None) -> Answers:
    """The model's answers to some of the samples, one input prepared otherwise."""
    fed = (_fed(bench, bench.stored[k], place, variant) for k in places)
    return answers(bench.dataset, [bench.numbers[k] for k in places], (first_output(bench.session, one) for one in fed))


def _fed(bench: Bench, sample: Sample, place: int, variant: Variant | None) -> list[Array]:
    made = []
    for number, (spec, tensor, stored) in enumerate(zip(bench.dataset.inputs, _tensors(bench), sample, strict=True)):
        if variant is None or number != place:
            made.append(feeding.prepared(spec, stored, tensor, bench.dataset.path))
            continue
        ready = feeding.prepared(variant.spec, stored, tensor, bench.dataset.path)
        made.append(np.ascontiguousarray(variant.turn(_bare(ready, tensor))).reshape(ready.shape))
    return made


def _bare(fed: Array, tensor: TensorSpec) -> Array:
    """Without the batch axis, where there is one."""
    return fed[0] if fed.ndim and tensor.shape and tensor.shape[0] in (1, -1) else fed


def _rival(given: Answers, other: Answers, variant: Variant, name: str) -> Rival | None:
    """The comparison by labels; without them by how distinct the answers are, which goes first, then by how sure."""
    if not np.isfinite(other.outputs).all() or given.outputs.shape != other.outputs.shape:
        return None
    own, its = given.fit(), other.fit()
    if own is not None and its is not None:
        return _compared(variant, name, own, its, "fit of answers to labels", float(its.mean()))
    pairs = [(measure(given.outputs), measure(other.outputs)) for measure in (quality.distinctness, quality.confidence)]
    (distinct, its_distinct), (sure, its_sure) = pairs
    merit = float((its_distinct * its_sure).mean())
    if its_distinct.mean() >= MUCH * distinct.mean():
        return _compared(variant, name, distinct, its_distinct, "distinctness of answers", 1 + merit)
    if its_distinct.mean() >= ALIKE * distinct.mean():
        return _compared(variant, name, sure, its_sure, "confidence of answers", merit)
    return None


def _compared(variant: Variant, name: str, own: Values, its: Values, measure: str, merit: float) -> Rival:
    return Rival(variant, name, float(own.mean()), float(its.mean()), quality.paired(its, own), measure, merit)


def other_scaling(rival: Rival) -> Finding | None:
    """The model was trained on values of another scale."""
    return _preferred(rival, other_scaling) if rival.variant.kind == "scaling" else None


def other_colours(rival: Rival) -> Finding | None:
    """The model was trained on the other order of colours."""
    return _preferred(rival, other_colours) if rival.variant.kind == "colour" else None


def other_layout(rival: Rival) -> Finding | None:
    """The model was trained on another order of axes."""
    return _preferred(rival, other_layout) if rival.variant.kind == "layout" else None


RULES: tuple[Rule, ...] = (other_scaling, other_colours, other_layout)


def _preferred(rival: Rival, rule: Rule) -> Finding | None:
    if not certain(rival.gain, BETTER):
        return None
    detail = (
        f"with {rival.variant.right} for {rival.name!r} the {rival.measure} is {rival.other:.3g}, as given "
        f"{rival.given:.3g} ({rival.gain.samples} samples, {rival.gain.z:.0f} standard errors)"
    )
    figures = {"given": rival.given, "other": rival.other, "z": rival.gain.z}
    return finding(rule, "warning", detail, rival.variant.right, **figures)


def findings(found: Iterable[Rival]) -> Iterator[Finding]:
    """The best other preparation of each input, where it is surely better.

    What is second best may only make up for the same fault: mend the first and look again.
    """
    told: dict[str, tuple[float, Finding]] = {}
    for rival in found:
        for one in applied(RULES, rival):
            if rival.name not in told or told[rival.name][0] < rival.merit:
                told[rival.name] = (rival.merit, one)
    yield from (one for _, one in told.values())
