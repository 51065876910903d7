"""Wheels for another machine, downloaded on this host by pip and kept by their hashes.

pip's own configuration decides where from. Dependencies are followed here: pip evaluates their markers with its own
Python's facts, not with the device's.
"""

from __future__ import annotations

import email.parser
import hashlib
import json
import shlex
import sys
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from packaging.markers import UndefinedComparison, UndefinedEnvironmentName
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import Version

from edgeq import store
from edgeq.errors import EdgeqError, ToolError
from edgeq.lab.provisioning.choice import Platform
from edgeq.tools import installing, running

DOWNLOAD_SECONDS = 1800.0
MOST_ROUNDS = 20
MOST_WHEELS = 40
METADATA_LIMIT_BYTES = 4 << 20
_NONE_FITS = ("No matching distribution found", "ResolutionImpossible", "Could not find a version")
_ONE_AT_A_TIME = threading.Lock()
"""Of a fleet with the same Python, the first device's thread downloads and the others find it done."""
_DONE: dict[str, tuple[Wheel, ...]] = {}


class NoWheel(ToolError):
    """pip knows no version that fits the device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wheel:
    """One wheel in this host's cache; `unpacked_bytes` is what its directory of files says."""

    distribution: str
    version: str
    path: Path
    sha256: str
    size_bytes: int
    unpacked_bytes: int


def folder() -> Path:
    """Where downloaded wheels are kept: `wheels/<sha256>/<file>` in edgeq's state folder."""
    return store.state_folder() / "wheels"


def collect(distribution: str, bounds: Mapping[str, SpecifierSet], wanted: Platform) -> tuple[Wheel, ...]:
    """A distribution's newest wheel within bounds, and what it requires; the distribution itself comes first.

    Raises NoWheel, ToolError with pip's last error; where pip reaches nothing, what an earlier call found holds.
    """
    key = _key(distribution, bounds, wanted)
    with _ONE_AT_A_TIME:
        if key not in _DONE or not all(wheel.path.is_file() for wheel in _DONE[key]):
            _DONE[key] = _collect(distribution, bounds, wanted, key)
        return _DONE[key]


def _collect(distribution: str, bounds: Mapping[str, SpecifierSet], wanted: Platform, key: str) -> tuple[Wheel, ...]:
    try:
        found = resolve(distribution, bounds, wanted)
    except NoWheel:
        raise
    except ToolError:
        earlier = _remembered(key)
        if earlier is None:
            raise
        return earlier
    entries = [[wheel.sha256, wheel.path.name] for wheel in found]
    with store.replacing(_index(key)) as temporary:
        temporary.write_text(json.dumps(entries) + "\n")
    return found


def resolve(distribution: str, bounds: Mapping[str, SpecifierSet], wanted: Platform) -> tuple[Wheel, ...]:
    """Download until every requirement of every wheel is met; a bound found late takes an older wheel."""
    limits: dict[str, SpecifierSet] = {canonicalize_name(name): limit for name, limit in bounds.items()}
    chosen: dict[str, Wheel] = {}
    needed: list[str] = [canonicalize_name(distribution)]
    for _ in range(MOST_ROUNDS):
        missing = [name for name in needed if not _fits(chosen.get(name), limits.get(name))]
        if not missing:
            return tuple(chosen[name] for name in needed)
        chosen.update(_download([f"{name}{limits.get(name, '')}" for name in missing], wanted))
        absent = [name for name in missing if name not in chosen]
        if absent:
            raise ToolError(f"pip downloaded no {absent[0]}")
        needed = _needs(needed[0], chosen, limits, wanted)
        if len(needed) > MOST_WHEELS:
            break
    raise ToolError(f"the requirements of {distribution} cannot be met together")


def _fits(wheel: Wheel | None, limit: SpecifierSet | None) -> bool:
    return wheel is not None and (limit is None or limit.contains(Version(wheel.version), prereleases=True))


def _needs(first: str, chosen: Mapping[str, Wheel], limits: dict[str, SpecifierSet], wanted: Platform) -> list[str]:
    """Names that are required, from the first on; narrows `limits` by what is asked of them."""
    names = [first]
    for name in names:
        for requirement in requirements(chosen[name].path, wanted) if name in chosen else ():
            other = canonicalize_name(requirement.name)
            limits[other] = limits.get(other, SpecifierSet()) & requirement.specifier
            if other not in names:
                names.append(other)
    return names


