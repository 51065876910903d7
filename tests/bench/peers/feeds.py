"""What every peer's script shares: its words, the calibration samples, and what it answers.

A script is called with MODEL SAMPLES OUT; SAMPLES is a folder of one `.npy` for each input (`input-0.npy`), samples on
the first axis, as the model takes them. It writes OUT and prints versions and notes as JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

Batches = Iterator[tuple[np.ndarray, ...]]


def batches(folder: Path) -> Batches:
    """One sample after the other, with a batch axis of 1; read from disk as they come."""
    arrays = [np.load(path, mmap_mode="r") for path in sorted(folder.glob("input-*.npy"))]
    for index in range(len(arrays[0])):
        yield tuple(np.array(array[index : index + 1]) for array in arrays)


def count(folder: Path) -> int:
    """How many samples there are."""
    return len(np.load(next(iter(folder.glob("input-0.npy"))), mmap_mode="r"))


def fitted(sample: np.ndarray, shape: Any) -> np.ndarray:
    """The sample in the shape that the model states, where that says nothing else but another number of axes."""
    fixed = [int(size) for size in shape if isinstance(size, int | np.integer)]
    same = len(fixed) == len(shape) and int(np.prod(fixed)) == sample.size
    return sample.reshape(fixed) if same else sample


def main(quantize: Callable[[Path, Path, Path], list[str]], *packages: str) -> None:
    """Run a peer by the words of the command line; its function returns notes."""
    model, samples, out = map(Path, sys.argv[1:4])
    notes = quantize(model, samples, out)
    versions = {name: metadata.version(name) for name in packages}
    sys.stdout.write("\n" + json.dumps({"versions": versions, "notes": notes}) + "\n")
