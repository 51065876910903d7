"""Trees of small files as kernels lay them out below /sys and /proc."""

from __future__ import annotations

from pathlib import Path


def lay(root: str | Path, folder: str, **values: object) -> Path:
    """The folder `root/folder` with one file per value, a line each."""
    place = Path(root) / folder
    place.mkdir(parents=True, exist_ok=True)
    for name, value in values.items():
        (place / name).write_text(f"{value}\n")
    return place
