"""A dataset's description (`dataset.yaml`, `.npz` or `script.py:function`) to a Dataset."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edgeq.datasets import arrays, feeding, scripts, truth
from edgeq.datasets.checks import check_input, check_labels
from edgeq.documents import PathError, decode, located, read_yaml
from edgeq.errors import DatasetError
from edgeq.types import Dataset, InputSpec, LabelSpec

MetricName = Literal["top1", "top5", "f1", "mse", "mae", "psnr", "ssim", "miou", "auc", "pair_spearman", "cosine"]
PICK_LIMIT = 1_000_000
_SLICE = re.compile(r"(-?\d{1,12})?:(-?\d{1,12})?(?::(-?\d{1,12})?)?")
_FORMS = "write a dataset.yaml, an .npz keyed by input name, or script.py:function"


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """`dataset.yaml` as it is written."""

    inputs: tuple[InputSpec, ...]
    labels: LabelSpec | None = None
    metric: MetricName | None = None
    calibration: str | tuple[int, ...] = "all"
    evaluation: str | tuple[int, ...] = "all"


def load(ref: str | Path) -> Dataset:
    """The dataset that a file or `script.py:function` describes; raises DatasetError.

    Samples themselves are not read, but every file is opened and counted.
    """
    script = scripts.split(str(ref))
    if script is not None:
        return _from_script(*script)
    path = Path(ref)
    form = _READERS.get(path.suffix.lower())
    if form is None:
        hint = f"name the file: {path}/dataset.yaml" if path.is_dir() else _FORMS
        raise DatasetError("not a dataset", where=str(path), hint=hint)
    return form(path)


def _from_yaml(path: Path) -> Dataset:
    data, lines = read_yaml(path, error=DatasetError)
    document = decode(Document, data, where=str(path), lines=lines, error=DatasetError)
    try:
        return _dataset(path, document)
    except PathError as problem:
        raise located(DatasetError, problem, str(path), lines) from problem


def _dataset(path: Path, document: Document) -> Dataset:
    """Raises PathError for what the text says wrongly, DatasetError for files."""
    if not document.inputs:
        raise PathError(("inputs",), "is empty")
    for number, spec in enumerate(document.inputs):
        check_input(spec, ("inputs", number))
    metric = _metric(document)
    root = str(path.parent)
    count = _count(document.inputs, root)
    draft = Dataset(
        path=str(path),
        root=root,
        inputs=document.inputs,
        labels=document.labels,
        metric=metric,
        count=count,
        calibration=pick(document.calibration, count, ("calibration",)),
        evaluation=pick(document.evaluation, count, ("evaluation",)),
    )
    truth.check_count(draft)
    return draft


def _metric(document: Document) -> str:
    if document.labels is not None:
        check_labels(document.labels, ("labels",))
        if document.metric is None:
            raise PathError((), "`labels` are given but no `metric`")
    elif document.metric not in (None, "cosine"):
        raise PathError(("metric",), f"{document.metric} needs `labels`; without them only cosine can be scored")
    return document.metric or "cosine"


def _count(inputs: tuple[InputSpec, ...], root: str) -> int:
    """Samples of every input, which must agree; raises DatasetError."""
    counts = []
    for spec in inputs:
        source = feeding.open_file(spec, root)
        counts.append((source.count, source.where))
        source.close()
    for count, where in counts:
        if count != counts[0][0]:
            raise DatasetError(f"{count} samples, but {counts[0][1]} has {counts[0][0]}", where=where)
    return counts[0][0]


def pick(text: str | tuple[int, ...], count: int, key: tuple[str, ...]) -> tuple[int, ...]:
    """Sample numbers of `all`, a Python slice such as `0:100` or `::5`, or a list; raises PathError."""
    found = _listed(text, count, key) if isinstance(text, tuple) else _sliced(text, count, key)
    if not found:
        raise PathError(key, f"{text} takes no sample; there are {count}")
    if len(found) > PICK_LIMIT:
        raise PathError(key, f"takes {len(found)} samples; at most {PICK_LIMIT:,} can be used")
    return tuple(found)


def _sliced(text: str, count: int, key: tuple[str, ...]) -> range:
    match = _SLICE.fullmatch("0:" if text == "all" else text)
    if match is None:
        raise PathError(key, f"{text[:60]!r} is not a slice; write '0:100', '::5', 'all' or a list of sample numbers")
    start, stop, step = (None if part is None else int(part) for part in match.groups())
    if step == 0:
        raise PathError(key, "the step of a slice cannot be 0")
    return range(count)[start:stop:step]


def _listed(numbers: tuple[int, ...], count: int, key: tuple[str, ...]) -> tuple[int, ...]:
    for number in numbers:
        if not 0 <= number < count:
            raise PathError(key, f"there is no sample {number}; there are {count}, from 0")
    if len(set(numbers)) != len(numbers):
        raise PathError(key, "takes a sample twice")
    return numbers


def _from_npz(path: Path) -> Dataset:
    """Every array is an input of that name; all samples calibrate and score, by likeness to float."""
    specs = tuple(InputSpec(name=name, npz=path.name, array=name) for name in arrays.names(path))
    if not specs:
        raise DatasetError("no arrays in it", where=str(path))
    return _unlabelled(path, specs, _count(specs, str(path.parent)))


def _from_script(path: Path, function: str) -> Dataset:
    specs, count = scripts.survey(path, function)
    return _unlabelled(path, specs, count, function)


def _unlabelled(path: Path, specs: tuple[InputSpec, ...], count: int, function: str | None = None) -> Dataset:
    try:
        everything = pick("all", count, ())
    except PathError as problem:
        raise DatasetError(str(problem), where=str(path)) from problem
    return Dataset(
        path=str(path),
        root=str(path.parent),
        inputs=specs,
        labels=None,
        metric="cosine",
        count=count,
        calibration=everything,
        evaluation=everything,
        function=function,
    )


_READERS: dict[str, Callable[[Path], Dataset]] = {".yaml": _from_yaml, ".yml": _from_yaml, ".npz": _from_npz}
