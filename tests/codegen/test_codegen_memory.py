"""The arena: live buffers never share bytes, except where a kernel may creep over what it has read."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.codegen import memory
from edgeq.codegen.memory import Buffer, Layout
from edgeq.models.liveness import ALIGNMENT_BYTES


def buffer(number: int, first: int, last: int, size_bytes: int) -> Buffer:
    return Buffer(number=number, first=first, last=last, size_bytes=size_bytes)


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[Buffer], dict[tuple[int, int], int]]:
    """Buffers with lifetimes, and lags between some, of which only those at a hand-over may be used."""
    count = draw(st.integers(1, 9))
    buffers = []
    for number in range(count):
        first = draw(st.integers(0, 6))
        buffers.append(buffer(number, first, draw(st.integers(first, 7)), draw(st.integers(0, 200))))
    pairs = st.tuples(st.integers(0, count - 1), st.integers(0, count - 1))
    return buffers, draw(st.dictionaries(pairs, st.integers(-50, 200), max_size=8))


def conflicts(buffers: list[Buffer], layout: Layout) -> list[tuple[Buffer, Buffer]]:
    """Pairs of buffers that are alive together and share a byte, the one that was made first in front."""
    found = []
    for one, other in combinations(sorted(buffers, key=lambda b: b.first), 2):
        at, to = layout.offsets[one.number], layout.offsets[other.number]
        together = one.first <= other.last and other.first <= one.last
        if together and at < to + other.size_bytes and to < at + one.size_bytes and one.size_bytes and other.size_bytes:
            found.append((one, other))
    return found


def overwritten(read: Buffer, written: Buffer, layout: Layout, lag: int) -> bool:
    """Whether a kernel that stays `lag` bytes behind its reading would lose something, played byte by byte."""
    distance = layout.offsets[read.number] - layout.offsets[written.number]
    return any(place - distance > place - lag for place in range(written.size_bytes))


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_live_buffers_share_no_byte(case: tuple[list[Buffer], dict[tuple[int, int], int]]) -> None:
    buffers, _ = case
    layout = memory.plan(buffers)
    assert conflicts(buffers, layout) == []


@settings(max_examples=150, deadline=None)
@given(graphs())
def test_what_shares_bytes_is_a_hand_over_that_keeps_its_lag(
    case: tuple[list[Buffer], dict[tuple[int, int], int]],
) -> None:
    buffers, lags = case
    layout = memory.plan(buffers, lags)
    for read, written in conflicts(buffers, layout):
        assert read.last == written.first > read.first
        lag = lags[read.number, written.number]
        assert not overwritten(read, written, layout, lag)


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_offsets_are_aligned_and_inside(case: tuple[list[Buffer], dict[tuple[int, int], int]]) -> None:
    buffers, lags = case
    layout = memory.plan(buffers, lags)
    assert layout.size_bytes % ALIGNMENT_BYTES == 0
    for one in buffers:
        offset = layout.offsets[one.number]
        assert offset in range(0, 1 << 20, ALIGNMENT_BYTES)
        assert not one.size_bytes or offset + one.size_bytes <= layout.size_bytes


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_a_layout_is_the_same_each_time_and_no_larger_with_lags(
    case: tuple[list[Buffer], dict[tuple[int, int], int]],
) -> None:
    buffers, lags = case
    assert memory.plan(buffers, lags) == memory.plan(buffers, lags)
    total = sum(memory.aligned(one.size_bytes) for one in buffers)
    assert memory.plan(buffers, lags).size_bytes <= total


@settings(max_examples=100, deadline=None)
@given(graphs())
def test_no_arena_is_smaller_than_what_is_alive_at_once(
    case: tuple[list[Buffer], dict[tuple[int, int], int]],
) -> None:
    buffers, _ = case
    alive = [sum(b.size_bytes for b in buffers if b.first <= step <= b.last) for step in range(8)]
    assert memory.plan(buffers).size_bytes >= max(alive)


def test_nothing_needs_no_arena() -> None:
    assert memory.plan([]) == Layout(offsets={}, size_bytes=0)
    assert memory.plan([buffer(3, 0, 1, 0)]) == Layout(offsets={3: 0}, size_bytes=0)


def test_a_chain_in_place_takes_one_buffer() -> None:
    chain = [buffer(number, number, number + 1, 1000) for number in range(5)]
    lags = {(number, number + 1): 0 for number in range(4)}
    assert memory.plan(chain).size_bytes == 2 * 1008
    assert memory.plan(chain, lags).size_bytes == 1008


def test_a_residual_block_creeps_over_its_input() -> None:
    """ResNet's: a stays for the addition, b becomes c row by row."""
    a, b, c = buffer(0, 0, 2, 16384), buffer(1, 0, 1, 16384), buffer(2, 1, 2, 16384)
    assert memory.plan([a, b, c]).size_bytes == 3 * 16384
    assert memory.plan([a, b, c], {(1, 2): 1024}).size_bytes == 2 * 16384 + 1024


def test_a_lag_that_is_no_hand_over_changes_nothing() -> None:
    """The buffer that is read is read again later, or both are made at one step."""
    later = [buffer(0, 0, 3, 64), buffer(1, 1, 2, 64)]
    assert memory.plan(later, {(0, 1): 0}).size_bytes == 128
    twins = [buffer(0, 1, 1, 64), buffer(1, 1, 1, 64)]
    assert memory.plan(twins, {(0, 1): 0}).size_bytes == 128


def test_a_thousand_operators_are_planned_in_seconds() -> None:
    chain = [buffer(number, number, number + 1 + number % 7, 100 + 37 * number % 900) for number in range(1000)]
    layout = memory.plan(chain)
    assert conflicts(chain, layout) == []
