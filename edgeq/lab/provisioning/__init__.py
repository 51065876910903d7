"""Give a device without internet a runtime: wheels are downloaded on the host, sent, unpacked into a private folder.

Nothing of the device's own Python is touched.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import posixpath
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass

from packaging.specifiers import SpecifierSet

from edgeq.errors import DeviceError, DiskFull, IllegalInstruction, NotWritable, RuntimeMissing
from edgeq.lab import faults, runner
from edgeq.lab.probe import carried, carrier, own_folder
from edgeq.lab.provisioning import choice, refusals, wheels
from edgeq.lab.provisioning.choice import Package, Platform
from edgeq.lab.provisioning.told import Facts, Installed
from edgeq.lab.provisioning.wheels import NoWheel, Wheel
from edgeq.lab.transports import Transport
from edgeq.types import Progress, silent
from edgeq.units import format_size

FORMATS = tuple(sorted({package.format for package in choice.PACKAGES}))
FACTS_SECONDS = 60.0
INSTALL_SECONDS = 1800.0
MOST_TRIES = 5
_ANOTHER_PYTHON = "edgeq devices add {device} --python PATH_OF_ANOTHER_PYTHON_THERE"
_INDEX = "{python} -m pip config list  # where pip looks for wheels"
_PROBE = "edgeq devices probe {device}"
SPARE_BYTES = 16 << 20
"""Room for what the file system adds: blocks that are not full, folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provisioned:
    """A runtime that works in its own folder on a device, and what was sent for it."""

    distribution: str
    version: str
    folder: str
    wheels: tuple[str, ...]
    sent_bytes: int
    seconds: float


def provision(model_format: str, transport: Transport, *, progress: Progress = silent) -> Provisioned:
    """Install the newest runtime for a format that works on the device.

    Raises RuntimeMissing or IllegalInstruction with every reason when none does, DiskFull, NotWritable, ToolError
    (pip), and what `put_all` raises.
    """
    begun, told = time.monotonic(), facts(transport)
    wanted = choice.platform(told)
    if isinstance(wanted, str):
        raise _none(transport, [wanted], model_format, _ANOTHER_PYTHON)
    reasons: list[str] = []
    for package in choice.candidates(model_format, wanted):
        found = _newest(package, wanted, told, transport, reasons, progress)
        if found is not None:
            made, sent, where = found
            return Provisioned(
                distribution=package.distribution,
                version=made[0].version,
                folder=where,
                wheels=tuple(wheel.path.name for wheel in made),
                sent_bytes=sent,
                seconds=round(time.monotonic() - begun, 3),
            )
    _tidy(transport)
    if not reasons:
        raise _none(transport, [_unmade(model_format, wanted)], model_format, _ANOTHER_PYTHON)
    raise _none(transport, reasons, model_format, _INDEX if all("pip" in one for one in reasons) else _PROBE)


def facts(transport: Transport) -> Facts:
    """What decides which wheels run on the device; raises RuntimeMissing where there is no Python."""
    return runner.call(transport, carried(transport, ["facts"]), Facts, timeout_seconds=FACTS_SECONDS, stdin=carrier())


def _newest(
    package: Package, wanted: Platform, told: Facts, transport: Transport, reasons: list[str], progress: Progress
) -> tuple[tuple[Wheel, ...], int, str] | None:
    """The newest version of a package that works there, and how many bytes were sent; None when none does."""
    bounds, name = choice.bounds(package, wanted, told.device.cpu.features), package.distribution
    for version in refusals.of(told.device, name):
        bounds[name] = bounds.get(name, SpecifierSet()) & SpecifierSet(f"!={version}")
    sent = 0
    for _ in range(MOST_TRIES):
        progress("download", 0, 1)
        try:
            found = wheels.collect(name, bounds, wanted)
        except NoWheel as error:
            reasons.append(error.message)
            return None
        progress("download", 1, 1)
        sent += _send(found, told, transport, progress)
        answer = _install(package, found, transport, progress)
        if answer.folder is not None and answer.interpreter.ok:
            return found, sent, faults.clean(answer.folder)
        version, why = found[0].version, faults.clean(answer.interpreter.why or "no reason given")
        reasons.append(f"{name} {version}: {why}")
        if why.startswith(refusals.DEADLY):
            refusals.remember(told.device, name, version, why)
        bounds[name] = bounds.get(name, SpecifierSet()) & SpecifierSet(f"<{version}")
    return None


