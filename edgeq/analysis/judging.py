"""What an operator should cost, and which one costs more: the criterion of `edgeq analyze`.

An operator that is quantized soundly still makes noise. What it should make is known: N * step^2 / 12 for rounding
its N results over the range that they really use, and the noise that its weights make when they are quantized anew
from the float ones, in the file's own data types. Excess is what it makes beyond that, in dB:

- quantized: noise alone over the expected noise, at least -45 dB of the signal;
- prepared: noise over -60 dB of the signal, since preparing must not change the function;
- runtime: difference between fast and exact kernels over one step for each result, at least -40 dB of the signal.

More than `WRONG_DB` is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

from edgeq.analysis.measuring import Chain, Measured, Sums
from edgeq.analysis.net import INTEGERS, Net
from edgeq.analysis.rows import Row
from edgeq.types import Port

WRONG_DB = 9.0
"""Sound conversions stay below 4.2 dB; up to 8.3 dB where a few outliers that calibration never saw are clipped."""
FLOORS = {"prepared": 1e-6, "quantized": 10**-4.5, "runtime": 1e-4}
"""Share of the signal's energy below which noise of a step is harmless."""
FIXED_STEPS = tuple(2.0**-power for power in (15, 16, 7, 8, 4))
"""Steps that TFLite prescribes for results of SOFTMAX, LOGISTIC, TANH, L2_NORMALIZATION and LOG_SOFTMAX."""
FIXED = frozenset({"SOFTMAX", "LOGISTIC", "TANH", "L2_NORMALIZATION", "LOG_SOFTMAX", "Softmax", "Sigmoid", "Tanh"})


def excess_db(noise: float, expected: float) -> float:
    """How far noise is beyond what is expected; 0 where it is not beyond."""
    if not noise or not math.isfinite(noise):
        return 0.0 if math.isfinite(noise) else 200.0
    return max(0.0, 10 * (math.log10(noise) - math.log10(max(expected, 1e-300))))


def sound_step(low: float, high: float, port: Port) -> float:
    """The step over a range in a port's data type: symmetric where the port's zero point is in the middle."""
    bits = 16 if port.dtype.endswith("16") else 8
    middle = 2 ** (bits - 1) if port.dtype.startswith("u") else 0
    if port.zero_point == middle and (low < 0 or bits == 16):
        return max(-low, high) / float(2 ** (bits - 1) - 1)
    return (max(high, 0.0) - min(low, 0.0)) / float(2**bits - 1)


class Steps:
    """Expected step of each stored result.

    Where an operator must give its result the scale of what it reads (TFLite's pools, RESHAPE, CONCATENATION), all
    tensors with that scale share one range.
    """

    def __init__(self, chain: Chain, measured: Measured) -> None:
        self._net = chain.quantized
        self._ranges: dict[int, tuple[float, float]] = {}
        self._roots: dict[int, int] = {}
        spreads = measured.spreads
        for row in measured.rows:
            if isinstance(row, Row):
                for theirs, ours in (*zip(row.goals, row.part.goals, strict=True), *row.ends.items()):
                    if theirs in spreads:
                        self._ranges[ours] = (spreads[theirs].low, spreads[theirs].high)
                self._join(row)

    def _join(self, row: Row) -> None:
        for goal in row.part.goals:
            for end in row.part.ends:
                if _same_scale(self._net.port(goal), self._net.port(end)):
                    self._roots[self._root(goal)] = self._root(end)

    def _root(self, tensor: int) -> int:
        while tensor in self._roots and self._roots[tensor] != tensor:
            tensor = self._roots[tensor]
        return tensor

    def of(self, tensor: int, operator: str) -> float:
        """The step that a sound range would have; 0 for a result in float."""
        port = self._net.port(tensor)
        if port.scale is None:
            return 0.0
        root = self._root(tensor)
        known = [ends for one, ends in self._ranges.items() if self._root(one) == root]
        if not known:
            return 0.0
        step = sound_step(min(low for low, _ in known), max(high for _, high in known), port)
        is_fixed = operator in FIXED and any(math.isclose(port.scale, fixed, rel_tol=1e-3) for fixed in FIXED_STEPS)
        return max(step, port.scale) if is_fixed else step


def _same_scale(one: Port, other: Port) -> bool:
    return one.scale is not None and (one.scale, one.zero_point) == (other.scale, other.zero_point)


def expected_noise(sums: Sums, steps: Iterable[float]) -> float:
    """Energy of the noise that sound quantization of weights and results makes."""
    each = list(steps)
    rounding = sum(step * step / 12 for step in each) / max(len(each), 1) * sums.alone.count
    return rounding + sums.sound.noise


def excesses(sums: Sums, expected: float, net: Net, goals: Iterable[int]) -> Mapping[str, float]:
    """Excess of the quantized and the runtime step."""
    scales = [net.port(goal).scale or 0.0 for goal in goals]
    one_step = sum(scale * scale for scale in scales) / max(len(scales), 1) * sums.alone.count
    found = {"quantized": excess_db(sums.alone.noise, max(expected, FLOORS["quantized"] * sums.alone.signal))}
    if sums.kernels.count:
        found["runtime"] = excess_db(sums.kernels.noise, max(one_step, FLOORS["runtime"] * sums.kernels.signal))
    return found


def is_integer(net: Net, tensor: int) -> bool:
    """Whether a result is stored as integers."""
    return net.graph.tensors[tensor].dtype in INTEGERS


def wrong(found: Mapping[str, float]) -> Iterator[tuple[str, float]]:
    """Steps in which an operator is wrong, with the excess."""
    return ((step, excess) for step, excess in found.items() if excess > WRONG_DB)
