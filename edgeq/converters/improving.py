"""What makes a float model easier to quantize, and a quantized one nearer to float, in numbers of any format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeq.datasets.streaming import ahead
from edgeq.quantization import equalization, rounding
from edgeq.quantization.equalization import Site
from edgeq.quantization.layers import Layer, Statistics
from edgeq.quantization.rounding import Grid
from edgeq.types import Dataset, ModelGraph, Plan, Progress, RangeMethod

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
RIVAL_NOTE = f"ranges by {RIVAL} bring answers nearer to float"
MANY = 50
"""Calibration samples from which on a mean of their extremes says something of others."""
LESS = 0.9
"""Squared error, relative to that by the plan's ranges, that the rival must stay below ..."""
VOTE = 2 / 3
"""... and the share of samples whose answers must come nearer: a sum alone hangs on one or two of them."""

Samples: TypeAlias = Callable[[int], Iterable[tuple[Array, ...]]]
"""The first so many of the samples that are looked at, anew at each call."""


class Known(NamedTuple):
    """A model's layers by name, what they read, and what the original answers to the samples.

    `rounded` holds what was found for a layer before, with its scales.
    """

    layers: Mapping[str, Layer]
    seen: Mapping[str, Statistics]
    answers: Sequence[Sequence[Array]] = ()
    rounded: dict[str, tuple[Array, Array]] | None = None


def spread(dataset: Dataset, graph: ModelGraph, plan: Plan) -> tuple[Samples, int]:
    """The samples for a corrected scheme, and how many there are; none for others."""
    return evenly(dataset, graph) if plan.scheme.corrected else (lambda _: (), 0)


def evenly(dataset: Dataset, graph: ModelGraph) -> tuple[Samples, int]:
    """Evenly spread calibration samples, and how many there are: files are often sorted by class."""
    from edgeq import datasets

    pool = dataset.calibration
    most = min(max(WORK_MACS // max(graph.macs, 1), FEWEST), SAMPLES, len(pool))
    chosen = datasets.spread(pool, most)
    return lambda count: datasets.samples(dataset, graph, chosen[:count]), len(chosen)


def is_per_channel(plan: Plan) -> bool:
    """Whether each output's weights have a scale of their own."""
    return plan.scheme.default.granularity == "per-channel"


def observed(
    layers: Mapping[str, Layer],
    stream: Iterable[Mapping[str, Array]],
    outputs: Sequence[str],
    count: int,
    progress: Progress,
) -> Known:
    """What layers read, over a stream of the tensors that they read and of the model's outputs."""
    seen = {name: Statistics(layer) for name, layer in layers.items()}
    answers: list[list[Array]] = []
    for done, tensors in enumerate(ahead(stream)):
        progress("look at layers", done, count)
        for name, one in seen.items():
            one.update(tensors[layers[name].source])
        answers.append([np.array(tensors[name]) for name in outputs])
    progress("look at layers", count, count)
    return Known(layers, seen, answers, {})


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


def has_rival(plan: Plan, known: Known, samples: int) -> bool:
    """Whether other ranges than the plan's are tried, which so many calibration samples give."""
    return bool(known.answers) and samples >= MANY and plan.scheme.ranges != RIVAL


def is_nearer(known: Known, before: Iterable[Sequence[Array]], after: Iterable[Sequence[Array]]) -> bool:
    """Whether a second file's answers are clearly nearer to the original's than a first one's, and for most samples."""
    errors = np.array([[_error(*pair) for pair in zip(known.answers, one, strict=True)] for one in (before, after)])
    return bool(errors[1].sum() < LESS * errors[0].sum() and np.mean(errors[1] < errors[0]) >= VOTE)


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
