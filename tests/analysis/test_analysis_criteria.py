"""The judgement on numbers that are given: what is expected, what is beyond, and which piece is to blame."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.analysis import describing, judging, preparing
from edgeq.analysis.measuring import Chain, Measured, Sums
from edgeq.analysis.net import Net, Part, Region
from edgeq.analysis.rows import Missing, Row
from edgeq.analysis.sums import Energy, Spread
from edgeq.types import ModelGraph, Operator, OperatorAnalysis, Port, Quantization, TensorSpec

Stored = tuple[str, float, int]


def line(*stored: Stored, kind: str = "OP", path: str = "m.tflite") -> Net:
    """A model whose operators stand in a line: tensor 0 is the input, operator n makes tensor n + 1."""
    tensors = tuple(
        TensorSpec(
            index=n, name=f"t{n}", shape=(4,), dtype=dtype, size_bytes=4,
            quantization=Quantization(scales=(scale,), zero_points=(zero,)) if scale else None,
        )
        for n, (dtype, scale, zero) in enumerate(stored)
    )  # fmt: skip
    operators = tuple(
        Operator(index=n, type=kind, version=1, inputs=(n,), outputs=(n + 1,)) for n in range(len(stored) - 1)
    )
    graph = ModelGraph(
        format="tflite", path=path, sha256="", size_bytes=0, inputs=(0,), outputs=(len(stored) - 1,), tensors=tensors,
        operators=operators, parameters=0, weight_bytes=0, macs=0, peak_activation_bytes=0,
    )  # fmt: skip
    return Net(graph, None)


def row(net: Net, number: int) -> Row:
    operator = net.operators[number]
    region = Region((operator,), operator.inputs, operator.outputs)
    ends = {end: end for end in operator.inputs}
    return Row(Part(operator, operator.inputs, operator.outputs), region, region, ends, operator.outputs)


def spread(low: float, high: float) -> Spread:
    made = Spread(keep=4)
    made.add(np.array([low, high], np.float32))
    return made


def measured(net: Net, *ranges: tuple[float, float] | None) -> Measured:
    """Every operator as a row, with the range that each tensor really has."""
    found = Measured(rows=[row(net, n) for n in range(len(net.operators))], prepared_rows=[])
    found.spreads = {n: spread(*ends) for n, ends in enumerate(ranges) if ends is not None}
    return found


def steps(net: Net, found: Measured) -> judging.Steps:
    return judging.Steps(Chain(net, net, net, net), found)


def test_each_result_has_the_step_of_its_own_range() -> None:
    net = line(("int8", 1.0, -128), ("int8", 2.0, -128), ("int8", 4.0, 5))
    made = steps(net, measured(net, (0, 25.5), (0, 51), (-5, 20.5)))
    assert [made.of(n, "OP") for n in range(3)] == pytest.approx([0.1, 0.2, 0.1])


def test_tensors_of_one_scale_share_the_widest_range() -> None:
    same = ("int8", 1.0, -128)
    net = line(same, same, same, ("int8", 1.0, -127))
    made = steps(net, measured(net, (0, 25.5), (0, 51), (0, 5.1), (0, 2.55)))
    assert [made.of(n, "OP") for n in range(4)] == pytest.approx([0.2, 0.2, 0.2, 0.01])


def test_a_range_of_one_operator_joins_across_the_sides() -> None:
    same = ("uint8", 0.5, 7)
    net = line(same, same)
    assert steps(net, measured(net, (-10, 0), (0, 15.5))).of(1, "OP") == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("stored", "ends"),
    [
        (("float32", 0.0, 0), (0.0, 1.0)),
        (("int32", 0.5, 0), (0.0, 1.0)),
        (("int8", 0.0, 0), (0.0, 1.0)),
        (("int8", 0.5, 0), None),
    ],
)
def test_no_step_is_known_without_a_scale_or_a_range(stored: Stored, ends: tuple[float, float] | None) -> None:
    net = line(("float32", 0.0, 0), stored)
    assert steps(net, measured(net, None, ends)).of(1, "OP") == 0


def test_operators_without_a_counterpart_give_no_range() -> None:
    net = line(("int8", 1.0, 0), ("int8", 0.5, 0))
    found = measured(net, (0, 1), (0, 1))
    found.rows = [Missing(one.part, "why") for one in found.rows]
    assert steps(net, found).of(1, "OP") == 0


@pytest.mark.parametrize(
    ("kind", "scale", "wanted"),
    [
        ("SOFTMAX", 1 / 256, 1 / 256),
        ("LOGISTIC", 1 / 256, 1 / 256),
        ("TANH", 1 / 128, 1 / 128),
        ("TANH", 1 / 128 * 1.0005, 1 / 128 * 1.0005),
        ("TANH", 1 / 128 * 1.01, 0.001),
        ("CONV_2D", 1 / 256, 0.001),
        ("SOFTMAX", 1 / 100, 0.001),
        ("LOG_SOFTMAX", 1 / 16, 1 / 16),
    ],
)
def test_a_prescribed_step_is_sound_only_where_it_is_prescribed(kind: str, scale: float, wanted: float) -> None:
    net = line(("float32", 0.0, 0), ("int8", scale, -128))
    assert steps(net, measured(net, None, (0, 0.255))).of(1, kind) == pytest.approx(wanted)


def test_a_prescribed_step_that_is_finer_than_needed_is_not_asked_for() -> None:
    net = line(("float32", 0.0, 0), ("int8", 1 / 256, -128))
    assert steps(net, measured(net, None, (0, 25.5))).of(1, "SOFTMAX") == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("dtype", "zero", "low", "high", "wanted"),
    [
        ("int8", 0, 0.0, 0.0, 0.0),
        ("int8", 3, 0.0, 0.0, 0.0),
        ("int8", 0, 0.0, 25.5, 0.1),
        ("int8", 0, -12.7, -12.7, 0.1),
        ("int8", 9, -25.5, -5.0, 0.1),
        ("uint8", 128, -1.0, 12.7, 0.1),
        ("uint8", 128, 0.0, 25.5, 0.1),
        ("uint8", 0, -1.0, 24.5, 0.1),
        ("uint16", 32768, 0.0, 32767.0, 1.0),
        ("uint16", 0, 0.0, 65535.0, 1.0),
        ("int16", 5, -32767.0, 32768.0, 1.0),
    ],
)
def test_the_sound_step_of_a_range(dtype: str, zero: int, low: float, high: float, wanted: float) -> None:
    port = Port(name="", shape=(), dtype=dtype, scale=1.0, zero_point=zero)
    assert judging.sound_step(low, high, port) == pytest.approx(wanted)


@given(st.floats(-50, 50), st.floats(0, 50), st.floats(0, 9), st.sampled_from([-128, 0, 7]))
@settings(max_examples=50, deadline=None, derandomize=True)
def test_a_wider_range_never_has_a_finer_step(low: float, width: float, more: float, zero: int) -> None:
    port = Port(name="", shape=(), dtype="int8", scale=1.0, zero_point=zero)
    narrow = judging.sound_step(low, low + width, port)
    assert 0 <= narrow <= judging.sound_step(low, low + width + more, port) * (1 + 1e-12)


@pytest.mark.parametrize(
    ("each", "count", "weights", "wanted"),
    [
        ([], 10, 0.0, 0.0),
        ([], 10, 5.0, 5.0),
        ([0.0], 10, 5.0, 5.0),
        ([6.0], 10, 0.0, 30.0),
        ([6.0], 0, 2.0, 2.0),
        ([6.0, 0.0], 10, 0.0, 15.0),
        ([6.0, 6.0, 6.0], 10, 1.0, 31.0),
    ],
)
def test_expected_noise_is_that_of_rounding_and_of_weights(
    each: list[float], count: int, weights: float, wanted: float
) -> None:
    sums = Sums(alone=Energy(count=count), sound=Energy(noise=weights))
    assert judging.expected_noise(sums, each) == pytest.approx(wanted)


def test_expected_noise_is_what_rounding_to_a_sound_step_makes() -> None:
    values = np.random.default_rng(3).uniform(-1, 1, 100_000)
    net = line(("float32", 0.0, 0), ("int8", 1.0, 1))
    step = steps(net, measured(net, None, (-1, 1))).of(1, "OP")
    sums = Sums()
    sums.alone.add(values, np.rint(values / step) * step)
    expected = judging.expected_noise(sums, [step])
    assert sums.alone.noise == pytest.approx(expected, rel=0.02)
    assert judging.excesses(sums, expected, net, [1])["quantized"] < 0.1


def sums_of(signal: float, noise: float, kernels: tuple[float, float] | None = None) -> Sums:
    made = Sums(alone=Energy(signal, noise, 100))
    if kernels is not None:
        made.kernels = Energy(*kernels, 100)
    return made


@pytest.mark.parametrize(
    ("sums", "expected", "wanted"),
    [
        (sums_of(0, 0), 0.0, {"quantized": 0.0}),
        (sums_of(1e6, 1e3), 1e2, {"quantized": 10.0}),
        (sums_of(1e6, 1e2), 1e3, {"quantized": 0.0}),
        (sums_of(1e6, 10**2.5), 0.0, {"quantized": 10.0}),
        (sums_of(1e6, 10**1.5), 0.0, {"quantized": 0.0}),
        (sums_of(1e6, math.inf), 1.0, {"quantized": 200.0}),
        (sums_of(1e6, math.nan), 1.0, {"quantized": 200.0}),
        (sums_of(1e6, 0, (1e6, 0.0)), 1.0, {"quantized": 0.0, "runtime": 0.0}),
        (sums_of(1e6, 0, (0.0, 250.0)), 1.0, {"quantized": 0.0, "runtime": 10.0}),
        (sums_of(1e6, 0, (1e6, 1000.0)), 1.0, {"quantized": 0.0, "runtime": 10.0}),
        (sums_of(1e6, 0, (1e6, 100.0)), 1.0, {"quantized": 0.0, "runtime": 0.0}),
    ],
)
def test_excess_starts_at_what_is_expected_or_harmless(sums: Sums, expected: float, wanted: dict[str, float]) -> None:
    net = line(("int8", 0.5, 0), ("int8", 0.5, 0))  # one step for each of 100 results: 25
    assert judging.excesses(sums, expected, net, [1]) == pytest.approx(wanted)


def test_a_float_result_has_no_step_of_its_kernels() -> None:
    net = line(("float32", 0.0, 0), ("float32", 0.0, 0))
    assert judging.excesses(sums_of(1, 0, (1e-9, 1.0)), 1.0, net, [1])["runtime"] == pytest.approx(130)


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ({}, []),
        ({"quantized": 9.0}, []),
        ({"quantized": 9.001}, ["quantized"]),
        ({"quantized": 0.0, "runtime": 200.0}, ["runtime"]),
        ({"quantized": 10.0, "runtime": 10.0, "prepared": 10.0}, ["quantized", "runtime", "prepared"]),
    ],
)
def test_wrong_is_what_lies_above_the_limit(found: dict[str, float], wanted: list[str]) -> None:
    assert [step for step, _ in judging.wrong(found)] == wanted


@pytest.mark.parametrize(
    ("dtype", "wanted"),
    [("int8", True), ("uint8", True), ("int16", True), ("uint16", True), ("int32", False), ("float32", False)],
)
def test_only_short_integers_stand_for_real_results(dtype: str, wanted: bool) -> None:
    assert judging.is_integer(line((dtype, 1.0, 0)), 0) is wanted


FLOAT = ("float32", 0.0, 0)
GOOD, BAD = Energy(1.0, 0.0, 10), Energy(1.0, 0.1, 10)


def changed(prepared: list[Energy], agreed: Energy, **more: Any) -> list[preparing.Preparing]:
    net = line(*[FLOAT] * (len(prepared) + 1))
    found = Measured(rows=[], prepared_rows=[row(net, n) for n in range(len(prepared))], **more)
    found.prepared = dict(enumerate(prepared))
    found.steps = {"prepared": [agreed]}
    return list(preparing.pieces(Chain(net, net, net, net), found))


@pytest.mark.parametrize(
    ("prepared", "agreed", "guilty"),
    [
        ([], BAD, []),
        ([GOOD], BAD, []),
        ([BAD], BAD, [0]),
        ([BAD], GOOD, []),
        ([BAD], Energy(), []),
        ([BAD], Energy(1.0, 0.9e-6, 10), []),
        ([BAD], Energy(1.0, 1.1e-6, 10), [0]),
        ([GOOD, BAD, GOOD, BAD], BAD, [1, 3]),
        ([Energy(1.0, 7e-6, 10), Energy(1.0, 9e-6, 10)], BAD, [1]),
        ([Energy(1.0, math.nan, 10)], BAD, [0]),
        ([Energy()], BAD, []),
    ],
)
def test_pieces_are_to_blame_only_where_outputs_disagree(
    prepared: list[Energy], agreed: Energy, guilty: list[int]
) -> None:
    made = changed(prepared, agreed)
    assert [one.number for one in made] == list(range(len(prepared)))
    assert [one.number for one in made if one.excess_db > judging.WRONG_DB] == guilty
    assert [one.name for one in made] == [f"t{n + 1}" for n in range(len(prepared))]


TWICE = np.full(4, 2.0)


@pytest.mark.parametrize(
    ("prepared", "rescaled", "gains", "guilty"),
    [
        ([BAD, BAD, GOOD], [GOOD, GOOD, GOOD], {1: TWICE}, []),
        ([BAD, GOOD, BAD], [GOOD, GOOD, GOOD], {1: TWICE}, [2]),
        ([BAD, BAD, GOOD], [GOOD, BAD, GOOD], {1: TWICE}, [1]),
        ([BAD, GOOD, BAD], [GOOD, BAD, GOOD], {2: TWICE, 1: TWICE}, [0]),
        ([GOOD, BAD, GOOD, BAD], [GOOD, GOOD, BAD, GOOD], {1: TWICE, 2: TWICE}, [1]),
        ([BAD, BAD, BAD], [BAD, BAD, BAD], {1: TWICE}, [0]),
        ([BAD, BAD, BAD], [GOOD, GOOD, GOOD], {}, [0, 1, 2]),
    ],
)
def test_multiplied_channels_leave_one_piece_to_blame(
    prepared: list[Energy], rescaled: list[Energy], gains: dict[int, Any], guilty: list[int]
) -> None:
    made = changed(prepared, BAD, rescaled=dict(enumerate(rescaled)), gains=gains)
    assert [one.number for one in made if one.excess_db] == guilty
    assert [one.energy for one in made] == [prepared[n] if n in guilty else rescaled[n] for n in range(len(prepared))]


def analysed(index: int, **excess: float) -> OperatorAnalysis:
    return OperatorAnalysis(index=index, type="OP", name=f"t{index}", excess_db=excess, why=("because",))


def test_blames_stand_in_the_order_of_steps_and_of_execution() -> None:
    found = [
        analysed(0, runtime=10.0, quantized=20.0),
        analysed(1, quantized=3.0),
        analysed(2, prepared=50.0, runtime=9.5),
    ]
    made = describing.blames(found, changed([GOOD, BAD], BAD))
    assert [(one.step, one.index) for one in made] == [
        ("prepared", 1),
        ("quantized", 0),
        ("runtime", 0),
        ("runtime", 2),
    ]
    assert made[0].why == ("it computes something else than the original: SQNR 10.0 dB",)
    assert made[0].excess_db == pytest.approx(50)


def test_a_piece_without_a_signal_is_blamed_without_a_number() -> None:
    made = describing.blames([], changed([Energy(0.0, 1.0, 10)], BAD))
    assert [one.why for one in made] == [("it computes something else than the original: SQNR unknown",)]


def test_a_step_is_as_good_as_its_worst_output() -> None:
    nets = [line(FLOAT, path=name) for name in ("f", "p", "q", "r")]
    found = Measured(rows=[], prepared_rows=[])
    found.steps = {"prepared": [Energy(1, 0.001, 1), Energy(1, 0.1, 1)], "quantized": [Energy(), Energy(1, 0.01, 1)]}
    rows = [analysed(0, quantized=9.0, runtime=9.1), analysed(1, quantized=10.0), analysed(2)]
    made = describing.steps(Chain(*nets), found, rows)
    assert [(one.step, one.path, one.wrong_operators) for one in made] == [
        ("prepared", "p", 0),
        ("quantized", "q", 1),
        ("runtime", "r", 1),
    ]
    assert [one.sqnr_db for one in made] == [pytest.approx(10), pytest.approx(20), None]
