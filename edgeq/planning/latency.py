"""Predicted latency: from latencies measured on the target, else by the roofline of its profile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from edgeq.planning import memory, rates
from edgeq.planning import view as views
from edgeq.planning.ground import Placed
from edgeq.planning.view import View
from edgeq.types import Observation, Predicted, Roofline, Target

_CLASSES = {
    "CONV_2D": "conv",
    "CONV_3D": "conv",
    "Conv": "conv",
    "ConvTranspose": "conv",
    "TRANSPOSE_CONV": "conv",
    "DEPTHWISE_CONV_2D": "depthwise",
    "BATCH_MATMUL": "matmul",
    "FULLY_CONNECTED": "matmul",
    "Gemm": "matmul",
    "MatMul": "matmul",
}


def predict(
    look: View, placed: Iterable[Placed], target: Target, observations: Sequence[Observation] = ()
) -> tuple[Predicted, str | None]:
    """Latency of one inference in ms, or None and the reason. Nothing else running; threads as they were measured.

    `observations` are of this target and this runtime; with them the cost of each kind of work is fitted, and the
    roofline is only where the fit starts. Source of the roofline: Williams, Waterman, Patterson, 2009.
    """
    placed = tuple(placed)
    kinds = memory.dtypes(look, placed)
    done = work(look, placed, kinds)
    if any(memory.arithmetic(one) == "int16" for one in placed):
        return Predicted(work=done), "there are no rates of int16 arithmetic; measure it with edgeq profile"
    usable = [one for one in observations if one.work and one.latency_ms > 0 and not _in_int16(one)]
    if usable:
        found = rates.seconds(done, rates.fit(usable, target.roofline))
        return Predicted(latency_ms=found * 1000, source=_fitted(usable, target.roofline), work=done), None
    why = _no_roofline(placed, target)
    if why is not None or target.roofline is None:
        return Predicted(work=done), why
    roofline = target.roofline
    seconds = sum(_seconds(one, memory.moved_bytes(look, one, kinds), roofline) for one in placed)
    return Predicted(latency_ms=seconds * 1000, source=f"roofline: {roofline.source}", work=done), None


def _in_int16(one: Observation) -> bool:
    """Whether int16 arithmetic, whose cost is not fitted, is in a measurement."""
    return any(kind.startswith("int16 ") for kind in one.work)


def work(look: View, placed: Iterable[Placed], kinds: Mapping[int, str]) -> dict[str, float]:
    """What one inference does, by kind of work (see `rates.KINDS`); what folds away does nothing."""
    done: Counter[str] = Counter(inferences=1)
    for one in placed:
        if views.on_constants(look, one.operator) or one.rule == "folded":
            continue
        if one.operator.macs:
            done[f"{memory.arithmetic(one)} {_class(look, one)}"] += one.operator.macs
        done["bytes"] += round(memory.moved_bytes(look, one, kinds))
        done["operators"] += 1
    return {kind: float(units) for kind, units in done.items()}


def _class(look: View, one: Placed) -> str:
    """Class of an operator; an ONNX convolution with one input channel per filter is depthwise."""
    found = _CLASSES.get(one.operator.type, "other")
    if one.operator.type != "Conv":
        return found
    group, layers = one.operator.attributes.get("group"), views.weights(look, one.operator)
    depthwise = isinstance(group, int) and group > 1 and bool(layers) and layers[0].shape[1:2] == (1,)
    return "depthwise" if depthwise else found


def _fitted(observations: Sequence[Observation], roofline: Roofline | None) -> str:
    count = len(observations)
    measured = f"{count} measurement{'' if count == 1 else 's'} of this target"
    error = rates.left_out_error(observations, roofline)
    return measured if error is None else f"{measured}, which predict one another within {error:.0%} (median)"


def _no_roofline(placed: tuple[Placed, ...], target: Target) -> str | None:
    if target.roofline is None:
        return f"{target.name} has no roofline and nothing was measured on it yet; measure it with edgeq profile"
    missing = _missing(placed, target.roofline)
    return missing and f"the roofline of {target.name} has no {missing}; measure it with edgeq profile"


def _missing(placed: tuple[Placed, ...], roofline: Roofline) -> str | None:
    needed = {f"{memory.arithmetic(one)}_macs_per_s" for one in placed if one.operator.macs}
    absent = [name for name in sorted(needed | {"memory_bytes_per_s"}) if not getattr(roofline, name)]
    return next(iter(absent), None)


def _seconds(one: Placed, moved_bytes: float, roofline: Roofline) -> float:
    traffic = moved_bytes / (roofline.memory_bytes_per_s or 1.0)
    if not one.operator.macs:
        return traffic
    speeds = {"int8": roofline.int8_macs_per_s, "float32": roofline.float32_macs_per_s}
    return max(one.operator.macs / (speeds[memory.arithmetic(one)] or 1.0), traffic)
