"""Which tools are installed, where and in which version.

`<tools>/<name>/tool.json` names the environment beside it that is in use. It is written last, so that an environment
whose install was killed is never found.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgeq import documents
from edgeq.errors import OutputError, ToolError
from edgeq.tools import running
from edgeq.tools.table import TABLE, Recipe

RECORD = "tool.json"
CHECK_SECONDS = 60
# Reads versions and looks for modules without importing them, which takes ten seconds for TensorFlow.
_LOOK = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
try:
    found = version(sys.argv[1])
except PackageNotFoundError:
    found = None
missing = [name for name in sys.argv[2:] if find_spec(name.partition('.')[0]) is None]
print(json.dumps([found, missing]))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """The content of tool.json: `environment` is the folder beside it, `packages` are `name==version`."""

    name: str
    version: str
    environment: str
    python: str
    packages: tuple[str, ...]
    date: str
    schema_version: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """An installed tool: its interpreter, its environment, its version."""

    name: str
    version: str
    python: Path
    folder: Path
    console: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A tool for a list: the installed one, or why there is none."""

    recipe: Recipe
    tool: Tool | None
    why: str = ""


def folder() -> Path:
    """Where environments are kept: EDGEQ_TOOLS, else `edgeq/tools` in the user's data folder."""
    if own := os.environ.get("EDGEQ_TOOLS"):
        return Path(own).absolute()
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / "edgeq" / "tools"


def recipe(name: str) -> Recipe:
    """The row of the table; raises ToolError."""
    if name not in TABLE:
        raise ToolError(f"no tool is called {name!r}", hint=f"known: {', '.join(TABLE)}")
    return TABLE[name]


def find(name: str) -> Tool:
    """The installed tool, looked at without being imported; raises ToolError with the command that mends it."""
    return look(recipe(name), folder() / name)


def status(name: str) -> Status:
    """The installed tool, or why there is none; never raises for what is broken."""
    try:
        return Status(recipe=recipe(name), tool=find(name))
    except ToolError as error:
        return Status(recipe=recipe(name), tool=None, why=error.message)


def statuses() -> tuple[Status, ...]:
    """All tools of the table."""
    return tuple(map(status, TABLE))


def look(wanted: Recipe, home: Path) -> Tool:
    """The tool that is recorded in `home`; raises ToolError."""
    hint = f"edgeq tools install {wanted.name}"
    if not (home / RECORD).is_file():
        raise ToolError(f"{wanted.name} is not installed", hint=hint)
    try:
        record = documents.load_json(home / RECORD, Record, error=ToolError)
    except ToolError as error:
        raise ToolError(f"the environment of {wanted.name} is broken: {error.message}", hint=hint) from error
    if Path(record.environment).name != record.environment:
        raise ToolError(f"the environment of {wanted.name} is broken: it lies elsewhere", hint=hint)
    tool = Tool(
        name=wanted.name,
        version=record.version,
        python=home / record.environment / "bin" / "python",
        folder=home / record.environment,
        console=wanted.console,
    )
    problem = _problem(tool, wanted)
    if problem:
        raise ToolError(f"the environment of {wanted.name} is broken: {problem}", where=str(tool.folder), hint=hint)
    return tool


def _problem(tool: Tool, wanted: Recipe) -> str | None:
    """What is wrong with an environment, in a few words."""
    if not tool.python.exists():  # a link to an interpreter that is gone does not exist either
        return "its Python is gone"
    try:
        version, missing = examine(tool.python, wanted)
    except ToolError as error:
        return error.message
    if version is None:
        return f"{wanted.distribution} is gone"
    if missing:
        return f"{', '.join(missing)} is gone"
    return None if version == tool.version else f"it has version {version}, {tool.version} was installed"


def examine(python: Path, wanted: Recipe) -> tuple[str | None, list[str]]:
    """Version of a tool's package and its modules that are missing; raises ToolError."""
    done = running.start(
        [python, "-I", "-c", _LOOK, wanted.distribution, *wanted.modules],
        cwd=Path("/"),
        timeout_seconds=CHECK_SECONDS,
        environment=running.surroundings(),
        name=wanted.name,
    )
    try:
        version, missing = json.loads(done.stdout) if done.code == 0 else (None, None)
    except ValueError:
        missing = None
    if missing is None:
        raise ToolError(running.last_line(done.stderr) or "its Python does not answer")
    return version, missing


def remove(name: str) -> bool:
    """Delete a tool's environments and nothing else; whether there were any. Raises OutputError."""
    home = folder() / recipe(name).name
    if not home.is_dir():
        return False
    with locked(home), writing(home):
        (home / RECORD).unlink(missing_ok=True)
        sweep(home)
        home.rmdir()
    return True


def sweep(home: Path, keep: str | None = None) -> None:
    """Delete the environments in `home`, as killed installs leave them too, but the one named `keep`."""
    for path in sorted(home.glob("env-*")):
        if path.name != keep and not path.is_symlink():
            with writing(path):
                shutil.rmtree(path)


@contextmanager
def locked(home: Path) -> Iterator[None]:
    """Hold a tool's folder against other installs; waits for them."""
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
        handle = os.open(home.with_name(f".{home.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the operating system's refusals to write into OutputError."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"cannot write: {error.strerror or error}", where=str(path)) from error


def own(home: Path) -> None:
    """Refuse a folder of tools that others may write to: what lies there is run."""
    with writing(home):
        home.mkdir(parents=True, exist_ok=True)
        found = home.stat()
    if found.st_uid not in (os.getuid(), 0) or found.st_mode & stat.S_IWOTH:
        raise ToolError("others may write to this folder, so programs in it are not run", where=str(home))
