"""The same work on many devices at the same time, each device's own steps in order."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgeq.errors import EdgeqError
from edgeq.lab import boards, transports
from edgeq.lab.boards import Board
from edgeq.lab.transports import Transport
from edgeq.types import Device

T = TypeVar("T")
MOST_AT_ONCE = 64
MOST_CONNECTING = 8
"""Key exchange costs this host processor time: all at once, the last would run out of its time."""
Reached = Transport | Board
"""A device that programs can be started on, or one that can only be spoken with."""
Reach = Callable[[Device], AbstractContextManager[Reached]]


def connect(device: Device) -> Reached:
    """A device by whatever way it has; raises Unreachable and its kinds, TimedOut, BackendNotFound."""
    return boards.connect(device) if boards.speaks(device) else transports.connect(device)


@dataclass(frozen=True, kw_only=True)
class Outcome(Generic[T]):
    """How the work on one device ended: a result or an error of the tree."""

    device: str
    seconds: float
    result: T | None = None
    error: EdgeqError | None = None


class Connections:
    """The devices that are reached, so that all of them can be interrupted from one place."""

    def __init__(self) -> None:
        self._open: set[Reached] = set()
        self._changing = threading.Lock()
        self._connecting = threading.BoundedSemaphore(MOST_CONNECTING)
        self._interrupted = False

    @contextlib.contextmanager
    def to(self, device: Device) -> Iterator[Reached]:
        """A way to a device, closed afterwards; KeyboardInterrupt once all were interrupted."""
        with self._connecting:
            self._check()
            reached = connect(device)
        try:
            with self._changing:
                self._check()
                self._open.add(reached)
            yield reached
        finally:
            with self._changing:
                self._open.discard(reached)
            reached.close()

    def _check(self) -> None:
        if self._interrupted:
            raise KeyboardInterrupt

    def interrupt(self) -> None:
        """End what is under way on all devices, and open no more."""
        with self._changing:
            self._interrupted = True
            for reached in self._open:
                reached.interrupt()


def each(
    units: Sequence[Device], work: Callable[[Device, Reach], T], *, ended: Callable[[Outcome[T]], None]
) -> list[Outcome[T]]:
    """Do the work on every device; outcomes in the devices' order, `ended` gets each as it comes, in any thread.

    An EdgeqError ends one device's work, a bug is raised when the others have ended. Ctrl-C ends all and is raised
    when nothing runs on any device any more.
    """
    connections = Connections()
    queues = list(_queues(units))
    with ThreadPoolExecutor(min(len(queues), MOST_AT_ONCE), thread_name_prefix="device") as pool:
        futures = [pool.submit(_in_turn, queue, work, connections, ended) for queue in queues]
        try:
            while wait(futures, timeout=1.0).not_done:
                pass  # a signal that another thread caught is seen by this one only when it wakes
        except BaseException:
            connections.interrupt()
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    found = {outcome.device: outcome for future in futures for outcome in future.result()}
    return [found[unit.name] for unit in units]


def _queues(units: Sequence[Device]) -> Iterator[list[Device]]:
    """Devices behind one address are one machine under several names: they take turns."""
    queues: dict[object, list[Device]] = {}
    for unit in units:
        queues.setdefault((unit.transport, unit.host, unit.port), []).append(unit)
    yield from queues.values()


def _in_turn(
    queue: list[Device],
    work: Callable[[Device, Reach], T],
    connections: Connections,
    ended: Callable[[Outcome[T]], None],
) -> list[Outcome[T]]:
    outcomes = []
    for unit in queue:
        outcomes.append(_one(unit, work, connections))
        ended(outcomes[-1])
    return outcomes


def _one(unit: Device, work: Callable[[Device, Reach], T], connections: Connections) -> Outcome[T]:
    started = time.monotonic()
    try:
        result = work(unit, connections.to)
    except EdgeqError as error:
        return Outcome(device=unit.name, seconds=time.monotonic() - started, error=error)
    return Outcome(device=unit.name, seconds=time.monotonic() - started, result=result)
