"""The same work on many devices: at the same time, in turn on one machine, each failure for itself."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from edgeq.errors import DiskFull, EdgeqError, Unreachable
from edgeq.lab import fleet
from edgeq.lab.fleet import MOST_AT_ONCE, Outcome, Reach, each
from edgeq.lab.leases import leased
from edgeq.testing.sshd import free_ports
from edgeq.types import Device


def boards(count: int) -> list[Device]:
    """Devices at addresses of their own."""
    return [Device(name=f"b{n}", transport="ssh", host=f"b{n}.invalid") for n in range(count)]


def names(units: list[Device]) -> list[str]:
    return [unit.name for unit in units]


def ignore(outcome: Outcome[str]) -> None:
    """Do nothing with it."""


def test_all_at_the_same_time_and_outcomes_in_order() -> None:
    units, together = boards(12), threading.Barrier(12)

    def work(unit: Device, reach: Reach) -> str:
        together.wait(20)
        time.sleep(0.02 * (12 - units.index(unit)))
        return unit.name.upper()

    ended: list[str] = []
    outcomes = each(units, work, ended=lambda outcome: ended.append(outcome.device))
    assert [(one.device, one.result, one.error) for one in outcomes] == [(n, n.upper(), None) for n in names(units)]
    assert sorted(ended) == sorted(names(units))
    assert ended[0] == "b11"


def test_so_many_and_no_more_at_once() -> None:
    units = boards(MOST_AT_ONCE + 20)
    together, here, most = threading.Barrier(MOST_AT_ONCE), list[str](), list[int]()

    def work(unit: Device, reach: Reach) -> str:
        here.append(unit.name)
        if unit in units[:MOST_AT_ONCE]:
            together.wait(60)
        most.append(len(here))
        here.remove(unit.name)
        return ""

    assert len(each(units, work, ended=ignore)) == len(units)
    assert max(most) == MOST_AT_ONCE


def test_names_of_one_machine_take_turns() -> None:
    units = [Device(name=f"b{n}", transport="local", folder=f"/f{n}") for n in range(4)]
    busy = threading.Lock()

    def work(unit: Device, reach: Reach) -> str:
        assert busy.acquire(blocking=False)
        time.sleep(0.02)
        busy.release()
        return unit.name

    assert [one.result for one in each(units, work, ended=ignore)] == names(units)


def test_an_error_is_one_devices_own() -> None:
    units, errors = boards(6), {"b1": DiskFull("full", hint="free space"), "b4": Unreachable("away")}

    def work(unit: Device, reach: Reach) -> str:
        if unit.name in errors:
            raise errors[unit.name]
        return "done"

    outcomes = {one.device: one for one in each(units, work, ended=ignore)}
    assert {name: one.error for name, one in outcomes.items() if one.error} == errors
    assert [one.result for one in outcomes.values()].count("done") == 4


def test_a_bug_is_raised_when_the_others_have_ended() -> None:
    done: list[str] = []

    def work(unit: Device, reach: Reach) -> str:
        if unit.name == "b0":
            raise ZeroDivisionError("a bug")
        time.sleep(0.2)
        done.append(unit.name)
        return ""

    with pytest.raises(ZeroDivisionError, match="a bug"):
        each(boards(4), work, ended=ignore)
    assert sorted(done) == ["b1", "b2", "b3"]


def test_a_connection_that_fails_lets_the_next_one_connect() -> None:
    """More of them than connect at the same time; nobody listens at any."""
    ports = free_ports(3 * fleet.MOST_CONNECTING)
    units = [Device(name=f"b{n}", transport="ssh", host="127.0.0.1", port=port) for n, port in enumerate(ports)]

    def work(unit: Device, reach: Reach) -> str:
        with reach(unit):
            return "connected"

    outcomes = each(units, work, ended=ignore)
    assert {type(one.error) for one in outcomes} == {Unreachable}


@pytest.fixture
def here(tmp_path: Path) -> list[Device]:
    """This host as two devices, with addresses that differ."""
    folders = [str(tmp_path / name) for name in ("one", "two")]
    return [Device(name=f"b{n}", transport="local", host=f"h{n}", folder=folder) for n, folder in enumerate(folders)]


def test_ctrl_c_ends_commands_gives_leases_back_and_begins_nothing_more(here: list[Device], tmp_path: Path) -> None:
    running, begun = threading.Barrier(3), list[str]()
    more = [Device(name=f"c{n}", transport="local", host="h0", folder=str(tmp_path / f"c{n}")) for n in range(3)]

    def work(unit: Device, reach: Reach) -> str:
        begun.append(unit.name)
        with reach(unit) as transport, leased(transport):
            running.wait(20)
            transport.run(["sleep", "60"], timeout_seconds=60)
        return "not interrupted"

    def interrupt() -> None:
        running.wait(20)
        time.sleep(0.3)
        signal.raise_signal(signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        each([*here, *more], work, ended=ignore)
    thread.join()
    assert time.monotonic() - started < 15
    assert sorted(begun) == ["b0", "b1"]
    assert not list(tmp_path.rglob("lease*"))


def test_after_an_interrupt_nothing_is_opened(here: list[Device]) -> None:
    connections = fleet.Connections()
    with connections.to(here[0]) as transport:
        connections.interrupt()
        with pytest.raises(KeyboardInterrupt):
            transport.home()
        with pytest.raises(KeyboardInterrupt), connections.to(here[1]):
            pytest.fail("opened")


@pytest.mark.parametrize("kind", [EdgeqError, DiskFull])
def test_seconds_are_told_of_failures_too(kind: Callable[[str], EdgeqError]) -> None:
    def work(unit: Device, reach: Reach) -> str:
        time.sleep(0.1)
        raise kind("no")

    (outcome,) = each(boards(1), work, ended=ignore)
    assert 0.1 <= outcome.seconds < 5
    assert isinstance(outcome.error, EdgeqError)
