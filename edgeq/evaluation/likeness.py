"""How alike two sets of outputs are, read in pieces so that outputs kept in a file stay there."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]
    Piece = NDArray[np.float64]

SQNR_LIMIT_DB = 200.0  # stands for equal
_PIECE_BYTES = 16 << 20


class Likeness(NamedTuple):
    """Cosine and SQNR in dB over all values together, largest absolute error; None where undefined."""

    cosine: float | None
    sqnr_db: float | None
    max_abs_error: float | None


def pieces(*arrays: Array) -> Iterator[tuple[Piece, ...]]:
    """The same samples of several arrays in float64, some MiB at a time."""
    rows = max(1, _PIECE_BYTES // max(1, 8 * math.prod(arrays[0].shape[1:])))
    for start in range(0, len(arrays[0]), rows):
        yield tuple(np.asarray(array[start : start + rows], dtype=np.float64) for array in arrays)


def likeness(reference: Array, candidate: Array) -> Likeness:
    """Candidate against reference; shapes agree up to axes of length 1.

    SQNR = 10 log10(sum reference^2 / sum (reference - candidate)^2), at most 200 dB.
    """
    signal = noise = own = dot = largest = 0.0
    for a, b in pieces(reference, candidate.reshape(reference.shape)):
        with np.errstate(invalid="ignore", over="ignore"):
            gap = a - b
            signal, own, dot = signal + float((a * a).sum()), own + float((b * b).sum()), dot + float((a * b).sum())
            noise, largest = noise + float((gap * gap).sum()), max(largest, float(np.abs(gap).max(initial=0.0)))
            if not math.isfinite(noise):
                return Likeness(None, None, None)
    return Likeness(_cosine(dot, signal, own), _sqnr_db(signal, noise), largest)


def _cosine(dot: float, signal: float, own: float) -> float | None:
    if not signal and not own:
        return None
    return max(-1.0, min(1.0, dot / math.sqrt(signal) / math.sqrt(own))) if signal and own else 0.0


def _sqnr_db(signal: float, noise: float) -> float | None:
    if not noise:
        return SQNR_LIMIT_DB
    return min(SQNR_LIMIT_DB, 10 * (math.log10(signal) - math.log10(noise))) if signal else None
