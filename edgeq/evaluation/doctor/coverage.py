"""Rules about the ranges of activations: do the calibration samples reach where the scored ones do?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgeq.evaluation.doctor.findings import finding
from edgeq.types import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Extremes = NDArray[np.float64]

ENOUGH = 0.8
"""Of the range that all samples together reach, on average over activations: clipping a fifth away is no rounding."""
GOOD = 0.9
DRAWS = 200
SIZES = (8, 16, 32, 64, 128)


class Reach(NamedTuple):
    """Smallest and largest value of every activation (samples, activations, 2): calibration, then scored ones.

    `different` counts calibration samples that are no copies; `total` all of them, where only some were run.
    """

    names: tuple[str, ...]
    calibration: Extremes
    scored: Extremes
    different: int
    total: int


Rule = Callable[[Reach], "Finding | None"]


def ranges(rows: Extremes) -> Extremes:
    """Width of every activation's range, zero in it, over the samples."""
    with np.errstate(invalid="ignore"):
        return np.asarray(np.maximum(rows[..., 1].max(axis=0), 0) - np.minimum(rows[..., 0].min(axis=0), 0))


def covered(part: Extremes, whole: Extremes) -> float:
    """Mean share of the activations' ranges over all samples that some of them reach."""
    wide = ranges(whole)
    used = np.isfinite(wide) & (wide > 0)
    return float((ranges(part)[used] / wide[used]).mean()) if used.any() else 1.0


def not_finite(reach: Reach) -> Finding | None:
    """Activations become NaN or infinite."""
    rows = np.concatenate([reach.calibration, reach.scored])
    nan, infinite = np.isnan(rows).any(axis=(0, 2)), np.isposinf(rows[..., 1]).any(axis=0)  # -inf masks attention
    broken = np.flatnonzero(nan | infinite)
    if not broken.size:
        return None
    detail = f"{reach.names[broken[0]]!r} is the first of {broken.size}"
    return finding(
        not_finite, "stop", detail, "look for broken weights, or samples that overflow", activations=broken.size
    )


def ranges_too_narrow(reach: Reach) -> Finding | None:
    """The scored samples reach far beyond the ranges that the calibration samples give."""
    whole = np.concatenate([reach.calibration, reach.scored])
    share = covered(reach.calibration, whole)
    if len(reach.calibration) == 0 or len(reach.scored) < 2 or share >= ENOUGH:
        return None
    worst = int(np.argmin(ranges(reach.calibration) / np.maximum(ranges(whole), 1e-30)))
    enough = sufficient(whole)
    drawn = _drawn(whole, len(reach.calibration))
    usual = drawn.mean() <= share or share >= float(np.quantile(drawn, 0.01))
    cause = (
        f"{reach.different} different samples are too few, {enough or 'more than all of these'} would do"
        if usual
        else f"{len(reach.calibration)} random ones would reach {drawn.mean():.0%}, so these are too much alike"
    )
    detail = f"{share:.0%} of the ranges on average, least at {reach.names[worst]!r}; {cause}"
    hint = f"calibrate on {enough or 2 * len(whole)} samples or more, taken from all over"
    return finding(ranges_too_narrow, "warning", detail, hint, covered=share, random=drawn.mean(), enough=enough or 0)


def ranges_too_wide(reach: Reach) -> Finding | None:
    """The calibration samples reach far beyond what the scored samples need, which costs resolution."""
    whole = np.concatenate([reach.calibration, reach.scored])
    share = covered(reach.scored, whole)
    if len(reach.calibration) == 0 or len(reach.scored) < 2 or share >= ENOUGH:
        return None
    drawn = _drawn(whole, len(reach.scored))
    if share >= float(np.quantile(drawn, 0.01)):
        return None
    detail = f"these need {share:.0%} of the ranges on average, as many random ones would need {drawn.mean():.0%}"
    hint = "calibrate on samples of the kind, and prepared the way, that the device will see"
    return finding(ranges_too_wide, "warning", detail, hint, covered=share, random=drawn.mean())


def sufficient(whole: Extremes) -> int | None:
    """The least of the usual sizes whose random draws reach `GOOD` of the ranges of all samples; None if none does."""
    return next((size for size in SIZES if size < len(whole) and _drawn(whole, size).mean() >= GOOD), None)


def _drawn(whole: Extremes, size: int) -> Extremes:
    """What random draws of a size cover."""
    random = np.random.default_rng(0)
    draws = (random.permutation(len(whole))[:size] for _ in range(DRAWS))
    return np.array([covered(whole[draw], whole) for draw in draws])


RULES: tuple[Rule, ...] = (not_finite, ranges_too_narrow, ranges_too_wide)


def findings(reach: Reach) -> Iterator[Finding]:
    """What the rules find."""
    for rule in RULES:
        found = rule(reach)
        if found is not None:
            yield found
