"""A real OpenSSH server on a port of its own, with its own keys, as a device for tests."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgeq.errors import ToolError
from edgeq.types import Device

START_SECONDS = 10.0
_CONFIG = """\
Port {port}
ListenAddress {host}
HostKey {folder}/host_key
PidFile none
AuthorizedKeysFile {folder}/authorized_keys
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
PermitRootLogin prohibit-password
AllowTcpForwarding yes
PrintMotd no
UseDNS no
LogLevel VERBOSE
"""


@dataclass(kw_only=True)
class Server:
    """A running sshd: where it listens, the key that opens it, the file that vouches for it."""

    folder: Path
    host: str
    port: int
    user: str
    key: Path
    known_hosts: Path
    log: Path
    process: subprocess.Popen[bytes] = field(repr=False)

    def device(self, **changes: object) -> Device:
        """This server as a device, with this Python."""
        words: dict[str, object] = {
            "name": "bench",
            "transport": "ssh",
            "host": self.host,
            "port": self.port,
            "user": self.user,
            "identity": str(self.key),
            "folder": str(self.folder / "device"),
            "python": sys.executable,
        }
        return Device(**{**words, **changes})  # type: ignore[arg-type]

    @property
    def url(self) -> str:
        """`ssh://user@host:port`."""
        return f"ssh://{self.user}@{self.host}:{self.port}"

    def freeze(self) -> None:
        """Stop the server and all that it started, as a device that hangs."""
        for pid in [self.process.pid, *descendants(self.process.pid)]:
            _signal(pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        for pid in [*descendants(self.process.pid), self.process.pid]:
            _signal(pid, signal.SIGCONT)

    def stop(self) -> None:
        """End the server and all that it started."""
        pids = descendants(self.process.pid)
        self.process.kill()
        for pid in pids:
            _signal(pid, signal.SIGKILL)
        self.process.wait()


def _signal(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def parents() -> dict[int, int]:
    """Every process's parent."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            found[int(folder.name)] = int(fields[1])
    return found


def descendants(pid: int) -> list[int]:
    """Processes that a process started, and theirs."""
    table, found = parents(), [pid]
    for one in found:
        found += [child for child, parent in table.items() if parent == one]
    return found[1:]


def running_with(marker: str) -> list[int]:
    """Processes that have a word on their command line; zombies have none."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if marker.encode() in (folder / "cmdline").read_bytes() and int(folder.name) != os.getpid():
                found.append(int(folder.name))
    return found


def started_through(server: Server) -> list[int]:
    """Processes that were started over the server, wherever they are in the tree now: sshd marks their environment."""
    mark, found = f" {server.port}".encode(), []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (folder / "environ").read_bytes().split(b"\0")
            if any(word.startswith(b"SSH_CONNECTION=") and word.endswith(mark) for word in words):
                found.append(int(folder.name))
    return found


def program() -> str:
    """The sshd of this host; raises ToolError."""
    found = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        raise ToolError("there is no sshd on this host", hint="sudo apt install openssh-server")
    return found


def make_key(path: Path) -> Path:
    """A new private key without a passphrase; its public half is beside it in `.pub`."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=30)
    return path


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on."""
    return free_ports(1, host)[0]


def free_ports(count: int, host: str = "127.0.0.1") -> list[int]:
    """Different ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind((host, 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


def prepare(folder: Path, host: str, port: int, options: Sequence[str]) -> None:
    """Keys and configuration of one server."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("host_key", "user_key"):
        if not (folder / name).exists():
            make_key(folder / name)
    shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
    kind, key = (folder / "host_key.pub").read_text().split()[:2]
    name = host if port == 22 else f"[{host}]:{port}"
    (folder / "known_hosts").write_text(f"{name} {kind} {key}\n")
    config = _CONFIG.format(folder=folder, host=host, port=port)
    (folder / "sshd_config").write_text("\n".join([*options, config]))


def start(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    options: Sequence[str] = (),
    prefix: Sequence[str] = (),
) -> Server:
    """Start an sshd, which the caller stops; it may take a moment until it answers."""
    port = port or free_port(host)
    argv = [*prefix, program(), "-D", "-e", "-f", str(folder / "sshd_config")]
    prepare(folder, host, port, options)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it as root
    log = folder / "sshd.log"
    with log.open("ab") as stream:
        process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)
    return Server(
        folder=folder,
        host=host,
        port=port,
        user=getpass.getuser(),
        key=folder / "user_key",
        known_hosts=folder / "known_hosts",
        log=log,
        process=process,
    )


@contextlib.contextmanager
def running(
    folder: Path,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    options: Sequence[str] = (),
    prefix: Sequence[str] = (),
) -> Iterator[Server]:
    """Start an sshd, stop it at the end; `options` are lines of sshd_config, `prefix` an argv such as `ip netns exec`.

    Raises ToolError when there is no sshd or it does not start.
    """
    server = start(folder, host=host, port=port, options=options, prefix=prefix)
    try:
        wait_until_it_answers(server, prefix)
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def farm(folder: Path, count: int) -> Iterator[list[Server]]:
    """So many servers side by side, each with its own host key and home folder; one user key opens all of them.

    They are started and ended together, which takes a second or two where one by one takes many.
    """
    made: list[Server] = []
    user_key = _shared_key(folder)
    try:
        for number, port in enumerate(free_ports(count)):
            made.append(_planted(folder / f"device{number:02}", port, user_key))
        for server in made:
            wait_for_greeting(server)
        yield made
    finally:
        for server in made:
            server.stop()


def _shared_key(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "user_key" if (folder / "user_key").exists() else make_key(folder / "user_key")


def _planted(folder: Path, port: int, user_key: Path) -> Server:
    folder.mkdir(parents=True, exist_ok=True)
    for suffix in ("", ".pub"):
        shutil.copy(user_key.with_name(user_key.name + suffix), folder / f"user_key{suffix}")
    return start(folder, port=port, options=[f"SetEnv HOME={folder}"])


def wait_for_greeting(server: Server) -> None:
    """Wait in this process; raises ToolError."""
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and server.process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection((server.host, server.port), 1) as sock:
            if sock.recv(4) == b"SSH-":
                return
        time.sleep(0.05)
    raise _not_started(server)


def _not_started(server: Server) -> ToolError:
    return ToolError(f"sshd did not start: {server.log.read_text(errors='replace').strip()[-300:]}")


_KNOCK = "import socket,sys; s=socket.create_connection((sys.argv[1],int(sys.argv[2])),1); sys.exit(s.recv(4)!=b'SSH-')"


def answers(server: Server, prefix: Sequence[str]) -> bool:
    """Whether the server greets somebody who stands where it stands."""
    argv = [*prefix, sys.executable, "-c", _KNOCK, server.host, str(server.port)]
    return subprocess.run(argv, capture_output=True, check=False, timeout=START_SECONDS).returncode == 0


def wait_until_it_answers(server: Server, prefix: Sequence[str]) -> None:
    """Wait for the server's greeting; raises ToolError."""
    give_up = time.monotonic() + START_SECONDS
    while time.monotonic() < give_up and server.process.poll() is None:
        if answers(server, prefix):
            return
        time.sleep(0.05)
    raise _not_started(server)
