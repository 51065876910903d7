"""Which schemes are planned, in which order, with which integer types."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgeq import planning
from edgeq.errors import PlanError
from edgeq.planning import schemes
from edgeq.types import Cpu, OperatorRow, OperatorTable, Signature


def _steps(plans: Any) -> list[tuple[str, ...]]:
    schemes = [plan.scheme for plan in plans if plan.ok]
    return [(one.name, one.ranges, *(["corrected"] if one.corrected else [])) for one in schemes]


def test_latency_goes_from_static_to_weight_only(tiny: Any) -> None:
    graph = tiny.conv_net().done("x", "y")
    assert _steps(planning.candidates(graph, tiny.target(), tiny.tables())) == [
        ("static_wi8_ai8", "percentile"),
        ("static_wi8_ai8", "mean-squared-error"),
        ("static_wi8_ai8", "min-max"),
        ("static_wi8_ai8", "percentile", "corrected"),
        ("static_wi8_ai8", "mean-squared-error", "corrected"),
        ("static_wi8_ai8_mixed", "percentile"),
        ("static_wi8_ai8_mixed", "mean-squared-error"),
        ("dynamic_wi8_af32", "min-max"),
        ("weight_only_wf16", "min-max"),
        ("weight_only_wi8", "min-max"),
        ("weight_only_wi4", "min-max"),
    ]


def test_accuracy_goes_from_least_risk_to_most(tiny: Any) -> None:
    plans = planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables(), prefer="accuracy")
    names = list(dict.fromkeys(name for name, *_ in _steps(plans)))
    assert names == [
        "weight_only_wf16",
        "weight_only_wi8",
        "dynamic_wi8_af32",
        "static_wi8_ai8_mixed",
        "static_wi8_ai8",
        "weight_only_wi4",
    ]


def test_memory_goes_from_small_to_large(tiny: Any) -> None:
    plans = planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables(), prefer="memory")
    sizes = [plan.memory.ram_bytes for plan in plans if plan.ok]
    assert sizes == sorted(sizes)
    assert plans[0].scheme.name == "static_wi8_ai8"
    names = [plan.scheme.name for plan in plans]
    assert names.index("dynamic_wi8_af32") < names.index("weight_only_wf16")


def test_per_tensor_only_where_no_layer_can_be_per_channel(tiny: Any) -> None:
    only = OperatorRow(signatures=(tiny.per_tensor, tiny.float32))
    graph = tiny.conv_net().done("x", "y")
    plans = planning.candidates(graph, tiny.target(), tiny.tables(CONV_2D=only, FULLY_CONNECTED=only))
    names = {plan.scheme.name for plan in plans}
    assert "static_wi8_ai8_per_tensor" in names
    assert "static_wi8_ai8" not in names
    assert plans[0].scheme.default.granularity == "per-tensor"
    assert plans[0].scheme.overrides == {}


def test_a_layer_without_per_channel_becomes_per_tensor_by_an_override(tiny: Any) -> None:
    only = OperatorRow(signatures=(tiny.per_tensor, tiny.float32))
    plan = planning.choose(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables(FULLY_CONNECTED=only))
    assert plan.scheme.name == "static_wi8_ai8"
    assert {index: entry.granularity for index, entry in plan.scheme.overrides.items()} == {3: "per-tensor"}
    assert plan.operators[3].signature.endswith("per-tensor")


def test_mixed_keeps_first_last_and_softmax_in_float_with_reasons(tiny: Any) -> None:
    plan = planning.choose(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables(), scheme="static_wi8_ai8_mixed")
    kept = {one.type: one.why for one in plan.operators if one.rule == "kept-in-float"}
    assert set(kept) == {"CONV_2D", "FULLY_CONNECTED", "SOFTMAX"}
    assert "first layer" in kept["CONV_2D"]
    assert "last layer" in kept["FULLY_CONNECTED"]
    assert all(entry.activations == "float32" for entry in plan.scheme.overrides.values())
    assert plan.ok
    assert plan.operators[1].placement == "cpu", "the layer in the middle is quantized"


def test_mixed_of_two_layers_quantizes_nothing_and_is_not_ok(tiny: Any) -> None:
    graph = tiny.onnx_net().done("x", "y")
    plan = planning.choose(graph, tiny.target(), tiny.tables(), scheme="static_wi8_ai8_mixed")
    assert [check.rule for check in plan.checks if not check.ok] == ["quantizes-something"]


def test_mixed_is_not_offered_where_the_table_has_no_float(tiny: Any) -> None:
    tables = tiny.tables(
        CONV_2D=OperatorRow(signatures=(tiny.per_channel,)),
        FULLY_CONNECTED=OperatorRow(signatures=(tiny.per_channel,)),
        SOFTMAX=OperatorRow(signatures=(Signature(activations="int8"),)),
    )
    plans = planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(), tables)
    assert "static_wi8_ai8_mixed" not in {plan.scheme.name for plan in plans}
    assert {plan.scheme.name for plan in plans if plan.ok} == {"static_wi8_ai8"}


@pytest.mark.parametrize(
    ("arch", "features", "first"),
    [
        ("x86_64", (), ("uint8", "uint8")),
        ("x86_64", ("avx2", "fma"), ("uint8", "uint8")),
        ("x86_64", ("avx2", "avx_vnni"), ("uint8", "int8")),
        ("x86_64", ("avx512f", "avx512_vnni"), ("uint8", "int8")),
        ("aarch64", (), ("int8", "int8")),
        ("aarch64", ("asimd", "asimddp"), ("int8", "int8")),
        ("armv7l", (), ("int8", "int8")),
    ],
)
def test_signedness_follows_the_cpu_for_onnx(
    tiny: Any, arch: str, features: tuple[str, ...], first: tuple[str, str]
) -> None:
    plans = planning.candidates(
        tiny.onnx_net().done("x", "y"), tiny.target(arch=arch, features=features), tiny.tables()
    )
    static = [plan.scheme for plan in plans if plan.scheme.name == "static_wi8_ai8"]
    assert (static[0].default.activations, static[0].default.weights) == first
    reduced = [scheme.default.weights for scheme in static if scheme.reduce_range]
    assert reduced == (["int8", "int8"] if first == ("uint8", "uint8") else []), "plain and corrected"
    assert all(scheme.reduce_range or scheme.default.weights == first[1] for scheme in static)


def test_tflite_is_int8_on_every_cpu(tiny: Any) -> None:
    plan = planning.choose(tiny.conv_net().done("x", "y"), tiny.target(arch="x86_64"), tiny.tables())
    assert (plan.scheme.default.activations, plan.scheme.default.weights) == ("int8", "int8")


def test_the_reason_for_unsigned_types_is_told(tiny: Any) -> None:
    plan = planning.choose(tiny.onnx_net().done("x", "y"), tiny.target(arch="x86_64"), tiny.tables())
    assert any(check.rule == "integer-types" and "VNNI" in check.why for check in plan.checks)


def test_unknown_scheme_and_preference_list_the_known_ones(tiny: Any) -> None:
    graph = tiny.conv_net().done("x", "y")
    with pytest.raises(PlanError, match="unknown scheme 'int3'") as caught:
        planning.candidates(graph, tiny.target(), tiny.tables(), scheme="int3")
    assert "dynamic_wi8_af32" in str(caught.value.hint)
    with pytest.raises(PlanError, match="unknown preference"):
        planning.candidates(graph, tiny.target(), tiny.tables(), prefer="speed")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["static_wi8_ai8", "dynamic_wi8_af32", "weight_only_wf16", "float32"])
def test_a_scheme_asked_for_by_name_is_the_only_one(tiny: Any, name: str) -> None:
    plans = planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables(), scheme=name)
    assert {plan.scheme.name for plan in plans} == {name}
    assert all(plan.ok for plan in plans)


def test_as_is_is_refused_for_a_float_model(tiny: Any) -> None:
    plan = planning.choose(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables(), scheme="as_is")
    assert not plan.ok
    assert next(check.rule for check in plan.checks if not check.ok) == "model-state"


def test_every_known_scheme_and_runtime_is_chosen_or_rejected(tiny: Any) -> None:
    plan = planning.choose(tiny.conv_net().done("x", "y"), tiny.target(), tiny.tables())
    words = " ".join(entry.scheme for entry in plan.rejected)
    for name in (
        "static_wi8_ai8_mixed",
        "per_tensor",
        "dynamic",
        "weight_only_wf16",
        "float32",
        "as_is",
        "onnxruntime",
    ):
        assert name in words
    assert all(entry.why.endswith(".") for entry in plan.rejected)
    wants = next(entry.why for entry in plan.rejected if entry.scheme == "onnxruntime")
    assert wants == "onnxruntime wants ONNX, the model is TFLite."


def test_two_runtimes_of_one_format_keep_the_target_s_order(tiny: Any) -> None:
    from edgeq.types import RuntimeSpec

    runtimes = tuple(RuntimeSpec(name=name, format="tflite", operators="tiny") for name in ("first", "second"))
    plans = planning.candidates(tiny.conv_net().done("x", "y"), tiny.target(runtimes=runtimes), tiny.tables())
    assert [plan.runtime for plan in plans[:2]] == ["first", "second"]
    assert plans[0].scheme == plans[1].scheme


def _accelerator(kinds: dict[str, int], weights: str = "int8") -> OperatorTable:
    """A table with so many operators for each kind of activations, the first of each with weights."""
    signatures = {
        f"Op{kind}{number}": OperatorRow(signatures=(Signature(activations=kind, weights=None if number else weights),))
        for kind, count in kinds.items()
        for number in range(count)
    }
    return OperatorTable(name="npu", runtime="npu", version="1", source="a test", operators=signatures, placement="npu")


@pytest.mark.parametrize(
    ("kinds", "weights", "expected"),
    [
        ({"uint8": 3, "int8": 1}, "int8", ("uint8", "int8")),
        ({"uint8": 3, "int8": 1}, "uint8", ("uint8", "uint8")),
        ({"uint8": 1, "int8": 3}, "int8", ("int8", "int8")),
        ({}, "int8", ("int8", "int8")),
    ],
)
def test_an_accelerators_table_decides_the_integer_types(
    kinds: dict[str, int], weights: str, expected: tuple[str, str]
) -> None:
    (found,) = schemes.signedness("onnx", Cpu(arch="aarch64", core="a78"), _accelerator(kinds, weights))
    assert (found.activations, found.weights) == expected
    assert not found.reduce_range
    assert "npu takes" in found.why


def test_a_cpu_table_or_tflite_changes_nothing() -> None:
    uint8 = _accelerator({"uint8": 3})
    cpu = Cpu(arch="aarch64", core="a78")
    assert schemes.signedness("tflite", cpu, uint8) == schemes.signedness("tflite", cpu)
    assert schemes.signedness("onnx", cpu, dataclasses.replace(uint8, placement="cpu")) == schemes.signedness(
        "onnx", cpu
    )


@pytest.mark.parametrize(("kinds", "wide"), [({"uint16": 2, "int16": 1}, "uint16"), ({"int16": 2}, "int16")])
def test_sixteen_bits_are_signed_as_the_table_wants(kinds: dict[str, int], wide: str) -> None:
    found = schemes.ladder("onnx", Cpu(arch="aarch64", core="a78"), _accelerator(kinds), fast_int16=True)
    default = next(rung.scheme.default for rung in found if rung.scheme.name == "static_wi8_ai16")
    assert default.activations == wide
    assert default.bias == ("int32" if wide == "uint16" else "int64")
