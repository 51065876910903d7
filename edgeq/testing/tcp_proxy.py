"""A TCP link through this process that can be cut silently, as by a cable."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType


class Proxy:
    """Forwards connections to `127.0.0.1:port` elsewhere until `cut()`; then nothing passes and nothing closes.

    `cut_after_bytes` cuts by itself once the client has sent so much. Both ends' kernels go on acknowledging.
    """

    def __init__(self, host: str, port: int, *, cut_after_bytes: int | None = None) -> None:
        self._target = (host, port)
        self._cut_after_bytes = cut_after_bytes
        self._sent_bytes = 0
        self._is_cut = threading.Event()
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Stop forwarding."""
        self._is_cut.set()

    def mend(self) -> None:
        """Forward new connections again; those that were cut stay dead."""
        self._cut_after_bytes = None
        self._is_cut = threading.Event()

    @property
    def is_cut(self) -> bool:
        """Whether nothing passes any more."""
        return self._is_cut.is_set()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                server = socket.create_connection(self._target)
                self._sockets += [client, server]
                for source, sink, counts in ((client, server, True), (server, client, False)):
                    words = (source, sink, counts, self._is_cut)
                    threading.Thread(target=self._forward, args=words, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, counts: bool, is_cut: threading.Event) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(16384):
                self._sent_bytes += len(data) * counts
                if self._cut_after_bytes is not None and self._sent_bytes > self._cut_after_bytes:
                    self.cut()
                if is_cut.is_set():
                    return
                sink.sendall(data)
            if not is_cut.is_set():
                sink.shutdown(socket.SHUT_WR)

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