def requirements(path: Path, wanted: Platform) -> list[Requirement]:
    """What a wheel needs on a platform; raises ToolError for a wheel that cannot be read."""
    try:
        found = [Requirement(text) for text in _metadata(path).get_all("Requires-Dist") or []]
        return [one for one in found if one.marker is None or one.marker.evaluate(wanted.environment())]
    except (*_UNREADABLE, InvalidRequirement, UndefinedComparison, UndefinedEnvironmentName) as error:
        raise ToolError(f"the wheel's metadata cannot be read: {error}", where=str(path)) from error


_UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


def _metadata(path: Path) -> email.message.Message:
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1]
        if len(names) != 1:
            raise ValueError("it has no METADATA")
        with archive.open(names[0]) as stream:
            return email.parser.BytesParser().parsebytes(stream.read(METADATA_LIMIT_BYTES), headersonly=True)


def _download(words: list[str], wanted: Platform) -> dict[str, Wheel]:
    """Have pip download exactly these, without what they require; the files by their distributions' names."""
    with tempfile.TemporaryDirectory(prefix="edgeq-wheels-") as scratch:
        argv = [sys.executable, "-I", "-m", "pip", "download", "--disable-pip-version-check", "--no-input"]
        argv += ["--progress-bar", "off", "--no-deps", *wanted.pip_options(), "--dest", scratch, "--", *words]
        done = running.start(
            argv,
            cwd=Path(scratch),
            timeout_seconds=DOWNLOAD_SECONDS,
            environment=running.surroundings(also=installing.FOR_PIP),
            name="pip download",
        )
        if done.code != 0:
            raise _refused(done, words)
        return {wheel.distribution: wheel for wheel in _kept(sorted(Path(scratch).glob("*.whl")))}


def _refused(done: running.Finished, words: list[str]) -> ToolError:
    if "No module named pip" in done.stderr:
        own = shlex.quote(sys.executable)
        return ToolError("this host's Python has no pip to download wheels with", hint=f"{own} -m ensurepip --upgrade")
    reason = installing.reason(done)
    kind = NoWheel if any(text in done.stderr for text in _NONE_FITS) else ToolError
    if _cut_off(done.stderr):
        kind, reason = ToolError, f"{reason} (an index that pip is configured for cannot be reached)"
    hint = f"{shlex.quote(sys.executable)} -m pip config list"
    return kind(f"pip cannot download {', '.join(words)}: {reason}", hint=hint)


def _cut_off(text: str) -> bool:
    """Whether pip reached no index: then it does not know what there is."""
    return "Retrying (" in text or "connection error" in text.lower()


def _kept(paths: Iterable[Path]) -> list[Wheel]:
    """Move wheels into the cache."""
    found = []
    for path in paths:
        digest = store.sha256(path)
        place = folder() / digest / path.name
        if not place.is_file() or store.sha256(place) != digest:
            with store.replacing(place) as temporary:
                temporary.write_bytes(path.read_bytes())
        found.append(_wheel(place, digest))
    return found


def _wheel(path: Path, digest: str) -> Wheel:
    try:
        name, version, _build, _tags = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except (*_UNREADABLE, InvalidWheelFilename) as error:
        raise ToolError(f"pip downloaded what is no wheel: {error}", where=str(path)) from error
    return Wheel(
        distribution=str(name),
        version=str(version),
        path=path,
        sha256=digest,
        size_bytes=path.stat().st_size,
        unpacked_bytes=unpacked,
    )


def _key(distribution: str, bounds: Mapping[str, SpecifierSet], wanted: Platform) -> str:
    limits = sorted((name, str(limit)) for name, limit in bounds.items())
    return hashlib.sha256(json.dumps([distribution, limits, wanted.pip_options()]).encode()).hexdigest()[:32]


def _index(key: str) -> Path:
    return folder() / "found" / f"{key}.json"


def _remembered(key: str) -> tuple[Wheel, ...] | None:
    """What an earlier call found, as long as every wheel of it is whole."""
    try:
        entries = json.loads(_index(key).read_text())
        paths = [(folder() / str(digest) / Path(str(name)).name, str(digest)) for digest, name in entries]
        if not paths or any(store.sha256(path) != digest for path, digest in paths):
            return None
        return tuple(_wheel(path, digest) for path, digest in paths)
    except (OSError, ValueError, TypeError, EdgeqError):
        return None
