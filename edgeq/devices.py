"""The devices known on this host: names and addresses to Device. No secrets are kept."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import fcntl
import ipaddress
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgeq import documents
from edgeq.errors import DeviceError, OutputError, UsageError
from edgeq.types import Device

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_ADDRESS = re.compile(r"([a-z][a-z0-9+-]{0,30}):(.*)", re.DOTALL)
_AUTHORITY = re.compile(r"(?:(?P<user>[^@]*)@)?(?P<host>\[[^\]]*\]|[^:\[\]@]*)(?::(?P<port>[^:]*))?")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,252})")
_IPV6 = re.compile(r"\[([0-9A-Fa-f:.]{2,45}(?:%[A-Za-z0-9._-]{1,30})?)\]")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}\$?")
_SECRET = re.compile(r"pass(word|phrase|wd)?|secret|token|private_?key", re.IGNORECASE)
_NO_SECRETS = "use a key (identity: ~/.ssh/id_ed25519) or an SSH agent"
_BAUD = re.compile(r"baud=([0-9]{1,8})")
LEAST_BAUD, MOST_BAUD = 300, 12_000_000
_SERIAL = "serial:///dev/ttyACM0?baud=115200"
_OPTIONS = ("identity", "folder", "python", "meter", "notes")
ALL = "all"
"""The group of all devices that are kept."""
_COMMENT = "Devices known to edgeq on this host. Written by `edgeq devices add` and `remove`; comments are not kept."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    address: str
    identity: str | None = None
    folder: str | None = None
    python: str | None = None
    meter: str | None = None
    notes: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    schema: int = 1
    devices: dict[str, _Entry] = field(default_factory=dict)
    groups: dict[str, tuple[str, ...]] = field(default_factory=dict)


def file() -> Path:
    """Where devices are kept: EDGEQ_DEVICES, else `edgeq/devices.yaml` in the user's configuration folder."""
    if own := os.environ.get("EDGEQ_DEVICES"):
        return Path(own)
    base = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(base).expanduser() / "edgeq" / "devices.yaml"


def load(ref: str) -> Device:
    """The device with that name, or at that address (`local:`, `serial:///dev/ttyACM0`, ...); raises DeviceError."""
    if _ADDRESS.fullmatch(ref):
        return _device(ref, _Entry(address=ref), where=None)
    known = _read().devices
    if ref not in known:
        close = difflib.get_close_matches(ref[:100], known, n=1)
        hint = f"did you mean {close[0]}?" if close else f"edgeq devices add {_shown_name(ref)} ssh://user@host"
        raise DeviceError(f"no device is called {ref[:100]!r}", hint=hint)
    return _device(ref, known[ref], where=str(file()))


def load_all() -> list[Device]:
    """All devices that are kept, by name; raises DeviceError."""
    return [_device(name, entry, where=str(file())) for name, entry in sorted(_read().devices.items())]


def is_name(ref: str) -> bool:
    """Whether a device could be kept under it; an address is none."""
    return _NAME.fullmatch(ref) is not None


def groups() -> dict[str, tuple[str, ...]]:
    """Names of the devices of each group; raises DeviceError."""
    return dict(sorted(_read().groups.items()))


def single(refs: Sequence[str]) -> str | None:
    """The one device that is meant; None for several, and for a group even of one."""
    if len(refs) != 1:
        return None
    return None if refs[0] == ALL or refs[0] in _read().groups else refs[0]


def expand(refs: Sequence[str]) -> tuple[str, ...]:
    """Devices by name or address for names, addresses, groups and `all`, each once; raises DeviceError."""
    known = _read()
    found: dict[str, None] = {}
    for ref in refs:
        found |= dict.fromkeys(sorted(known.devices) if ref == ALL else known.groups.get(ref, (ref,)))
    if not found:
        raise DeviceError("no devices are known here", where=str(file()), hint="edgeq devices add NAME ssh://user@host")
    return tuple(found)


