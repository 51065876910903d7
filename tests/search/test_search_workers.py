"""Calls in processes of their own: their order, what a dead worker costs, and that none outlives the search."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path

import pytest

from edgeq.errors import DatasetError
from edgeq.search import workers


def _mark(folder: Path, number: int) -> int:
    """Say that a call began, and by which process."""
    (folder / f"{number}-{os.getpid()}").touch()
    return number


def _die_once(folder: Path, number: int) -> int:
    """The first call with this number takes its process with it."""
    died = folder / f"died-{number}"
    if not died.exists():
        died.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def _die(number: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return number


def _heed_for(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        workers.heed("waiting", 0, 1)
        time.sleep(0.01)
    return "to the end"


def _fail(number: int) -> int:
    raise ValueError(f"call {number}")


def _begun(folder: Path) -> set[int]:
    return {int(path.name.split("-")[0]) for path in folder.iterdir()}


@contextlib.contextmanager
def _threads(count: int) -> Iterator[Executor]:
    """Another executor of the same interface."""
    with ThreadPoolExecutor(count) as pool:
        yield pool


@pytest.mark.parametrize("count", [1, 2])
def test_answers_come_in_order_whoever_is_quicker(tmp_path: Path, count: int) -> None:
    calls = [functools.partial(_mark, tmp_path, number) for number in range(6)]
    assert list(workers.in_order(calls, count)) == list(range(6))
    processes = {path.name.split("-")[1] for path in tmp_path.iterdir()}
    assert str(os.getpid()) not in processes
    assert len(processes) <= count
    assert multiprocessing.active_children() == []


def test_any_executor_will_do(tmp_path: Path) -> None:
    calls = [functools.partial(_mark, tmp_path, number) for number in range(9)]
    assert list(workers.in_order(calls, 3, _threads)) == list(range(9))


def test_nothing_to_do_starts_nothing() -> None:
    assert list(workers.in_order([], 2)) == []


def test_who_stops_listening_wastes_little(tmp_path: Path) -> None:
    calls = [functools.partial(_mark, tmp_path, number) for number in range(20)]
    with contextlib.closing(workers.in_order(calls, 2)) as found:
        assert [next(found), next(found)] == [0, 1]
    assert _begun(tmp_path) <= {0, 1, 2, 3}
    assert multiprocessing.active_children() == []


def test_a_worker_that_is_not_wanted_stops_at_its_next_step() -> None:
    calls = [functools.partial(_heed_for, 0.0), functools.partial(_heed_for, 60.0)]
    started = time.monotonic()
    with contextlib.closing(workers.in_order(calls, 2)) as found:
        assert next(found) == "to the end"
    assert time.monotonic() - started < 30
    assert multiprocessing.active_children() == []


def test_a_worker_that_dies_once_costs_nothing_but_time(tmp_path: Path) -> None:
    calls = [functools.partial(call, tmp_path, number) for number, call in enumerate((_mark, _die_once, _mark))]
    assert list(workers.in_order(calls, 2)) == [0, 1, 2]
    assert (tmp_path / "died-1").exists()


def test_a_call_that_kills_its_worker_twice_is_named_and_the_others_go_on(tmp_path: Path) -> None:
    calls = [functools.partial(_mark, tmp_path, 0), functools.partial(_die, 1), functools.partial(_mark, tmp_path, 2)]
    first, second, third = workers.in_order(calls, 2)
    assert (first, third) == (0, 2)
    assert isinstance(second, workers.WorkerDiedError)
    assert "memory" in str(second)


def test_an_error_in_a_call_is_the_callers() -> None:
    with pytest.raises(ValueError, match="call 4"):
        list(workers.in_order([functools.partial(_fail, 4)], 2))
    assert multiprocessing.active_children() == []


def _refuse() -> int:
    raise DatasetError("sample 3 holds NaN", where="samples.npz", hint="mend it")


def test_an_error_for_users_keeps_its_place_and_its_hint() -> None:
    with pytest.raises(DatasetError) as caught:
        list(workers.in_order([_refuse], 2))
    assert (caught.value.message, caught.value.where, caught.value.hint) == (
        "sample 3 holds NaN",
        "samples.npz",
        "mend it",
    )


def test_outside_a_worker_nothing_is_stopped() -> None:
    workers.heed("anything", 1, 2)


PARENT = """
import functools, sys, time
from edgeq.search import workers

def begin(path):
    import os
    open(path, "w").write(str(os.getpid()))
    time.sleep(600)

if __name__ == "__main__":
    list(workers.in_order([functools.partial(begin, sys.argv[1])], 1))
"""


def _is_there(number: int) -> bool:
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return False
    return state != "Z"


def test_without_their_parent_workers_end(tmp_path: Path) -> None:
    """Nothing is left when the search's process is killed in the middle of it."""
    script, written = tmp_path / "parent.py", tmp_path / "worker"
    script.write_text(PARENT)
    parent = subprocess.Popen([sys.executable, str(script), str(written)])
    try:
        end = time.monotonic() + 60
        while not (written.exists() and written.read_text()):
            assert time.monotonic() < end, "the worker did not begin"
            assert parent.poll() is None
            time.sleep(0.05)
        worker = int(written.read_text())
        assert _is_there(worker)
    finally:
        parent.kill()
        parent.wait()
    end = time.monotonic() + 20
    while _is_there(worker):
        assert time.monotonic() < end, "the worker is still there"
        time.sleep(0.05)
