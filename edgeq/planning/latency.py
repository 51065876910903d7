"""Predicted latency by the roofline: each operator takes its arithmetic or its memory traffic, whichever is longer."""

from __future__ import annotations

from collections.abc import Iterable

from edgeq.planning import memory
from edgeq.planning.placement import Placed
from edgeq.planning.view import View
from edgeq.types import Predicted, Roofline, Target


def predict(look: View, placed: Iterable[Placed], target: Target) -> tuple[Predicted, str | None]:
    """Latency of one inference in ms, or None and the reason. All cores, nothing else running.

    Source: Williams, Waterman, Patterson, Roofline, 2009.
    """
    placed = tuple(placed)
    roofline = target.roofline
    if roofline is None:
        return Predicted(), f"{target.name} has no roofline; measure it with edgeq profile"
    missing = _missing(placed, roofline)
    if missing:
        return Predicted(), f"the roofline of {target.name} has no {missing}; measure it with edgeq profile"
    kinds = memory.dtypes(look, placed)
    seconds = sum(_seconds(one, memory.moved_bytes(look, one, kinds), roofline) for one in placed)
    return Predicted(latency_ms=seconds * 1000), None


def _missing(placed: tuple[Placed, ...], roofline: Roofline) -> str | None:
    needed = {f"{memory.signature_rate(one.signature)}_macs_per_s" for one in placed if one.operator.macs}
    absent = [name for name in sorted(needed | {"memory_bytes_per_s"}) if not getattr(roofline, name)]
    return next(iter(absent), None)


def _seconds(one: Placed, moved_bytes: float, roofline: Roofline) -> float:
    traffic = moved_bytes / (roofline.memory_bytes_per_s or 1.0)
    if not one.operator.macs:
        return traffic
    rates = {"int8": roofline.int8_macs_per_s, "float32": roofline.float32_macs_per_s}
    return max(one.operator.macs / (rates[memory.signature_rate(one.signature)] or 1.0), traffic)
