"""The files that a dataset names, kept inside its folder, and columns of CSV tables."""

from __future__ import annotations

import csv
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING

from edgeq.errors import DatasetError

if TYPE_CHECKING:
    from _csv import Reader

TABLE_LIMIT_BYTES = 64 << 20


def inside(root: str, name: str) -> Path:
    """`name` below the dataset's folder; absolute names and `..` are refused (DatasetError).

    Symbolic links are followed: whoever made the folder made them.
    """
    absolute = PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive
    if not name or "\0" in name or absolute or ".." in name.replace("\\", "/").split("/"):
        raise DatasetError(f"{name!r} must be a relative name inside the dataset's folder", where=root)
    return Path(root) / name


def regular(path: Path) -> Path:
    """The path, if it is a regular file; raises DatasetError (a device or pipe would never end)."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise DatasetError(f"cannot read: {(error.strerror or str(error)).lower()}", where=str(path)) from error
    if not stat.S_ISREG(mode):
        raise DatasetError("not a regular file", where=str(path))
    return path


def column(path: Path, name: str) -> list[str]:
    """The values of one named column of a CSV file with a header line; raises DatasetError."""
    if regular(path).stat().st_size > TABLE_LIMIT_BYTES:
        raise DatasetError(f"larger than {TABLE_LIMIT_BYTES >> 20} MiB", where=str(path))
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            return _values(csv.reader(stream), name, path)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DatasetError(f"not a CSV table: {error}", where=str(path)) from error


def _values(rows: Reader, name: str, path: Path) -> list[str]:
    header: list[str] = next(rows, [])
    if name not in header:
        known = ", ".join(header)[:200] or "nothing"
        raise DatasetError(f"no column {name!r}; the header has {known}", where=f"{path}:1")
    place = header.index(name)
    found = []
    for row in rows:
        if row and (len(row) <= place or not row[place].strip()):
            raise DatasetError(f"nothing in column {name!r}", where=f"{path}:{rows.line_num}")
        if row:
            found.append(row[place].strip())
    return found
