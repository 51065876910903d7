"""What makes a float model easier to quantize, and a quantized one nearer to float, in numbers of any format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from edgeq.datasets.streaming import ahead
from edgeq.quantization import equalization, rounding
from edgeq.quantization.equalization import Site
from edgeq.quantization.layers import Layer, Statistics
from edgeq.quantization.rounding import Grid
from edgeq.types import Dataset, ModelGraph, Plan, Progress, RangeMethod, Scheme

T = TypeVar("T")
Array = NDArray[Any]
SAMPLES = 32
"""Most calibration samples from which layers' statistics are taken."""
FEWEST = 10
"""And how many at least; a large model has many positions to each."""
WORK_MACS = 1_600_000_000
"""What looking at layers may cost, in multiply-accumulates of the model, beyond the fewest samples."""
CHECKED = 4
"""Samples on which a prepared model is held against the original."""
FAITHFUL_DB = 35.0
"""SQNR of a prepared model to the original below which it is not used: 8 bits leave 15 to 45 dB."""

RIVAL: RangeMethod = "mean-min-max"
"""Ranges that are tried against the plan's: tight where few samples reach far (mobilenet_v2), too tight elsewhere."""
ENOUGH_DB = 25.0
"""SQNR on the samples that are looked at from which on a file is taken as the quantizer wrote it."""
MENDED_NOTE = "weights were rounded by what layers read, and biases took what the mean lost"
RIVAL_NOTE = f"ranges by {RIVAL} bring answers nearer to float"
MANY = 50
"""Calibration samples from which on a mean of their extremes says something of others."""
LESS = 0.9
"""Squared error, relative to that by the plan's ranges, that the rival must stay below ..."""
VOTE = 2 / 3
"""... and the share of samples whose answers must come nearer: a sum alone hangs on one or two of them."""

Samples: TypeAlias = Callable[[int], Iterable[tuple[Array, ...]]]
"""The first so many of the samples that are looked at, anew at each call."""


class Watcher(Protocol):
    """Sums up the values that one tensor takes."""

    def update(self, values: Array) -> None:
        """Take one more sample's values."""
        ...


class Known(NamedTuple):
    """A model's layers by name, what they read if that was looked at, and what the original answers to the samples.

    `rounded` holds what was found for a layer before, with its scales.
    """

    layers: Mapping[str, Layer]
    seen: Mapping[str, Statistics]
    answers: Sequence[Sequence[Array]] = ()
    rounded: dict[str, tuple[Array, Array]] | None = None


NONE: tuple[Samples, int] = (lambda _: (), 0)


def spread(dataset: Dataset, graph: ModelGraph, plan: Plan) -> tuple[Samples, int]:
    """The samples on which a file is held against float, and how many there are; none for other than 8 bits."""
    if plan.scheme.corrected:
        return evenly(dataset, graph)
    is_narrow = plan.scheme.is_static and plan.scheme.default.activations in ("int8", "uint8")
    return evenly(dataset, graph, FEWEST) if is_narrow else NONE


