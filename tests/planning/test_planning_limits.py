"""Predicted bytes and milliseconds, and what budgets make of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgeq import planning
from edgeq.types import Budgets, Check, Memory, Plan, Roofline


def _plan(tiny: Any, scheme: str = "static_wi8_ai8", budgets: Budgets | None = None, **words: Any) -> Plan:
    graph = tiny.conv_net().done("x", "y")
    return planning.choose(graph, tiny.target(**words), tiny.tables(), budgets=budgets or Budgets(), scheme=scheme)


def _check(plan: Plan, rule: str) -> Check:
    return next(check for check in plan.checks if check.rule == rule)


def test_the_arena_of_int8_is_a_quarter_of_float(tiny: Any) -> None:
    static, floating = _plan(tiny), _plan(tiny, "float32")
    assert floating.memory.arena_bytes == 2 * 8 * 8 * 16 * 4
    assert static.memory.arena_bytes * 4 == floating.memory.arena_bytes
    assert _plan(tiny, "dynamic_wi8_af32").memory.arena_bytes == floating.memory.arena_bytes


def test_the_file_shrinks_with_its_weights(tiny: Any) -> None:
    graph = tiny.conv_net().done("x", "y")
    values = 16 * 27 + 16 * 144 + 10 * 1024
    saved = {name: graph.size_bytes - _plan(tiny, name).memory.flash_bytes for name in _SAVES}
    for name, share in _SAVES.items():
        overhead_bytes = values * share - saved[name]
        assert 0 <= overhead_bytes <= 2000, name
    assert _plan(tiny, "float32").memory.flash_bytes == graph.size_bytes


_SAVES = {"static_wi8_ai8": 3, "dynamic_wi8_af32": 3, "weight_only_wf16": 2}


def test_per_channel_scales_cost_bytes(tiny: Any) -> None:
    whole = _plan(tiny, "static_wi8_ai8_per_tensor").memory.flash_bytes
    assert _plan(tiny).memory.flash_bytes - whole == pytest.approx((15 + 15 + 9) * 5.8 * 2, abs=1)


def test_a_shared_constant_counts_once(tiny: Any) -> None:
    graph = (
        tiny.Graph()
        .tensor("x", (1, 64))
        .tensor("w", (64, 64), constant=True)
        .tensor("a", (1, 64))
        .tensor("y", (1, 64))
        .operator("FULLY_CONNECTED", "x w", "a")
        .operator("FULLY_CONNECTED", "a w", "y")
        .done("x", "y")
    )
    plan = planning.choose(graph, tiny.target(), tiny.tables())
    assert plan.memory.flash_bytes > graph.size_bytes - 64 * 64 * 3


def test_ram_is_file_and_arena_on_linux_and_arena_on_a_microcontroller(tiny: Any) -> None:
    linux, chip = _plan(tiny).memory, _plan(tiny, kind="mcu").memory
    assert linux.ram_bytes == linux.flash_bytes + linux.arena_bytes
    assert chip.ram_bytes == chip.arena_bytes == linux.arena_bytes


@pytest.mark.parametrize(
    ("memory", "rule"),
    [
        (Memory(ram_bytes=4096), "fits-ram"),
        (Memory(ram_bytes=1 << 20, reserved_ram_bytes=(1 << 20) - 4096), "fits-ram"),
        (Memory(ram_bytes=1 << 20, model_budget_bytes=4096), "fits-model-budget"),
        (Memory(ram_bytes=1 << 20, flash_bytes=4096), "fits-flash"),
        (Memory(ram_bytes=1 << 20, flash_bytes=1 << 20, reserved_flash_bytes=(1 << 20) - 4096), "fits-flash"),
    ],
)
def test_what_the_target_cannot_hold_does_not_fit(tiny: Any, memory: Memory, rule: str) -> None:
    plan = planning.choose(tiny.conv_net().done("x", "y"), tiny.target(memory=memory), tiny.tables())
    assert not plan.ok
    check = _check(plan, rule)
    assert not check.ok
    assert check.available == 4096
    assert check.unit == "bytes"
    assert check.hint == "--prefer memory"
    assert "does not fit in the 4.0 KiB" in check.why


def test_a_tight_budget_leaves_the_schemes_that_fit_in_front(tiny: Any) -> None:
    graph = tiny.conv_net().done("x", "y")
    half_bytes = _plan(tiny, "weight_only_wf16").memory.flash_bytes
    budgets = Budgets(max_flash_bytes=half_bytes - 1)
    plans = planning.candidates(graph, tiny.target(), tiny.tables(), budgets=budgets, prefer="accuracy")
    assert plans[0].ok
    assert plans[0].scheme.name == "weight_only_wi8"
    refused = [plan for plan in plans if not plan.ok]
    assert "weight_only_wf16" in {plan.scheme.name for plan in refused}
    assert all(plan in plans[-len(refused) :] for plan in refused)


@pytest.mark.parametrize("name", ["max_flash_bytes", "max_ram_bytes"])
def test_a_budget_is_met_at_exactly_its_size(tiny: Any, name: str) -> None:
    memory = _plan(tiny).memory
    size_bytes = memory.flash_bytes if name == "max_flash_bytes" else memory.ram_bytes
    assert _plan(tiny, budgets=Budgets(**{name: size_bytes})).ok
    assert not _plan(tiny, budgets=Budgets(**{name: size_bytes - 1})).ok


def test_without_a_prediction_a_measurement_decides(tiny: Any) -> None:
    plan = _plan(tiny, budgets=Budgets(max_latency_ms=1.0, max_drop=0.01, max_energy_mj=2.0))
    assert plan.ok
    assert plan.predicted.latency_ms is None
    assert "no roofline" in plan.unavailable["latency_ms"]
    for rule in ("max-latency", "max-drop", "max-energy"):
        assert "will decide" in _check(plan, rule).why


def test_the_roofline_gives_latency(tiny: Any) -> None:
    macs = 27648 + 147456 + 10240
    plan = _plan(tiny, roofline=dataclasses.replace(tiny.roofline, memory_bytes_per_s=1e15))
    assert plan.predicted.latency_ms == pytest.approx(macs / 4e9 * 1000, rel=1e-3)
    assert "latency_ms" not in plan.unavailable
    floating = _plan(tiny, "float32", roofline=dataclasses.replace(tiny.roofline, memory_bytes_per_s=1e15))
    assert floating.predicted.latency_ms == pytest.approx(macs / 1e9 * 1000, rel=1e-3)


def test_memory_bound_latency_counts_every_byte(tiny: Any) -> None:
    graph = tiny.Graph().tensor("x", (1, 1000)).tensor("y", (1, 1000)).operator("SOFTMAX", "x", "y").done("x", "y")
    plan = planning.choose(graph, tiny.target(roofline=tiny.roofline), tiny.tables())
    assert plan.predicted.latency_ms == pytest.approx(2000 / 1e9 * 1000)


def test_a_predicted_latency_over_the_budget_is_refused(tiny: Any) -> None:
    reached = _plan(tiny, roofline=tiny.roofline).predicted.latency_ms
    assert reached is not None
    assert _plan(tiny, budgets=Budgets(max_latency_ms=reached), roofline=tiny.roofline).ok
    plan = _plan(tiny, budgets=Budgets(max_latency_ms=reached / 2), roofline=tiny.roofline)
    assert not plan.ok
    assert _check(plan, "max-latency").unit == "ms"


@pytest.mark.parametrize("missing", ["int8_macs_per_s", "memory_bytes_per_s"])
def test_a_roofline_without_a_needed_rate_predicts_nothing(tiny: Any, missing: str) -> None:
    roofline: Roofline = dataclasses.replace(tiny.roofline, **{missing: None})
    plan = _plan(tiny, roofline=roofline)
    assert plan.predicted.latency_ms is None
    assert missing in plan.unavailable["latency_ms"]
