"""Where an SSH device is and how to get in: the device's own words, then ~/.ssh/config, then defaults."""

from __future__ import annotations

import getpass
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import Unreachable
from edgeq.lab.transports import _known_hosts, _ssh_config
from edgeq.types import Device

if TYPE_CHECKING:
    import paramiko

DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """One hop: address, user, keys to try in order, whose host keys to believe, and the way there."""

    name: str
    address: str
    host: str
    port: int
    user: str
    identities: tuple[Path, ...]
    use_agent: bool
    known_hosts: tuple[Path, ...]
    key_name: str
    proxy_command: tuple[str, ...] = ()
    jumps: tuple[str, ...] = ()


def lookup(host: str) -> paramiko.SSHConfigDict:
    """What ~/.ssh/config says about a host; raises SSHException, OSError, ValueError."""
    import paramiko

    config = paramiko.SSHConfig()
    if _ssh_config.file().is_file():
        config.parse(_ssh_config.lines(_ssh_config.file()))
    return config.lookup(host)


def resolve(device: Device) -> Settings:
    """Settings for a device; raises Unreachable without an address or when the configuration makes no sense."""
    import paramiko

    if not device.host:
        raise Unreachable(f"device {device.name} has no host", hint="edgeq devices add NAME ssh://user@host:port")
    try:
        return settings(device, device.host, lookup(device.host))
    except (paramiko.SSHException, OSError, ValueError, KeyError, RuntimeError) as error:  # RuntimeError: `~nobody`
        where = str(_ssh_config.file())
        raise Unreachable(f"the SSH configuration cannot be used: {error}", where=where) from error


def settings(device: Device, name: str, words: paramiko.SSHConfigDict) -> Settings:
    """The device's own words and the configuration's together; raises ValueError, RuntimeError."""
    host, port = str(words.get("hostname", name)), device.port or port_number(str(words.get("port", "22")))
    user = device.user or str(words.get("user", "")) or getpass.getuser()
    alias = words.get("hostkeyalias")
    return Settings(
        name=device.name,
        address=f"ssh://{user}@{device.host}" + (f":{device.port}" if device.port else ""),
        host=host,
        port=port,
        user=user,
        identities=identities(device, list(words.get("identityfile", []))),
        use_agent=str(words.get("identitiesonly", "no")).lower() != "yes",
        known_hosts=(*known_hosts_files(words), _known_hosts.own_file()),
        key_name=str(alias) if alias else _known_hosts.host_name(host, port),
        proxy_command=proxy_command(words),
        jumps=jumps(words),
    )


def port_number(text: str) -> int:
    """A TCP port; raises ValueError."""
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) < 65536):
        raise ValueError(f"{text[:40]!r} is no port")
    return int(text)


def identities(device: Device, configured: list[str]) -> tuple[Path, ...]:
    """Private keys to try: the device's, else the configuration's, else OpenSSH's usual ones."""
    if device.identity:
        return (Path(device.identity).expanduser(),)
    names = configured or [f"~/.ssh/{name}" for name in DEFAULT_KEYS]
    return tuple(path for path in (Path(name).expanduser() for name in names) if path.is_file())


def known_hosts_files(words: paramiko.SSHConfigDict) -> list[Path]:
    """The files that OpenSSH would believe."""
    found: list[Path] = []
    usual = {"userknownhostsfile": _known_hosts.user_files(), "globalknownhostsfile": _known_hosts.system_files()}
    for key, files in usual.items():
        named = words.get(key)
        found += [Path(word).expanduser() for word in shlex.split(named)] if named else files
    return found


def proxy_command(words: paramiko.SSHConfigDict) -> tuple[str, ...]:
    """ProxyCommand as an argv; it runs without a shell."""
    argv = shlex.split(str(words.get("proxycommand") or ""))
    argv = argv[1:] if argv[:1] == ["exec"] else argv
    return () if argv == ["none"] else tuple(argv)


def jumps(words: paramiko.SSHConfigDict) -> tuple[str, ...]:
    """ProxyJump's hops in the order of travel."""
    hops = [hop.strip() for hop in str(words.get("proxyjump") or "").split(",") if hop.strip()]
    return () if hops == ["none"] else tuple(hops)


def hop_device(hop: str, through: Device) -> Device:
    """A jump host `[user@]host[:port]` as a device; raises Unreachable for a port that is no number."""
    user, _, address = hop.removeprefix("ssh://").rpartition("@")
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, colon = address, ""
    try:
        number = port_number(port) if colon else None
    except ValueError as error:
        where = str(_ssh_config.file())
        raise Unreachable(f"device {through.name}: ProxyJump {hop!r} has no usable port", where=where) from error
    return Device(
        name=f"{through.name}'s jump host {host}",
        transport="ssh",
        host=host.strip("[]"),
        port=number,
        user=user or None,
    )