def evenly(dataset: Dataset, graph: ModelGraph, most: int = SAMPLES) -> tuple[Samples, int]:
    """Evenly spread calibration samples, and how many there are: files are often sorted by class."""
    from edgeq import datasets

    pool = dataset.calibration
    most = min(max(WORK_MACS // max(graph.macs, 1), FEWEST), most, len(pool))
    chosen = datasets.spread(pool, most)
    return lambda count: datasets.samples(dataset, graph, chosen[:count]), len(chosen)


def is_per_channel(scheme: Scheme) -> bool:
    """Whether each output's weights have a scale of their own."""
    return scheme.default.granularity == "per-channel"


def observed(
    layers: Mapping[str, Layer],
    stream: Iterable[Mapping[str, Array]],
    outputs: Sequence[str],
    count: int,
    progress: Progress,
) -> Known:
    """What layers read, over a stream of the tensors that they read and of the model's outputs."""
    seen = {name: Statistics(layer) for name, layer in layers.items()}
    answers = watched(seen, layers, stream, outputs, lambda done: progress("look at layers", done, count))
    progress("look at layers", count, count)
    return Known(layers, seen, answers, {})


def watched(
    seen: Mapping[str, Watcher],
    layers: Mapping[str, Layer],
    stream: Iterable[Mapping[str, Array]],
    outputs: Sequence[str],
    step: Callable[[int], None],
) -> list[list[Array]]:
    """The answers to each sample, while every layer's watcher sees what the layer reads."""
    answers: list[list[Array]] = []
    for done, tensors in enumerate(ahead(stream)):
        step(done)
        for name, one in seen.items():
            one.update(tensors[layers[name].source])
        answers.append([np.array(tensors[name]) for name in outputs])
    return answers


def equalized(known: Known, places: Iterable[Site]) -> tuple[Known, int]:
    """The layers after channels were multiplied where that pays, and at how many places it did."""
    layers, seen, count = dict(known.layers), dict(known.seen), 0
    for site in places:
        made = equalization.factors(site, layers, seen)
        if made is None:
            continue
        count += 1
        for name in site.makers:
            weights, bias = equalization.as_maker(layers[name], made)
            layers[name] = replace(layers[name], weights=weights, bias=bias)
        for name in site.readers:
            layers[name] = replace(layers[name], weights=equalization.as_reader(layers[name], made))
            seen[name] = seen[name].multiplied(made)
    return known._replace(layers=layers, seen=seen, rounded={}), count


def is_faithful(known: Known, answers: Iterable[Sequence[Array]]) -> bool:
    """Whether a prepared model answers the first samples as the original did."""
    signal = noise = 0.0
    for before, after in zip(known.answers[:CHECKED], answers, strict=True):
        for one, other in zip(before, after, strict=True):
            wanted = one.astype(np.float64)
            signal += float((wanted**2).sum())
            noise += float(((wanted - other.astype(np.float64).reshape(one.shape)) ** 2).sum())
    return noise == 0 or (math.isfinite(noise) and noise * 10 ** (FAITHFUL_DB / 10) < signal)


def methods(plan: Plan, known: Known, samples: int) -> list[RangeMethod]:
    """Ranges that are tried, the plan's first, from so many calibration samples."""
    own = plan.scheme.ranges
    return [own, RIVAL] if known.answers and samples >= MANY and own != RIVAL else [own]


def best(
    known: Known,
    scheme: Scheme,
    ranges: Sequence[RangeMethod],
    make: Callable[[RangeMethod], T],
    mend: Callable[[T], T],
    answer: Callable[[T], Iterable[Sequence[Array]]],
) -> tuple[T, tuple[str, ...]]:
    """The file that answers nearest to float, and its notes; no more are tried once one is near enough.

    `mend` gives a copy with other weights and biases: a corrected scheme's files all get them, another's first does
    without. A later file is taken only when it is clearly nearer, and for most samples.
    """
    plain = make(ranges[0])
    told = () if scheme.corrected else (MENDED_NOTE,)
    tries = [((*told, RIVAL_NOTE), method) for method in ranges[1:]]
    if known.answers and not scheme.corrected:
        tries.insert(0, (told, ranges[0]))
    made: T = mend(plain) if scheme.corrected else plain
    notes: tuple[str, ...] = ()
    if not tries:
        return made, notes
    bound = math.inf if scheme.corrected else 10 ** (ENOUGH_DB / 10)  # who asks for corrections gets the best
    signal = sum(float((one.astype(np.float64) ** 2).sum()) for sample in known.answers for one in sample)
    errors = _errors(known, answer(made))
    for words, method in tries:
        if errors.sum() * bound <= signal:
            break
        other = mend(plain if method == ranges[0] else make(method))
        others = _errors(known, answer(other))
        if is_nearer(errors, others):
            made, notes, errors = other, words, others
    return made, notes


def is_nearer(before: Array, after: Array) -> bool:
    """Whether a second file's squared errors, one for each sample, are clearly below a first one's."""
    return bool(after.sum() < LESS * before.sum() and np.mean(after < before) >= VOTE)


def _errors(known: Known, answers: Iterable[Sequence[Array]]) -> Array:
    return np.array([_error(*pair) for pair in zip(known.answers, answers, strict=True)])


def _error(wanted: Sequence[Array], made: Sequence[Array]) -> float:
    gaps = (one.astype(np.float64) - other.reshape(one.shape) for one, other in zip(wanted, made, strict=True))
    return float(sum((gap**2).sum() for gap in gaps))


def note(count: int, places: int, *, is_kept: bool) -> list[str]:
    """What users are told of equalization."""
    if not count:
        return []
    told = f"channels were equalized at {count} of {places} places"
    return [told if is_kept else f"{told}, which changed the answers: the model was taken as it was"]


def corrected(name: str, known: Known, grid: Grid, *, has_bias: bool) -> tuple[Array, Array | None] | None:
    """Integers of a layer's weights, and what to add to its bias; None for a layer of which nothing was seen."""
    layer, seen = known.layers.get(name), known.seen.get(name)
    if layer is None or seen is None or seen.count == 0:
        return None
    before = known.rounded.get(name) if known.rounded is not None else None
    if before is not None and np.array_equal(before[0], grid.scales):
        integers = before[1]
    else:
        integers = rounding.rounded(layer, grid, seen, is_centred=has_bias)
        if known.rounded is not None:
            known.rounded[name] = grid.scales, integers
    return integers, rounding.bias_shift(layer, grid, integers, seen) if has_bias else None


def mended(held: Array, scales: Array | None, shift: Array) -> Array:
    """A bias with a shift added: integers of these scales, of at most 32 bits, or float ones without."""
    if scales is None:
        return np.asarray(held + shift, held.dtype)
    limits = np.iinfo(np.int32)
    steps = np.rint(shift / scales.astype(np.float64)).astype(np.int64)
    return np.asarray(np.clip(held.astype(np.int64) + steps, limits.min, limits.max), held.dtype)
