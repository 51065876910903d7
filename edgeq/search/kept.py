"""Finished attempts on disk, so that a search that was cut short goes on where it was."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path

from edgeq import store
from edgeq.errors import EdgeqError
from edgeq.search.trying import Attempt, Job
from edgeq.types import Plan, QuantizedModel

PREFIX = ".search-"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An attempt as it is stored."""

    quantized: QuantizedModel | None = None
    why: str = ""
    seconds: float = 0.0


def folder_of(output: Path, request: str) -> Path:
    """Where attempts of a request are kept until it is answered."""
    return output / f"{PREFIX}{request[:16]}"


def forget(output: Path, *, but: Path | None = None) -> None:
    """Remove what searches left behind, all but one folder."""
    for folder in output.glob(f"{PREFIX}*"):
        if folder != but and folder.is_dir() and not folder.is_symlink():
            with store.writing(folder):
                shutil.rmtree(folder)


def file_of(job: Job, plan: Plan) -> Path:
    """Where a plan's candidate is written."""
    key = hashlib.sha256(repr((plan.runtime, plan.scheme)).encode()).hexdigest()[:16]
    return job.folder / f"{key}.{plan.format}"


def save(one: Attempt) -> None:
    """Keep an attempt beside its file."""
    store.write(one.file.with_suffix(".json"), Entry(quantized=one.quantized, why=one.why, seconds=one.seconds))


def load(job: Job, plan: Plan) -> Attempt | None:
    """A finished attempt of the same plan whose file is whole; None where it has to be made."""
    file = file_of(job, plan)
    document = file.with_suffix(".json")
    if not document.is_file():
        return None
    try:
        entry = store.read(document, Entry)
    except EdgeqError:
        return None
    found = entry.quantized
    if found is None:
        return Attempt(plan, file, why=entry.why, seconds=entry.seconds) if entry.why else None
    if not file.is_file() or store.sha256(file) != found.artifact.sha256:
        return None
    found = dataclasses.replace(found, plan=plan)
    return Attempt(plan, file, found, why=entry.why, seconds=entry.seconds)
