"""Samples from a generator function in the user's own script (`script.py:function`).

`function()` takes nothing and yields one sample at a time: an array, a tuple of arrays in the order of
the model's inputs, or a dict of arrays by input name; values as the model wants them (float32 real values,
also for a quantized input), without a batch axis. It is called again whenever samples are needed, so it
must give the same samples each time; at most the first 1000 are used, so it may be endless. There are no
labels: for a metric other than cosine write a dataset.yaml.

The script is run in this process, with the user's rights: it is run only because the user named it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.datasets.files import regular
from edgeq.errors import DatasetError
from edgeq.types import InputSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[np.generic]

SAMPLE_LIMIT = 1000
_REFERENCE = re.compile(r"(.+\.py):([A-Za-z_]\w*)")


def split(ref: str) -> tuple[Path, str] | None:
    """Script and function of `script.py:function`; None for anything else."""
    match = _REFERENCE.fullmatch(ref)
    return (Path(match[1]), match[2]) if match else None


def survey(path: Path, function: str) -> tuple[tuple[InputSpec, ...], int]:
    """What the first sample consists of, and how many samples there are; raises DatasetError."""
    generator = Generator(path, function)
    first = generator.sample(0)
    with _user_code(path):
        count = 1 + sum(1 for _ in itertools.islice(generator.rest, SAMPLE_LIMIT - 1))
    return tuple(InputSpec(name=key if isinstance(key, str) else None) for key in first), count


class Generator:
    """Samples of a generator function; reading backwards starts it again."""

    def __init__(self, path: Path, function: str) -> None:
        self.path = path
        self._make = _imported(path, function)
        self._restart()

    def sample(self, index: int) -> dict[str | int, Array]:
        """Arrays of one sample by input name, or by position."""
        if index < self._next - 1:
            self._restart()
        while self._next <= index:
            self._advance()
        return self._last

    def _restart(self) -> None:
        with _user_code(self.path):
            made = self._make()
        if not hasattr(made, "__iter__"):
            raise DatasetError("the function must yield samples", where=str(self.path))
        self.rest: Iterator[Any] = iter(made)
        self._next = 0
        self._last: dict[str | int, Array] = {}

    def _advance(self) -> None:
        with _user_code(self.path):
            try:
                value = next(self.rest)
            except StopIteration:
                raise DatasetError(f"there is no sample {self._next}", where=str(self.path)) from None
        self._last = _arrays(value, f"{self.path} (sample {self._next})")
        self._next += 1


class Column:
    """One input's part of every sample of a generator."""

    def __init__(self, generator: Generator, key: str | int, count: int) -> None:
        self.where = str(generator.path)
        self.count = count
        self._generator, self._key = generator, key
        first = self.read(0)
        self.shape, self.dtype = first.shape, first.dtype

    def read(self, index: int) -> Array:
        """The array of one sample; raises DatasetError."""
        found = self._generator.sample(index)
        if self._key not in found:
            raise DatasetError(f"sample {index} has no input {self._key!r}", where=self.where)
        return found[self._key]

    def close(self) -> None:
        """Nothing is kept open."""


def _imported(path: Path, function: str) -> Callable[[], Any]:
    """The function of a script that is run afresh, beside its own folder as Python runs scripts."""
    spec = importlib.util.spec_from_file_location(f"_edgeq_dataset_{path.stem}", regular(path))
    if spec is None or spec.loader is None:
        raise DatasetError("not a Python script", where=str(path))
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.resolve().parent))
    try:
        with _user_code(path):
            spec.loader.exec_module(module)
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(path.resolve().parent))
    found = getattr(module, function, None)
    if not callable(found):
        raise DatasetError(f"no function {function!r} in the script", where=str(path))
    return found  # type: ignore[no-any-return]  # whatever it returns is checked where it is called


@contextlib.contextmanager
def _user_code(path: Path) -> Iterator[None]:
    """Any exception of the user's own code as a DatasetError with its line."""
    try:
        yield
    except DatasetError:
        raise
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).resolve() == path.resolve()]
        line = getattr(error, "lineno", None) if isinstance(error, SyntaxError) else None
        line = line or (frames[-1].lineno if frames else None)
        text = str(error).strip().splitlines()
        message = f"{type(error).__name__}: {text[0][:200]}" if text else type(error).__name__
        raise DatasetError(f"the script failed: {message}", where=f"{path}:{line}" if line else str(path)) from error


def _arrays(value: Any, where: str) -> dict[str | int, Array]:
    named = (
        value if isinstance(value, Mapping) else dict(enumerate(value if isinstance(value, tuple | list) else [value]))
    )
    try:
        found = {key: np.asarray(part) for key, part in named.items()}
    except (ValueError, TypeError) as error:
        raise DatasetError(f"not an array: {error}", where=where) from error
    if not found or any(part.dtype.kind not in "biuf" for part in found.values()):
        raise DatasetError("a sample must be an array of numbers, or a tuple or dict of arrays", where=where)
    return found
