"""From sums to the document: one row for each operator, the steps, and who is to blame."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, cast

import numpy as np

from edgeq.analysis import constants, judging
from edgeq.analysis.measuring import Chain, Measured, Sums
from edgeq.analysis.preparing import Preparing, pieces
from edgeq.analysis.rows import Missing, Row
from edgeq.analysis.sums import Spread
from edgeq.quantization import quantizers
from edgeq.types import Blame, OperatorAnalysis, Port, StepAnalysis, WeightAnalysis
from edgeq.types.analysis import HistogramCounts, Step

REFUSED = "the runtime refuses it alone"
STEPS: Mapping[Step, str] = {
    "prepared": "the float model as it was prepared for quantization, beside the original",
    "quantized": "the quantized file in its own arithmetic, beside the prepared model",
    "runtime": "this host's fast kernels, beside the file's own arithmetic",
}
CLIPPED_SHARE = 0.001
LOSS_DB = 6.0


def operators(chain: Chain, formats: Any, found: Measured) -> tuple[OperatorAnalysis, ...]:
    """Inputs that are quantized, as index -1, then every operator in order."""
    steps = judging.Steps(chain, found)
    changed = list(pieces(chain, found))
    made = [_input(chain, found, steps, tensor, sums) for tensor, sums in found.inputs.items()]
    for number, row in enumerate(found.rows):
        made.append(_operator(chain, formats, found, steps, number, row, changed))
    return tuple(made)


def _operator(
    chain: Chain,
    formats: Any,
    found: Measured,
    steps: judging.Steps,
    number: int,
    row: Row | Missing,
    changed: Iterable[Preparing],
) -> OperatorAnalysis:
    operator = row.part.operator
    own = chain.quantized.graph.tensors[row.part.goals[0]].name
    if isinstance(row, Missing) or number not in found.operators:
        why = row.why if isinstance(row, Missing) else REFUSED
        return OperatorAnalysis(index=operator.index, type=operator.type, name=own, unavailable=why)
    sums, goals = found.operators[number], row.part.goals
    expected = judging.expected_noise(sums, [steps.of(goal, operator.type) for goal in goals])
    excess = dict(judging.excesses(sums, expected, chain.quantized, goals))
    before = _changed(row, changed)
    if before is not None:
        excess["prepared"] = before.excess_db
    spread = found.spreads.get(row.goals[0])
    port = chain.quantized.port(goals[0])
    weights = constants.weights(chain, formats, row)
    made = OperatorAnalysis(
        index=operator.index,
        type=operator.type,
        name=chain.prepared.graph.tensors[row.goals[0]].name,
        accumulated_db=sums.accumulated.sqnr_db,
        alone_db=sums.alone.sqnr_db,
        expected_db=quantizers.ratio_db(sums.alone.signal, expected),
        prepared_db=before.energy.sqnr_db if before is not None else None,
        runtime_db=sums.kernels.sqnr_db,
        excess_db=excess,
        weights=weights,
        **_result(port, sums, spread),
    )
    return _with_reasons(made, port, steps.of(goals[0], operator.type), sums)


def _result(port: Port, sums: Sums, spread: Spread | None) -> dict[str, Any]:
    """What the row says of the result's range."""
    return {
        "range": _range(port),
        "used": (spread.low, spread.high) if spread is not None and math.isfinite(spread.low) else None,
        "dtype": port.dtype,
        "clipped_share": sums.clipped / max(sums.alone.count, 1),
        "quantizers": quantizers.costs(spread.values()) if spread is not None and spread.kept else {},
        "histogram": bars(spread) if spread is not None else None,
    }


def _range(port: Port) -> tuple[float, float] | None:
    if port.scale is None:
        return None
    ends, zero = np.iinfo(port.dtype), port.zero_point or 0
    return (ends.min - zero) * port.scale, (ends.max - zero) * port.scale


