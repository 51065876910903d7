"""Where a device is and how to get in: ~/.ssh/config, jump hosts and proxy commands against real servers."""

from __future__ import annotations

import getpass
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edgeq.errors import (
    AuthenticationFailed,
    EdgeqError,
    HostKeyChanged,
    TimedOut,
    UnknownHostKey,
    Unreachable,
)
from edgeq.lab.transports import _known_hosts, ssh
from edgeq.lab.transports._ssh_settings import hop_device, resolve
from edgeq.testing import sshd as servers
from edgeq.testing.sshd import Server
from edgeq.types import Device

BOARD = Device(name="desk", transport="ssh", host="board")
FORWARD = """\
import socket, sys, threading
sock = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def back():
    while data := sock.recv(4096):
        sys.stdout.buffer.write(data); sys.stdout.buffer.flush()
threading.Thread(target=back, daemon=True).start()
while data := sys.stdin.buffer.read1(4096):
    sock.sendall(data)
"""


def configure(*lines: str) -> None:
    """Write ~/.ssh/config of this test's home."""
    folder = Path.home() / ".ssh"
    folder.mkdir(exist_ok=True)
    (folder / "config").write_text("\n".join([*lines, ""]))


def host_lines(server: Server, *more: str) -> tuple[str, ...]:
    """A `Host board` block for the server."""
    words = (f"HostName {server.host}", f"Port {server.port}", f"User {server.user}", f"IdentityFile {server.key}")
    return ("Host board", *(f"  {word}" for word in (*words, *more)))


