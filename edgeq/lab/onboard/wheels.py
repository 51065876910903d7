"""Unpack wheels without pip: a wheel is a zip file, and nothing that it says is believed.

Every file is checked against the wheel's RECORD, no path leaves the folder, and links, scripts and .pth files stay
behind.
"""

import base64
import csv
import hashlib
import io
import os
import re
import stat
import zipfile
import zlib
from pathlib import Path

from .events import Failure, progress

CHUNK_BYTES = 1 << 20
MOST_FILES = 50000
LONGEST_NAME = 400
RECORD_LIMIT_BYTES = 16 << 20
_INFO = re.compile(r"[A-Za-z0-9._+!]+-[A-Za-z0-9._+!]+\.dist-info")
_UNSIGNED = ("RECORD", "RECORD.jws", "RECORD.p7s")
_PLACED = ("purelib", "platlib")
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, NotImplementedError)
_UNREADABLE += (zipfile.BadZipFile, zlib.error, csv.Error, UnicodeError)


class Budget:
    """How many bytes and files may still be written, over all wheels."""

    def __init__(self, limit_bytes, files=MOST_FILES):
        self.bytes = limit_bytes
        self.files = files

    def spend(self, size, wheel):
        """Take from it; raises Failure `bad-wheel` when it is used up."""
        self.bytes -= size
        if self.bytes < 0 or self.files < 0:
            raise bad(wheel, "it unpacks to more than was announced")


def bad(wheel, why):
    """The Failure of a wheel that cannot be believed."""
    return Failure("bad-wheel", "%s: %s" % (Path(wheel).name, why), path=Path(wheel).name)


def check(path, sha256):
    """The wheel is the file that was sent; raises Failure `altered`."""
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as stream:
            for piece in iter(lambda: stream.read(CHUNK_BYTES), b""):
                digest.update(piece)
    except OSError as error:
        raise Failure("altered", "%s cannot be read: %s" % (Path(path).name, error.strerror), path=str(path)) from None
    if digest.hexdigest() != sha256:
        raise Failure("altered", "%s is not the file that was sent" % Path(path).name, path=str(path))


def unpack(wheel, folder, budget):
    """Unpack one wheel into a folder that is nobody else's; raises Failure `bad-wheel` or OSError of the disk."""
    try:
        archive = zipfile.ZipFile(str(wheel))
    except _UNREADABLE as error:
        raise bad(wheel, "it is no wheel: %s" % error) from None
    with archive:
        members = archive.infolist()
        record = _record(archive, members, wheel)
        for number, member in enumerate(members):
            budget.files -= 1
            target = _target(member, wheel, record)
            if target is not None:
                _write(archive, member, Path(folder) / target, record, budget, wheel)
            progress("unpack " + Path(wheel).name[:40], number + 1, len(members))


def _record(archive, members, wheel):
    """{name: (sha256 as RECORD writes it, bytes)} of every file that the wheel lists; its own entry has neither."""
    names = [member.filename for member in members]
    if len(names) > MOST_FILES:
        raise bad(wheel, "it holds %d files" % len(names))
    if len(set(names)) != len(names):
        raise bad(wheel, "it holds a file twice")
    infos = [name for name in names if name.endswith("/RECORD") and _INFO.fullmatch(name[: -len("/RECORD")])]
    if len(infos) != 1:
        raise bad(wheel, "it has %d RECORD files where a wheel has one" % len(infos))
    text = b"".join(_pieces(archive, archive.getinfo(infos[0]), RECORD_LIMIT_BYTES, wheel))
    found = {}
    try:
        for row in csv.reader(io.StringIO(text.decode("utf-8"))):
            if row:
                name, digest, size = row
                found[name] = (digest, int(size) if size else None)
    except _UNREADABLE as error:
        raise bad(wheel, "its RECORD cannot be read: %s" % error) from None
    return found


def _target(member, wheel, record):
    """Where a member goes, relative to the folder; None for what stays behind."""
    name = member.filename
    if member.is_dir():
        _parts(name[:-1], wheel)
        return None
    parts = _parts(name, wheel)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if kind not in (0, stat.S_IFREG):
        raise bad(wheel, "%s is not a regular file" % _shown(name))
    if member.flag_bits & 1 or member.compress_type not in _METHODS:
        raise bad(wheel, "%s is stored in a way that wheels do not use" % _shown(name))
    if name not in record and not _unsigned(parts):
        raise bad(wheel, "%s is not in its RECORD" % _shown(name))
    if parts[0].endswith(".data"):
        parts = parts[2:] if len(parts) > 2 and parts[1] in _PLACED else []
    if not parts or parts[-1].lower().endswith(".pth"):
        return None
    return "/".join(parts)


def _unsigned(parts):
    return len(parts) == 2 and _INFO.fullmatch(parts[0]) is not None and parts[1] in _UNSIGNED


def _parts(name, wheel):
    """The parts of a plain relative path; raises Failure for everything else."""
    parts = name.split("/")
    odd = any(part in ("", ".", "..") or part.startswith("~") or len(part) > 200 for part in parts)
    if odd or len(name) > LONGEST_NAME or "\\" in name or ":" in parts[0] or not name.isprintable():
        raise bad(wheel, "%s is not a path inside the folder" % _shown(name))
    return parts


def _shown(name):
    return ascii(name[:80])


def _write(archive, member, path, record, budget, wheel):
    """Write one file under its name and check it; no two wheels may hold the same."""
    expected, size = record.get(member.filename, ("", None))
    if size is not None and size != member.file_size:
        raise bad(wheel, "%s has another size than its RECORD says" % _shown(member.filename))
    budget.spend(member.file_size, wheel)
    digest = hashlib.sha256()
    with _opened(path, wheel) as stream:
        for piece in _pieces(archive, member, member.file_size, wheel):
            digest.update(piece)
            stream.write(piece)
    if not _unsigned(member.filename.split("/")):
        _compare(expected, digest, member, wheel)


def _opened(path, wheel):
    """The stream of a new file; raises Failure where another wheel has put something there."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(str(path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except (FileExistsError, NotADirectoryError):
        raise bad(wheel, "%s is in another wheel, too" % _shown(path.name)) from None
    return os.fdopen(handle, "wb")


def _compare(expected, digest, member, wheel):
    told = base64.urlsafe_b64encode(digest.digest()).rstrip(b"=").decode()
    if expected.rstrip("=") != "sha256=" + told:
        raise bad(wheel, "%s has not the hash that its RECORD says" % _shown(member.filename))


def _pieces(archive, member, limit_bytes, wheel):
    """A member's content; raises Failure as soon as it is more than `limit_bytes`, whatever its header says."""
    total = 0
    try:
        with archive.open(member) as stream:
            while True:
                piece = stream.read(CHUNK_BYTES)
                if not piece:
                    return
                total += len(piece)
                if total > limit_bytes:
                    raise bad(wheel, "%s is bigger than it may be" % _shown(member.filename))
                yield piece
    except _UNREADABLE as error:
        raise bad(wheel, "%s cannot be unpacked: %s" % (_shown(member.filename), error)) from None
