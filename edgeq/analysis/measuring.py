"""Stream samples through a chain of models: sums for each operator, memory for one sample at a time."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq import runtimes
from edgeq.analysis import fresh
from edgeq.analysis.cutting import Cut, Feeds, cuts
from edgeq.analysis.gains import Gains, Products, axis_of, shaped
from edgeq.analysis.net import Net, Region
from edgeq.analysis.rows import Missing, Row, prepared_rows, quantized_rows
from edgeq.analysis.sums import KEPT_VALUES, Energy, Spread
from edgeq.types import Port, Progress

if TYPE_CHECKING:
    from edgeq.runtimes import Array, Session

STEP = "analyse"
HEAD = 8
"""Samples from which it is told whether preparing multiplied channels; their inputs are held in memory."""
Sample = tuple["Array", ...]


class Chain(NamedTuple):
    """The models of one conversion: as it came, prepared for quantization, quantized, and as the device runs it."""

    floating: Net
    prepared: Net
    quantized: Net
    runtime: Net


@dataclass(slots=True)
class Sums:
    """What is summed up for one operator."""

    accumulated: Energy = field(default_factory=Energy)
    alone: Energy = field(default_factory=Energy)
    sound: Energy = field(default_factory=Energy)
    kernels: Energy = field(default_factory=Energy)
    clipped: int = 0


@dataclass(slots=True)
class Measured:
    """All sums: by number of a row or prepared row, by input, by step, by tensor of the float model."""

    rows: list[Row | Missing]
    prepared_rows: list[Row]
    operators: dict[int, Sums] = field(default_factory=dict)
    inputs: dict[int, Sums] = field(default_factory=dict)
    prepared: dict[int, Energy] = field(default_factory=dict)
    rescaled: dict[int, Energy] = field(default_factory=dict)
    gains: Gains = field(default_factory=dict)
    steps: dict[str, list[Energy]] = field(default_factory=dict)
    spreads: dict[int, Spread] = field(default_factory=dict)
    refused: set[int] = field(default_factory=set)
    samples: int = 0


class Bench(NamedTuple):
    """Everything that runs for one sample. Functions give stored values by tensor."""

    chain: Chain
    traces: Mapping[str, Callable[[Sample], dict[int, Array]]]
    runtime: Session
    folder: Path
    formats: Any
    numbers: Iterator[int]


def measure(
    chain: Chain, formats: Any, samples: Iterable[Sample], count: int, folder: Path, progress: Progress
) -> Measured:
    """Sums over the samples; `formats` is the module that runs and cuts such files. Raises ModelError."""
    found = Measured(
        rows=quantized_rows(chain.quantized, chain.prepared),
        prepared_rows=[] if chain.prepared is chain.floating else prepared_rows(chain.prepared, chain.floating),
    )
    bench = _bench(chain, formats, found, folder)
    pieces: _Pieces | None = None
    stream = iter(samples)
    head = list(itertools.islice(stream, HEAD))
    found.gains = _gains(found, bench, head)
    for number, sample in enumerate(itertools.chain(head, stream)):
        progress(STEP, number, count)
        traced = {name: trace(sample) for name, trace in bench.traces.items()}
        traced.setdefault("floating", traced["prepared"])
        feeds = _feeds(chain, found, traced["prepared"])
        pieces = _cut(bench, found, feeds) if pieces is None else pieces
        _add(found, chain, traced, feeds, pieces, count)
        _add_steps(found, chain, traced, runtimes.infer(bench.runtime, sample))
        found.samples += 1
    progress(STEP, count, count)
    return found


def _bench(chain: Chain, formats: Any, found: Measured, folder: Path) -> Bench:
    rows = [row for row in found.rows if isinstance(row, Row)]
    before = {tensor for row in rows for tensor in (*row.ends, *row.goals)}
    before |= {tensor for row in rows if row.before is not None for tensor in row.before.ends}
    before |= {tensor for row in found.prepared_rows for tensor in (*row.part.ends, *row.part.goals)}
    wanted = {"prepared": before, "quantized": {goal for row in rows for goal in row.part.goals}}
    if chain.prepared is not chain.floating:
        wanted["floating"] = {theirs for row in found.prepared_rows for theirs in (*row.ends, *row.goals)}
    traces = {}
    for name, tensors in wanted.items():
        net: Net = getattr(chain, name)
        place = Path(tempfile.mkdtemp(dir=folder))
        every = sorted({*tensors, *net.graph.inputs, *net.graph.outputs})
        traces[name] = formats.trace(net, every, place, exact=name == "quantized")
    numbers = itertools.count()
    return Bench(chain, traces, formats.open_runtime(chain.runtime), folder, formats, numbers)


class _Pieces(NamedTuple):
    """Cut models: each row alone, in the arithmetic that the name says."""

    float_: list[Cut]
    sound: list[Cut]
    exact: list[Cut]
    fast: list[Cut]
    original: list[Cut]


class Fed(NamedTuple):
    """Values for the ends of each row, by tensor: stored, the same as real numbers, and for rows of preparing."""

    stored: dict[int, Feeds]
    real: dict[int, Feeds]
    original: dict[int, Feeds]
    rescaled: dict[int, Feeds]


def _feeds(chain: Chain, found: Measured, prepared: Mapping[int, Array]) -> Fed:
    """Each row's inputs: the float run's values, rounded as the quantized model stores them."""
    stored: dict[int, Feeds] = {}
    real: dict[int, Feeds] = {}
    for number, row in enumerate(found.rows):
        if isinstance(row, Row):
            stored[number], real[number] = _row_feeds(chain.quantized, row, prepared)
    original: dict[int, Feeds] = {
        number: {theirs: prepared[ours] for theirs, ours in row.ends.items()}
        for number, row in enumerate(found.prepared_rows)
    }
    rescaled: dict[int, Feeds] = {
        number: {theirs: _divided(prepared[ours], found.gains.get(ours)) for theirs, ours in row.ends.items()}
        for number, row in enumerate(found.prepared_rows)
        if found.gains
    }
    return Fed(stored, real, original, rescaled)


def _divided(value: Array, by: NDArray[np.float64] | None) -> Array:
    return value if by is None else np.asarray(np.asarray(value, np.float64) / by, value.dtype)


def _row_feeds(net: Net, row: Row, prepared: Mapping[int, Array]) -> tuple[Feeds, Feeds]:
    stored, real = {}, {} if row.before is None else {end: prepared[end] for end in row.before.ends}
    for theirs, ours in row.ends.items():
        port = net.port(ours)
        value = prepared[theirs]
        stored[ours] = runtimes.encode(port, value) if port.scale is not None else value.astype(port.dtype)
        real[theirs] = runtimes.decode(port, stored[ours])
    return stored, real


def _cut(bench: Bench, found: Measured, fed: Fed) -> _Pieces:
    rows = {number: row for number, row in enumerate(found.rows) if isinstance(row, Row)}
    before = {number: row.before for number, row in rows.items() if row.before is not None}
    after = {number: row.after for number, row in rows.items()}
    original = {n: row.before for n, row in enumerate(found.prepared_rows) if row.before is not None}
    prepared, quantized = bench.chain.prepared, bench.chain.quantized
    sound = _sound_weights(bench, rows)
    pieces = _Pieces(
        _opened(bench, prepared, before, fed.real, exact=False),
        _opened(
            bench, prepared, {n: r for n, r in before.items() if rows[n].weights}, fed.real, exact=False, replaced=sound
        ),
        _opened(bench, quantized, after, fed.stored, exact=True),
        _opened(bench, bench.chain.runtime, after, fed.stored, exact=False),
        _opened(bench, bench.chain.floating, original, fed.original, exact=False),
    )
    run = {number for cut in pieces.exact for number in cut.numbers}
    run &= {number for cut in pieces.float_ for number in cut.numbers} | (rows.keys() - before.keys())
    found.refused = rows.keys() - run
    return pieces


def _opened(
    bench: Bench,
    net: Net,
    regions: Mapping[int, Region],
    feeds: Mapping[int, Feeds],
    *,
    exact: bool,
    replaced: Mapping[int, Array] | None = None,
) -> list[Cut]:
    def open_cut(chosen: Sequence[Region], folder: Path) -> Session:
        path = folder / f"cut{next(bench.numbers)}.{net.graph.format}"
        seen = {end: array for one in feeds.values() for end, array in one.items()}
        session: Session = bench.formats.cut(net, chosen, seen, path, exact=exact, replaced=replaced or {})
        return session

    return cuts(regions, feeds, bench.folder, open_cut)


def _sound_weights(bench: Bench, rows: Mapping[int, Row]) -> dict[int, Array]:
    """Float weights by tensor of the prepared model, quantized anew."""
    found: dict[int, Array] = {}
    for row in rows.values():
        for weight in row.weights:
            values = bench.formats.constant(bench.chain.prepared, weight.original)
            stored = bench.chain.quantized.graph.tensors[weight.stored]
            made = None if values is None else fresh.fresh(values, stored)
            if made is not None:
                found[weight.original] = made
    return found


def _add(
    found: Measured,
    chain: Chain,
    traced: Mapping[str, Mapping[int, Array]],
    fed: Fed,
    pieces: _Pieces,
    count: int,
) -> None:
    prepared, quantized = traced["prepared"], traced["quantized"]
    float_, exact = _results(pieces.float_, fed.real), _results(pieces.exact, fed.stored)
    sound, fast = _results(pieces.sound, fed.real), _results(pieces.fast, fed.stored)
    for number, row in enumerate(found.rows):
        if not isinstance(row, Row) or number in found.refused:
            continue
        ports = [chain.quantized.port(goal) for goal in row.part.goals]
        ideal = float_[number] if row.before is not None else [fed.real[number][goal] for goal in row.goals]
        reals = [runtimes.decode(port, value) for port, value in zip(ports, exact[number], strict=True)]
        sums = found.operators.setdefault(number, Sums())
        for place, (port, goal) in enumerate(zip(ports, row.part.goals, strict=True)):
            reference = prepared[row.goals[place]]
            sums.accumulated.add(reference, runtimes.decode(port, quantized[goal]))
            sums.alone.add(ideal[place], reals[place])
            if number in sound:
                sums.sound.add(ideal[place], sound[number][place])
            if number in fast:
                sums.kernels.add(reals[place], runtimes.decode(port, fast[number][place]))
            sums.clipped += clipped(port, ideal[place])
    _add_prepared(found.prepared, {}, found, pieces, fed.original, prepared)
    if found.gains:
        _add_prepared(found.rescaled, found.gains, found, pieces, fed.rescaled, prepared)
    _add_inputs(found, chain, traced)
    _observe(found, chain, prepared, count)


def _add_prepared(
    sums: dict[int, Energy],
    gains: Gains,
    found: Measured,
    pieces: _Pieces,
    feeds: Mapping[int, Feeds],
    prepared: Mapping[int, Array],
) -> None:
    """The original's pieces, fed by the prepared model, beside what that one makes itself."""
    for number, values in _results(pieces.original, feeds).items():
        for goal, value in zip(found.prepared_rows[number].part.goals, values, strict=True):
            made = _divided(prepared[goal], gains.get(goal))
            sums.setdefault(number, Energy()).add(value, made)


