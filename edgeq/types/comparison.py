"""Two runs side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Answer = Literal["better", "worse", "undecided", "same", "shown", "missing"]
"""`undecided`: the difference is within the noise; `shown`: not judged; `missing`: one side has no figure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One quantity of two runs.

    `change` is after over before, less 1; `low` and `high` are its interval where there is one. `noise` is what counts
    as no difference: relative, in the metric's own unit for accuracy. `regressed`: worse by more than the noise and
    what is tolerated.
    """

    quantity: str
    unit: str = ""
    before: float | str | None
    after: float | str | None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    noise: float | None = None
    answer: Answer
    regressed: bool = False
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A circumstance that was another one; `apart` where figures of the two cannot be compared at all."""

    what: str
    before: str
    after: str
    apart: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """What is compared: a folder or a run, and what was measured there."""

    name: str
    model: str
    target: str
    device: str
    scheme: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """Two runs, quantity by quantity. `ok` unless something regressed beyond the noise and the tolerance."""

    before: Side
    after: Side
    tolerance: float
    latency_noise: float
    latency_noise_source: str
    mismatches: tuple[Mismatch, ...]
    differences: tuple[Difference, ...]

    @property
    def regressions(self) -> tuple[Difference, ...]:
        """What became worse."""
        return tuple(one for one in self.differences if one.regressed)

    @property
    def ok(self) -> bool:
        """Whether nothing became worse beyond the noise and the tolerance."""
        return not self.regressions
