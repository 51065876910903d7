"""Whether the memory of a plan adds up, and each of its checks is due and says what follows."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from edgeq.planning import view as views
from edgeq.planning.audit import figures
from edgeq.planning.audit.scene import Finding, Scene
from edgeq.types import Check

_GONE = ("constants-only", "folded")

Expected = tuple[bool, float | str | None, float | str | None]


def memory(scene: Scene) -> Iterator[Finding]:
    """The bytes that the plan claims are those that its operators' data types add up to; parts need not be claimed."""
    claimed = dataclasses.asdict(scene.plan.memory)
    found = dataclasses.asdict(figures.memory(scene.plan, scene.look, scene.target))
    for name, size in found.items():
        if claimed[name] not in (size, {}):
            yield Finding(f"memory.{name}", str(claimed[name]), str(size), "the operators' data types add up to that")


def findings(scene: Scene) -> Iterator[Finding]:
    """No check is missing, unasked for, or says otherwise than the figures."""
    plan = scene.plan
    wanted = dict(expected(scene))
    refused = [one for one in plan.operators if one.placement == "refused"]
    subjects = {f"operator {one.index} {one.type}": one.rule for one in refused}
    seen = set()
    for check in plan.checks:
        key = (check.rule, check.subject) if check.subject in subjects else (check.rule, "")
        seen.add(key)
        if check.subject in subjects:
            if check.ok or check.rule != subjects[check.subject]:
                yield Finding(f"check {check.subject}", _verdict(check), subjects[check.subject], "it is refused")
        elif check.rule not in wanted:
            yield Finding(f"check {check.rule}", _verdict(check), "none", "nothing asks for this check")
        elif (check.ok, check.needed, check.available) != wanted[check.rule]:
            yield Finding(f"check {check.rule}", _verdict(check), _written(*wanted[check.rule]), "so it adds up")
    for rule, values in wanted.items():
        if (rule, "") not in seen:
            yield Finding(f"check {rule}", "none", _written(*values), "the check is missing")
    for subject, rule in subjects.items():
        if (rule, subject) not in seen:
            yield Finding(f"check {subject}", "none", rule, "a refused operator needs a check that fails")
    if plan.ok != all(check.ok for check in plan.checks):
        yield Finding("ok", str(plan.ok), str(not plan.ok), "a plan is ok when all its checks are")


def _verdict(check: Check) -> str:
    return _written(check.ok, check.needed, check.available)


def _written(ok: bool, needed: float | str | None, available: float | str | None) -> str:
    return f"{'ok' if ok else 'no'} ({needed} of {available})"


def expected(scene: Scene) -> Iterator[tuple[str, Expected]]:
    """Every check that the plan must have beside those of refused operators: ok, needed, available."""
    plan, look = scene.plan, scene.look
    name = {"tflite": "TFLite", "onnx": "ONNX"}[look.graph.format]
    yield "runtime-format", (True, name, name)
    quantized = look.graph.state in ("quantized", "weights")
    if quantized or plan.scheme.name == "as_is" or look.graph.state == "partial":
        yield "model-state", (quantized == (plan.scheme.name == "as_is"), None, None)
    if not any(one.placement == "refused" for one in plan.operators):
        yield "operators-placed", (True, None, None)
        if scene.table.placement != "cpu":
            there = sum(one.placement == scene.table.placement and one.rule not in _GONE for one in plan.operators)
            yield "uses-accelerator", (there > 0, 1, there)
    if plan.scheme.name not in ("float32", "as_is"):
        count = _quantized(scene)
        yield "quantizes-something", (count > 0, 1, count)
    if plan.scheme.is_static and plan.scheme.name != "as_is":
        yield "integer-types", (True, None, None)
    yield from _limits(scene)


def _quantized(scene: Scene) -> int:
    look, pairs = scene.look, list(zip(scene.look.graph.operators, scene.plan.operators, strict=True))
    layers = [one for operator, one in pairs if views.weights(look, operator)]
    placed = [one for one in layers or [one for _, one in pairs] if one.placement in ("cpu", "gpu", "npu")]
    return sum(not set(figures.parts(one.signature)[:2]).isdisjoint(views.QUANTIZED) for one in placed)


def _limits(scene: Scene) -> Iterator[tuple[str, Expected]]:
    had, needed, asked = scene.target.memory, scene.plan.memory, scene.plan.budgets
    latency = scene.plan.predicted.latency_ms
    bounds = {
        "fits-ram": (needed.ram_bytes, had.ram_bytes - had.reserved_ram_bytes),
        "fits-model-budget": (needed.ram_bytes, had.model_budget_bytes),
        "fits-flash": (
            needed.flash_bytes,
            None if had.flash_bytes is None else had.flash_bytes - had.reserved_flash_bytes,
        ),
        "max-flash": (needed.flash_bytes, asked.max_flash_bytes),
        "max-ram": (needed.ram_bytes, asked.max_ram_bytes),
        "max-latency": (latency, asked.max_latency_ms),
        "max-drop": (None, asked.max_drop),
        "min-sqnr": (None, asked.min_sqnr_db),
        "max-energy": (None, asked.max_energy_mj),
    }
    for rule, (used, limit) in bounds.items():
        if limit is not None:
            yield rule, (used is None or used <= limit, used, limit)