def _gains(found: Measured, bench: Bench, head: Iterable[Sample]) -> Gains:
    """Tensors of the prepared model whose channels were multiplied, by what, from the first samples."""
    pairs = {ours: theirs for row in found.prepared_rows for theirs, ours in row.ends.items()}
    for row in found.prepared_rows:
        pairs |= dict(zip(row.part.goals, row.goals, strict=True))
    products: dict[int, Products] = {}
    ranks: dict[int, int] = {}
    for sample in head if pairs else ():
        before, after = bench.traces["floating"](sample), bench.traces["prepared"](sample)
        for ours, theirs in pairs.items():
            value = after[ours]
            ranks[ours] = value.ndim
            axis = axis_of(value, bench.chain.prepared.graph.format)
            products.setdefault(ours, Products(axis)).add(before[theirs], value)
    made = {ours: one.gain() for ours, one in products.items()}
    return {ours: shaped(one, products[ours].axis or 0, ranks[ours]) for ours, one in made.items() if one is not None}


def _results(pieces: Iterable[Cut], feeds: Mapping[int, Feeds]) -> dict[int, list[Array]]:
    return {number: values for cut in pieces for number, values in cut.run(feeds)}


def _add_inputs(found: Measured, chain: Chain, traced: Mapping[str, Mapping[int, Array]]) -> None:
    """Inputs that the quantized model takes as integers: what rounding and clipping them costs."""
    for ours, theirs in zip(chain.quantized.graph.inputs, chain.prepared.graph.inputs, strict=True):
        port = chain.quantized.port(ours)
        if port.scale is not None:
            value = traced["prepared"][theirs]
            sums = found.inputs.setdefault(ours, Sums())
            rounded = runtimes.decode(port, runtimes.encode(port, value))
            sums.alone.add(value, rounded)
            sums.accumulated.add(value, rounded)
            sums.clipped += clipped(port, value)


