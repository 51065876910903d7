"""Where each buffer lies in one arena, greedy by size, with outputs that may creep over the inputs they consume.

A kernel that reads its input from the front and writes its output from the front may write over what it has read. A
lag says how far it must stay behind: `lags[read, written] = d` lets `written` begin anywhere at or below the start of
`read` minus `d` bytes, overlapping it or not. In place is a lag of 0. Source of the planner: Pisarchyk and Lee,
Efficient Memory Management for Deep Neural Net Inference, 2020; the overlap is known as diagonal memory optimisation.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from edgeq.models.liveness import ALIGNMENT_BYTES

Lags = Mapping[tuple[int, int], int]
"""(buffer read, buffer written) -> bytes by which the written one begins below the read one, at least."""

_TRIES = 400
_WORK = 600_000
"""Pairs of buffers looked at, so that a graph of a thousand operators is planned in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """Bytes that must stay untouched while the operators at steps `first` to `last` (both included) run."""

    number: int
    first: int
    last: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Offset of each buffer in the arena and the arena's size, both multiples of 16 bytes."""

    offsets: dict[int, int]
    size_bytes: int


def plan(buffers: Sequence[Buffer], lags: Lags | None = None) -> Layout:
    """The smallest of a few hundred greedy layouts, the same one each time."""
    usable = _usable(buffers, lags or {})
    rows = [buffer for buffer in buffers if buffer.size_bytes]
    neighbours = {one.number: [other for other in rows if _meet(one, other)] for one in rows}
    best: Layout | None = None
    bound = _bound(rows) if not usable else 0
    for order in _orders(rows):
        layout = _place(order, neighbours, usable)
        if best is None or layout.size_bytes < best.size_bytes:
            best = layout
        if best.size_bytes <= bound:
            break
    found = best or Layout(offsets={}, size_bytes=0)
    empty = {buffer.number: 0 for buffer in buffers if not buffer.size_bytes}
    return Layout(offsets={**empty, **found.offsets}, size_bytes=found.size_bytes)


def aligned(size_bytes: int) -> int:
    """Rounded up to the arena's alignment."""
    return -(-size_bytes // ALIGNMENT_BYTES) * ALIGNMENT_BYTES


def _usable(buffers: Iterable[Buffer], lags: Lags) -> dict[tuple[int, int], int]:
    """Lags of pairs that meet at one step only, where the one is read for the last time and the other made."""
    known = {buffer.number: buffer for buffer in buffers}
    return {
        (read, written): lag
        for (read, written), lag in lags.items()
        if read != written and known[read].last == known[written].first and known[read].first < known[written].first
    }


def _meet(one: Buffer, other: Buffer) -> bool:
    return one.number != other.number and one.first <= other.last and other.first <= one.last


def _bound(buffers: Sequence[Buffer]) -> int:
    """No arena without overlaps is smaller: the most bytes alive at one step."""
    steps = {buffer.first for buffer in buffers}
    return max((sum(aligned(b.size_bytes) for b in buffers if b.first <= step <= b.last) for step in steps), default=0)


def _orders(buffers: Sequence[Buffer]) -> Iterable[list[Buffer]]:
    """Orders of placement: by size with ties from the front or the end, by time, then shuffled ones."""
    yield sorted(buffers, key=lambda b: (-b.size_bytes, b.first, b.number))
    yield sorted(buffers, key=lambda b: (-b.size_bytes, -b.last, -b.number))
    yield sorted(buffers, key=lambda b: (-b.last, b.first, b.number))
    yield sorted(buffers, key=lambda b: (b.first, -b.last, b.number))
    generator = random.Random(0)  # noqa: S311 the same layouts each time, nothing secret
    tries = min(20 * len(buffers), _TRIES, _WORK // max(1, len(buffers) ** 2)) if len(buffers) > 2 else 0
    for _ in range(tries):
        yield sorted(buffers, key=lambda b: (-b.size_bytes * generator.uniform(0.4, 1), generator.random()))


def _place(
    order: Sequence[Buffer], neighbours: Mapping[int, Sequence[Buffer]], lags: Mapping[tuple[int, int], int]
) -> Layout:
    offsets: dict[int, int] = {}
    end = 0
    for buffer in order:
        placed = (other for other in neighbours[buffer.number] if other.number in offsets)
        taken = sorted(_taken(buffer, other, offsets[other.number], lags) for other in placed)
        offset = 0
        for low, high in taken:
            if low < offset < high:
                offset = aligned(high)
        offsets[buffer.number] = offset
        end = max(end, offset + aligned(buffer.size_bytes))
    return Layout(offsets=offsets, size_bytes=end)


def _taken(buffer: Buffer, other: Buffer, at: int, lags: Mapping[tuple[int, int], int]) -> tuple[int, int]:
    """The open interval of offsets that `buffer` may not have because `other` lies at `at`."""
    low, high = at - aligned(buffer.size_bytes), at + aligned(other.size_bytes)
    if (other.number, buffer.number) in lags:  # the buffer is written while the other is read
        low = max(low, at - lags[other.number, buffer.number])
    if (buffer.number, other.number) in lags:  # the buffer is read while the other is written
        high = min(high, at + lags[buffer.number, other.number])
    return low, high
