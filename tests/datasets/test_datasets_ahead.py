"""One item ahead: the same items in the same order, errors where they belong, nothing left running."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from edgeq.datasets import ahead


def test_items_come_in_order() -> None:
    assert list(ahead(range(50))) == list(range(50))
    assert list(ahead(())) == []
    assert list(ahead([None, None])) == [None, None]


def test_an_error_comes_when_its_item_would() -> None:
    def stream() -> Iterator[int]:
        yield 1
        raise ValueError("the second")

    found = ahead(stream())
    assert next(found) == 1
    with pytest.raises(ValueError, match="the second"):
        next(found)


def test_the_next_item_is_made_while_one_is_used_and_no_further() -> None:
    made: list[int] = []

    def stream() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            yield number

    found = ahead(stream())
    assert next(found) == 0
    give_up = time.monotonic() + 10
    while len(made) < 2 and time.monotonic() < give_up:
        time.sleep(0.01)
    time.sleep(0.05)
    assert made == [0, 1]
    found.close()


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    found = ahead(iter(range(1000)))
    assert next(found) == 0
    found.close()
    assert threading.active_count() == before