def _send(found: Sequence[Wheel], told: Facts, transport: Transport, progress: Progress) -> int:
    """Send the wheels that are not there; returns their bytes. Raises DiskFull, NotWritable before that."""
    pairs = [(wheel, _there(wheel, transport)) for wheel in found]
    known = transport.hash([path for _, path in pairs])
    missing = [(wheel, path) for wheel, path in pairs if known.get(path) != wheel.sha256]
    _check_room(missing, found, told, transport)
    if missing:
        files = [(wheel.path, path) for wheel, path in missing]
        transport.put_all(files, progress=lambda done, total: progress("upload", done, total))
    return sum(wheel.size_bytes for wheel, _ in missing)


def _there(wheel: Wheel, transport: Transport) -> str:
    return posixpath.join(_uploads(transport), wheel.sha256, wheel.path.name)


def _uploads(transport: Transport) -> str:
    """Where wheels lie on the device until they are unpacked; one that came whole is not sent again."""
    return posixpath.normpath(posixpath.join(transport.home(), own_folder(transport), "runtimes", "wheels"))


def _check_room(
    missing: Sequence[tuple[Wheel, str]], found: Sequence[Wheel], told: Facts, transport: Transport
) -> None:
    name, room = transport.device.name, told.disk
    if room.obstacle is not None:
        hint = "set a writable `folder:` for the device in devices.yaml"
        raise NotWritable(
            f"{name}: {faults.clean(told.folder, 200)} cannot be written: {faults.clean(room.obstacle, 100)}", hint=hint
        )
    needed = sum(wheel.size_bytes for wheel, _ in missing) + sum(wheel.unpacked_bytes for wheel in found) + SPARE_BYTES
    if room.free_bytes is not None and room.free_bytes < needed:
        free, all_of_it = format_size(room.free_bytes), format_size(needed)
        hint = "free space there, or set another `folder:` for the device; on the device: df -h"
        raise DiskFull(f"{name} has {free} free, the runtime needs {all_of_it}", hint=hint)


def _install(package: Package, found: Sequence[Wheel], transport: Transport, progress: Progress) -> Installed:
    """Unpack and try it there; where it works, the wheels are removed."""
    settings = {
        "name": package.module,
        "format": package.format,
        "digest": hashlib.sha256("".join(wheel.sha256 for wheel in found).encode()).hexdigest()[:16],
        "wheels": [{"path": _there(wheel, transport), "sha256": wheel.sha256} for wheel in found],
        "limit_bytes": sum(wheel.unpacked_bytes for wheel in found),
        "about": {wheel.distribution: wheel.version for wheel in found},
        "timeout_seconds": INSTALL_SECONDS,
    }
    answer = runner.call(
        transport,
        carried(transport, ["install", "--settings", json.dumps(settings)]),
        Installed,
        timeout_seconds=INSTALL_SECONDS + runner.GRACE_SECONDS,
        stdin=carrier(),
        progress=progress,
    )
    if answer.interpreter.ok:
        _tidy(transport)
    return answer


def _tidy(transport: Transport) -> None:
    """Remove the wheels there; a device whose folder is too near the root keeps them."""
    with contextlib.suppress(NotWritable):
        transport.remove([_uploads(transport)])


def _unmade(model_format: str, wanted: Platform) -> str:
    python = f"{wanted.python[0]}.{wanted.python[1]}"
    return f"no runtime for {model_format} has wheels for Python {python} on {wanted.machine}"


def _none(transport: Transport, reasons: Sequence[str], model_format: str, hint: str) -> DeviceError:
    """The error of a device that cannot be given a runtime."""
    name, text = transport.device.name, faults.clean("; ".join(reasons), 700)
    kind = IllegalInstruction if any("SIGILL" in reason for reason in reasons) else RuntimeMissing
    hint = hint.format(device=shlex.quote(name), python=shlex.quote(sys.executable))
    return kind(f"{name} cannot be given a runtime for {model_format}: {text}", hint=hint)
