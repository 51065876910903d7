"""The checks of a whole plan: format, state of the file, what is quantized, memory, budgets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from edgeq.planning import view as views
from edgeq.planning.accelerator import NAMES
from edgeq.planning.ground import NOT_RUN, Placed
from edgeq.planning.view import View
from edgeq.types import Budgets, Check, OperatorTable, PlannedMemory, Predicted, RuntimeSpec, Scheme, Target
from edgeq.units import format_ms, format_size

_FORMAT_NAMES: Mapping[str, str] = {"tflite": "TFLite", "onnx": "ONNX", "c": "C"}
_TO_FORMAT = {
    "tflite": "give edgeq the TFLite or Keras file of this model",
    "onnx": "export the model to ONNX and give edgeq that file",
    "c": "give edgeq the TFLite file of this model",
}
_FALLBACKS = ("falls-back-to-float", "operator-unknown", "version-too-new", "constraint-violated")
_SMALLER = "--prefer memory"


def wrong_format(runtime: RuntimeSpec, has: str) -> str:
    """The sentence that says that a runtime reads another format."""
    return f"{runtime.name} wants {_FORMAT_NAMES[runtime.format]}, the model is {_FORMAT_NAMES[has]}."


def runtime_format(look: View, runtime: RuntimeSpec) -> Check:
    """Whether the runtime reads the model's format."""
    has, wants = _FORMAT_NAMES[look.graph.format], _FORMAT_NAMES[runtime.format]
    ok = look.graph.format == runtime.format
    return Check(
        rule="runtime-format",
        subject=runtime.name,
        ok=ok,
        needed=wants,
        available=has,
        why=f"{runtime.name} reads {has}." if ok else wrong_format(runtime, look.graph.format),
        hint=None if ok else _TO_FORMAT[runtime.format],
    )


def state(look: View, scheme: Scheme) -> Check | None:
    """Whether the scheme suits a file that came float, quantized or partly quantized; None where all is plain."""
    came = look.graph.state
    quantized = came in ("quantized", "weights")
    if quantized != (scheme.name == "as_is"):
        why = (
            "The model came quantized: it is taken as it stands, never quantized again."
            if quantized
            else "The model is not quantized yet, so it cannot be deployed as an INT8 model as it is."
        )
        hint = "--scheme as_is, or start from the float model" if quantized else "leave out --scheme"
        return Check(rule="model-state", subject=came, ok=False, why=why, hint=hint)
    words = {
        "quantized": "The model came quantized and is taken as it stands.",
        "weights": "The model came with quantized weights and is taken as it stands.",
        "partial": "Some weights came as integers; they are restored to float and quantized by this plan.",
    }
    return Check(rule="model-state", subject=came, ok=True, why=words[came]) if came in words else None


def operators(placed: Iterable[Placed], table: OperatorTable) -> list[Check]:
    """One failing check for each refused operator, or one that tells how many fall back.

    On an accelerator a second one tells whether it gets anything to do.
    """
    placed = tuple(placed)
    failures = [one.failure for one in placed if one.failure is not None]
    if failures:
        return failures
    found = [Check(rule="operators-placed", subject=f"{len(placed)} operators", ok=True, why=_fallen(placed, table))]
    return found if table.placement == "cpu" else [*found, _uses_accelerator(placed, table)]


def _fallen(placed: tuple[Placed, ...], table: OperatorTable) -> str:
    if table.placement != "cpu":
        there = sum(one.where == table.placement for one in placed if one.rule not in NOT_RUN)
        off = [one for one in placed if _is_off(one, table)]
        names = f": {', '.join(sorted({one.operator.type for one in off}))}" if off else ""
        return f"{there} on the {NAMES[table.placement]}, {len(off)} on the CPU{names}."
    fallen = [one for one in placed if one.rule in _FALLBACKS]
    types = ", ".join(sorted({one.operator.type for one in fallen}))
    return f"{len(fallen)} of {len(placed)} operators fall back: {types}." if fallen else "No operator is refused."


def _is_off(one: Placed, table: OperatorTable) -> bool:
    """Whether an operator runs on the CPU although there is an accelerator."""
    return one.where != table.placement and one.rule not in NOT_RUN


def _uses_accelerator(placed: tuple[Placed, ...], table: OperatorTable) -> Check:
    name = NAMES[table.placement]
    there = sum(one.where == table.placement for one in placed if one.rule not in NOT_RUN)
    why = f"{there} operators run on the {name}." if there else f"Nothing of this plan would run on the {name}."
    hint = None if there else "another scheme, or a target without the accelerator"
    return Check(
        rule="uses-accelerator", subject=table.name, ok=there > 0, needed=1, available=there, why=why, hint=hint
    )


