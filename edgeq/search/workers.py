"""Candidates in processes of their own, answered in the order in which they were asked."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from multiprocessing.synchronize import Event
from typing import TypeVar

T = TypeVar("T")
Call = Callable[[], T]
Start = Callable[[int], contextlib.AbstractContextManager[Executor]]
PATIENCE_SECONDS = 5.0
"""How long a worker that is told to stop has to reach its next step, before it is killed."""

_stop: Event | None = None


class WorkerDiedError(Exception):
    """A worker ended in the middle of a call, twice."""


class StoppedError(Exception):
    """The answer of this call is not wanted any more."""


@contextlib.contextmanager
def processes(count: int) -> Iterator[Executor]:
    """A pool of this host's processes, which end with the block or with this process, whichever comes first."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    before = set(multiprocessing.active_children())
    pool = ProcessPoolExecutor(count, mp_context=context, initializer=_begin, initargs=(stop,))
    try:
        yield pool
    finally:
        stop.set()
        own = set(multiprocessing.active_children()) - before
        # In a thread, since it waits for workers that may have to be killed first.
        closing = threading.Thread(target=pool.shutdown, kwargs={"cancel_futures": True})
        closing.start()
        end = time.monotonic() + PATIENCE_SECONDS
        for process in own:
            process.join(max(0.0, end - time.monotonic()))
            process.kill()
        closing.join()


def in_order(
    calls: Sequence[Call[T]], count: int, start: Start = processes
) -> Generator[T | WorkerDiedError, None, None]:
    """Answers of picklable calls in their order, `count` at a time; a call whose worker died gives WorkerDiedError.

    Nothing beyond the next `count` calls is begun, so that whoever stops listening has wasted little.
    """
    left = deque(calls)
    while left:
        with start(count) as pool:
            yield from _until_broken(left, count, pool)
        if left:  # The pool broke: which of those begun is to blame shows when they run one by one.
            with start(1) as alone:
                yield _alone(left.popleft(), alone)


def _until_broken(left: deque[Call[T]], count: int, pool: Executor) -> Iterator[T]:
    """Answers in order; what was answered leaves `left`."""
    begun: deque[Future[T]] = deque()
    while left:
        try:
            while len(begun) < min(count, len(left)):
                begun.append(pool.submit(left[len(begun)]))
            answer = begun.popleft().result()
        except BrokenProcessPool:
            return
        left.popleft()
        yield answer


def _alone(call: Call[T], pool: Executor) -> T | WorkerDiedError:
    try:
        return pool.submit(call).result()
    except BrokenProcessPool:
        return WorkerDiedError("the worker ended in the middle of it, as it does when memory runs out")


def heed(step: str, done: int, total: int) -> None:
    """A Progress for calls in workers: it shows nothing, and raises StoppedError when nobody waits any more."""
    if _stop is not None and _stop.is_set():
        raise StoppedError(f"{step}: {done} of {total}")


def _begin(stop: Event) -> None:
    """In a worker: Ctrl-C is the parent's to answer, and without a parent there is nothing to do."""
    global _stop  # noqa: PLW0603
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
