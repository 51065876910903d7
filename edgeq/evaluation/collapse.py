"""Whether a conversion destroyed a model, seen from its outputs alone.

Converters report success for models at chance, and a metric may not see it (few classes, a loose
`--max-drop`, a second output). The signs below do not occur on conversions that work: in the peers' results
for eleven real models the collapsed ones (kws and MiniLM by onnxruntime, sine by litert-quantizer) had an
SQNR of -2.4 to 1.4 dB, and the next above them 5.9 dB; those that kept their metric had 7 dB or more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgeq.datasets.truth import CLASS_METRICS
from edgeq.evaluation.classification import tally
from edgeq.evaluation.likeness import likeness, pieces
from edgeq.types import LabelSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]
    Outputs = tuple[Array, ...]

LEAST_SQNR_DB = 2.0  # also means a cosine of at least 0.6
NEGLIGIBLE = 1e-6  # an output that never leaves this around zero says nothing
VARYING_SHARE = 0.02  # of an output's largest value; less may be lost in eight bits
ONE_CLASS_SHARE = 0.9
FEW = 8  # samples that might all be alike


class Extent(NamedTuple):
    """Largest absolute value of an output, and how far any element of it moves from sample to sample."""

    largest: float
    spread: float


def reason(
    metric: str,
    reference: Outputs | None,
    candidate: Outputs,
    labels: Array | None,
    spec: LabelSpec | None,
) -> str | None:
    """Why a candidate cannot be trusted whatever its score, in one sentence; None if nothing speaks against it.

    Without the float model's outputs only NaN, infinity and constancy show.
    """
    for place, own in enumerate(candidate):
        name = "the output" if len(candidate) == 1 else f"output {place}"
        for sign in _SIGNS:
            found = sign(reference[place] if reference else None, own)
            if found:
                return f"the conversion collapsed: {name} {found}"
    if reference and labels is not None and metric in CLASS_METRICS:
        return _one_class(reference[0], candidate[0], labels, spec or LabelSpec())
    return None


def _not_finite(reference: Array | None, candidate: Array) -> str | None:
    """NaN or infinity where float has none."""
    pair = (candidate,) if reference is None else (reference, candidate.reshape(reference.shape))
    for group in pieces(*pair):
        if (~np.isfinite(group[-1]) & np.isfinite(group[0] if len(group) > 1 else 0.0)).any():
            return "holds NaN or infinity"
    return None


def _constant(reference: Array | None, candidate: Array) -> str | None:
    """The same for every sample, though float's differs by more than eight bits might lose."""
    if len(candidate) < 2 or extent(candidate).spread > 0:
        return None
    if reference is None:
        return "is the same for every sample" if len(candidate) >= FEW else None
    own = extent(reference)
    lost = own.largest > NEGLIGIBLE and own.spread > VARYING_SHARE * own.largest
    return "is the same for every sample, the float model's is not" if lost else None


def _unlike(reference: Array | None, candidate: Array) -> str | None:
    """Nearly as much noise as signal, or more. Class numbers and counts are not compared so."""
    if reference is None or reference.dtype.kind in "biu" or extent(reference).largest <= NEGLIGIBLE:
        return None
    sqnr_db = likeness(reference, candidate).sqnr_db
    if sqnr_db is None or sqnr_db >= LEAST_SQNR_DB:
        return None
    return f"has next to nothing of the float model's (SQNR {sqnr_db:.1f} dB, at least {LEAST_SQNR_DB:g} is needed)"


def _one_class(reference: Array, candidate: Array, labels: Array, spec: LabelSpec) -> str | None:
    """One class everywhere, though float chooses another for at least one label in ten."""
    own, wanted = (tally(values, labels, spec).chosen for values in (candidate, reference))
    if own.max() < own.sum() or wanted.max() > ONE_CLASS_SHARE * wanted.sum():
        return None
    return f"the conversion collapsed: it always chooses class {int(own.argmax())}, the float model does not"


def extent(values: Array) -> Extent:
    """Over all samples; NaN and infinity are left out."""
    low = np.full(values.shape[1:], np.inf)
    high = -low
    for (piece,) in pieces(values):
        finite = np.isfinite(piece)
        low = np.minimum(low, np.where(finite, piece, np.inf).min(axis=0))
        high = np.maximum(high, np.where(finite, piece, -np.inf).max(axis=0))
    seen = high >= low
    if not seen.any():
        return Extent(0.0, 0.0)
    return Extent(float(np.maximum(np.abs(low), np.abs(high))[seen].max()), float((high - low)[seen].max()))


_SIGNS: tuple[Callable[[Array | None, Array], str | None], ...] = (_not_finite, _constant, _unlike)