@pytest.fixture
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A jump host with keys of its own."""
    with servers.running(tmp_path_factory.mktemp("jump")) as server:
        yield server


# What the words come to ----------------------------------------------------------------------------------------------


def test_without_a_configuration() -> None:
    found = resolve(Device(name="desk", transport="ssh", host="board"))
    assert (found.host, found.port, found.user) == ("board", 22, getpass.getuser())
    assert (found.identities, found.proxy_command, found.jumps) == ((), (), ())
    assert found.key_name == "board"
    assert found.known_hosts == (*_known_hosts.user_files(), *_known_hosts.system_files(), _known_hosts.own_file())


def test_the_usual_keys_are_tried_if_they_are_there() -> None:
    (Path.home() / ".ssh").mkdir()
    for name in ("id_rsa", "id_ed25519", "id_other"):
        (Path.home() / ".ssh" / name).write_text("")
    assert [path.name for path in resolve(BOARD).identities] == ["id_ed25519", "id_rsa"]


def test_the_configuration_is_followed() -> None:
    (Path.home() / "keys").mkdir()
    (Path.home() / "keys" / "one").write_text("")
    configure(
        "Host board other",
        "  HostName 192.0.2.7",
        "  Port 2222",
        "  User pi",
        "  IdentityFile ~/keys/one",
        "  IdentityFile ~/keys/absent",
        "  IdentitiesOnly yes",
        "  UserKnownHostsFile ~/known/a ~/known/b",
        "  GlobalKnownHostsFile /dev/null",
        "  ProxyJump first,me@second:2200",
        "Host *",
        "  User nobody",
    )
    found = resolve(BOARD)
    assert (found.host, found.port, found.user) == ("192.0.2.7", 2222, "pi")
    assert found.identities == (Path.home() / "keys/one",)
    assert not found.use_agent
    names = ["~/known/a", "~/known/b", "/dev/null"]
    assert found.known_hosts == (*(Path(name).expanduser() for name in names), _known_hosts.own_file())
    assert found.key_name == "[192.0.2.7]:2222"
    assert found.jumps == ("first", "me@second:2200")
    assert found.address == "ssh://pi@board"


def test_the_devices_own_words_beat_the_configuration() -> None:
    configure("Host board", "  Port 2222", "  User pi", "  IdentityFile ~/x")
    found = resolve(Device(name="d", transport="ssh", host="board", port=24, user="me", identity="~/mine"))
    assert (found.port, found.user, found.identities) == (24, "me", (Path.home() / "mine",))


def test_an_alias_names_the_key() -> None:
    configure("Host board", "  HostName 192.0.2.7", "  Port 2222", "  HostKeyAlias the-board")
    assert resolve(BOARD).key_name == "the-board"


@pytest.mark.parametrize("word", ["ProxyJump", "ProxyCommand"])
def test_none_means_none(word: str) -> None:
    configure("Host board", f"  {word} none", "Host *", "  ProxyJump other")
    found = resolve(BOARD)
    assert found.proxy_command == ()
    assert found.jumps == (() if word == "ProxyJump" else ("other",))


def test_a_proxy_command_becomes_words() -> None:
    configure("Host board", "  HostName 192.0.2.7", '  ProxyCommand exec nc -X "a b" %h %p; touch $HOME/x')
    assert resolve(BOARD).proxy_command == ("nc", "-X", "a b", "192.0.2.7", "22;", "touch", "$HOME/x")


def test_included_files_are_read() -> None:
    configure("Include more/*.conf absent", "User general", "Host board", "  Port 1", "Host *", "  Port 2")
    (Path.home() / ".ssh/more").mkdir()
    (Path.home() / ".ssh/more/a.conf").write_text("Host board\n  HostName 192.0.2.7\n")
    (Path.home() / ".ssh/more/b.conf").write_text("Host elsewhere\n  HostName 192.0.2.8\n")
    found = resolve(BOARD)
    assert (found.host, found.port, found.user) == ("192.0.2.7", 1, "general")
    other = resolve(Device(name="d", transport="ssh", host="elsewhere"))
    assert (other.host, other.port, other.user) == ("192.0.2.8", 2, "general")


def test_a_match_that_would_need_a_shell_never_holds(tmp_path: Path) -> None:
    configure(f'Match host board exec "touch {tmp_path}/shell"', "  Port 1", "Match host board", "  Port 2")
    assert resolve(BOARD).port == 2
    assert not (tmp_path / "shell").exists()


def test_a_file_that_includes_itself() -> None:
    configure("Include config", "Host board", "  Port 7")
    with pytest.raises(Unreachable, match="include") as caught:
        resolve(BOARD)
    assert caught.value.where == str(Path.home() / ".ssh/config")


@pytest.mark.parametrize(
    "lines",
    [
        ["Host board", "  Port many"],
        ["Host board", "  Port 0"],
        ["Host board", "  Port 65536"],
        ["Host board", "  Port -1"],
        ["Host board", '  ProxyCommand nc "unbalanced'],
        ["Host board", '  UserKnownHostsFile "unbalanced'],
        ["Match"],
        ["Host board", '  Include "unbalanced'],
        ["nonsense"],
    ],
)
def test_a_configuration_that_makes_no_sense_names_the_file(lines: list[str]) -> None:
    configure(*lines)
    with pytest.raises(Unreachable, match="configuration") as caught:
        resolve(BOARD)
    assert caught.value.where == str(Path.home() / ".ssh/config")


def test_a_device_without_a_host() -> None:
    with pytest.raises(Unreachable, match="has no host"):
        resolve(Device(name="desk", transport="ssh"))


@pytest.mark.parametrize(
    ("hop", "user", "host", "port"),
    [
        ("gate", None, "gate", None),
        ("me@gate", "me", "gate", None),
        ("me@gate:2200", "me", "gate", 2200),
        ("ssh://me@gate:2200", "me", "gate", 2200),
        ("[fe80::1]:2200", None, "fe80::1", 2200),
        ("me@[fe80::1]", "me", "fe80::1", None),
        ("a@b@gate", "a@b", "gate", None),
    ],
)
def test_hops(hop: str, user: str | None, host: str, port: int | None) -> None:
    found = hop_device(hop, BOARD)
    assert (found.user, found.host, found.port) == (user, host, port)


@pytest.mark.parametrize("hop", ["gate:ssh", "gate:", "gate:²", "gate:99999", "gate:0"])
def test_a_hop_with_no_usable_port(hop: str) -> None:
    with pytest.raises(Unreachable, match="port"):
        hop_device(hop, BOARD)


CONFIG_WORDS = st.sampled_from(
    ["Host board", "Host *", "Match host board", "Port", "HostName", "ProxyJump", "ProxyCommand", "UserKnownHostsFile",
     "IdentityFile", "Include", "User", "HostKeyAlias"]
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.lists(st.tuples(CONFIG_WORDS, st.text(max_size=12)), max_size=6))
@example([("HostName", "%h%h%")])
@example([("Port", "٣")])
@example([("Port", "=")])
@example([("IdentityFile", "\0")])
@example([("Include", "\0")])
@example([("UserKnownHostsFile", "~nobody-of-that-name/x")])
def test_any_configuration_is_used_or_refused(lines: list[tuple[str, str]]) -> None:
    configure(*(f"{word} {value}".encode("utf-8", "replace").decode() for word, value in lines))
    try:
        found = resolve(BOARD)
    except Unreachable:
        return
    assert 0 < found.port < 65536


# Real servers --------------------------------------------------------------------------------------------------------


def home_of(device: Device) -> str:
    with ssh.connect(device, timeout_seconds=5) as transport:
        return transport.home()


def test_a_name_of_the_configuration(sshd: Server) -> None:
    configure(*host_lines(sshd))
    assert home_of(BOARD_THERE).startswith("/")


BOARD_THERE = Device(name="desk", transport="ssh", host="board", python=sys.executable)


def test_the_users_known_hosts_file_is_believed(sshd: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEQ_KNOWN_HOSTS", str(tmp_path / "empty"))
    configure(*host_lines(sshd))
    with pytest.raises(UnknownHostKey) as caught:
        home_of(BOARD_THERE)
    assert caught.value.hint == f"edgeq devices trust ssh://{sshd.user}@board"
    configure(*host_lines(sshd, f"UserKnownHostsFile {sshd.known_hosts}"))
    assert home_of(BOARD_THERE)
    (tmp_path / "aliased").write_text("the-board " + sshd.known_hosts.read_text().split(maxsplit=1)[1])
    configure(*host_lines(sshd, f"UserKnownHostsFile {tmp_path}/aliased", "HostKeyAlias the-board"))
    assert home_of(BOARD_THERE)


def test_keys_that_cannot_be_used_are_named(sshd: Server, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", str(locked)]
    subprocess.run(words, check=True, timeout=30)
    (tmp_path / "garbage").write_text("no key\n")
    for key, says in ((locked, f"ssh-add {locked}"), (tmp_path / "garbage", "cannot be used"), (tmp_path, "cannot be")):
        with pytest.raises(AuthenticationFailed, match=says) as caught:
            home_of(sshd.device(identity=str(key)))
        assert caught.value.hint == f"ssh-copy-id -p {sshd.port} {sshd.user}@{sshd.host}"
    configure(*host_lines(sshd), f"  IdentityFile {servers.make_key(tmp_path / 'other')}")
    assert home_of(BOARD_THERE)


def test_an_agents_key(sshd: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sock = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(sock)], stdout=subprocess.DEVNULL) as agent:
        try:
            while not sock.exists():
                assert agent.poll() is None
            monkeypatch.setenv("SSH_AUTH_SOCK", str(sock))
            with pytest.raises(AuthenticationFailed):
                home_of(sshd.device(identity=str(tmp_path / "absent")))
            subprocess.run(["ssh-add", "-q", str(sshd.key)], check=True, timeout=20)
            assert home_of(sshd.device(identity=str(tmp_path / "absent")))
        finally:
            agent.terminate()


def test_through_a_jump_host(sshd: Server, second: Server) -> None:
    vouch = Path.home() / ".ssh" / "known_hosts"
    configure(
        *host_lines(sshd, "ProxyJump gate"),
        "Host gate",
        f"  HostName {second.host}",
        f"  Port {second.port}",
        f"  IdentityFile {second.key}",
    )
    with pytest.raises(UnknownHostKey, match="jump host"):
        home_of(BOARD_THERE)
    shutil.copy(second.known_hosts, vouch)
    assert home_of(BOARD_THERE)
    assert "direct-tcpip" in second.log.read_text() or "Accepted publickey" in second.log.read_text()
    name, kind, _ = second.known_hosts.read_text().split()
    vouch.write_text(f"{name} {kind} AAAA\n")
    with pytest.raises(HostKeyChanged, match="jump host"):
        home_of(BOARD_THERE)


def test_a_jump_host_that_cannot_reach_the_board(sshd: Server, second: Server) -> None:
    (Path.home() / ".ssh").mkdir()
    shutil.copy(second.known_hosts, Path.home() / ".ssh" / "known_hosts")
    configure(
        "Host board",
        "  HostName 127.0.0.1",
        f"  Port {servers.free_port()}",
        f"  ProxyJump {second.user}@{second.host}:{second.port}",
        "Host *",
        f"  IdentityFile {second.key}",
    )
    with pytest.raises(Unreachable, match=r"its jump host did not reach 127\.0\.0\.1"):
        home_of(BOARD_THERE)


def test_jump_hosts_in_a_circle() -> None:
    configure("Host board", "  ProxyJump gate", "Host gate", "  ProxyJump board")
    with pytest.raises(Unreachable, match="circle"):
        home_of(BOARD_THERE)


def test_through_a_proxy_command_without_a_shell(sshd: Server, tmp_path: Path) -> None:
    (tmp_path / "forward.py").write_text(FORWARD)
    words = shlex.join([sys.executable, str(tmp_path / "forward.py")])
    configure(*host_lines(sshd, f"ProxyCommand {words} %h %p ; touch {tmp_path}/shell"))
    assert home_of(BOARD_THERE)
    assert not (tmp_path / "shell").exists()
    assert not servers.running_with(str(tmp_path / "forward.py"))


@pytest.mark.parametrize(
    ("command", "error", "says"),
    [
        ("/nonexistent/nc %h %p", Unreachable, "ProxyCommand .*No such file"),
        ("true", Unreachable, "does not speak SSH"),
        ("sleep 30", TimedOut, "did not answer"),
    ],
)
def test_a_proxy_command_that_does_not_help(command: str, error: type[EdgeqError], says: str) -> None:
    configure("Host board", f"  ProxyCommand {command}")
    with pytest.raises(error, match=says):
        ssh.connect(BOARD, timeout_seconds=1)
