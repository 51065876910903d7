"""Leases: one holder at a time, whoever dies how, and nothing that a stranger writes is believed."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeq.errors import DeviceBusy, DeviceError, NotWritable, TimedOut
from edgeq.lab import leases
from edgeq.lab.leases import leased, me
from edgeq.lab.transports import Transport, _agent, local, ssh
from edgeq.testing.sshd import Server, running_with
from edgeq.testing.tcp_proxy import Proxy
from edgeq.types import Device

HOLD = (
    "import sys, time\nfrom edgeq.lab.leases import leased\nfrom edgeq.lab.transports import local\n"
    "from edgeq.types import Device\n"
    "with local.connect(Device(name='x', transport='local', folder=sys.argv[1])) as there, leased(there):\n"
    "    print('mine', flush=True)\n    time.sleep(60)\n"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "device"


Open = Callable[[], Transport]


@pytest.fixture(params=["local", "ssh"])
def connect(request: pytest.FixtureRequest, folder: Path) -> Iterator[Open]:
    """Opens connections to one device."""
    opened: list[Transport] = []

    def open_one() -> Transport:
        if request.param == "local":
            opened.append(local.connect(device(folder)))
        else:
            server: Server = request.getfixturevalue("sshd")
            opened.append(ssh.connect(server.device(name="bench", folder=str(folder))))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


def device(folder: Path) -> Device:
    return Device(name="bench", transport="local", folder=str(folder))


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def hold(folder: Path) -> subprocess.Popen[str]:
    """Another process of this host that has the lease."""
    argv = [sys.executable, "-c", HOLD, str(folder)]
    holder = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "mine\n"
    return holder


def agents_of(folder: Path) -> list[int]:
    """Agents that hold a lease there: they have its file's name nowhere but in their memory, so ask the lease."""
    return [pid for pid in running_with("exec(compile(text,'edgeq agent'") if _works_in(pid, folder)]


