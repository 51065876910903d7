"""Which Python on a device has a working interpreter: the usual one, or that of a virtual environment."""

from __future__ import annotations

import dataclasses
import posixpath
import sys
from collections.abc import Iterator

from edgeq.errors import CommandFailed, RuntimeMissing
from edgeq.lab.preflight import Fit, preflight
from edgeq.lab.transports import Transport
from edgeq.types import Device, Manifest, Progress, silent

USUAL = Device(name="", transport="").python
ENVIRONMENTS = (".venv", "venv", "edgeq/.venv", "/opt/edgeq")
"""Where people put them, in the home unless absolute: Debian 12 and newer refuse `pip install` outside of one."""
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


def settle(
    folder: str, manifest: Manifest, transport: Transport, *, manifest_sha256: str = "", progress: Progress = silent
) -> Fit:
    """Preflight with the device's Python; where that has no interpreter, with those of virtual environments.

    `transport.device.python` is the one that works afterwards. A Python that the user named is never replaced. Raises
    what `preflight` raises of the first.
    """
    first = transport.device
    try:
        return preflight(folder, manifest, transport, manifest_sha256=manifest_sha256, progress=progress)
    except RuntimeMissing:
        for python in _others(transport) if first.python == USUAL else ():
            transport.device = dataclasses.replace(first, python=python)
            try:
                return preflight(folder, manifest, transport, progress=progress)
            except (RuntimeMissing, CommandFailed):
                continue
        transport.device = first
        raise


def _others(transport: Transport) -> Iterator[str]:
    home = transport.home()
    for environment in ENVIRONMENTS:
        yield posixpath.join(home, environment, "bin", "python3")
    if transport.device.host in _LOOPBACK:
        yield sys.executable  # the device is this host
