"""Target profiles and operator tables: YAML on the shelf, or a user's own, to dataclasses."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from edgeq import documents
from edgeq.documents import KeyPath, PathError
from edgeq.errors import TargetError
from edgeq.targets.names import DATA_TYPES, NAME
from edgeq.targets.profiles import read_profile
from edgeq.targets.selection import select
from edgeq.targets.tables import read_table
from edgeq.types import OperatorTable, Target

__all__ = [
    "DATA_TYPES",
    "NAME",
    "folders",
    "load",
    "load_all",
    "load_table",
    "load_tables",
    "names",
    "read_table",
    "select",
    "table_file",
    "table_files",
    "table_names",
]


def folders() -> list[Path]:
    """Folders with profiles: those in EDGEQ_TARGETS, then the shelf."""
    own = [Path(part) for part in os.environ.get("EDGEQ_TARGETS", "").split(os.pathsep) if part]
    return [*own, _shelf()]


def _shelf() -> Path:
    package = Path(__file__).resolve().parents[1]
    installed = package / "_data" / "targets"
    return installed if installed.is_dir() else package.parent / "targets"


def names() -> list[str]:
    """Names of all profiles, sorted."""
    return sorted({path.stem for folder in folders() for path in folder.glob("*.yaml") if NAME.fullmatch(path.stem)})


def load_all() -> list[Target]:
    """All profiles, by name; raises TargetError."""
    return [load(name) for name in names()]


def load(ref: str | Path) -> Target:
    """The profile with that name, or in that YAML file; raises TargetError with the file and line."""
    path = _own_file(ref)
    return read_profile(path if path else _named(str(ref), names(), "target", ""))


def load_table(name: str, *, beside: Path | None = None) -> OperatorTable:
    """The operator table with that name; see `table_file`."""
    return read_table(table_file(name, beside=beside))


def table_file(name: str, *, beside: Path | None = None) -> Path:
    """A table's file, in `operators/` beside the file `beside`, beside it, or on the shelf; raises TargetError."""
    places = [beside.parent / "operators", beside.parent] if beside else []
    for folder in places:
        path = folder / f"{name}.yaml"
        if NAME.fullmatch(name) and path.is_file():
            return path
    return _named(name, table_names(), "operator table", "operators")


def table_files(target: Target, ref: str | Path | None = None) -> dict[str, Path]:
    """The files of a target's operator tables, those of fallbacks too, by name.

    `ref` is what the target was loaded from; the error for a table that is missing names its line there.
    """
    beside = _own_file(ref) if ref is not None else None
    found: dict[str, Path] = {}
    for index, spec in enumerate(target.runtimes):
        for key in ("operators", "fallback"):
            name = getattr(spec, key)
            if name is not None and name not in found:
                found[name] = _file_of(name, beside, ("runtimes", index, key))
    return found


def _file_of(name: str, beside: Path | None, place: KeyPath) -> Path:
    try:
        return table_file(name, beside=beside)
    except TargetError as problem:
        if beside is None:
            raise
        _, lines = documents.read_yaml(beside, error=TargetError)
        missing = PathError(place, problem.message)
        raise documents.located(TargetError, missing, str(beside), lines, problem.hint) from problem


def load_tables(target: Target, ref: str | Path | None = None) -> dict[str, OperatorTable]:
    """The operator tables of a target's runtimes by name; see `table_files`."""
    return {name: read_table(path) for name, path in table_files(target, ref).items()}


def _own_file(ref: str | Path) -> Path | None:
    """The path of a user's own file; None for a name of the shelf."""
    is_file = isinstance(ref, Path) or os.sep in ref or ref.endswith((".yaml", ".yml"))
    return Path(ref) if is_file else None


def table_names() -> list[str]:
    """Names of all operator tables, sorted."""
    return sorted({path.stem for folder in folders() for path in (folder / "operators").glob("*.yaml")})


def _named(name: str, known: list[str], kind: str, subfolder: str) -> Path:
    if name not in known or not NAME.fullmatch(name):
        close = difflib.get_close_matches(name[:100], known, n=3, cutoff=0.5)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are: {', '.join(known)}"
        raise TargetError(f"no {kind} is called {name[:100]!r}", hint=hint)
    paths = (folder / subfolder / f"{name}.yaml" for folder in folders())
    return next(path for path in paths if path.is_file())
