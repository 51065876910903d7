"""Ranges of a model's tensors over calibration samples, of any format; a pass can be taken up where it stopped."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edgeq import __version__, datasets
from edgeq.converters import kept
from edgeq.datasets.streaming import ahead
from edgeq.errors import ConvertError, ModelError, OutputError
from edgeq.quantization.observers import RangeObserver
from edgeq.types import Dataset, ModelGraph, Progress, RangeMethod

Array: TypeAlias = NDArray[Any]
Sample: TypeAlias = tuple[Array, ...]
Ranges: TypeAlias = dict[str, tuple[float, float]]
Watch: TypeAlias = Callable[[Iterable[Sample]], Iterator[Mapping[str, Array]]]
"""Values of the watched tensors and of the model's outputs, sample by sample."""

STEP = "calibrate"
SAVE_SECONDS = 10.0


class Shown(NamedTuple):
    """Calibration samples with their numbers in the dataset.

    `data` is the dataset as it is named on the command line; `fingerprint` changes with the samples.
    """

    samples: Iterable[Sample]
    numbers: Sequence[int]
    data: str = "DATASET"
    fingerprint: str = ""


class Store(NamedTuple):
    """Where the state of a pass is kept and how often, and the digest of the model that runs."""

    folder: Path
    model: str
    seconds: float = SAVE_SECONDS


def shown(dataset: Dataset, graph: ModelGraph, *, is_kept: bool) -> Shown:
    """All calibration samples of a dataset; files are looked at for the fingerprint only where a state is kept."""
    named = f"{dataset.path}:{dataset.function}" if dataset.function else dataset.path
    fingerprint = datasets.fingerprint(dataset) if is_kept else ""
    return Shown(datasets.samples(dataset, graph, dataset.calibration), dataset.calibration, named, fingerprint)


def ranges(
    method: RangeMethod,
    labels: Mapping[str, str],
    given: Shown,
    watch: Watch,
    progress: Progress,
    where: str,
    store: Store | None = None,
) -> Ranges:
    """Range of each tensor by the name that `labels` gives it; they are in the order in which the model computes them.

    Memory does not depend on the number of samples: each sample's tensors are read, observed and dropped. With `store`
    the state is saved now and then, and a pass over the same samples and model starts where the last one stopped; all
    methods but min-max share one pass. Raises ModelError for samples for which the model computes NaN, ConvertError for
    infinite tensors that it can live with.
    """
    observer, begun, file = _begun(method, tuple(labels.values()), given, store)
    saved = time.monotonic()
    stream = ahead(watch(itertools.islice(given.samples, begun, None))) if begun < len(given.numbers) else ()
    progress(STEP, begun, len(given.numbers))
    for done, tensors in enumerate(stream, start=begun + 1):
        _observe(observer, labels, tensors, (given.numbers[done - 1], given.data), where)
        progress(STEP, done, len(given.numbers))
        if file and store and (done == len(given.numbers) or time.monotonic() - saved >= store.seconds):
            file = file if _kept(file, observer, done) else None
            saved = time.monotonic()
    return observer.ranges()


def _kept(file: kept.File, observer: RangeObserver, done: int) -> bool:
    """Whether the state could be saved; without room for it the pass goes on, to be done anew if it is cut short."""
    try:
        kept.write(file, observer, done)
    except OutputError:
        return False
    return True


def _begun(
    method: RangeMethod, names: tuple[str, ...], given: Shown, store: Store | None
) -> tuple[RangeObserver, int, kept.File | None]:
    """An observer with what it has seen already, of how many samples, and where its state goes."""
    observer = RangeObserver(method)
    if store is None:
        return observer, 0, None
    parts = (__version__, np.__version__, store.model, names, given.fingerprint, tuple(given.numbers))
    key = hashlib.sha256(repr(parts).encode()).digest()
    rich, poor = (kept.File(store.folder, key, names, has_counts) for has_counts in (True, False))
    for file in (rich, poor) if method == "min-max" else (rich,):
        done = kept.read(file, observer, len(given.numbers))
        if done == len(given.numbers) or (done and file.has_counts == observer.has_counts):
            return observer, done, file if file.has_counts == observer.has_counts else None
    return RangeObserver(method), 0, rich if observer.has_counts else poor


def _observe(
    observer: RangeObserver,
    labels: Mapping[str, str],
    tensors: Mapping[str, Array],
    sample: tuple[int, str],
    where: str,
) -> None:
    try:
        for name, label in labels.items():
            if name in tensors:
                observer.update(label, tensors[name])
    except ConvertError:
        raise _not_finite(labels, tensors, sample, where) from None


def _not_finite(
    labels: Mapping[str, str], tensors: Mapping[str, Array], sample: tuple[int, str], where: str
) -> ConvertError | ModelError:
    """What to say of a dataset's sample: infinite tensors alone may be masks, with which the model answers well."""
    with np.errstate(over="ignore"):  # a double may be too large for the 32 bits that ranges have
        finite = {name: np.isfinite(tensors[name].astype(np.float32)).all() for name in labels if name in tensors}
    broken = [name for name in finite if not finite[name]]
    is_nan = any(np.isnan(values).any() for values in tensors.values() if values.dtype.kind == "f")
    what = "NaN" if np.isnan(tensors[broken[0]]).any() else "infinite"
    others = f", the first of {len(broken)} tensors" if len(broken) > 1 else ""
    told = f"tensor {labels[broken[0]]!r} becomes {what} for calibration sample {sample[0]}{others}"
    hint = f"edgeq doctor {where} --data {sample[1]}"
    return (ModelError if is_nan else ConvertError)(told, where=where, hint=hint)
