"""Vouch for a device's host key: look at it, then record it in edgeq's own known_hosts file."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from edgeq import store
from edgeq.errors import UsageError
from edgeq.lab.transports import CONNECT_SECONDS, _known_hosts
from edgeq.types import Device


@dataclass(frozen=True, slots=True, kw_only=True)
class HostKey:
    """A host's public key; `line` is how known_hosts writes it."""

    type: str
    fingerprint: str
    line: str


def scan(device: Device, *, timeout_seconds: float = CONNECT_SECONDS) -> HostKey:
    """Ask the device for its host key without believing it; raises Unreachable, TimedOut, UsageError."""
    from edgeq.lab.transports import _ssh_settings, ssh
    from edgeq.lab.transports._ssh_streams import Connection

    if device.transport != "ssh":
        raise UsageError(f"{device.name} is reached by {device.transport}, which has no host key")
    settings, connection = _ssh_settings.resolve(device), Connection()
    try:
        key = ssh.greet(device, settings, connection, timeout_seconds).get_remote_server_key()
    finally:
        connection.close()
    encoded = base64.b64encode(key.asbytes()).decode()
    return HostKey(
        type=key.get_name(),
        fingerprint=_known_hosts.fingerprint(key.asbytes()),
        line=f"{settings.key_name} {key.get_name()} {encoded}",
    )


def record(device: Device, key: HostKey) -> Path:  # noqa: ARG001
    """Add the device's key to edgeq's known_hosts file, which is returned; raises OutputError.

    An earlier key of the same host in that file is replaced; files of the user and the system are left alone.
    """
    path = _known_hosts.own_file()
    name = key.line.split()[0]
    with store.locked(path):
        kept = [line for line in _lines(path) if not _is_of(line, name)]
        store.write_bytes(path, "".join(f"{line}\n" for line in [*kept, key.line]).encode())
        with store.writing(path):
            path.chmod(0o600)
    return path


def forget(device: Device) -> None:
    """Take the device's keys out of edgeq's own file."""
    from edgeq.lab.transports import _ssh_settings

    path, name = _known_hosts.own_file(), _ssh_settings.resolve(device).key_name
    if not path.exists():
        return
    with store.locked(path):
        kept = [line for line in _lines(path) if not _is_of(line, name)]
        store.write_bytes(path, "".join(f"{line}\n" for line in kept).encode())
        with store.writing(path):
            path.chmod(0o600)


def _lines(path: Path) -> list[str]:
    with store.writing(path):
        return path.read_text(errors="surrogateescape").splitlines() if path.exists() else []


def _is_of(line: str, name: str) -> bool:
    entry = _known_hosts.parse("", 0, line)
    return entry is not None and not entry.revoked and _known_hosts.matches(entry.hosts, name)
