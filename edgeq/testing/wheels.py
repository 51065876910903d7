"""Wheels made by hand, good and hostile, for tests of provisioning."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

LINK = 0o120777 << 16


def row(name: str, content: bytes) -> str:
    """A file's line in RECORD."""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"{name},sha256={digest},{len(content)}"


def make_wheel(
    folder: Path,
    filename: str,
    files: Mapping[str, bytes] | None = None,
    *,
    requires: Sequence[str] = (),
    record: Mapping[str, str] | None = None,
    attributes: Mapping[str, int] | None = None,
) -> Path:
    """A wheel with these files; `record` replaces lines of RECORD (empty: leaves them out), `attributes` are those
    of the zip's entries."""
    name, version = filename.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}"]
    metadata += [f"Requires-Dist: {one}" for one in requires]
    content = {
        **(files or {f"{name}/__init__.py": b""}),
        f"{info}/METADATA": ("\n".join(metadata) + "\n").encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: false\n",
    }
    lines = {path: row(path, data) for path, data in content.items()} | {f"{info}/RECORD": f"{info}/RECORD,,"}
    lines |= dict(record or {})
    content[f"{info}/RECORD"] = "".join(line + "\n" for line in lines.values() if line).encode()
    folder.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(folder / filename, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in content.items():
            entry = zipfile.ZipInfo(path)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (attributes or {}).get(path, 0o100644 << 16)
            archive.writestr(entry, data)
    return folder / filename
