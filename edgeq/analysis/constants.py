"""Weights of the quantized model beside those of the float model."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from edgeq.analysis import fresh
from edgeq.analysis.measuring import Chain
from edgeq.analysis.rows import Row, Weight
from edgeq.quantization import quantizers
from edgeq.types import Quantization, WeightAnalysis
from edgeq.types.analysis import HistogramCounts

BARS = 64


def weights(chain: Chain, formats: Any, row: Row) -> tuple[WeightAnalysis, ...]:
    """Each constant operand that stands for real values in both models."""
    found = (_weight(chain, formats, weight) for weight in row.weights)
    return tuple(one for one in found if one is not None)


def _weight(chain: Chain, formats: Any, weight: Weight) -> WeightAnalysis | None:
    original = formats.constant(chain.prepared, weight.original)
    stored = formats.constant(chain.quantized, weight.stored)
    spec = chain.quantized.graph.tensors[weight.stored]
    if original is None or stored is None or original.shape != stored.shape or not original.size:
        return None
    sound = fresh.fresh(original, spec)
    axis = fresh.axis_of(spec.quantization, original.ndim)
    rows = quantizers.by_channel(original, axis if axis is not None else _channels(chain, original))
    ends = limits(spec.quantization, spec.dtype)
    granularity: Literal["per-tensor", "per-channel"] = "per-tensor" if axis is None else "per-channel"
    return WeightAnalysis(
        operand=weight.operand,
        name=chain.prepared.graph.tensors[weight.original].name,
        dtype=spec.dtype,
        granularity=granularity,
        sqnr_db=quantizers.sqnr_db(original, stored),
        expected_db=None if sound is None else quantizers.sqnr_db(original, sound),
        clipped_share=_clipped(quantizers.by_channel(original, axis), ends),
        channel_spread=quantizers.channel_spread(rows),
        range=_reach(ends, stored),
        quantizers=quantizers.costs(rows) if sound is not None else {},
        histogram=histogram(original),
    )


def _channels(chain: Chain, values: NDArray[Any]) -> int | None:
    """The axis that would have a scale of its own: results, which stand first, but last in ONNX's MatMul."""
    if values.ndim < 2:
        return None
    return values.ndim - 1 if chain.quantized.graph.format == "onnx" and values.ndim == 2 else 0


Limits = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]] | None


def limits(found: Quantization | None, dtype: str) -> Limits:
    """Smallest and largest real value that can be stored and the step, for each channel; None for other types."""
    bits = fresh.BITS.get(dtype)
    if found is None or bits is None:
        return None
    scale, zero = np.asarray(found.scales, np.float64), np.asarray(found.zero_points, np.float64)
    first = 0 if dtype.startswith("u") else -(2 ** (bits - 1))
    return (first - zero) * scale, (first + 2**bits - 1 - zero) * scale, scale


def _clipped(rows: NDArray[np.float64], ends: Limits) -> float:
    """Share of values more than half a step outside what can be stored."""
    if ends is None:
        return 0.0
    low, high, step = (np.broadcast_to(end, len(rows))[:, np.newaxis] for end in ends)
    return float(np.mean((rows < low - step / 2 - 1e-12) | (rows > high + step / 2 + 1e-12)))


def _reach(ends: Limits, stored: NDArray[Any]) -> tuple[float, float]:
    if ends is None:
        return float(stored.min()), float(stored.max())
    return float(ends[0].min()), float(ends[1].max())


def histogram(values: NDArray[Any]) -> HistogramCounts | None:
    """Counts in `BARS` bars; None for values that are not finite."""
    low, high = float(values.min()), float(values.max())
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    if low == high:
        return HistogramCounts(low=low, high=high, counts=(int(values.size), *([0] * (BARS - 1))))
    # float32 has no room for so many edges between neighbouring values.
    counts, _ = np.histogram(values.astype(np.float64), BARS, (low, high))
    return HistogramCounts(low=low, high=high, counts=tuple(map(int, counts)))
