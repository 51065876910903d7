"""One at a time: a device is leased while something is measured on it.

The lease lies on the device, in its folder, so that other hosts see it too. The agent there keeps it for as long as
this host gives signs of life, and only the device's own clock says when it has run out.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import socket
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from annotated_types import Interval, Len

from edgeq import documents
from edgeq.errors import CommandFailed, DeviceBusy
from edgeq.lab.faults import clean
from edgeq.lab.transports import Held, Told, Transport
from edgeq.types import Device, Progress, silent

EXPIRY_SECONDS = 25.0
"""A holder that died without a word loses its lease within so long."""
STEP = "waiting for the device"
_BOOT = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """Who has a device: a process of a user on a host; `boot` tells that host's starts apart."""

    id: Annotated[str, Len(0, 64)] = ""
    host: Annotated[str, Len(0, 255)] = ""
    user: Annotated[str, Len(0, 255)] = ""
    pid: Annotated[int, Interval(ge=0, le=2**31)] = 0
    boot: Annotated[str, Len(0, 64)] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A lease as the device tells of it: whose, and for how many seconds already by its own clock."""

    holder: Holder = Holder()
    seconds: Annotated[float, Interval(ge=0, le=1e9)] = 0.0


def me() -> Holder:
    """This process, with an id that no other holder has."""
    return Holder(
        id=secrets.token_hex(16), host=socket.gethostname()[:255], user=_user()[:255], pid=os.getpid(), boot=_boot()
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as in a container
        return str(os.getuid())


def _boot() -> str:
    try:
        return _BOOT.read_text().strip()[:64]
    except OSError:
        return ""


@contextlib.contextmanager
def leased(
    transport: Transport, *, wait_seconds: float = 0.0, progress: Progress = silent
) -> Iterator[Callable[[], None]]:
    """Keep the device for this process while the block runs; raises DeviceBusy, which says who has it.

    What the block gets raises DeviceBusy if the lease was lost meanwhile: call it before a result is believed. What a
    dead process of this host left is waited for as long as it can last, whatever `wait_seconds` is.
    """
    with contextlib.ExitStack() as held:
        try:
            check = held.enter_context(_lease(transport, wait_seconds, progress))
        except Held as problem:
            found = _told(problem.told)
            if not _is_dead(found.holder):
                raise _busy(transport.device, found, wait_seconds) from None
            check = held.enter_context(_last_try(transport, progress))
        yield check


def _lease(
    transport: Transport, seconds: float, progress: Progress
) -> contextlib.AbstractContextManager[Callable[[], None]]:
    return transport.lease(asdict(me()), wait_seconds=seconds, waiting=lambda told: progress(_waiting(told), 0, 1))


@contextlib.contextmanager
def _last_try(transport: Transport, progress: Progress) -> Iterator[Callable[[], None]]:
    try:
        with _lease(transport, EXPIRY_SECONDS, progress) as check:
            yield check
    except Held as problem:
        raise _busy(transport.device, _told(problem.told), EXPIRY_SECONDS) from None


def _waiting(told: Told) -> str:
    return f"{STEP}, {_who(_told(told))} has it"


def _told(told: Told) -> Lease:
    """A device's words; whatever does not fit counts as not said, for the device is busy all the same."""
    try:
        return documents.decode(Lease, _known(told), where="a lease", error=CommandFailed)
    except CommandFailed:
        return Lease()


def _known(told: Told) -> dict[str, object]:
    """Only the keys that this version knows: a newer edgeq may hold the device."""
    holder = told.get("holder")
    own = {key: holder[key] for key in Holder.__slots__ if key in holder} if isinstance(holder, dict) else {}
    return {"holder": own, "seconds": told.get("seconds", 0.0)}


def _who(lease: Lease) -> str:
    """`alice on bench-pc (process 4711), since 12 s`."""
    holder = lease.holder
    if not holder.host:
        return "somebody unknown"
    user = clean(holder.user, 60) or "somebody"
    return f"{user} on {clean(holder.host, 60)} (process {holder.pid}, since {lease.seconds:.0f} s)"


def _busy(device: Device, lease: Lease, waited_seconds: float) -> DeviceBusy:
    waited = f", after {waited_seconds:.0f} s of waiting" if waited_seconds else ""
    return DeviceBusy(f"{device.name} is in use by {_who(lease)}{waited}", hint="wait for it: --wait 600")


def _is_dead(holder: Holder) -> bool:
    """Whether the holder was a process of this host that is no more."""
    if not holder.pid or (holder.host, holder.boot) != (socket.gethostname()[:255], _boot()):
        return False
    try:
        os.kill(holder.pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False
