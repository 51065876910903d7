"""The OpenSSH server and the cable that tests use as a device: they start, hang, come back and end."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.errors import ToolError
from edgeq.testing import sshd as servers
from edgeq.testing.tcp_proxy import Proxy


@pytest.fixture
def server(tmp_path: Path) -> Iterator[servers.Server]:
    try:
        servers.program()
    except ToolError as error:
        pytest.skip(f"{error.message} ({error.hint})")
    with servers.running(tmp_path / "sshd") as running:
        yield running


def greeting(server: servers.Server, timeout: float = 5) -> bytes:
    with socket.create_connection((server.host, server.port), timeout=timeout) as sock:
        return sock.recv(4)


def ssh(server: servers.Server, *command: str) -> subprocess.Popen[bytes]:
    options = [f"UserKnownHostsFile={server.known_hosts}", "StrictHostKeyChecking=yes", "BatchMode=yes"]
    words = [word for option in options for word in ("-o", option)]
    where = ["-i", str(server.key), "-p", str(server.port), f"{server.user}@{server.host}"]
    argv = ["ssh", "-F", "none", *words, *where, *command]
    return subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def until(true: object, seconds: float = 10) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():  # type: ignore[operator]
            return True
        time.sleep(0.02)
    return False


def test_it_answers_with_its_own_key_and_runs_a_command(server: servers.Server) -> None:
    assert greeting(server) == b"SSH-"
    done = ssh(server, "echo", "hello")
    out, err = done.communicate(timeout=20)
    assert (done.returncode, out) == (0, b"hello\n"), err
    assert b"Accepted publickey" in server.log.read_bytes()


def test_the_device_names_this_server(server: servers.Server) -> None:
    device = server.device(name="other", user="somebody")
    assert (device.name, device.user) == ("other", "somebody")
    assert (device.host, device.port, device.identity) == (server.host, server.port, str(server.key))
    assert server.url == f"ssh://{server.user}@127.0.0.1:{server.port}"
    assert device.folder is not None
    assert device.folder.startswith(str(server.folder)), "bundles go below the server's own folder"


def test_keys_are_private_and_kept_over_a_restart(tmp_path: Path, server: servers.Server) -> None:
    assert server.key.stat().st_mode & 0o077 == 0
    before = server.key.read_bytes(), server.known_hosts.read_text().split()[2]
    server.stop()
    with servers.running(server.folder) as again:
        assert (again.key.read_bytes(), again.known_hosts.read_text().split()[2]) == before
        assert greeting(again) == b"SSH-"


def test_it_ends_with_all_that_it_started(tmp_path: Path) -> None:
    try:
        servers.program()
    except ToolError as error:
        pytest.skip(error.message)
    with servers.running(tmp_path / "sshd") as server:
        client = ssh(server, "sleep", "4242")
        assert until(lambda: len(servers.descendants(server.process.pid)) >= 2)
        started = servers.descendants(server.process.pid)
        assert until(lambda: servers.started_through(server))
    assert client.wait(20) != 0
    client.communicate()
    assert until(lambda: not [pid for pid in started if is_alive(pid)])
    assert server.process.returncode is not None
    with pytest.raises(OSError, match="refused"):
        greeting(server)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_it_ends_when_the_test_fails(tmp_path: Path) -> None:
    try:
        servers.program()
    except ToolError as error:
        pytest.skip(error.message)
    with pytest.raises(ZeroDivisionError), servers.running(tmp_path / "sshd") as server:
        _ = 1 / 0
    assert server.process.returncode is not None


def test_a_frozen_server_says_nothing_until_it_is_thawed(server: servers.Server) -> None:
    server.freeze()
    try:
        with pytest.raises(TimeoutError):
            greeting(server, timeout=0.3)
    finally:
        server.thaw()
    assert greeting(server) == b"SSH-"


def test_a_frozen_server_can_be_stopped(server: servers.Server) -> None:
    server.freeze()
    server.stop()
    assert server.process.returncode == -signal.SIGKILL


def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    try:
        servers.program()
    except ToolError as error:
        pytest.skip(error.message)
    with pytest.raises(ToolError, match="NoSuchOption"), servers.running(tmp_path, options=["NoSuchOption yes"]):
        pytest.fail("it runs")
    with (
        socket.create_server(("127.0.0.1", 0)) as taken,
        pytest.raises(ToolError, match="did not start"),
        servers.running(tmp_path, port=taken.getsockname()[1]),
    ):
        pytest.fail("it runs on a port that is taken")


def test_options_of_a_test_come_before_the_defaults(tmp_path: Path) -> None:
    servers.prepare(tmp_path, "127.0.0.1", 22, ["MaxSessions 1"])
    assert (tmp_path / "sshd_config").read_text().splitlines()[:2] == ["MaxSessions 1", "Port 22"]
    assert (tmp_path / "known_hosts").read_text().startswith("127.0.0.1 "), "port 22 is written without brackets"
    servers.prepare(tmp_path, "127.0.0.1", 2222, [])
    assert (tmp_path / "known_hosts").read_text().startswith("[127.0.0.1]:2222 ")


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server(("127.0.0.1", servers.free_port())) as listener:
        assert listener.getsockname()[1] > 1023


def test_processes_are_found_by_parent_and_by_a_word() -> None:
    child = subprocess.Popen(["sh", "-c", "sleep 4343 & wait"])
    try:
        assert until(lambda: len(servers.descendants(child.pid)) == 1)
        family = servers.descendants(child.pid)
        assert until(lambda: family[0] in servers.running_with("4343"))
        assert servers.parents()[child.pid] == os.getpid()
    finally:
        for pid in servers.descendants(child.pid):
            os.kill(pid, signal.SIGKILL)
        child.wait(10)


# --- the cable -------------------------------------------------------------------------------


@contextlib.contextmanager
def echo() -> Iterator[int]:
    """A server that sends back what it gets."""

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

    def answer(sock: socket.socket) -> None:
        with contextlib.suppress(OSError), sock:
            while data := sock.recv(4096):
                sock.sendall(data)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def test_a_whole_cable_passes_everything_and_the_end() -> None:
    with (
        echo() as port,
        Proxy("127.0.0.1", port) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as sock,
    ):
        sock.sendall(b"x" * 100_000)
        sock.shutdown(socket.SHUT_WR)
        received = b""
        while data := sock.recv(65536):
            received += data
        assert received == b"x" * 100_000
        assert not proxy.is_cut


def test_a_cut_cable_is_silent_and_a_mended_one_takes_new_connections() -> None:
    with echo() as port, Proxy("127.0.0.1", port) as proxy:
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3) as sock:
            sock.sendall(b"a")
            assert sock.recv(1) == b"a"
            proxy.cut()
            sock.sendall(b"b")
            with pytest.raises(TimeoutError):
                sock.recv(1)
            proxy.mend()
            with pytest.raises(TimeoutError):
                sock.recv(1)
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as sock:
            sock.sendall(b"c")
            assert sock.recv(1) == b"c"


def test_a_cable_can_be_cut_by_the_amount_that_was_sent() -> None:
    with (
        echo() as port,
        Proxy("127.0.0.1", port, cut_after_bytes=10) as proxy,
        socket.create_connection(("127.0.0.1", proxy.port), timeout=5) as sock,
    ):
        sock.sendall(b"0123456789")
        assert sock.recv(10, socket.MSG_WAITALL) == b"0123456789"
        assert not proxy.is_cut
        sock.sendall(b"!")
        assert until(lambda: proxy.is_cut)