def bars(spread: Spread) -> HistogramCounts | None:
    """The stream's histogram in few bars, between the outermost bins that hold values."""
    counts, edges = spread.histogram.counts, spread.histogram.edges()
    used = np.flatnonzero(counts)
    if not used.size:
        return None
    first, last = int(used[0]), int(used[-1]) + 1
    width = -(-(last - first) // constants.BARS)
    starts = np.arange(first, last, width)
    end = min(first + width * len(starts), len(counts))
    return HistogramCounts(
        low=float(edges[first]), high=float(edges[end]), counts=tuple(map(int, np.add.reduceat(counts[:end], starts)))
    )


def _input(chain: Chain, found: Measured, steps: judging.Steps, tensor: int, sums: Sums) -> OperatorAnalysis:
    theirs = chain.prepared.graph.inputs[chain.quantized.graph.inputs.index(tensor)]
    port, spread = chain.quantized.port(tensor), found.spreads.get(theirs)
    expected = judging.expected_noise(sums, [steps.of(tensor, "INPUT")])
    made = OperatorAnalysis(
        index=-1,
        type="INPUT",
        name=chain.prepared.graph.tensors[theirs].name,
        accumulated_db=sums.accumulated.sqnr_db,
        alone_db=sums.alone.sqnr_db,
        expected_db=quantizers.ratio_db(sums.alone.signal, expected),
        excess_db=judging.excesses(sums, expected, chain.quantized, [tensor]),
        **_result(port, sums, spread),
    )
    return _with_reasons(made, port, steps.of(tensor, "INPUT"), sums)


def _changed(row: Row, changed: Iterable[Preparing]) -> Preparing | None:
    """What preparing changed most in the piece of the prepared model that this row stands for."""
    inside = {operator.index for operator in row.before.operators} if row.before is not None else set()
    own = [one for one in changed if one.operator in inside]
    return max(own, key=lambda one: one.excess_db, default=None)


def _with_reasons(made: OperatorAnalysis, port: Port, step: float, sums: Sums) -> OperatorAnalysis:
    reasons = [reason for name, _ in judging.wrong(made.excess_db) for reason in _REASONS[name](made, port, step, sums)]
    return dataclasses.replace(made, why=tuple(reasons))


def _why_quantized(made: OperatorAnalysis, port: Port, step: float, _sums: Sums) -> list[str]:
    reasons = [reason for weight in made.weights for reason in _why_weight(weight)]
    if made.range and made.used and made.clipped_share > CLIPPED_SHARE:
        reasons.append(
            f"its range {_ends(made.range)} is narrower than {_ends(made.used)}: {made.clipped_share:.1%} is clipped"
        )
    if port.scale and step and port.scale > 2 * step:
        lost = math.log2(port.scale / step)
        reasons.append(f"its range is {port.scale / step:.3g} times what is used: {lost:.1f} bits are lost")
    return reasons or ["it computes something else than the float operator"]


def _why_weight(weight: WeightAnalysis) -> Iterator[str]:
    what = f"operand {weight.operand} ({weight.dtype})"
    if weight.sqnr_db is None:
        return
    if weight.expected_db is None:
        if weight.sqnr_db < 30:
            yield f"{what} differs from the float one: SQNR {weight.sqnr_db:.1f} dB"
        return
    if weight.expected_db - weight.sqnr_db > LOSS_DB:
        yield f"{what} has SQNR {weight.sqnr_db:.1f} dB where {weight.expected_db:.1f} dB is possible"
    if weight.clipped_share > CLIPPED_SHARE:
        yield f"{weight.clipped_share:.1%} of {what} is clipped"


def _ends(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.4g}, {ends[1]:.4g}]"


def _why_prepared(made: OperatorAnalysis, _port: Port, _step: float, _sums: Sums) -> list[str]:
    return [f"it computes something else than the original: SQNR {_db(made.prepared_db)}"]


def _why_runtime(made: OperatorAnalysis, _port: Port, _step: float, _sums: Sums) -> list[str]:
    return [f"this host's kernel answers otherwise than the file's arithmetic: SQNR {_db(made.runtime_db)}"]


def _db(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.1f} dB"


_REASONS = {"prepared": _why_prepared, "quantized": _why_quantized, "runtime": _why_runtime}


def steps(chain: Chain, found: Measured, rows: Iterable[OperatorAnalysis]) -> tuple[StepAnalysis, ...]:
    """Each step with the least likeness of its outputs, and how many operators go wrong in it."""
    listed = list(rows)
    nets = {"prepared": chain.prepared, "quantized": chain.quantized, "runtime": chain.runtime}
    return tuple(
        StepAnalysis(
            step=step,
            path=nets[step].graph.path,
            what=what,
            sqnr_db=min((e.sqnr_db for e in found.steps.get(step, ()) if e.sqnr_db is not None), default=None),
            wrong_operators=sum(one.excess_db.get(step, 0) > judging.WRONG_DB for one in listed),
        )
        for step, what in STEPS.items()
    )


def blames(rows: Iterable[OperatorAnalysis], changed: Iterable[Preparing]) -> list[Blame]:
    """Everything that goes wrong, in order of execution."""
    listed = list(rows)
    order = {step: place for place, step in enumerate(STEPS)}
    found = [
        Blame(step=cast("Step", step), index=one.index, type=one.type, name=one.name, excess_db=excess, why=one.why)
        for one in listed
        for step, excess in sorted(judging.wrong(one.excess_db), key=lambda pair: order[cast("Step", pair[0])])
        if step != "prepared"
    ]
    return [*_prepared_blames(changed), *found]


def _prepared_blames(changed: Iterable[Preparing]) -> Iterator[Blame]:
    for one in changed:
        if one.excess_db > judging.WRONG_DB:
            why = (f"it computes something else than the original: SQNR {_db(one.energy.sqnr_db)}",)
            yield Blame(
                step="prepared", index=one.operator, type=one.type, name=one.name, excess_db=one.excess_db, why=why
            )
