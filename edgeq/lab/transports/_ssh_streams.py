"""Byte streams to an SSH server, and letting go of them."""

from __future__ import annotations

import contextlib
import errno
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edgeq.errors import Unreachable
from edgeq.lab.transports._session import limit
from edgeq.lab.transports._ssh_settings import Settings

USER_TIMEOUT_MS = 6000
SEND_BUFFER_BYTES = 256 << 10
_CONNECT_REASONS = {
    errno.ECONNREFUSED: "the connection was refused: is an SSH server running there?",
    errno.EHOSTUNREACH: "there is no route to it",
    errno.ENETUNREACH: "there is no route to its network",
    errno.ETIMEDOUT: "no answer",
}


@dataclass
class Connection:
    """What has to be let go of, innermost first; `abort` breaks the bottom socket."""

    abort: Callable[[], None] = lambda: None
    closers: list[Callable[[], object]] = field(default_factory=list)

    def close(self) -> None:
        """Close all; a second call does nothing."""
        while self.closers:
            with contextlib.suppress(OSError, EOFError):
                self.closers.pop()()


@contextlib.contextmanager
def ssh_errors(seconds: float, abort: Callable[[], None], message: str) -> Iterator[None]:
    """Bound the block in time (TimedOut); paramiko's errors become ConnectionError."""
    import paramiko

    with limit(seconds, abort, message):
        try:
            yield
        except paramiko.AuthenticationException:
            raise
        except paramiko.SSHException as error:
            raise ConnectionError(str(error)) from error


def break_socket(sock: socket.socket) -> None:
    """End all reads and writes on a socket, in whichever thread."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RDWR)


def tcp_socket(settings: Settings, seconds: float) -> socket.socket:
    """A TCP connection that notices a cut cable; raises Unreachable."""
    place = f"{settings.name} at {settings.host} port {settings.port}"
    try:
        sock = socket.create_connection((settings.host, settings.port), timeout=seconds)
    except socket.gaierror as error:
        raise Unreachable(f"no host is called {settings.host} ({error.strerror})") from error
    except TimeoutError as error:
        raise Unreachable(f"{place} did not answer within {seconds:.0f} s") from error
    except (OSError, OverflowError, UnicodeError) as error:
        reason = _CONNECT_REASONS.get(getattr(error, "errno", None) or 0, str(error))
        raise Unreachable(f"cannot reach {place}: {reason}") from error
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    return sock


def proxy_socket(settings: Settings, connection: Connection) -> socket.socket:
    """A socket whose other end is a ProxyCommand's input and output; raises Unreachable."""
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            child = subprocess.Popen(
                settings.proxy_command,
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise Unreachable(
                f"{settings.name}: ProxyCommand {settings.proxy_command[0]!r}: {error.strerror}"
            ) from error
    connection.closers += [child.wait, child.kill]
    return ours