def _works_in(pid: int, folder: Path) -> bool:
    parent = int((Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[1])
    return str(folder) in (Path("/proc") / str(parent) / "cmdline").read_text()


# --- one at a time ---------------------------------------------------------------------------------


def test_a_lease_is_there_while_the_block_runs(connect: Open, folder: Path) -> None:
    with leased(connect()) as check:
        (name,) = left_in(folder)
        told = json.loads((folder / name).read_text())
        assert (told["host"], told["pid"]) == (me().host, os.getpid())
        check()
    assert left_in(folder) == []


def test_somebody_else_is_told_who_has_it_at_once(connect: Open) -> None:
    first, second = connect(), connect()
    with leased(first):
        started = time.monotonic()
        with (
            pytest.raises(
                DeviceBusy, match=rf"bench is in use by .+ on .+ \(process {os.getpid()}, since \d+ s\)"
            ) as no,
            leased(second),
        ):
            pytest.fail("two holders")
        assert time.monotonic() - started < 6
        assert no.value.hint == "wait for it: --wait 600"
    with leased(second):
        pass


def test_who_waits_gets_it_when_the_other_has_ended(connect: Open) -> None:
    first, second = connect(), connect()
    steps: list[str] = []
    got: list[float] = []

    def wait() -> None:
        with leased(second, wait_seconds=30, progress=lambda step, done, total: steps.append(step)):
            got.append(time.monotonic())

    with leased(first):
        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(1.5)
        assert not got
        given_back = time.monotonic()
    thread.join(10)
    assert got
    assert got[0] > given_back
    assert len(steps) == 1
    assert steps[0].startswith("waiting for the device, ")


def test_waiting_ends(connect: Open) -> None:
    first, second = connect(), connect()
    with leased(first), pytest.raises(DeviceBusy, match="after 1 s of waiting"), leased(second, wait_seconds=1):
        pytest.fail("two holders")


def test_a_lease_lasts_longer_than_its_first_term(folder: Path) -> None:
    """The term is renewed: the file says a later end after a while, the holder stays."""
    with local.connect(device(folder)) as there, leased(there) as check:
        path = folder / left_in(folder)[0]
        first = json.loads(path.read_text())
        time.sleep(_agent.RENEW_SECONDS + 1)
        second = json.loads(path.read_text())
        check()
    assert second["until"] > first["until"]
    assert {**second, "until": 0} == {**first, "until": 0}


def compete(folder: Path, seconds: float, log: Path) -> None:
    """Take the lease again and again; `log` gets when it was had, by one clock."""
    give_up = time.monotonic() + seconds
    with local.connect(device(folder)) as there, log.open("a") as stream:
        while time.monotonic() < give_up:
            try:
                with leased(there, wait_seconds=0.2):
                    begun = time.monotonic_ns()
                    time.sleep(0.01)
                    stream.write(f"{begun} {time.monotonic_ns()}\n")
            except DeviceBusy:
                pass


def test_never_two_holders_among_many_processes(folder: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    logs = [tmp_path / f"log{number}" for number in range(6)]
    crowd = [context.Process(target=compete, args=(folder, 5.0, log)) for log in logs]
    for one in crowd:
        one.start()
    for one in crowd:
        one.join(60)
        assert one.exitcode == 0
    had = sorted(tuple(map(int, line.split())) for log in logs for line in log.read_text().splitlines())
    assert len(had) >= 10
    assert all(before[1] < after[0] for before, after in itertools.pairwise(had))
    assert left_in(folder) == []


TAKE = (
    "import sys, time\nsys.path.insert(0, sys.argv[1])\nimport _agent\n"
    "for line in sys.stdin:\n    begin = float(line)\n    while time.monotonic() < begin:\n        pass\n"
    "    print(_agent.take(sys.argv[2], {'id': sys.argv[3]}) is None, flush=True)\n"
)


def test_a_lease_that_ran_out_goes_to_one_only(folder: Path) -> None:
    """Many at the same moment, again and again: the agent's own steps, without the time that its start takes."""
    folder.mkdir()
    path, pipe = Path(_agent.lease_path(str(folder))), subprocess.PIPE
    argv = [sys.executable, "-I", "-c", TAKE, str(Path(_agent.__file__).parent), str(path)]
    with contextlib.ExitStack() as stack:
        crowd = [
            stack.enter_context(subprocess.Popen([*argv, str(n)], stdin=pipe, stdout=pipe, text=True)) for n in range(8)
        ]
        for turn in range(40):
            path.write_text(json.dumps({"id": "dead", "until": _agent.uptime() - 0.1}).ljust(_agent.LEASE_BYTES))
            told = ask_all(crowd, time.monotonic() + 0.05 + 0.3 * (turn == 0))
            assert told.count("True\n") == 1, (turn, told)
            assert json.loads(path.read_text())["id"] == str(told.index("True\n"))
            assert left_in(folder) == [path.name]


def ask_all(crowd: list[subprocess.Popen[str]], begin: float) -> list[str]:
    """What all of them answer that begin at that moment."""
    for one in crowd:
        assert one.stdin is not None
        one.stdin.write(f"{begin}\n")
        one.stdin.flush()
    return [one.stdout.readline() for one in crowd if one.stdout is not None]


# --- holders that die ------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_holder_that_is_killed_gives_it_back(number: signal.Signals, folder: Path) -> None:
    holder = hold(folder)
    holder.send_signal(number)
    holder.communicate()
    started = time.monotonic()
    with local.connect(device(folder)) as there, leased(there, wait_seconds=5):
        assert time.monotonic() - started < 4
    assert left_in(folder) == []


@pytest.mark.slow
def test_the_devices_end_is_killed(folder: Path) -> None:
    """Nobody can give it back: it runs out by the device's clock, for which who is next waits without being asked."""
    holder = hold(folder)
    (agent,) = agents_of(folder)
    os.kill(agent, signal.SIGKILL)
    holder.kill()
    holder.communicate()
    assert left_in(folder)
    started = time.monotonic()
    with local.connect(device(folder)) as there, leased(there):
        assert time.monotonic() - started < leases.EXPIRY_SECONDS
    assert left_in(folder) == []


def test_a_holder_learns_that_its_lease_is_lost(folder: Path) -> None:
    with local.connect(device(folder)) as there, leased(there) as check:
        (folder / left_in(folder)[0]).unlink()
        time.sleep(_agent.RENEW_SECONDS + 1)
        with pytest.raises(DeviceBusy, match="the lease was lost"):
            check()


def test_what_another_took_over_is_not_given_back(folder: Path) -> None:
    with local.connect(device(folder)) as there, leased(there):
        path = folder / left_in(folder)[0]
        path.write_text(json.dumps({"id": "another", "until": _agent.uptime() + 15}))
    assert json.loads(path.read_text())["id"] == "another"


@pytest.mark.slow
def test_a_cut_link(sshd: Server, folder: Path) -> None:
    """The holder learns it by silence; the device's end gives the lease back by itself."""
    with Proxy(sshd.host, sshd.port) as proxy:
        known = Path(os.environ["EDGEQ_KNOWN_HOSTS"])
        _, kind, key = sshd.known_hosts.read_text().split()
        known.write_text(f"{known.read_text()}[{sshd.host}]:{proxy.port} {kind} {key}\n")
        with ssh.connect(sshd.device(port=proxy.port, folder=str(folder))) as there, leased(there) as check:
            proxy.cut()
            give_up = time.monotonic() + 20
            with pytest.raises(DeviceError):
                while time.monotonic() < give_up:
                    check()
                    time.sleep(0.1)
    with ssh.connect(sshd.device(folder=str(folder))) as there, leased(there, wait_seconds=25):
        pass
    assert left_in(folder) == []


def test_an_interrupted_wait_ends_and_leaves_nothing(connect: Open, folder: Path) -> None:
    first, second = connect(), connect()
    with leased(first):
        threading.Timer(0.5, second.interrupt).start()
        started = time.monotonic()
        with pytest.raises(KeyboardInterrupt), leased(second, wait_seconds=60):
            pytest.fail("two holders")
        assert time.monotonic() - started < 8
        assert len(left_in(folder)) == 1
    assert left_in(folder) == []


def test_an_interrupt_ends_a_command_in_another_thread(connect: Open, folder: Path) -> None:
    there = connect()
    threading.Timer(1.0, there.interrupt).start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt), leased(there):
        there.run(["sleep", "60"], timeout_seconds=60)
    assert time.monotonic() - started < 8
    assert left_in(folder) == []


def test_an_error_in_the_block_gives_it_back(connect: Open, folder: Path) -> None:
    with pytest.raises(TimedOut, match="mine"), leased(connect()):
        raise TimedOut("mine")
    give_up = time.monotonic() + 5
    while left_in(folder) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert left_in(folder) == []


# --- what others write -----------------------------------------------------------------------------

NOW = _agent.uptime()
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))
ENDS = st.sampled_from([NOW, NOW + 10, -1, 1e300, 10**400, True, "soon", None])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=200) | st.builds(lambda value: json.dumps(value).encode(), VALUES))
@example(content=b"[" * 3000)
@example(content=b'{"until": 1e999}')
@example(content=b'{"until": NaN}')
@example(content=b'{"id": "x", "until": 9e15}')
@example(content=b"9" * 5000)
def test_any_content_is_no_lease_or_a_bounded_one(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "lease"
    path.write_bytes(content)
    found = _agent.in_force(_agent.read_lease(str(path)))
    assert found is None or 0 < found["until"] - NOW <= 2 * _agent.LEASE_SECONDS + 600


@settings(max_examples=60, deadline=None)
@given(told=st.dictionaries(st.sampled_from(["holder", "seconds", "x"]), VALUES))
@example(told={"holder": {"host": "\x1b[31m" * 40, "user": "a\nb", "pid": 1, "id": "x", "boot": ""}, "seconds": 1.0})
@example(told={"holder": {"pid": -5}, "seconds": float("nan")})
@example(told={"holder": {"host": "h", "new": "key of a newer edgeq"}})
def test_what_a_device_says_of_a_holder_is_one_harmless_line(told: dict[str, object]) -> None:
    found = leases._busy(Device(name="bench", transport="local"), leases._told(told), 0)
    assert found.message.isprintable()
    assert len(found.message) < 300
    assert found.message.startswith("bench is in use by ")


def test_a_newer_edgeqs_holder_is_named(tmp_path: Path) -> None:
    told: dict[str, object] = {"holder": {"host": "pc", "user": "alice", "pid": 7, "mood": "good"}, "seconds": 3.2}
    assert leases._who(leases._told(told)) == "alice on pc (process 7, since 3 s)"


@pytest.mark.parametrize("made", ["link", "pipe", "far", "other", "empty"])
def test_things_that_lie_in_the_way(made: str, folder: Path, tmp_path: Path) -> None:
    """Links are not followed, pipes do not block, a lease without end is not believed."""
    folder.mkdir()
    path, outside = Path(_agent.lease_path(str(folder))), tmp_path / "outside"
    outside.write_text("kept")
    make: dict[str, Callable[[], object]] = {
        "link": lambda: path.symlink_to(outside),
        "pipe": lambda: os.mkfifo(path),
        "far": lambda: path.write_text(json.dumps({"id": "x", "until": _agent.uptime() + 1e9})),
        "other": lambda: path.write_bytes(b"\xff" * 10_000),
        "empty": path.touch,
    }
    make[made]()
    with local.connect(device(folder)) as there, leased(there):
        assert json.loads(path.read_text())["pid"] == os.getpid()
    assert left_in(folder) == []
    assert outside.read_text() == "kept"


def test_a_link_where_the_lock_should_be_is_refused(folder: Path, tmp_path: Path) -> None:
    folder.mkdir()
    (tmp_path / "outside").write_text("kept")
    Path(_agent.lease_path(str(folder)) + ".lock").symlink_to(tmp_path / "outside")
    with pytest.raises(NotWritable, match=r"\.lock"), local.connect(device(folder)) as there, leased(there):
        pytest.fail("leased")
    assert (tmp_path / "outside").read_text() == "kept"


def test_a_file_where_the_folder_should_be(folder: Path) -> None:
    folder.write_text("first")
    with pytest.raises(NotWritable), local.connect(device(folder)) as there, leased(there):
        pytest.fail("leased")


# --- who I am --------------------------------------------------------------------------------------


def test_every_holder_has_an_id_of_its_own() -> None:
    assert len({me().id for _ in range(100)}) == 100
    assert me().pid == os.getpid()


def test_only_a_process_of_this_host_and_start_can_be_known_to_be_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    mine = me()
    dead = leases.Holder(id="x", host=mine.host, user="u", pid=child.pid, boot=mine.boot)
    assert leases._is_dead(dead)
    assert not leases._is_dead(mine)
    assert not leases._is_dead(leases.Holder(id="x", host="elsewhere", pid=child.pid, boot=mine.boot))
    assert not leases._is_dead(leases.Holder(id="x", host=mine.host, pid=child.pid, boot="earlier"))
    assert not leases._is_dead(leases.Holder())