def clipped(port: Port, real: Array) -> int:
    """How many values lie more than half a step outside what the port can store."""
    if port.scale is None:
        return 0
    limits, zero = np.iinfo(port.dtype), port.zero_point or 0
    low, high = ((end - zero) * port.scale for end in (limits.min - 0.5, limits.max + 0.5))
    values = np.asarray(real, np.float64)
    return int(np.count_nonzero((values < low) | (values > high)))


def _observe(found: Measured, chain: Chain, prepared: Mapping[int, Array], count: int) -> None:
    """Ranges and histograms of the float results that rows are compared with, each once."""
    tensors = {goal for row in found.rows if isinstance(row, Row) for goal in row.goals}
    for tensor in tensors | set(chain.prepared.graph.inputs):
        value = prepared[tensor]
        if np.issubdtype(value.dtype, np.floating):
            if tensor not in found.spreads:
                axis = axis_of(value, chain.prepared.graph.format)
                found.spreads[tensor] = Spread(keep=max(1, KEPT_VALUES // max(count, 1)), axis=axis)
            found.spreads[tensor].add(value)


def _add_steps(
    found: Measured, chain: Chain, traced: Mapping[str, Mapping[int, Array]], answers: Sequence[Array]
) -> None:
    """Likeness of the models' outputs, each to the model before, and of the last to the first."""
    outputs = {
        name: [runtimes.decode(net.port(tensor), traced[name][tensor]) for tensor in net.graph.outputs]
        for name, net in (("floating", chain.floating), ("prepared", chain.prepared), ("quantized", chain.quantized))
    }
    outputs["runtime"] = list(answers)
    pairs = {"prepared": "floating", "quantized": "prepared", "runtime": "quantized"}
    for name, before in pairs.items():
        sums = found.steps.setdefault(name, [Energy() for _ in outputs[before]])
        for energy, one, other in zip(sums, outputs[before], outputs[name], strict=True):
            if np.issubdtype(one.dtype, np.floating):
                energy.add(one, other)
