"""Operators of a model side by side in one session, each fed by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgeq.analysis.net import Region
from edgeq.errors import ModelError

if TYPE_CHECKING:
    from edgeq.runtimes import Array, Session

    Open = Callable[[Sequence[Region], Path], Session]

Feeds = Mapping[int, "Array"]


class Cut(NamedTuple):
    """A session over some regions, by their numbers."""

    numbers: tuple[int, ...]
    regions: tuple[Region, ...]
    session: Session

    def run(self, feeds: Mapping[int, Feeds]) -> Iterator[tuple[int, list[Array]]]:
        """Number of each region and the stored values of its goals; `feeds` has those of each region's ends."""
        made = iter(
            self.session.run(
                [
                    feeds[number][end]
                    for number, region in zip(self.numbers, self.regions, strict=True)
                    for end in region.ends
                ]
            )
        )
        for number, region in zip(self.numbers, self.regions, strict=True):
            yield number, [next(made) for _ in region.goals]


def cuts(regions: Mapping[int, Region], feeds: Mapping[int, Feeds], folder: Path, open_cut: Open) -> list[Cut]:
    """Sessions over as many regions as run: where one is refused, its halves are tried, down to single regions."""
    left, found = [tuple(regions)], []
    while left:
        numbers = left.pop()
        if not numbers:
            continue
        try:
            cut = Cut(numbers, tuple(regions[n] for n in numbers), open_cut([regions[n] for n in numbers], folder))
            list(cut.run(feeds))
        except ModelError:
            half = len(numbers) // 2
            left += [numbers[:half], numbers[half:]] if half else []
        else:
            found.append(cut)
    return found
