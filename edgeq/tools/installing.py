"""Make a tool's environment: whole or not at all."""

from __future__ import annotations

import datetime
import json
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from edgeq.errors import ToolError
from edgeq.tools import environments, running
from edgeq.tools.environments import RECORD, Record, Tool
from edgeq.tools.table import Recipe, Release
from edgeq.types import Progress, silent

PIP_SECONDS = 3600
VERIFY_SECONDS = 300
# pip's own settings go along when it installs: a company's index, proxy and certificates.
FOR_PIP = (
    *("PIP_CONFIG_FILE", "PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_NO_INDEX", "PIP_FIND_LINKS", "PIP_TRUSTED_HOST"),
    *("PIP_CERT", "PIP_PROXY", "PIP_CACHE_DIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy"),
)
_ASK = "import sys, venv, ensurepip; print('%d %d' % sys.version_info[:2])"
_IMPORT = "import importlib, sys; [importlib.import_module(name) for name in sys.argv[1:]]"


class Interpreter(NamedTuple):
    """A Python of this host that can make environments."""

    path: Path
    release: Release


def install(name: str, progress: Progress = silent, *, arguments: Sequence[str] = ()) -> Tool:
    """Install a tool unless it is there and whole; raises ToolError with pip's last error, OutputError.

    `arguments` are given to pip before the packages. A second install of the same tool waits for the first.
    """
    wanted = environments.recipe(name)
    return install_recipe(wanted, environments.folder(), progress, arguments=arguments)


def install_recipe(wanted: Recipe, tools: Path, progress: Progress = silent, *, arguments: Sequence[str] = ()) -> Tool:
    """Install the tool of a recipe below the folder `tools`."""
    environments.own(tools)
    home = tools / wanted.name
    with environments.locked(home):
        try:
            return environments.look(wanted, home)
        except ToolError:
            _check_host(wanted)
        return _build(wanted, home, interpreter(wanted), progress, arguments)


def _check_host(wanted: Recipe) -> None:
    name, version = platform.libc_ver()
    numbers = tuple(int(part) for part in version.split(".") if part.isdecimal())
    if wanted.glibc and (name != "glibc" or numbers < wanted.glibc):
        needed = ".".join(map(str, wanted.glibc))
        raise ToolError(f"{wanted.name} needs glibc {needed} or newer, this host has {name} {version}".rstrip())


def interpreter(wanted: Recipe) -> Interpreter:
    """The newest Python of this host that the tool runs on; raises ToolError."""
    for minor in range(13, 9, -1):
        for path in _named(f"python3.{minor}"):
            release = _release(path)
            if release is not None and wanted.packages(release) is not None:
                return Interpreter(path, release)
    raise ToolError(
        f"{wanted.name} needs Python {wanted.releases} with the modules venv and ensurepip, which is not on PATH",
        hint=f"install python{wanted.releases.split(' to ')[-1]} and its venv package",
    )


def _named(name: str) -> list[Path]:
    """Where a program lies on PATH, this process's own interpreter first if it is that one."""
    own = [Path(sys.executable)] if name == f"python3.{sys.version_info[1]}" else []
    places = [Path(part) / name for part in os.environ.get("PATH", "").split(os.pathsep) if part.startswith("/")]
    return own + [path for path in places if os.access(path, os.X_OK) and path.is_file()]


def _release(path: Path) -> Release | None:
    """Release of an interpreter; None for one that does not run, as shims do, or cannot make environments."""
    try:
        done = running.start(
            [path, "-I", "-c", _ASK],
            cwd=Path("/"),
            timeout_seconds=environments.CHECK_SECONDS,
            environment=running.surroundings(),
            name=path.name,
        )
    except ToolError:
        return None
    parts = done.stdout.split()
    return (int(parts[0]), int(parts[1])) if done.code == 0 and len(parts) == 2 else None


def _build(wanted: Recipe, home: Path, base: Interpreter, progress: Progress, arguments: Sequence[str]) -> Tool:
    """Make, fill and try the environment under a name that nothing refers to yet."""
    record = home / RECORD
    with environments.writing(home):
        record.unlink(missing_ok=True)
        environments.sweep(home)
        place = Path(tempfile.mkdtemp(prefix="env-", dir=home))
    try:
        found = _fill(wanted, place, base, progress, arguments)
    except BaseException:
        shutil.rmtree(place, ignore_errors=True)
        raise
    with environments.writing(record):
        part = home / f".{RECORD}.part"
        part.write_text(json.dumps(asdict(found), indent=2) + "\n")
        part.replace(record)
    return environments.look(wanted, home)


def _fill(wanted: Recipe, place: Path, base: Interpreter, progress: Progress, arguments: Sequence[str]) -> Record:
    step = f"installing {wanted.name}"
    python = place / "bin" / "python"
    progress(step, 0, 4)
    _step(wanted, [base.path, "-I", "-m", "venv", place], place, "cannot make an environment")
    progress(step, 1, 4)
    packages = wanted.packages(base.release) or ()
    pip: list[str | Path] = [python, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input"]
    _step(wanted, [*pip, "install", "--progress-bar", "off", *arguments, *packages], place, "cannot be installed")
    progress(step, 2, 4)
    _step(wanted, [python, "-I", "-c", _IMPORT, *wanted.modules], place, "was installed but does not start")
    version, missing = environments.examine(python, wanted)
    if version is None or missing:
        raise ToolError(f"{wanted.name} was installed but {wanted.distribution} is not there")
    progress(step, 3, 4)
    frozen = _step(wanted, [*pip, "freeze", "--all"], place, "cannot be listed")
    progress(step, 4, 4)
    return Record(
        name=wanted.name,
        version=version,
        environment=place.name,
        python=".".join(map(str, base.release)),
        packages=tuple(line for line in frozen.splitlines() if "==" in line),
        date=datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    )


def _step(wanted: Recipe, argv: Sequence[str | Path], place: Path, what: str) -> str:
    """Run one step of an install; raises ToolError with the last error that it wrote."""
    done = running.start(
        argv,
        cwd=place,
        timeout_seconds=VERIFY_SECONDS if "-c" in argv else PIP_SECONDS,
        environment=running.surroundings(also=FOR_PIP),
        name=f"the install of {wanted.name}",
    )
    if done.code != 0:
        raise ToolError(f"{wanted.name} {what}: {reason(done)}")
    return done.stdout


def reason(done: running.Finished) -> str:
    """pip's last error, else the last line that was written."""
    lines = [*done.stdout.splitlines(), *done.stderr.splitlines()]
    errors = [line for line in lines if line.startswith("ERROR:")]
    return running.last_line(errors[-1].removeprefix("ERROR:") if errors else "\n".join(lines)) or f"code {done.code}"