def quantizes(look: View, placed: Iterable[Placed], scheme: Scheme) -> Check | None:
    """Whether the scheme quantizes anything: layers with weights where there are some; None where it need not."""
    if scheme.name in ("float32", "as_is"):
        return None
    placed = tuple(placed)
    layers = [one for one in placed if views.weights(look, one.operator)] or list(placed)
    count = sum(_is_quantized(one) for one in layers)
    why = f"{count} of {len(layers)} layers are quantized." if count else "The scheme would quantize nothing here."
    return Check(rule="quantizes-something", subject=scheme.name, ok=count > 0, needed=1, available=count, why=why)


def memory(planned: PlannedMemory, target: Target) -> list[Check]:
    """Whether the plan fits the target's model budget, RAM and flash."""
    limits = target.memory
    checks = [
        _at_most("fits-ram", target.name, planned.ram_bytes, limits.ram_bytes - limits.reserved_ram_bytes, "RAM"),
    ]
    if limits.model_budget_bytes is not None:
        name = "memory that the target gives one model"
        checks.append(_at_most("fits-model-budget", target.name, planned.ram_bytes, limits.model_budget_bytes, name))
    if limits.flash_bytes is not None:
        flash_bytes = limits.flash_bytes - limits.reserved_flash_bytes
        checks.append(_at_most("fits-flash", target.name, planned.flash_bytes, flash_bytes, "flash"))
    return checks


def budgets(planned: PlannedMemory, predicted: Predicted, asked: Budgets) -> list[Check]:
    """The user's limits: predicted ones are decided now, the others say that a measurement decides."""
    checks = []
    if asked.max_flash_bytes is not None:
        checks.append(_at_most("max-flash", "model file", planned.flash_bytes, asked.max_flash_bytes, "--max-flash"))
    if asked.max_ram_bytes is not None:
        checks.append(_at_most("max-ram", "run-time memory", planned.ram_bytes, asked.max_ram_bytes, "--max-ram"))
    if asked.max_latency_ms is not None:
        checks.append(_latency(predicted.latency_ms, asked.max_latency_ms))
    if asked.max_drop is not None:
        checks.append(_measured("max-drop", "accuracy", asked.max_drop, "", "scoring the converted model"))
    if asked.min_sqnr_db is not None:
        checks.append(_measured("min-sqnr", "fidelity", asked.min_sqnr_db, "dB", "scoring the converted model"))
    if asked.max_energy_mj is not None:
        checks.append(_measured("max-energy", "energy", asked.max_energy_mj, "mJ", "measuring on the device"))
    return checks


def integer_types(scheme: Scheme, why: str) -> Check | None:
    """Why a static scheme has the integer types it has."""
    if not scheme.is_static or scheme.name == "as_is":
        return None
    return Check(rule="integer-types", subject=scheme.name, ok=True, why=why)


def _latency(predicted_ms: float | None, limit_ms: float) -> Check:
    if predicted_ms is None:
        return _measured("max-latency", "latency", limit_ms, "ms", "measuring on the device")
    ok = predicted_ms <= limit_ms
    words = "within" if ok else "over"
    return Check(
        rule="max-latency",
        subject="latency",
        ok=ok,
        needed=predicted_ms,
        available=limit_ms,
        unit="ms",
        why=f"Predicted latency {format_ms(predicted_ms)} is {words} --max-latency-ms {limit_ms:g}.",
        hint=None if ok else "--prefer latency, or a faster target",
    )


def _measured(rule: str, subject: str, limit: float, unit: str, how: str) -> Check:
    why = f"There is no prediction of {subject}; {how} will decide."
    return Check(rule=rule, subject=subject, ok=True, available=limit, unit=unit, why=why)


def _at_most(rule: str, subject: str, needed_bytes: int, available_bytes: int, name: str) -> Check:
    ok = needed_bytes <= available_bytes
    words = "fits in" if ok else "does not fit in"
    return Check(
        rule=rule,
        subject=subject,
        ok=ok,
        needed=needed_bytes,
        available=available_bytes,
        unit="bytes",
        why=f"{format_size(needed_bytes)} {words} the {format_size(available_bytes)} of {name}.",
        hint=None if ok else _SMALLER,
    )


def _is_quantized(one: Placed) -> bool:
    signature = one.signature
    return one.placement == "cpu" and (signature.weights in views.QUANTIZED or signature.activations in views.QUANTIZED)
