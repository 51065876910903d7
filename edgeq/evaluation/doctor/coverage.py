"""Rules about the ranges of activations: do the calibration samples reach where the scored ones do?"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgeq.evaluation.doctor.findings import applied, finding
from edgeq.types import Finding

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Extremes = NDArray[np.float64]
    Values = NDArray[np.float64]

ENOUGH = 0.85
"""Of the ranges that others need, on average over activations: of 30 random samples one set in 50 gives less."""
GOOD = 0.9
ODD = 0.02
WITNESSES = 2
"""So many samples must need a range: a single one may be odd, and its loss is small."""
DRAWS = 100
FEW = 8
"""Samples; fewer may well be alike."""
SIZES = (8, 16, 32, 64)


class Reach(NamedTuple):
    """Smallest and largest value of every activation (samples, activations, 2): calibration, then scored ones.

    `different` counts calibration samples that are no copies; `total` all of them, where only some were run. `numbers`
    are those of the samples that were run, where they are known; activations are in the order of the operators.
    """

    names: tuple[str, ...]
    calibration: Extremes
    scored: Extremes
    different: int
    total: int
    numbers: tuple[int, ...] = ()


Rule = Callable[[Reach], "Finding | None"]


def ends(rows: Extremes, witnesses: int = 1) -> tuple[Values, Values]:
    """Low and high end of every activation, zero between them, that at least so many of the samples reach."""
    place = min(witnesses, len(rows)) - 1
    low, high = np.sort(rows[..., 0], axis=0)[place], np.sort(rows[..., 1], axis=0)[-1 - place]
    return np.minimum(low, 0), np.maximum(high, 0)


def shares(given: Extremes, needed: Extremes) -> Values:
    """Share of the range that one set of samples gives, in what another needs too; 1 where nothing has a width."""
    low, high = ends(given)
    others = ends(needed, WITNESSES)
    with np.errstate(invalid="ignore"):
        wide = np.maximum(high, others[1]) - np.minimum(low, others[0])
        used = np.isfinite(wide) & (wide > 0)
        return np.asarray(np.divide(high - low, wide, out=np.ones_like(wide), where=used))


def not_finite(reach: Reach) -> Finding | None:
    """Activations become NaN or infinite."""
    rows = np.concatenate([reach.calibration, reach.scored])
    each = np.isnan(rows).any(axis=2) | np.isposinf(rows[..., 1])  # -inf masks attention
    broken = np.flatnonzero(each.any(axis=0))
    if not broken.size:
        return None
    place = int(each[:, broken[0]].argmax())
    sample = f" with sample {reach.numbers[place]}" if reach.numbers else ""
    detail = f"{reach.names[broken[0]]!r} is the first of {broken.size}{sample}"
    return finding(
        not_finite, "stop", detail, "look for broken weights, or samples that overflow", activations=broken.size
    )


def constant_activations(reach: Reach) -> Finding | None:
    """From one operator on the model computes the same for every sample."""
    rows = np.concatenate([reach.calibration, reach.scored])
    if len(rows) < FEW or not reach.names:
        return None
    same = (rows == rows[0]).all(axis=(0, 2))
    if not same[-1] or not np.isfinite(rows[:, same]).all():
        return None
    moving = np.flatnonzero(~same)
    first = int(moving[-1]) + 1 if moving.size else 0
    after = f", behind {reach.names[first - 1]!r}" if first else ""
    detail = f"{reach.names[first]!r} is the first that never changes{after} ({len(rows)} samples)"
    hint = "look at the weights between the two, and at the export of the model"
    return finding(constant_activations, "warning", detail, hint, activations=len(same) - first)


def ranges_too_narrow(reach: Reach) -> Finding | None:
    """The scored samples reach far beyond the ranges that the calibration samples give."""
    if not _both(reach):
        return None
    each = shares(reach.calibration, reach.scored)
    share, whole = float(each.mean()), np.concatenate([reach.calibration, reach.scored])
    if share >= ENOUGH:
        return None
    drawn, enough = _drawn(whole, len(reach.calibration)), sufficient(whole)
    random = float(drawn.mean())
    if share >= float(np.quantile(drawn, ODD)):
        cause = f"{reach.different} different samples are too few, {enough or 'more than all of these'} would do"
    else:
        cause = f"{len(reach.calibration)} random ones would give {random:.0%}, so these are too much alike"
    detail = f"they give {share:.0%} on average, least at {reach.names[int(each.argmin())]!r}; {cause}"
    hint = f"calibrate on {enough or 2 * len(whole)} samples or more, taken from all over"
    return finding(ranges_too_narrow, "warning", detail, hint, given=share, random=random, enough=enough or 0)


def ranges_too_wide(reach: Reach) -> Finding | None:
    """The calibration samples reach far beyond what the scored samples need, which costs resolution."""
    if not _both(reach):
        return None
    share = float(shares(reach.scored, reach.calibration).mean())
    whole = np.concatenate([reach.calibration, reach.scored])
    drawn = _drawn(whole, len(reach.scored)) if share < ENOUGH else np.zeros(1)
    if share >= min(ENOUGH, float(np.quantile(drawn, ODD))):
        return None
    random = float(drawn.mean())
    detail = f"these need {share:.0%} on average, as many random ones would need {random:.0%}"
    hint = "calibrate on samples of the kind, and prepared the way, that the device will see"
    return finding(ranges_too_wide, "warning", detail, hint, needed=share, random=random)


def _both(reach: Reach) -> bool:
    return bool(reach.names) and len(reach.calibration) > 0 and len(reach.scored) >= WITNESSES


def sufficient(whole: Extremes) -> int | None:
    """The least of the usual sizes of which random draws give `GOOD` of what the rest needs; None if none does."""
    return next((size for size in SIZES if 2 * size <= len(whole) and _drawn(whole, size).mean() >= GOOD), None)


def _drawn(whole: Extremes, size: int) -> Values:
    """What random draws of a size give of what the rest needs."""
    random = np.random.default_rng(0)
    orders = (random.permutation(len(whole)) for _ in range(DRAWS))
    return np.array([shares(whole[order[:size]], whole[order[size:]]).mean() for order in orders])


RULES: tuple[Rule, ...] = (not_finite, constant_activations, ranges_too_narrow, ranges_too_wide)


def findings(reach: Reach) -> Iterator[Finding]:
    """What the rules find."""
    yield from applied(RULES, reach)
