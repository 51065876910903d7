"""known_hosts files: who vouches for which host key. Format: sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT"."""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LARGEST_FILE_BYTES = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One line of a known_hosts file; `key` is the key's wire form."""

    file: str
    line: int
    hosts: str
    type: str
    key: bytes
    revoked: bool = False

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"


def own_file() -> Path:
    """The file that edgeq records keys in; `EDGEQ_KNOWN_HOSTS` names another."""
    named = os.environ.get("EDGEQ_KNOWN_HOSTS")
    if named:
        return Path(named).expanduser()
    config = os.environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(config).expanduser() / "edgeq" / "known_hosts"


def system_files() -> list[Path]:
    """The files that OpenSSH reads for all users."""
    return [Path("/etc/ssh/ssh_known_hosts"), Path("/etc/ssh/ssh_known_hosts2")]


def user_files() -> list[Path]:
    """The files that OpenSSH reads for this user unless its configuration says otherwise."""
    folder = Path("~/.ssh").expanduser()
    return [folder / "known_hosts", folder / "known_hosts2"]


def host_name(host: str, port: int) -> str:
    """How a known_hosts file writes an address."""
    return host if port == 22 else f"[{host}]:{port}"


def fingerprint(key: bytes) -> str:
    """`SHA256:…`, as ssh-keygen shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(key).digest()).decode().rstrip("=")


def entries(files: Sequence[Path]) -> Iterator[Entry]:
    """All lines that hold a key; files that are absent and lines that are broken are passed over."""
    for file in files:
        try:
            with file.open("rb") as stream:
                text = stream.read(LARGEST_FILE_BYTES).decode("utf-8", "replace")
        except OSError:
            continue
        for number, line in enumerate(text.split("\n"), 1):
            entry = parse(str(file), number, line)
            if entry:
                yield entry


def parse(file: str, number: int, line: str) -> Entry | None:
    """One line; None for comments, certificate authorities (not supported) and what is no key."""
    words = line.split()
    revoked = bool(words) and words[0] == "@revoked"
    if revoked:
        words = words[1:]
    if len(words) < 3 or words[0].startswith(("#", "@")):
        return None
    try:
        key = base64.b64decode(words[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    return Entry(file=file, line=number, hosts=words[0], type=words[1], key=key, revoked=revoked)


def matches(hosts: str, name: str) -> bool:
    """Whether the first field of a line names a host: hashed, or patterns of which `!` excludes."""
    name = name.lower()  # OpenSSH hashes the lower-case name
    if hosts.startswith("|1|"):
        return _matches_hash(hosts, name)
    patterns = hosts.lower().split(",")
    if any(_like(name, pattern[1:]) for pattern in patterns if pattern.startswith("!")):
        return False
    return any(_like(name, pattern) for pattern in patterns if not pattern.startswith("!"))


def _like(name: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(name, pattern.replace("[", "[[]"))


def _matches_hash(hosts: str, name: str) -> bool:
    try:
        _, _, salt, wanted = hosts.split("|")
        digest = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(digest, base64.b64decode(wanted))
    except (binascii.Error, ValueError):
        return False


def known(files: Sequence[Path], name: str) -> list[Entry]:
    """The lines that speak about a host."""
    return [entry for entry in entries(files) if matches(entry.hosts, name)]
