"""How far two ways to compute one file lie apart."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from edgeq import runtimes

if TYPE_CHECKING:
    from edgeq.runtimes import Array, Session


def gap_db(one: Session, exact: Session, samples: Iterable[tuple[Array, ...]]) -> float | None:
    """SQNR in dB of a session to one that computes exactly, over all outputs; None if they are equal."""
    signal = noise = 0.0
    for sample in samples:
        for ours, theirs in zip(runtimes.infer(one, sample), runtimes.infer(exact, sample), strict=True):
            wanted = theirs.astype(np.float64)
            signal += float(np.sum(wanted**2))
            noise += float(np.sum((wanted - ours.astype(np.float64)) ** 2))
    if noise == 0:
        return None
    return float(10 * np.log10(max(signal, 1e-300) / noise))
