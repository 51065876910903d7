"""A device behind an SSH server: keys only, known hosts only."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import shlex
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edgeq.errors import (
    AuthenticationFailed,
    Disconnected,
    HostKeyChanged,
    TimedOut,
    UnknownHostKey,
    Unreachable,
)
from edgeq.lab.transports import CONNECT_SECONDS, Transport, _known_hosts
from edgeq.lab.transports._jobs import AgentTransport
from edgeq.lab.transports._session import limit
from edgeq.lab.transports._ssh_settings import Settings, hop_device, resolve
from edgeq.lab.transports._ssh_streams import Connection, break_socket, proxy_socket, ssh_errors, tcp_socket
from edgeq.types import Device

if TYPE_CHECKING:
    import paramiko

KEEPALIVE_SECONDS = 5
MOST_HOPS = 8
WINDOW_BYTES = 96 << 10
"""How much of one answer is under way at most: another channel's signs of life come behind it on a slow link."""
SLACK_SECONDS = 5
RSA_SIGNATURES = ("rsa-sha2-512", "rsa-sha2-256", "ssh-rsa")


def socket_to(
    settings: Settings, device: Device, connection: Connection, seconds: float, depth: int
) -> socket.socket | paramiko.Channel:
    """The byte stream to a hop's SSH server: through jump hosts, a ProxyCommand, or plain TCP."""
    if settings.jumps:
        via = jump(settings.jumps, device, connection, seconds, depth)
        message = f"{settings.name}: its jump host did not reach {settings.host} port {settings.port}"
        try:
            with ssh_errors(seconds, connection.abort, message):
                return via.open_channel(
                    "direct-tcpip", (settings.host, settings.port), ("127.0.0.1", 0), timeout=seconds
                )
        except (OSError, EOFError) as error:
            raise Unreachable(f"{message}: {error}") from error
    sock = proxy_socket(settings, connection) if settings.proxy_command else tcp_socket(settings, seconds)
    connection.abort = lambda: break_socket(sock)
    connection.closers.append(sock.close)
    return sock


def jump(
    hops: tuple[str, ...], device: Device, connection: Connection, seconds: float, depth: int
) -> paramiko.Transport:
    """An authenticated connection to the last of the jump hosts."""
    if depth + len(hops) > MOST_HOPS:
        raise Unreachable(f"{device.name}: more than {MOST_HOPS} jump hosts; does ProxyJump go in a circle?")
    before, last = hops[:-1], hop_device(hops[-1], device)
    return authenticated(last, connection, seconds, depth + 1, before)


def greet(
    device: Device, settings: Settings, connection: Connection, seconds: float, depth: int = 0
) -> paramiko.Transport:
    """Connect and exchange keys, believing nobody yet; raises Unreachable, TimedOut."""
    import paramiko

    logging.getLogger("paramiko").addHandler(logging.NullHandler())  # its tracebacks are ours to tell
    stream = socket_to(settings, device, connection, seconds, depth)
    place = f"{settings.name} at {settings.host} port {settings.port}"
    silent = f"{place} accepted the connection but did not answer within {seconds:.0f} s"
    try:
        with ssh_errors(seconds, connection.abort, silent):
            transport = paramiko.Transport(stream, default_window_size=WINDOW_BYTES)
            connection.closers.append(transport.close)
            prefer(transport, settings)
            # paramiko's own limits come later than ours: start_client just returns when its time is up
            transport.banner_timeout = transport.auth_timeout = seconds + SLACK_SECONDS
            transport.start_client(timeout=seconds + SLACK_SECONDS)
    except (OSError, EOFError) as error:
        raise Unreachable(f"{place} does not speak SSH with us: {error}") from error
    return transport


def prefer(transport: paramiko.Transport, settings: Settings) -> None:
    """Ask first for the kinds of host key that are on record, so that they can be compared."""
    kinds = [entry.type for entry in _known_hosts.known(settings.known_hosts, settings.key_name)]
    wanted = [name for kind in kinds for name in (RSA_SIGNATURES if kind == "ssh-rsa" else (kind,))]
    options = transport.get_security_options()
    offered = list(options.key_types)
    first = [name for name in dict.fromkeys(wanted) if name in offered]
    options.key_types = [*first, *(name for name in offered if name not in first)]


def check_host_key(transport: paramiko.Transport, settings: Settings) -> None:
    """Compare the server's key with the recorded ones; raises UnknownHostKey, HostKeyChanged."""
    key = transport.get_remote_server_key()
    entries = _known_hosts.known(settings.known_hosts, settings.key_name)
    print_of_key = _known_hosts.fingerprint(key.asbytes())
    for entry in entries:
        if entry.revoked and entry.key == key.asbytes():
            raise HostKeyChanged(f"the host key of {settings.name} ({print_of_key}) is revoked", where=entry.where)
    recorded = [entry for entry in entries if not entry.revoked]
    if not recorded:
        raise UnknownHostKey(
            f"nobody has vouched for the host key of {settings.name}: {key.get_name()} {print_of_key}",
            hint=f"edgeq devices trust {settings.address}",
        )
    if all(entry.key != key.asbytes() for entry in recorded):
        raise HostKeyChanged(
            f"the host key of {settings.name} is now {print_of_key}, not the recorded "
            f"{_known_hosts.fingerprint(recorded[0].key)}; somebody may be in between",
            where=recorded[0].where,
            hint=f"if the device was set up anew, delete that line, then: edgeq devices trust {settings.address}",
        )


