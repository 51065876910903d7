"""Bring a bundle to a device: send what is missing or changed there, verify it there.

There is no lock on the device, and so none to be left behind: the folder is named by the bundle's content, every
file gets its name by a rename after its hash was checked, and two deployments at once write the same bytes.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from edgeq import store
from edgeq.documents import load_json
from edgeq.errors import BuildError
from edgeq.lab.transports import Transport
from edgeq.types import Bundle, Check, Device, FileEntry, Manifest, Progress, silent

if TYPE_CHECKING:
    from edgeq.lab.provisioning import Provisioned

MANIFEST = "manifest.json"
LARGEST_BUNDLE_BYTES = 16 << 30
_BUILD_AGAIN = "build it again: edgeq build"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """Where a bundle is on a device, which of its files were sent and which were there already.

    `warnings` are what speaks against measuring on the device as it is, `provisioned` the runtime that it was given.
    """

    folder: str
    sent: tuple[str, ...]
    kept: tuple[str, ...]
    sent_bytes: int
    warnings: tuple[Check, ...] = ()
    provisioned: Provisioned | None = None


def load_bundle(path: Path) -> Bundle:
    """The bundle in a folder; raises BuildError when its manifest cannot be believed."""
    if not (path / MANIFEST).is_file():
        raise BuildError("there is no bundle", where=str(path), hint="edgeq build MODEL -t TARGET --data DATASET")
    manifest = load_json(path / MANIFEST, Manifest, error=BuildError)
    problem = next(_problems(manifest, path), None)
    if problem:
        raise BuildError(f"the manifest is wrong: {problem}", where=str(path / MANIFEST))
    return Bundle(path=str(path), manifest=manifest)


def _problems(manifest: Manifest, root: Path) -> Iterator[str]:
    names = [entry.path for entry in manifest.files]
    yield from (f"{name!r} is listed twice" for name in names if names.count(name) > 1)
    yield from (f"{name!r} is not a path inside the bundle" for name in names if not _is_inside(name, root))
    yield from (f"{entry.path!r} has size {entry.size_bytes}" for entry in manifest.files if entry.size_bytes < 0)
    yield from (f"{e.path!r} has no SHA-256" for e in manifest.files if not re.fullmatch("[0-9a-f]{64}", e.sha256))
    if sum(entry.size_bytes for entry in manifest.files) > LARGEST_BUNDLE_BYTES:
        yield f"it lists more than {LARGEST_BUNDLE_BYTES >> 30} GiB"
    needed = [name for name in (manifest.model, manifest.entry_point, manifest.golden, manifest.float_model) if name]
    yield from (f"{name!r} is not among its files" for name in needed if name not in names)


def _is_inside(name: str, root: Path) -> bool:
    path = PurePosixPath(name)
    plain = name == str(path) and name != MANIFEST and name.isprintable() and "\\" not in name
    if not plain or path.is_absolute() or ".." in path.parts or not path.parts:
        return False
    return (root / name).resolve().is_relative_to(root.resolve())


def verify_local(bundle: Bundle) -> None:
    """Compare the bundle's files here with its manifest; raises BuildError."""
    for entry in bundle.manifest.files:
        path = Path(bundle.path) / entry.path
        if not path.is_file():
            raise BuildError(f"the bundle has lost a file: {entry.path}", where=bundle.path, hint=_BUILD_AGAIN)
        if path.stat().st_size != entry.size_bytes or store.sha256(path) != entry.sha256:
            raise BuildError(f"the bundle changed since it was built: {entry.path}", where=str(path), hint=_BUILD_AGAIN)


def folder_on(bundle: Bundle, device: Device) -> str:
    """Folder for the bundle on a device, from the home folder there: its name and the start of its manifest's hash."""
    base = device.folder.removeprefix("~/")
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", bundle.manifest.name).strip(".-")[:60] or "bundle"
    digest = store.sha256(Path(bundle.path) / MANIFEST)[:12]
    return posixpath.normpath(posixpath.join(base, f"{name}-{digest}"))


def destination(bundle: Bundle, transport: Transport) -> str:
    """The bundle's folder on the device, absolute."""
    return posixpath.normpath(posixpath.join(transport.home(), folder_on(bundle, transport.device)))


def deploy(bundle: Bundle, transport: Transport, *, progress: Progress = silent) -> Deployment:
    """Send what the device lacks, the manifest last; raises BuildError, Altered, DiskFull, NotWritable, ..."""
    verify_local(bundle)
    folder = folder_on(bundle, transport.device)
    files = _wanted(bundle)
    progress("compare", 0, 1)
    there = _hashes(folder, files, transport)
    progress("compare", 1, 1)
    folder = destination(bundle, transport)
    missing = [entry for entry in files if there.get(entry.path) != entry.sha256]
    if missing:
        _send(bundle, folder, missing, transport, progress)
    return Deployment(
        folder=folder,
        sent=tuple(entry.path for entry in missing),
        kept=tuple(entry.path for entry in files if entry not in missing),
        sent_bytes=sum(entry.size_bytes for entry in missing),
    )


def _wanted(bundle: Bundle) -> list[FileEntry]:
    path = Path(bundle.path) / MANIFEST
    own = FileEntry(path=MANIFEST, sha256=store.sha256(path), size_bytes=path.stat().st_size)
    return [*bundle.manifest.files, own]


def _hashes(folder: str, files: list[FileEntry], transport: Transport) -> dict[str, str]:
    found = transport.hash([posixpath.join(folder, entry.path) for entry in files])
    return {posixpath.relpath(path, folder): digest for path, digest in found.items()}


def _send(bundle: Bundle, folder: str, missing: list[FileEntry], transport: Transport, progress: Progress) -> None:
    """Send files; each is hashed on the device before it gets its name, and what is there was hashed already."""
    pairs = [(Path(bundle.path) / entry.path, posixpath.join(folder, entry.path)) for entry in missing]
    transport.put_all(pairs, progress=lambda done, total: progress("upload", done, total))
    verify_local(bundle)  # what changed while it was sent is not what the manifest says
