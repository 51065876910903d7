"""The state of a calibration pass in a file: what was seen of each tensor, after how many samples.

The layout is fixed, so that a file of any other size, key or digest is not ours and is not read: magic, key (32 bytes),
samples done, tensors and bins (4 bytes each, little endian), `FIGURES` doubles for each tensor, its counts (8 bytes
each), and a SHA-256 of all that.
"""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edgeq import store
from edgeq.quantization.observers import BINS, FIGURES, RangeObserver

SUFFIX = ".calibration"
_MAGIC = b"edgeq calibration 2\n"
_HEAD = struct.Struct("<20s32sIII")
_DIGEST_BYTES = 32


class File(NamedTuple):
    """Where a state goes, and what it is about; `key` stands for the model, the samples and the tensors' names."""

    folder: Path
    key: bytes
    names: tuple[str, ...]
    has_counts: bool

    @property
    def path(self) -> Path:
        """The file, which no other pass has."""
        kind = "full" if self.has_counts else "ends"
        return self.folder / f"{self.key.hex()[:16]}-{kind}{SUFFIX}"


def write(file: File, observer: RangeObserver, done: int) -> None:
    """Keep what was seen, whole or not at all; raises OutputError."""
    figures, counts = observer.state(file.names)
    bins = BINS if file.has_counts else 0
    head = _HEAD.pack(_MAGIC, file.key, done, len(file.names), bins)
    content = b"".join([head, figures.astype("<f8").tobytes(), counts.astype("<i8").tobytes()])
    store.write_bytes(file.path, content + hashlib.sha256(content).digest())


def read(file: File, observer: RangeObserver, samples: int) -> int:
    """Fill an observer with what was kept; after how many of so many samples that was, 0 where nothing fits."""
    bins = BINS if file.has_counts else 0
    size = _HEAD.size + len(file.names) * 8 * (FIGURES + bins) + _DIGEST_BYTES
    content = _content(file.path, size)
    if content is None:
        return 0
    magic, key, done, tensors, width = _HEAD.unpack_from(content)
    if (magic, key, tensors, width) != (_MAGIC, file.key, len(file.names), bins) or not 0 < done <= samples:
        return 0
    figures = np.frombuffer(content, "<f8", tensors * FIGURES, _HEAD.size).reshape(tensors, FIGURES)
    counts = np.frombuffer(content, "<i8", tensors * bins, _HEAD.size + figures.nbytes).reshape(tensors, bins)
    return done if observer.restore(file.names, figures, counts) else 0


def _content(path: Path, size_bytes: int) -> bytes | None:
    """A regular file of that size whose digest is right."""
    try:
        if not path.is_file() or path.stat().st_size != size_bytes:
            return None
        with path.open("rb") as stream:
            content = stream.read(size_bytes + 1)
    except OSError:
        return None  # what cannot be read is observed again
    whole = content[:-_DIGEST_BYTES]
    is_ours = len(content) == size_bytes and hashlib.sha256(whole).digest() == content[-_DIGEST_BYTES:]
    return content if is_ours else None


def forget(folder: Path) -> None:
    """Remove the states in a folder, for which nobody will ask again; raises OutputError."""
    for path in folder.glob(f"*{SUFFIX}"):
        with store.writing(path):
            path.unlink(missing_ok=True)