def keys(settings: Settings, problems: list[str]) -> Iterator[paramiko.PKey]:
    """Keys to try: files first, then the agent's; what cannot be used goes to `problems`."""
    import paramiko
    from paramiko.pkey import UnknownKeyType

    for path in settings.identities:
        try:
            yield paramiko.PKey.from_path(path)
        except (paramiko.PasswordRequiredException, TypeError):  # TypeError is what cryptography raises without one
            problems.append(f"{path} has a passphrase (ssh-add {path})")
        except (OSError, ValueError, paramiko.SSHException, UnknownKeyType) as error:
            problems.append(f"{path} cannot be used: {error}")
    if settings.use_agent:
        with contextlib.closing(paramiko.Agent()) as agent:
            yield from agent.get_keys()


def log_in(transport: paramiko.Transport, settings: Settings, connection: Connection, seconds: float) -> None:
    """Offer our keys one by one; raises AuthenticationFailed, TimedOut, Disconnected."""
    import paramiko

    problems: list[str] = []
    for key in keys(settings, problems):
        silent = f"{settings.name} did not answer to our key within {seconds:.0f} s"
        try:
            with ssh_errors(seconds, connection.abort, silent):
                transport.auth_publickey(settings.user, key)
                return
        except paramiko.AuthenticationException as error:
            problems.append(str(error))
        except (OSError, EOFError) as error:
            problems.append(str(error))
            break
    told = "; ".join(dict.fromkeys(problems)) or "there is no key to offer"
    raise AuthenticationFailed(
        f"{settings.name} does not let {settings.user} in: {told}",
        hint=f"ssh-copy-id -p {settings.port} {settings.user}@{settings.host}",
    )


def authenticated(
    device: Device, connection: Connection, seconds: float, depth: int = 0, hops: tuple[str, ...] = ()
) -> paramiko.Transport:
    """A connection to a host that is known and lets us in; `hops` stand in for its own way there."""
    settings = resolve(device)
    if hops:
        settings = dataclasses.replace(settings, jumps=hops, proxy_command=())
    transport = greet(device, settings, connection, seconds, depth)
    check_host_key(transport, settings)
    log_in(transport, settings, connection, seconds)
    transport.set_keepalive(KEEPALIVE_SECONDS)
    return transport


class ChannelPipe:
    """The standard streams of one remote command."""

    def __init__(self, channel: paramiko.Channel, abort: Callable[[], None]) -> None:
        self._channel = channel
        self.abort = abort
        self._ended: tuple[int | None, str] | None = None

    def read(self, wait_seconds: float) -> bytes | None:
        """What the command wrote."""
        if wait_seconds <= 0 and not (self._channel.recv_ready() or self._channel.eof_received):
            return None
        self._channel.settimeout(max(wait_seconds, 0.001))
        try:
            return self._channel.recv(1 << 16)
        except TimeoutError:
            return None

    def write(self, data: bytes) -> None:
        """Write all of it; the caller bounds the time."""
        self._channel.settimeout(None)
        self._channel.sendall(data)

    def close_input(self) -> None:
        """End of the command's input."""
        with contextlib.suppress(OSError, EOFError), limit(1, self.abort, "closing"):
            self._channel.shutdown_write()

    def close(self) -> tuple[int | None, str]:
        """Let the channel go."""
        if self._ended is None:
            status = self._status()
            errors = self._channel.recv_stderr(1 << 16) if self._channel.recv_stderr_ready() else b""
            self._ended = status, errors.decode("utf-8", "replace")
            with contextlib.suppress(OSError, EOFError, TimedOut), limit(1, self.abort, "closing"):
                self._channel.close()
        return self._ended

    def _status(self) -> int | None:
        give_up = time.monotonic() + 1
        while self._channel.eof_received and not self._channel.closed and time.monotonic() < give_up:
            if self._channel.exit_status_ready():
                break
            time.sleep(0.01)
        return self._channel.recv_exit_status() if self._channel.exit_status_ready() else None


def home_path(python: str) -> str:
    """`~/x` as a path from the home folder, where remote commands start: quoting stops the shell's `~`."""
    return "./" + python[2:].lstrip("/") if python.startswith("~/") else python


def start(
    transport: paramiko.Transport, argv: list[str], device: Device, abort: Callable[[], None], seconds: float
) -> ChannelPipe:
    """Start a remote command; this is the one place where words are quoted for the device's shell."""
    line = shlex.join([home_path(argv[0]), *argv[1:]])
    try:
        with ssh_errors(seconds, abort, f"{device.name} did not start a command within {seconds:.0f} s"):
            channel = transport.open_session(timeout=seconds)
            channel.exec_command(line)
            return ChannelPipe(channel, abort)
    except (OSError, EOFError) as error:
        raise Disconnected(f"the connection to {device.name} was lost: {error}") from error


def connect(device: Device, *, timeout_seconds: float = CONNECT_SECONDS) -> Transport:
    """Connect and log in; raises Unreachable and its kinds, TimedOut, DeviceError."""
    connection = Connection()
    try:
        transport = authenticated(device, connection, timeout_seconds)
    except BaseException:
        connection.abort()
        connection.close()
        raise

    def open_pipe(argv: list[str]) -> ChannelPipe:
        return start(transport, argv, device, connection.abort, timeout_seconds)

    return AgentTransport(device, open_pipe, connection.close)
