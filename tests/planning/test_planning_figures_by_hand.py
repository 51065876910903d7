"""Bytes, work and seconds of single operators counted by hand; words of single checks."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import planning
from edgeq.planning import checks, latency, memory, rates, rejected, rules, schemes, written
from edgeq.planning import view as views
from edgeq.planning.ground import Placed, fits, place_of, shown
from edgeq.planning.offers import NOT_OFFERED
from edgeq.planning.view import View
from edgeq.types import (
    Budgets,
    Check,
    Memory,
    Observation,
    OperatorRow,
    OutputSpec,
    PlannedMemory,
    Predicted,
    Quantization,
    Roofline,
    Scheme,
    Signature,
    TensorSpec,
)

STATIC = Signature(activations="int8", weights="int8", bias="int32", granularity="per-channel", symmetric="weights")
PER_TENSOR = dataclasses.replace(STATIC, granularity="per-tensor")
WIDE = Signature(activations="int16", weights="int8", bias="int64", granularity="per-channel", symmetric="both")
DYNAMIC = Signature(activations="float32", weights="int8", granularity="per-channel", symmetric="weights")
HALF = Signature(activations="float32", weights="float16")
FOUR = Signature(activations="float32", weights="int4", granularity="per-channel", symmetric="weights")
FLOAT = Signature(activations="float32", weights="float32")


def dense(tiny: Any, *, with_bias: bool = True, state: str = "float", size_bytes: int | None = None) -> View:
    """A layer of 20 outputs on 30 inputs."""
    graph = tiny.Graph().tensor("x", (1, 30)).tensor("w", (20, 30), constant=True).tensor("b", (20,), constant=True)
    graph.tensor("y", (1, 20)).operator("FULLY_CONNECTED", "x w b" if with_bias else "x w", "y", macs=600)
    done = graph.done("x", "y", state)
    return views.view(done if size_bytes is None else dataclasses.replace(done, size_bytes=size_bytes))


def placed(look: View, signature: Signature, rule: str = "signature-supported", place: str = "cpu") -> Placed:
    return Placed(look.graph.operators[0], signature, place, rule, "A reason.")


def foreseen(tiny: Any, look: View, one: Placed, *, kind: str = "linux", as_is: bool = False) -> PlannedMemory:
    target = tiny.target(kind=kind)
    return memory.predict(look, [one], target, target.runtimes[0], {}, as_is=as_is)


# --- bytes -----------------------------------------------------------------------------------

SCALES, FULL, TENSOR, NAMES = 5.8, 2400, -5, -2 * 1.3
"""Bytes of a scale in TFLite, of the weights in float, of a quantized tensor, of the names `w` and `b`."""


@pytest.mark.parametrize(
    ("signature", "rule", "grown"),
    [
        (FLOAT, "signature-supported", 0),
        (STATIC, "signature-supported", 600 - FULL + 20 * SCALES * 2 + 3 * TENSOR + NAMES),
        (PER_TENSOR, "signature-supported", 600 - FULL + SCALES * 2 + 3 * TENSOR + NAMES),
        (WIDE, "signature-supported", 600 - FULL + 20 * SCALES * 2 + 4 * 20 + 3 * TENSOR + NAMES),
        (DYNAMIC, "signature-supported", 600 - FULL + TENSOR + 20 * SCALES),
        (DYNAMIC, "weights-expanded", 600 - FULL + TENSOR + 20 * SCALES + 200),
        (FOUR, "weights-expanded", 300 - FULL + TENSOR + 20 * SCALES + 200),
        (HALF, "weights-expanded", 1200 - FULL + 200),
    ],
)
def test_a_file_grows_by_scales_and_shrinks_by_weights(
    tiny: Any, signature: Signature, rule: str, grown: float
) -> None:
    look = dense(tiny)
    found = foreseen(tiny, look, placed(look, signature, rule))
    assert found.flash_bytes - look.graph.size_bytes == pytest.approx(grown, abs=0.51)


def test_a_layer_without_bias_has_one_set_of_scales(tiny: Any) -> None:
    look = dense(tiny, with_bias=False)
    assert foreseen(tiny, look, placed(look, STATIC)).flash_bytes - look.graph.size_bytes == pytest.approx(
        600 - FULL + 20 * SCALES + 3 * TENSOR + NAMES, abs=0.51
    )


def test_a_file_that_claims_to_be_smaller_than_its_weights_is_not_believed(tiny: Any) -> None:
    look = dense(tiny, size_bytes=0)
    assert foreseen(tiny, look, placed(look, FLOAT)).flash_bytes == look.graph.weight_bytes


@pytest.mark.parametrize(
    ("signature", "rule", "resident"),
    [(FOUR, "weights-expanded", FULL), (HALF, "weights-expanded", 0), (DYNAMIC, "signature-supported", 0)],
)
def test_expanded_integers_are_in_memory_twice(tiny: Any, signature: Signature, rule: str, resident: int) -> None:
    look = dense(tiny)
    one = placed(look, signature, rule)
    board = foreseen(tiny, look, one, kind="mcu")
    assert board.ram_bytes - board.arena_bytes == resident
    linux = foreseen(tiny, look, one)
    assert linux.ram_bytes == board.ram_bytes + linux.flash_bytes


def test_what_came_quantized_keeps_its_file_and_types(tiny: Any) -> None:
    look = dense(tiny)
    found = foreseen(tiny, look, placed(look, STATIC), as_is=True)
    assert found.flash_bytes == look.graph.size_bytes
    assert found.arena_bytes == 128 + 80, "30 and 20 floats, each a multiple of 16 bytes"
    assert foreseen(tiny, look, placed(look, STATIC)).arena_bytes == 32 + 32


def test_arenas_that_are_known_are_not_laid_out_again(tiny: Any) -> None:
    look, target = dense(tiny), tiny.target()
    known: memory.Arenas = {}
    for signature in (STATIC, PER_TENSOR, WIDE, FLOAT, DYNAMIC):
        memory.predict(look, [placed(look, signature)], target, target.runtimes[0], known, as_is=False)
    assert [sum(parts.values()) for parts, *_ in known.values()] == [64, 64 + 48, 208]


@pytest.mark.parametrize(("dtype", "size"), [("int4", 0.5), ("int8", 1), ("float16", 2), ("int64", 8), ("new", 4)])
def test_bytes_of_one_value(dtype: str, size: float) -> None:
    assert memory.item_bytes(dtype) == size


@pytest.mark.parametrize(
    ("signature", "moved"),
    [
        (FLOAT, 4 * 30 + FULL + 80 + 4 * 20),
        (STATIC, 30 + 600 + 80 + 20),
        (WIDE, 60 + 600 + 80 + 40),
        (DYNAMIC, 120 + 600 + 80 + 80),
        (FOUR, 120 + 300 + 80 + 80),
    ],
)
def test_an_operator_moves_each_operand_as_it_is_stored(tiny: Any, signature: Signature, moved: int) -> None:
    look = dense(tiny)
    one = placed(look, signature)
    assert memory.moved_bytes(look, one, memory.dtypes(look, [one])) == moved


def test_an_activation_has_the_type_of_its_maker_before_that_of_its_reader(tiny: Any) -> None:
    look = views.view(tiny.conv_net().done("x", "y"))
    made, read = look.graph.operators[:2]
    kinds = memory.dtypes(look, [Placed(made, FLOAT, "float", "", ""), Placed(read, STATIC, "cpu", "", "")])
    names = {tensor.name: kinds.get(tensor.index) for tensor in look.graph.tensors}
    assert names == {**dict.fromkeys(names), "x": "float32", "a": "float32", "m": "int8"}


# --- work and seconds ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("signature", "rule", "kind"),
    [
        (STATIC, "signature-supported", "int8"),
        (DYNAMIC, "signature-supported", "int8"),
        (DYNAMIC, "weights-expanded", "float32"),
        (FOUR, "weights-expanded", "float32"),
        (WIDE, "signature-supported", "int16"),
        (dataclasses.replace(WIDE, activations="uint16"), "signature-supported", "int16"),
        (HALF, "weights-expanded", "float32"),
        (Signature(activations="uint8"), "signature-supported", "int8"),
        (Signature(activations="float32"), "falls-back-to-float", "float32"),
    ],
)
def test_the_arithmetic_of_a_signature(tiny: Any, signature: Signature, rule: str, kind: str) -> None:
    look = dense(tiny)
    one = placed(look, signature, rule)
    assert memory.arithmetic(one) == kind
    assert latency.work(look, [one], {})[f"{kind} matmul"] == 600


@pytest.mark.parametrize(
    ("kernel", "attributes", "kind"),
    [
        ((4, 1, 3, 3), {"group": 4}, "float32 depthwise"),
        ((4, 2, 3, 3), {"group": 2}, "float32 conv"),
        ((4, 1, 3, 3), {"group": 1}, "float32 conv"),
        ((4, 1, 3, 3), {}, "float32 conv"),
        ((4, 1, 3, 3), {"group": "4"}, "float32 conv"),
    ],
)
def test_an_onnx_convolution_with_one_channel_per_group_is_depthwise(
    tiny: Any, kernel: tuple[int, ...], attributes: dict[str, Any], kind: str
) -> None:
    graph = tiny.Graph("onnx").tensor("x", (1, 4, 8, 8)).tensor("w", kernel, constant=True).tensor("y", (1, 4, 8, 8))
    look = views.view(graph.operator("Conv", "x w", "y", macs=9, **attributes).done("x", "y"))
    assert latency.work(look, [placed(look, FLOAT)], {})[kind] == 9


def test_what_folds_away_does_no_work(tiny: Any) -> None:
    look = dense(tiny)
    assert latency.work(look, [placed(look, STATIC, "folded")], {}) == {"inferences": 1}
    assert latency.work(look, [], {}) == {"inferences": 1}


@pytest.mark.parametrize(
    ("macs", "memory_rate", "ms"),
    [(6e5, 1e9, 1.0), (6e5, 730 / 0.005, 5.0), (1.2e6, 1e9, 0.5)],
)
def test_the_slower_of_arithmetic_and_memory_is_the_latency(
    tiny: Any, macs: float, memory_rate: float, ms: float
) -> None:
    look = dense(tiny)
    target = tiny.target(roofline=Roofline(source="bench", int8_macs_per_s=macs, memory_bytes_per_s=memory_rate))
    found, why = latency.predict(look, [placed(look, STATIC)], target)
    assert why is None
    assert found.latency_ms == pytest.approx(ms)
    assert found.source == "roofline: bench"


def seen(latency_ms: float, **work: float) -> Observation:
    named = {kind.replace("_", " "): units for kind, units in work.items()}
    return Observation(
        runtime="litert", artifact_sha256="", device="pi", date="2026-01-01", latency_ms=latency_ms, work=named
    )


def test_measurements_without_use_leave_the_roofline(tiny: Any) -> None:
    look, target = dense(tiny), tiny.target(roofline=tiny.roofline)
    useless = [seen(0.0, int8_conv=1e6), seen(-1.0, int8_conv=1e6), seen(1.0), seen(9.0, int8_conv=1e6, int16_conv=1.0)]
    assert latency.predict(look, [placed(look, STATIC)], target, useless) == latency.predict(
        look, [placed(look, STATIC)], target
    )
    one, _ = latency.predict(look, [placed(look, STATIC)], target, [*useless, seen(1.0, int8_conv=1e6)])
    assert one.source == "1 measurement of this target"
    two, _ = latency.predict(look, [placed(look, STATIC)], target, [seen(1.0, int8_conv=1e6)] * 2)
    assert two.source == "2 measurements of this target, which predict one another within 0% (median)"


@settings(max_examples=30, deadline=None, derandomize=True)
@given(factor=st.floats(0.01, 100), ms=st.lists(st.floats(0.1, 100), min_size=1, max_size=4))
def test_a_target_that_is_slower_by_a_factor_has_costs_larger_by_it(factor: float, ms: list[float]) -> None:
    measured = [seen(one, int8_conv=1e6 * (number + 1), bytes=1e4) for number, one in enumerate(ms)]
    slower = [dataclasses.replace(one, latency_ms=one.latency_ms * factor) for one in measured]
    before, after = rates.fit(measured, None), rates.fit(slower, None)
    assert {kind: cost * factor for kind, cost in before.items()} == pytest.approx(after, rel=1e-6, abs=1e-18)


# --- words -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (None, "nothing"),
        (OperatorRow(signatures=None), "any"),
        (OperatorRow(signatures=()), "nothing"),
        (
            OperatorRow(signatures=(STATIC, dataclasses.replace(STATIC, symmetric="both"))),
            "int8/int8/int32 per-channel",
        ),
        (OperatorRow(signatures=(FLOAT, Signature(activations="int8"))), "float32/float32, int8"),
    ],
)
def test_what_a_row_allows_is_told_once(row: OperatorRow | None, words: str) -> None:
    assert rules.allows(row) == words


@pytest.mark.parametrize(
    ("scale", "zero_point", "dtype", "ok"),
    [
        (1 / 256, -128, "int8", True),
        (1 / 256 * (1 + 5e-7), -128, "int8", True),
        (1 / 256 * (1 + 5e-6), -128, "int8", False),
        (1 / 256, -127, "int8", False),
        (1 / 256, -128, "uint8", False),
        (None, None, "int8", False),
    ],
)
def test_a_fixed_output_is_compared_to_a_millionth(
    tiny: Any, scale: float | None, zero_point: int | None, dtype: str, ok: bool
) -> None:
    look = dense(tiny)
    quantization = None if scale is None else Quantization(scales=(scale,), zero_points=(zero_point or 0,))
    found = TensorSpec(index=0, name="y", shape=(1,), dtype=dtype, size_bytes=1, quantization=quantization)
    asked = rules.Subject(look, look.graph.operators[0], tiny.table({}), None)
    check = rules.output_fixed(asked, OutputSpec(dtype="int8", scale=1 / 256, zero_point=-128), found)
    assert check.ok == ok
    assert ok or check.why.startswith("The runtime demands a fixed quantization of this operator's output: int8 with")
    assert rules.output_fixed(asked, OutputSpec(dtype=dtype), found).ok


@pytest.mark.parametrize(
    ("signatures", "found"),
    [
        ((STATIC, PER_TENSOR), STATIC),
        ((PER_TENSOR, STATIC), STATIC),
        ((PER_TENSOR,), PER_TENSOR),
        ((DYNAMIC, FLOAT), None),
        ((Signature(activations="int8"),), STATIC),
        ((dataclasses.replace(STATIC, bias="int64"),), dataclasses.replace(STATIC, bias="int64")),
        ((), None),
    ],
)
def test_a_row_gives_the_wanted_granularity_before_another(tiny: Any, signatures: Any, found: Signature | None) -> None:
    assert fits(OperatorRow(signatures=signatures), STATIC, has_weights=True) == found


def test_an_operator_without_weights_gets_activations_alone() -> None:
    both = Signature(activations="int8", weights="int8", granularity="per-tensor")
    assert fits(OperatorRow(signatures=(both,)), STATIC, has_weights=False) == Signature(activations="int8")
    four = dataclasses.replace(both, weights="int4")
    assert fits(OperatorRow(signatures=(four,)), STATIC, has_weights=False) is None


@pytest.mark.parametrize(
    ("place", "where", "word"),
    [("cpu", "cpu", "cpu"), ("float", "cpu", "float"), ("float", "gpu", "gpu"), ("refused", "npu", "refused")],
)
def test_the_word_for_a_place(tiny: Any, place: str, where: str, word: str) -> None:
    assert place_of(placed(dense(tiny), STATIC, place=place)._replace(where=where)) == word


@pytest.mark.parametrize(
    ("rule", "place", "told"),
    [
        ("signature-supported", "cpu", "falls-back-to-cpu"),
        ("kept-in-float", "float", "kept-in-float"),
        ("folded", "cpu", "folded"),
        ("operator-unknown", "refused", "operator-unknown"),
    ],
)
def test_an_accelerators_denial_is_told_unless_something_else_says_more(
    tiny: Any, rule: str, place: str, told: str
) -> None:
    denied = Check(rule="operator-unknown", subject="operator 0", ok=False, why="No kernel.")
    one = shown(placed(dense(tiny), STATIC, rule, place)._replace(denied=denied))
    assert one.rule == told
    assert one.why == ("No kernel; it runs on the CPU. A reason." if told == "falls-back-to-cpu" else "A reason.")


@pytest.mark.parametrize(
    ("limits", "ok"),
    [
        (Memory(ram_bytes=100), [True]),
        (Memory(ram_bytes=99), [False]),
        (Memory(ram_bytes=110, reserved_ram_bytes=11), [False]),
        (Memory(ram_bytes=100, model_budget_bytes=99), [True, False]),
        (Memory(ram_bytes=100, flash_bytes=60, reserved_flash_bytes=10), [True, True]),
        (Memory(ram_bytes=100, flash_bytes=60, reserved_flash_bytes=11), [True, False]),
        (Memory(ram_bytes=100, flash_bytes=0, model_budget_bytes=0), [True, False, False]),
    ],
)
def test_memory_fits_to_the_byte_beside_what_is_reserved(tiny: Any, limits: Memory, ok: list[bool]) -> None:
    needed = PlannedMemory(flash_bytes=50, ram_bytes=100, arena_bytes=100)
    found = checks.memory(needed, tiny.target(memory=limits))
    assert [check.ok for check in found] == ok
    assert all((check.hint is None) == check.ok for check in found)


def test_limits_without_a_prediction_wait_for_a_measurement() -> None:
    nothing = PlannedMemory(flash_bytes=0, ram_bytes=0, arena_bytes=0)
    asked = Budgets(max_drop=0.01, max_energy_mj=3, max_latency_ms=5)
    found = checks.budgets(nothing, Predicted(), asked)
    assert [check.rule for check in found] == ["max-latency", "max-drop", "max-energy"]
    assert all(check.ok and check.why.endswith(" will decide.") for check in found)
    assert [check.ok for check in checks.budgets(nothing, Predicted(latency_ms=5.0), asked)[:1]] == [True]
    assert not checks.budgets(nothing, Predicted(latency_ms=5.01), asked)[0].ok
    assert checks.budgets(nothing, Predicted(), Budgets()) == []


@pytest.mark.parametrize(
    ("state", "scheme", "ok"),
    [
        ("float", "static_wi8_ai8", None),
        ("float", "as_is", False),
        ("partial", "static_wi8_ai8", True),
        ("partial", "as_is", False),
        ("quantized", "as_is", True),
        ("weights", "as_is", True),
        ("weights", "dynamic_wi8_af32", False),
    ],
)
def test_a_scheme_suits_what_came(tiny: Any, state: str, scheme: str, ok: bool | None) -> None:
    check = checks.state(dense(tiny, state=state), Scheme(name=scheme, default=STATIC))
    assert (check.ok if check else None) == ok


@pytest.mark.parametrize(
    ("scheme", "name"),
    [
        (Scheme(name="float32", default=FLOAT), "float32"),
        (Scheme(name="static_wi8_ai8", default=STATIC), "static_wi8_ai8 (int8/int8, min-max)"),
        (
            Scheme(name="static_wi8_ai8", default=STATIC, ranges="percentile", reduce_range=True),
            "static_wi8_ai8 (int8/int8 in 7 bits, percentile)",
        ),
    ],
)
def test_a_scheme_s_label_tells_it_from_its_namesakes(scheme: Scheme, name: str) -> None:
    assert schemes.label(scheme) == name


def test_labels_of_a_whole_ladder_differ_and_every_known_scheme_has_a_risk(tiny: Any) -> None:
    for features in ((), ("avx512_vnni",)):
        cpu = tiny.target(arch="x86_64", features=features).cpu
        labels = [schemes.label(rung.scheme) for rung in schemes.ladder("onnx", cpu)]
        assert len(set(labels)) == len(labels)
    assert sorted(map(schemes.risk_of, schemes.KNOWN)) == list(range(len(schemes.KNOWN)))


def test_what_is_not_planned_is_explained_and_the_rest_is_always_planned(tiny: Any) -> None:
    plans = planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables())
    never = {entry.scheme: entry.why for entry in rejected.never_offered(plans, "Operator 3 is wide.")}
    planned = {plan.scheme.name for plan in plans}
    assert planned | set(never) == set(schemes.KNOWN)
    assert set(schemes.KNOWN) - set(NOT_OFFERED) <= planned
    assert [name for name, why in never.items() if "wide" in why] == ["static_wi8_ai8_per_tensor"]
    came = [dataclasses.replace(plans[0], scheme=Scheme(name="as_is", default=STATIC))]
    reasons = {entry.why for entry in rejected.never_offered(came, "Operator 3 is wide.")}
    assert reasons == {"The model came quantized: it is taken as it stands, never quantized again."}


def test_other_plans_tell_the_first_check_that_failed_or_their_place(tiny: Any) -> None:
    best, *others = planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables())
    bad = [Check(rule=rule, subject="s", ok=rule == "fine", why=f"{rule}.") for rule in ("fine", "first", "second")]
    failed = dataclasses.replace(others[0], checks=tuple(bad), ok=False)
    good = dataclasses.replace(others[1], checks=(), ok=True)
    told = list(rejected.plans(best, [failed, good], "memory"))
    assert [(one.rule, one.why.split(" when ")[0]) for one in told] == [
        ("first", "first."),
        ("comes-later", f"It comes after {rejected.name_of(best)}"),
    ]
    tried = {schemes.label(plan.scheme): "it lost 3 points." for plan in (failed, good)}
    after = list(rejected.after_trials(best, [failed, good], tried, "memory"))
    assert [(one.rule, one.why) for one in after] == [("first", "first."), ("tried", "It was tried: it lost 3 points.")]
    assert list(rejected.after_trials(best, [failed, good], {}, "memory")) == told


@pytest.mark.parametrize(
    ("kind", "attributes", "eight"),
    [
        ("Conv", {}, False),
        ("Conv", {"group": 1}, False),
        ("Conv", {"group": 2}, True),
        ("DEPTHWISE_CONV_2D", {}, True),
        ("CONV_2D", {"group": 2}, False),
        ("Gather", {}, True),
        ("MatMul", {}, False),
    ],
)
def test_weights_that_stay_in_eight_bits(tiny: Any, kind: str, attributes: dict[str, Any], eight: bool) -> None:
    graph = tiny.Graph("onnx").tensor("x", (1,)).tensor("y", (1,)).operator(kind, "x", "y", **attributes)
    assert written.in_eight_bits(graph.operators[0]) == eight


@pytest.mark.parametrize(
    ("source", "read_twice", "outputs", "folded"),
    [
        ("Conv", False, "y", True),
        ("Conv", True, "y", False),
        ("Conv", False, "y a", False),
        ("Gemm", False, "y", False),
    ],
)
def test_a_normalization_folds_into_a_convolution_that_nothing_else_reads(
    tiny: Any, source: str, read_twice: bool, outputs: str, folded: bool
) -> None:
    graph = tiny.Graph("onnx").tensor("x", (1, 4)).tensor("w", (4, 4), constant=True).tensor("a", (1, 4))
    graph.tensor("y", (1, 4)).tensor("z", (1, 4)).operator(source, "x w", "a").operator("BatchNormalization", "a", "y")
    if read_twice:
        graph.operator("Relu", "a", "z")
    look = views.view(graph.done("x", outputs))
    assert written.is_folded(look, look.graph.operators[1]) == folded
