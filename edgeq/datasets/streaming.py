"""Two things at once: the next sample is made while one is used."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def ahead(items: Iterable[Item]) -> Generator[Item, None, None]:
    """The same items, each made in another thread while the one before is used.

    Runtimes and NumPy let go of the interpreter while they compute. Two items are alive at a time.
    """
    stream = iter(items)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(_next, stream)
        while (found := waiting.result()) is not None:
            waiting = pool.submit(_next, stream)
            yield found[0]


def _next(stream: Iterator[Item]) -> tuple[Item] | None:
    """The next item in a tuple; None at the end, which a future cannot raise."""
    for item in stream:
        return (item,)
    return None
