"""Lifetimes, peak and arena against brute force."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import ModelError
from edgeq.models import liveness
from edgeq.models.liveness import Interval
from edgeq.types import ModelGraph, Operator, TensorSpec


def tensor(index: int, size_bytes: int, *, constant: bool = False) -> TensorSpec:
    return TensorSpec(
        index=index, name=f"t{index}", shape=(size_bytes,), dtype="int8", size_bytes=size_bytes, is_constant=constant
    )


def operator(index: int, inputs: tuple[int, ...], outputs: tuple[int, ...], **more: object) -> Operator:
    return Operator(index=index, type="ADD", version=1, inputs=inputs, outputs=outputs, **more)  # type: ignore[arg-type]


def graph(
    tensors: list[TensorSpec], operators: list[Operator], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> ModelGraph:
    return ModelGraph(
        format="tflite",
        path="made.tflite",
        sha256="",
        size_bytes=0,
        inputs=inputs,
        outputs=outputs,
        tensors=tuple(tensors),
        operators=tuple(operators),
        parameters=0,
        weight_bytes=0,
        macs=0,
        peak_activation_bytes=0,
    )


def peak(made: ModelGraph) -> int:
    return liveness.peak_activation_bytes(made.tensors, made.operators, made.inputs, made.outputs, made.path)


def spans(made: ModelGraph, subgraph: int = 0) -> dict[int, tuple[int, int]]:
    return {life.tensor: (life.first, life.last) for life in liveness.intervals(made, subgraph)}


def test_a_chain_holds_two_tensors_at_a_time() -> None:
    tensors = [tensor(0, 100), tensor(1, 10), tensor(2, 50), tensor(3, 7, constant=True)]
    made = graph(tensors, [operator(0, (0, 3), (1,)), operator(1, (1, -1), (2,))], (0,), (2,))
    assert spans(made) == {0: (0, 0), 1: (0, 1), 2: (1, 1)}
    assert peak(made) == 110
    assert liveness.arena_bytes(made) == 112 + 16


def test_a_skip_connection_keeps_its_tensor_alive() -> None:
    tensors = [tensor(0, 16), tensor(1, 16), tensor(2, 16), tensor(3, 16)]
    operators = [operator(0, (0,), (1,)), operator(1, (1,), (2,)), operator(2, (0, 2), (3,))]
    made = graph(tensors, operators, (0,), (3,))
    assert spans(made)[0] == (0, 2)
    assert peak(made) == liveness.arena_bytes(made) == 48


def test_outputs_live_to_the_end_and_unread_results_for_one_step() -> None:
    tensors = [tensor(0, 1), tensor(1, 1), tensor(2, 1), tensor(3, 1)]
    operators = [operator(0, (0,), (1, 2)), operator(1, (0,), (3,))]
    assert spans(graph(tensors, operators, (0,), (1, 3))) == {0: (0, 1), 1: (0, 1), 2: (0, 0), 3: (1, 1)}


def test_state_that_nothing_makes_lives_throughout() -> None:
    tensors = [tensor(0, 1), tensor(1, 9), tensor(2, 1), tensor(3, 1)]
    operators = [operator(0, (0,), (2,)), operator(1, (2, 1), (3,)), operator(2, (3,), ())]
    assert spans(graph(tensors, operators, (0,), (3,)))[1] == (0, 2)


def test_dequantized_weights_are_no_activations() -> None:
    tensors = [tensor(0, 8), tensor(1, 100, constant=True), tensor(2, 400), tensor(3, 8)]
    unpack = Operator(index=0, type="DequantizeLinear", version=13, inputs=(1, -1), outputs=(2,))
    made = graph(tensors, [unpack, operator(1, (0, 2), (3,))], (0,), (3,))
    assert set(spans(made)) == {0, 3}
    assert peak(made) == 16


def test_a_model_without_operators_holds_its_ports() -> None:
    assert peak(graph([tensor(0, 5)], [], (0,), (0,))) == 5


def called(body_bytes: int) -> ModelGraph:
    tensors = [tensor(0, 10), tensor(1, 10), tensor(2, 10), tensor(3, body_bytes), tensor(4, body_bytes)]
    operators = [
        operator(0, (0,), (1,)),
        operator(1, (0,), (2,), attributes={"body_subgraph_index": 1, "other": 7}),
        operator(2, (1,), (4,), subgraph=1),
    ]
    return graph(tensors, operators, (0,), (2,))


def test_a_called_subgraph_adds_to_its_callers_step() -> None:
    made = called(1000)
    assert peak(made) == 30 + 1000
    assert spans(made)[1] == (0, 1), "read by the body, so alive while it runs"
    assert spans(made, 1) == {4: (0, 0)}
    assert liveness.reachable(made.operators) == {0, 1}


def test_subgraphs_that_nothing_calls_do_not_count() -> None:
    operators = [operator(0, (0,), (1,)), operator(1, (2,), (3,), subgraph=1)]
    made = graph([tensor(number, 10**number) for number in range(4)], operators, (0,), (1,))
    assert peak(made) == 11
    assert liveness.reachable(made.operators) == {0}


def test_subgraphs_in_a_circle_are_refused() -> None:
    operators = [
        operator(0, (0,), (1,), attributes={"body_subgraph_index": 1}),
        operator(1, (), (), attributes={"cond_subgraph_index": 1}, subgraph=1),
    ]
    made = graph([tensor(0, 1), tensor(1, 1)], operators, (0,), (1,))
    with pytest.raises(ModelError, match="circle"):
        peak(made)
    with pytest.raises(ModelError, match="circle"):
        liveness.arena_bytes(made)


@st.composite
def graphs(draw: st.DrawFn) -> ModelGraph:
    """A straight-line graph whose operators read any earlier tensors."""
    steps = draw(st.integers(1, 12))
    sizes = st.integers(0, 200)
    tensors = [tensor(0, draw(sizes)), tensor(1, draw(sizes), constant=True)]
    operators = []
    for step in range(steps):
        sources = draw(st.lists(st.integers(-1, len(tensors) - 1), min_size=1, max_size=3))
        count = draw(st.integers(1, 2))
        made = tuple(range(len(tensors), len(tensors) + count))
        tensors.extend(tensor(number, draw(sizes)) for number in made)
        operators.append(operator(step, tuple(sources), made))
    outputs = draw(st.lists(st.integers(2, len(tensors) - 1), min_size=1, max_size=2, unique=True))
    return graph(tensors, operators, (0,), tuple(outputs))


def brute_force_peak(made: ModelGraph) -> int:
    """Walk the steps, and ask of each tensor whether it exists and is still wanted."""
    peaks = []
    for step, running in enumerate(made.operators):
        before = {tensor for earlier in made.operators[:step] for tensor in earlier.outputs} | set(made.inputs)
        wanted = {tensor for later in made.operators[step:] for tensor in later.inputs} | set(made.outputs)
        alive = (before & wanted) | set(running.outputs)
        if step == 0:
            alive |= set(made.inputs)
        alive = {number for number in alive if not made.tensors[number].is_constant}
        peaks.append(sum(made.tensors[number].size_bytes for number in alive))
    return max(peaks)


@settings(max_examples=300, deadline=None)
@given(graphs())
def test_the_peak_is_what_brute_force_finds(made: ModelGraph) -> None:
    assert peak(made) == brute_force_peak(made)


lives = st.lists(
    st.tuples(st.integers(0, 10), st.integers(0, 10), st.integers(0, 100)).map(
        lambda drawn: (min(drawn[:2]), max(drawn[:2]), drawn[2])
    ),
    max_size=14,
).map(
    lambda drawn: [
        Interval(tensor=number, first=first, last=last, size_bytes=size)
        for number, (first, last, size) in enumerate(drawn)
    ]
)


def naive_offsets(intervals: list[Interval]) -> dict[int, int]:
    """Greedy by size as TFLite Micro describes it: try every 16 bytes from 0 until nothing is in the way."""
    offsets: dict[int, int] = {}
    placed: list[tuple[Interval, int]] = []
    for life in sorted(intervals, key=lambda life: (-life.size_bytes, life.first, life.tensor)):
        size = -(-life.size_bytes // 16) * 16
        rivals = [
            (offset, offset + -(-other.size_bytes // 16) * 16)
            for other, offset in placed
            if other.first <= life.last and life.first <= other.last and other.size_bytes
        ]
        offset = next(
            start
            for start in itertools.count(0, 16)
            if not size or all(start + size <= low or start >= high for low, high in rivals)
        )
        offsets[life.tensor] = offset
        placed.append((life, offset))
    return offsets


@settings(max_examples=300, deadline=None)
@given(lives)
def test_offsets_are_those_of_the_plain_greedy_planner(intervals: list[Interval]) -> None:
    assert liveness.plan_offsets(intervals) == naive_offsets(intervals)


@settings(max_examples=200, deadline=None)
@given(graphs())
def test_the_arena_holds_the_peak_and_no_two_tensors_overlap(made: ModelGraph) -> None:
    intervals = liveness.intervals(made)
    offsets = liveness.plan_offsets(intervals)
    for one, other in itertools.combinations(intervals, 2):
        together = one.first <= other.last and other.first <= one.last
        apart = (
            offsets[one.tensor] + one.size_bytes <= offsets[other.tensor]
            or offsets[other.tensor] + other.size_bytes <= offsets[one.tensor]
        )
        assert apart or not together or not (one.size_bytes and other.size_bytes)
    assert all(offset % 16 == 0 for offset in offsets.values())
    assert peak(made) <= liveness.arena_bytes(made) <= sum(-(-life.size_bytes // 16) * 16 for life in intervals)
