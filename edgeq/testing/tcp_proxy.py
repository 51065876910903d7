"""A TCP link through this process that can be cut silently, broken, slowed down and made to lie, as by a bad cable."""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import struct
import threading
import time
from types import TracebackType

PIECE_BYTES = 16384
MOST_PIECES = 4
BUFFER_BYTES = 32768
"""Little is under way at a time, as on a cable: a slow link holds up who writes."""
_POLL_SECONDS = 0.05
_AT_ONCE = struct.pack("ii", 1, 0)
"""SO_LINGER: closing throws away what was not sent and resets the connection."""


def _small(sock: socket.socket) -> socket.socket:
    """With small buffers; those of a listening socket go to what it accepts."""
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, BUFFER_BYTES)
    return sock


class Proxy:
    """Forwards connections to `127.0.0.1:port` elsewhere until `cut()`; then nothing passes and nothing closes.

    `cut_after_bytes` cuts by itself once the client has sent so much. Both ends' kernels go on acknowledging.
    `delay_seconds` is how late each piece is, one way; `bytes_per_second` how much passes, each way.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        cut_after_bytes: int | None = None,
        delay_seconds: float = 0.0,
        bytes_per_second: float | None = None,
    ) -> None:
        self.delay_seconds = delay_seconds
        self.bytes_per_second = bytes_per_second
        self.accepted = threading.Event()
        self._target = (host, port)
        self._cut_after_bytes = cut_after_bytes
        self._sent_bytes = 0
        self._is_cut = threading.Event()
        self._is_reset = threading.Event()
        self._to_corrupt = 0
        self._sockets: list[socket.socket] = []
        self._listener = _small(socket.create_server(("127.0.0.1", 0)))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Stop forwarding."""
        self._is_cut.set()

    def reset(self) -> None:
        """Break all connections, those to come too, so that both ends are told at once (RST)."""
        self._is_reset.set()
        time.sleep(4 * _POLL_SECONDS)  # who waits in a read keeps the connection open
        self._close(self._sockets)

    def corrupt(self) -> None:
        """Flip a bit of what comes next from the server."""
        self._to_corrupt = 1

    def mend(self) -> None:
        """Forward new connections again, undisturbed; those that were cut stay dead."""
        self._cut_after_bytes = self.bytes_per_second = None
        self._to_corrupt, self.delay_seconds = 0, 0.0
        self._is_cut, self._is_reset = threading.Event(), threading.Event()
        self.accepted.clear()

    @property
    def is_cut(self) -> bool:
        """Whether nothing passes any more."""
        return self._is_cut.is_set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                self.accepted.set()
                if self._is_reset.is_set():
                    self._close([client])
                    continue
                server = _small(socket.create_connection(self._target))
                self._sockets += [client, server]
                self._link(client, server, True)
                self._link(server, client, False)

    def _link(self, source: socket.socket, sink: socket.socket, is_client: bool) -> None:
        under_way: queue.Queue[tuple[float, bytes]] = queue.Queue(MOST_PIECES)
        over = (self._is_cut, self._is_reset)
        for work, end in ((self._take, source), (self._deliver, sink)):
            threading.Thread(target=work, args=(end, under_way, is_client, over), daemon=True).start()

    def _take(
        self,
        source: socket.socket,
        under_way: queue.Queue[tuple[float, bytes]],
        is_client: bool,
        over: tuple[threading.Event, threading.Event],
    ) -> None:
        """Read pieces, an empty one at the end."""
        data = b" "
        with contextlib.suppress(OSError, ValueError):
            while data and not any(event.is_set() for event in over):
                if not select.select([source], [], [], _POLL_SECONDS)[0]:
                    continue
                data = source.recv(PIECE_BYTES)
                self._sent_bytes += len(data) * is_client
                if self._cut_after_bytes is not None and self._sent_bytes > self._cut_after_bytes:
                    self.cut()
                self._pass(under_way, data, over)

    def _pass(
        self, under_way: queue.Queue[tuple[float, bytes]], data: bytes, over: tuple[threading.Event, threading.Event]
    ) -> None:
        due = time.monotonic() + self.delay_seconds
        while not any(event.is_set() for event in over):
            with contextlib.suppress(queue.Full):
                under_way.put((due, data), timeout=_POLL_SECONDS)
                return

    def _deliver(
        self,
        sink: socket.socket,
        under_way: queue.Queue[tuple[float, bytes]],
        is_client: bool,
        over: tuple[threading.Event, threading.Event],
    ) -> None:
        """Write pieces when they are due."""
        with contextlib.suppress(OSError):
            while not any(event.is_set() for event in over):
                try:
                    due, data = under_way.get(timeout=_POLL_SECONDS)
                except queue.Empty:
                    continue
                time.sleep(max(0.0, due - time.monotonic()))
                if any(event.is_set() for event in over):
                    return
                if not data:
                    sink.shutdown(socket.SHUT_WR)
                    return
                self._send(sink, data if is_client else self._spoilt(data))

    def _send(self, sink: socket.socket, data: bytes) -> None:
        for start in range(0, len(data), 1024 if self.bytes_per_second else PIECE_BYTES):
            rate = self.bytes_per_second
            piece = data[start : start + 1024] if rate else data[start : start + PIECE_BYTES]
            if self._is_cut.is_set():
                return
            sink.sendall(piece)
            time.sleep(len(piece) / rate if rate else 0)

    def _spoilt(self, data: bytes) -> bytes:
        if not self._to_corrupt:
            return data
        self._to_corrupt, middle = 0, len(data) // 2
        return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]

    def _close(self, sockets: list[socket.socket]) -> None:
        for sock in sockets:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
            sock.close()

    def close(self) -> None:
        """Close all ends."""
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def __enter__(self) -> Proxy:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
