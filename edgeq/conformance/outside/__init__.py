"""Models run in the Python of an outside tool: a folder of them goes in, and their answers come back."""

from __future__ import annotations

import json
import struct
import tempfile
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from edgeq import targets, tools
from edgeq.errors import TargetError, ToolError
from edgeq.types import Accelerator, OperatorTable

Array = NDArray[Any]
START_SECONDS = 120.0
"""What a worker may take to import its runtime."""
_HERE = Path(__file__).parent
_LARGEST_BYTES = 64 << 20
_WORDS_BYTES = 4096
# What zipfile and NumPy raise at damaged files, headers that promise too much among them.
_DAMAGED = (
    *(ValueError, OSError, zipfile.BadZipFile, zlib.error, KeyError, EOFError),
    *(NotImplementedError, RuntimeError, MemoryError, struct.error),
)


class Job(NamedTuple):
    """A model, its inputs by name and in order, and how many outputs it has."""

    model: bytes
    feeds: Mapping[str, Array]
    outputs: int


class Answer(NamedTuple):
    """A model's outputs; None where it did not run, with what was raised and what was written to stderr."""

    outputs: list[Array] | None
    raised: str = ""
    chatter: str = ""


def accelerators(table: OperatorTable) -> list[Accelerator]:
    """The accelerators of the shelf's targets that have a table; raises TargetError where there is none."""
    having = [one for one in targets.load_all() if table.name in {runtime.operators for runtime in one.runtimes}]
    found = [target.accelerator for target in having if target.accelerator is not None]
    if not found:
        raise TargetError(f"operator table {table.name} cannot be proved: no target with an accelerator names it")
    return found


def run(
    tool: tools.Tool,
    engine: Path,
    jobs: Sequence[Job],
    *,
    settings: Mapping[str, Any] | None = None,
    item_seconds: float = 20.0,
) -> list[Answer]:
    """Run jobs in a tool's Python, each of which may crash or hang without harm to the others.

    `engine` is a script with `run(model, feeds, outputs, settings)` and `REFUSALS`, the exceptions that refuse a model.
    Raises ToolError where the engine itself does not work.
    """
    with tempfile.TemporaryDirectory(prefix="edgeq-jobs-") as place:
        folder = Path(place)
        _write(folder, jobs, dict(settings or {}))
        done = tools.run(
            tool,
            [_HERE / "_batch.py", engine, folder, str(START_SECONDS), str(item_seconds)],
            cwd=folder,
            timeout_seconds=2 * (START_SECONDS + item_seconds) * (len(jobs) + 1),
        )
        if done.code != 0:
            raise ToolError(f"{tool.name} {tool.version} cannot run models: {tools.last_line(done.stderr)}")
        return [_answer(folder, number) for number in range(len(jobs))]


def _write(folder: Path, jobs: Sequence[Job], settings: dict[str, Any]) -> None:
    for number, job in enumerate(jobs):
        (folder / f"{number}.model").write_bytes(job.model)
        arrays: dict[str, Any] = dict(job.feeds)
        np.savez(folder / f"{number}.npz", **arrays)
    (folder / "jobs.json").write_text(json.dumps({"outputs": [job.outputs for job in jobs], "settings": settings}))


def _answer(folder: Path, number: int) -> Answer:
    found = folder / f"{number}.out.npz"
    if found.is_file():
        try:
            return Answer(_arrays(found))
        except _DAMAGED as problem:
            return Answer(None, f"its answer cannot be read: {problem or type(problem).__name__}")
    return Answer(None, _words(folder / f"{number}.raised") or "it gave no answer", _words(folder / f"{number}.err"))


def _arrays(path: Path) -> list[Array]:
    """Outputs in order; raises ValueError for what is too large or is no plain array."""
    with zipfile.ZipFile(path) as archive:
        if sum(item.file_size for item in archive.infolist()) > _LARGEST_BYTES:
            raise ValueError("it is too large")
    with np.load(path, allow_pickle=False) as stored:
        found = [stored[str(number)] for number in range(len(stored.files))]
    if not all(isinstance(one, np.ndarray) for one in found):
        raise ValueError("it holds something else than arrays")
    return found


def _words(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return stream.read(_WORDS_BYTES).decode(errors="replace").strip()