def add(name: str, address: str, *, groups: Sequence[str] = (), **options: str | None) -> Device:
    """Keep a device under a name and in groups; options are identity, folder, python, meter, notes.

    Raises UsageError for a bad or taken name, DeviceError for a bad address, OutputError.
    """
    _check_name(name)
    unknown = [option for option in options if option not in _OPTIONS]
    if unknown:
        raise UsageError(_unknown_option(unknown[0]), hint=_NO_SECRETS if _SECRET.search(unknown[0]) else None)
    entry = _Entry(address=address, **{key: value for key, value in options.items() if value is not None})
    device = _device(name, entry, where=None)
    with _locked():
        known = _read()
        if name in known.devices:
            raise UsageError(f"a device is called {name!r} already", hint=f"edgeq devices remove {name}")
        if name in known.groups:
            raise UsageError(f"a group is called {name!r} already", hint="choose another name")
        _write({**known.devices, name: entry}, _joined(known, name, groups))
    return device


def _joined(known: _File, name: str, wanted: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The groups once a device is in those that are wanted; raises UsageError."""
    joined = dict(known.groups)
    for group in wanted:
        _check_name(group, "group")
        if group == name or group in known.devices:
            raise UsageError(f"a device is called {group!r}, so that no group can be", hint="choose another name")
        joined[group] = (*(one for one in joined.get(group, ()) if one != name), name)
    return joined


def remove(name: str) -> None:
    """Forget a device; raises DeviceError if it is not known, OutputError."""
    with _locked():
        known = _read()
        if name not in known.devices:
            raise DeviceError(f"no device is called {name[:100]!r}", hint="edgeq devices")
        left = {group: tuple(one for one in members if one != name) for group, members in known.groups.items()}
        _write(
            {key: entry for key, entry in known.devices.items() if key != name},
            {group: members for group, members in left.items() if members},
        )


# --- the file --------------------------------------------------------------------------------


def _read() -> _File:
    path = file()
    if not path.exists():
        return _File()
    data, lines = documents.read_yaml(path, error=DeviceError)
    try:
        _check_data(data)
    except documents.PathError as problem:
        raise documents.located(DeviceError, problem, str(path), lines, hint=_NO_SECRETS) from problem
    found = documents.decode(_File, data, where=str(path), lines=lines, error=DeviceError)
    for name, entry in found.devices.items():
        where = f"{path}:{lines[('devices', name)]}"
        if not _NAME.fullmatch(name) or name == ALL:
            raise DeviceError(f"{name!r} cannot be a device's name", where=where)
        _device(name, entry, where=where)
    _check_groups(found, path, lines)
    return found


def _check_groups(found: _File, path: Path, lines: documents.Lines) -> None:
    """Raise DeviceError for a group that is no set of known devices."""
    for name, members in found.groups.items():
        where = f"{path}:{lines[('groups', name)]}"
        if not _NAME.fullmatch(name) or name == ALL or name in found.devices:
            raise DeviceError(f"{name!r} cannot be a group's name", where=where)
        unknown = [one for one in members if one not in found.devices]
        if unknown or not members:
            told = f"holds {unknown[0][:100]!r}, which is no device" if unknown else "is empty"
            raise DeviceError(f"the group {name} {told}", where=where, hint="edgeq devices")


def _check_data(data: dict[str, Any]) -> None:
    """Raise PathError for a key that would hold a secret."""
    entries = data.get("devices")
    for name, entry in entries.items() if isinstance(entries, dict) else ():
        for key in entry if isinstance(entry, dict) else ():
            if _SECRET.search(key):
                raise documents.PathError(("devices", name, key), "secrets are not kept here")


def _write(known: dict[str, _Entry], groups: dict[str, tuple[str, ...]]) -> None:
    plain: dict[str, Any] = {"schema": 1, "devices": {name: _given(entry) for name, entry in sorted(known.items())}}
    if groups:
        plain["groups"] = {name: list(members) for name, members in sorted(groups.items())}
    documents.write_yaml(file(), plain, comment=_COMMENT)


def _given(entry: _Entry) -> dict[str, str]:
    return {key: value for key, value in dataclasses.asdict(entry).items() if value is not None}


@contextlib.contextmanager
def _locked() -> Iterator[None]:
    """Keep other processes from changing the file at the same time; the lock ends with the process."""
    path = file().with_name(f".{file().name}.lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise OutputError(f"cannot write: {(problem.strerror or str(problem)).lower()}", where=str(file())) from problem
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _check_name(name: str, kind: str = "device") -> None:
    if not _NAME.fullmatch(name) or name == ALL:
        raise UsageError(
            f"{name[:100]!r} cannot be a {kind}'s name",
            hint="use letters, digits, '.', '_' and '-', such as pi5-lab",
        )


def _shown_name(text: str) -> str:
    return text if _NAME.fullmatch(text) else "NAME"


def _unknown_option(name: str) -> str:
    if _SECRET.search(name):
        return "secrets are not kept"
    return f"unknown option {name!r}; known are {', '.join(_OPTIONS)}"


# --- addresses -------------------------------------------------------------------------------


def _device(name: str, entry: _Entry, *, where: str | None) -> Device:
    match = _ADDRESS.fullmatch(entry.address)
    if match is None:
        raise DeviceError(
            f"{entry.address[:100]!r} is not an address", where=where, hint="ssh://user@host:22 or local:"
        )
    transport, rest = match.groups()
    if any(not character.isprintable() for character in entry.address):
        raise DeviceError("the address holds control characters", where=where)
    place = _place(transport, rest, where)
    options: dict[str, Any] = {key: value for key, value in _given(entry).items() if key != "address"}
    for key, value in options.items():
        if key != "notes" and (not value or any(not character.isprintable() for character in value)):
            raise DeviceError(f"{key} is empty or holds control characters", where=where)
    return Device(name=name, transport=transport, **place, **options)


def _place(transport: str, rest: str, where: str | None) -> dict[str, Any]:
    if transport == "serial":
        return _serial(rest.removeprefix("//"), where)
    if transport == "ssh" and rest.startswith("//"):
        return _authority(rest[2:], where)
    return _path(transport, rest, where)


def _serial(rest: str, where: str | None) -> dict[str, Any]:
    """Port and speed of `/dev/ttyACM0?baud=115200`."""
    path, mark, query = rest.partition("?")
    if not path.startswith("/"):
        raise DeviceError("a serial address names a port from the root on", where=where, hint=_SERIAL)
    if not mark:
        return {"host": path}
    match = _BAUD.fullmatch(query)
    if match is None or not LEAST_BAUD <= int(match[1]) <= MOST_BAUD:
        told = f"{query[:60]!r} is not baud=N, {LEAST_BAUD} to {MOST_BAUD}"
        raise DeviceError(told, where=where, hint=_SERIAL)
    return {"host": path, "baud": int(match[1])}


def _path(transport: str, rest: str, where: str | None) -> dict[str, Any]:
    """What stands behind another transport: nothing, or a path."""
    if transport == "ssh":
        raise DeviceError("an SSH address starts with ssh://", where=where, hint="ssh://user@host:22")
    if transport == "local" and rest.strip("/"):
        raise DeviceError("nothing may follow local:", where=where, hint="local:")
    if "@" in rest:
        raise DeviceError("an address with a user starts with ssh://", where=where, hint="ssh://user@host:22")
    return {"host": rest.removeprefix("//") or None}


def _authority(text: str, where: str | None) -> dict[str, Any]:
    """User, host and port of `user@host:port`, `user@[::1]:port`."""
    user = text.rpartition("@")[0]
    if ":" in user:
        raise DeviceError("an address holds no password", where=where, hint=_NO_SECRETS)
    match = _AUTHORITY.fullmatch(text.removesuffix("/"))
    if match is None:
        raise DeviceError(f"{text[:100]!r} is not user@host:port", where=where, hint="ssh://user@host:22")
    if match["user"] is not None and not _USER.fullmatch(match["user"]):
        raise DeviceError(f"{match['user'][:100]!r} is not a user's name", where=where)
    return {"user": match["user"], "host": _host(match["host"], where), "port": _port(match["port"], where)}


def _host(text: str, where: str | None) -> str:
    if text.startswith("["):
        match = _IPV6.fullmatch(text)
        try:
            return str(ipaddress.IPv6Address(match[1] if match else ""))
        except ValueError as problem:
            hint = "ssh://user@[::1]:22"
            raise DeviceError(f"{text[:100]!r} is not an IPv6 address", where=where, hint=hint) from problem
    if not _HOST.fullmatch(text):
        raise DeviceError(f"{text[:100]!r} is not a host's name", where=where, hint="ssh://user@host:22")
    return text


def _port(text: str | None, where: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise DeviceError(f"{text[:20]!r} is not a port, 1 to 65535", where=where)
    return int(text)
