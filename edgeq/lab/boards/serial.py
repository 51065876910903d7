"""A board behind a serial port: 8N1, no flow control, ours alone while it is open."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import grp
import os
import stat
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeq.errors import DeviceBusy, DeviceError, Disconnected, TimedOut, Unreachable
from edgeq.lab.boards import Board, Stream
from edgeq.lab.faults import clean
from edgeq.types import Device, Progress, silent

DEFAULT_BAUD = 115_200
BITS_OF_A_BYTE = 10
"""Start bit, eight bits, stop bit."""
WRITE_SECONDS = 10.0
_SLICE_SECONDS = 0.1
_MOST_BYTES = 4096
_AGAIN_SECONDS = 0.2
_BUSY = (errno.EBUSY, errno.EWOULDBLOCK, errno.EAGAIN)
_STEP = "waiting for the port"


def connect(device: Device) -> Board:
    """The board behind the port that the device names; raises Unreachable, DeviceError for an address without one."""
    path = device.host or ""
    if not path.startswith("/"):
        raise DeviceError("a serial device needs a port", hint=f"serial:///dev/ttyACM0?baud={DEFAULT_BAUD}")
    _check(path)
    return SerialBoard(device, path)


def _check(path: str) -> None:
    """Raise Unreachable for a port that is not there, is none, or is not ours to open."""
    try:
        found = os.stat(path)  # noqa: PTH116 a Path would fold what the user wrote
    except OSError as error:
        raise _unopened(path, error) from error
    if not stat.S_ISCHR(found.st_mode):
        raise Unreachable(f"{path} is no serial port", hint=_PORTS)
    if not os.access(path, os.R_OK | os.W_OK):
        raise _forbidden(path)


_PORTS = "which there are: ls /dev/serial/by-id /dev/ttyACM* /dev/ttyUSB*"


class SerialBoard:
    """A port that is opened when it is needed."""

    def __init__(self, device: Device, path: str) -> None:
        self.device = device
        self._path = path
        self._interrupted = threading.Event()

    @contextlib.contextmanager
    def opened(self, *, wait_seconds: float = 0.0, progress: Progress = silent) -> Iterator[Stream]:
        """The port as a stream; the lock on it ends with this process."""
        baud = self.device.baud or DEFAULT_BAUD
        port = self._open(baud, wait_seconds, progress)
        try:
            fcntl.ioctl(port.fileno(), termios.TIOCEXCL)  # also for programs that look for no lock
            yield SerialStream(port, self._path, BITS_OF_A_BYTE / baud, self._interrupted)
        finally:
            with contextlib.suppress(OSError):
                fcntl.ioctl(port.fileno(), termios.TIOCNXCL)
            port.close()

    def _open(self, baud: int, wait_seconds: float, progress: Progress) -> Any:
        give_up = time.monotonic() + wait_seconds
        while True:
            try:
                return _open(self._path, baud)
            except DeviceBusy:
                if time.monotonic() >= give_up:
                    raise
            progress(_STEP, 0, 1)
            if self._interrupted.wait(_AGAIN_SECONDS):
                raise KeyboardInterrupt

    def facts(self) -> dict[str, object]:
        """The port, and what the USB device behind it says of itself."""
        return {"port": self._path, "baud": self.device.baud or DEFAULT_BAUD, "usb": _usb(self._path)}

    def interrupt(self) -> None:
        """Whoever reads or waits sees KeyboardInterrupt."""
        self._interrupted.set()

    def close(self) -> None:
        """A port is open only in `opened`."""


class SerialStream:
    """An open port."""

    def __init__(self, port: Any, name: str, byte_seconds: float, interrupted: threading.Event) -> None:
        self.name = name
        self.byte_seconds = byte_seconds
        self._port = port
        self._interrupted = interrupted

    def read(self, wait_seconds: float) -> bytes:
        """What has come."""
        give_up = time.monotonic() + wait_seconds
        while True:
            if self._interrupted.is_set():
                raise KeyboardInterrupt
            with _lost(self.name):
                found: bytes = self._port.read(1)
                if found:
                    return bytes(found + self._port.read(min(self._port.in_waiting, _MOST_BYTES)))
            if time.monotonic() >= give_up:
                return b""

    def write(self, data: bytes) -> None:
        """Send all of it."""
        import serial

        try:
            with _lost(self.name):
                self._port.write(data)
        except serial.SerialTimeoutException as error:
            raise TimedOut(f"{self.name} takes no bytes: the board does not read") from error


@contextlib.contextmanager
def _lost(name: str) -> Iterator[None]:
    """Turn the operating system's errors into Disconnected."""
    import serial

    try:
        yield
    except serial.SerialTimeoutException:
        raise
    except (OSError, termios.error) as error:  # SerialException is an OSError
        raise Disconnected(f"the connection to {name} was lost", hint="is the board still plugged in?") from error


def _open(path: str, baud: int) -> Any:
    """The port, locked; raises DeviceBusy, Unreachable, DeviceError."""
    import serial

    try:
        return serial.Serial(
            path, baud, bytesize=8, parity="N", stopbits=1, timeout=_SLICE_SECONDS, write_timeout=WRITE_SECONDS,
            exclusive=True,
        )  # fmt: skip
    except (ValueError, OverflowError) as error:
        raise DeviceError(f"{path} does not do {baud} baud", hint=f"?baud={DEFAULT_BAUD}") from error
    except OSError as error:  # SerialException is one
        raise _unopened(path, error) from error
    except termios.error as error:
        raise Unreachable(f"{path} is no serial port", hint=_PORTS) from error


def _unopened(path: str, error: OSError) -> DeviceError:
    if error.errno in _BUSY:
        return DeviceBusy(f"{path} is in use by another program", hint=f"which one: fuser -v {path}")
    if error.errno in (errno.EACCES, errno.EPERM):
        return _forbidden(path)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        return Unreachable(f"there is no {path}: is the board plugged in?", hint=_PORTS)
    if error.errno is None or error.errno == errno.ENOTTY:
        return Unreachable(f"{path} is no serial port", hint=_PORTS)
    return Unreachable(f"{path} cannot be opened: {clean(os.strerror(error.errno), 100).lower()}", hint=_PORTS)


def _forbidden(path: str) -> Unreachable:
    """Serial ports belong to a group; it is `dialout` on Debian, `uucp` on others."""
    try:
        group = grp.getgrgid(Path(path).stat().st_gid).gr_name
    except (KeyError, OSError):
        group = "dialout"
    group = group if group not in ("root", "tty") else "dialout"
    return Unreachable(f"no permission to open {path}", hint=f'sudo usermod -aG {group} "$USER", then log in again')


def _usb(path: str) -> dict[str, object] | None:
    """What the kernel knows of the USB device behind a port; None where there is none."""
    from serial.tools import list_ports

    real = os.path.realpath(path)
    found = next((port for port in list_ports.comports() if port.device == real and port.vid is not None), None)
    if found is None:
        return None
    texts = {"manufacturer": found.manufacturer, "product": found.product, "serial_number": found.serial_number}
    said = {name: clean(str(text), 100) for name, text in texts.items() if text}
    return {"id": f"{found.vid:04x}:{found.pid or 0:04x}", **said}
