"""Is the device fit for a bundle? Asked before anything is sent, by a runner that travels along and leaves nothing."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from edgeq import targets
from edgeq.errors import (
    DeviceError,
    DiskFull,
    EdgeqError,
    IllegalInstruction,
    NotWritable,
    OutOfMemory,
    RuntimeMissing,
)
from edgeq.lab import faults, readiness, runner
from edgeq.lab.answers import Refusal, Where
from edgeq.lab.probe import carried, carrier
from edgeq.lab.readiness import Asked, Ready
from edgeq.lab.runner import USUAL_ROOTS, Roots
from edgeq.lab.transports import Transport
from edgeq.types import Check, Device, Manifest, Progress, silent
from edgeq.units import format_size

PREFLIGHT_SECONDS = 400.0
INTERPRETERS = {"tflite": ("ai_edge_litert", "tflite_runtime", "tensorflow"), "onnx": ("onnxruntime",)}
_PACKAGES = {"tflite": "ai-edge-litert", "onnx": "onnxruntime"}
_OTHER_CPU = "SIGILL"
_PROVISIONED = " (provisioned)"
"""What the runner puts behind the reason of a runtime that `--provision` brought."""
_MORE_ROOM = "free space there, or set another `folder:` for the device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """A device that can take the bundle: the interpreter that works there (None: not asked, it is deployed already),
    what it is, and what spoils measurements on it."""

    interpreter: str | None
    version: str | None
    device: dict[str, object]
    warnings: tuple[Check, ...]


def preflight(
    folder: str,
    manifest: Manifest,
    transport: Transport,
    *,
    manifest_sha256: str = "",
    progress: Progress = silent,
    roots: Roots = USUAL_ROOTS,
) -> Fit:
    """Look at the device before `folder` is sent there.

    The interpreter is tried unless the bundle with this manifest lies there already. Raises DiskFull, NotWritable,
    OutOfMemory, RuntimeMissing or IllegalInstruction with the command that mends it, RunnerKilled, TimedOut.
    """
    if manifest.format not in INTERPRETERS:
        raise nothing_runs({}, Where(), manifest, transport.device)
    progress("preflight", 0, 1)
    asked, told = ask(folder, manifest, transport, manifest_sha256, roots)
    for error in stops(told, manifest, transport.device, folder):
        raise error
    works = next(((name, found) for name, found in told.runtimes.items() if found.ok), None)
    if works is None and not told.deployed:
        raise nothing_runs(_reasons(told), _where(told), manifest, transport.device)
    progress("preflight", 1, 1)
    return Fit(
        interpreter=works[0] if works else None,
        version=works[1].version if works else None,
        device=asdict(told.device),
        warnings=readiness.warnings(told, asked),
    )


def spoils(transport: Transport, *, roots: Roots = USUAL_ROOTS) -> tuple[Check, ...]:
    """What would spoil measurements on a device now, whatever the bundle; raises a DeviceError."""
    asked, told = _call(["--format", "", "--folder", transport.device.folder], transport, roots)
    return readiness.warnings(told, asked)


def ask(
    folder: str, manifest: Manifest, transport: Transport, manifest_sha256: str = "", roots: Roots = USUAL_ROOTS
) -> tuple[Asked, Ready]:
    """The runner's `preflight`, and what the bundle needs."""
    words = ["--format", manifest.format, "--folder", folder, "--manifest", manifest_sha256]
    asked, told = _call(words, transport, roots)
    return replace(_needs(manifest), begun_s=asked.begun_s, ended_s=asked.ended_s), told


def _call(words: list[str], transport: Transport, roots: Roots) -> tuple[Asked, Ready]:
    """The answer, and this host's time before and after."""
    argv, begun_s = carried(transport, ["preflight", *words, *roots.argv()]), time.time()
    told = runner.call(transport, argv, Ready, timeout_seconds=PREFLIGHT_SECONDS, stdin=carrier())
    return Asked(begun_s=begun_s, ended_s=time.time()), told


def _needs(manifest: Manifest) -> Asked:
    """What the bundle's target promised; a profile that is not known here promises nothing."""
    planned = manifest.planned_ram_bytes
    try:
        cpu = targets.load(manifest.target).cpu
    except EdgeqError:
        return Asked(target=manifest.target, planned_ram_bytes=planned)
    return Asked(target=manifest.target, arch=cpu.arch, features=cpu.features, planned_ram_bytes=planned)


def stops(told: Ready, manifest: Manifest, device: Device, folder: str) -> Iterator[DeviceError]:
    """What makes an upload or a run impossible."""
    disk = told.disk
    needed = max(0, sum(entry.size_bytes for entry in manifest.files) - disk.present_bytes)
    if told.deployed:
        needed = 0
    if needed and disk.obstacle is not None:
        hint = "set a writable `folder:` for the device in devices.yaml"
        yield NotWritable(f"{device.name}: {folder} cannot be written: {faults.clean(disk.obstacle, 100)}", hint=hint)
    if disk.free_bytes is not None and disk.free_bytes < needed:
        message = f"{device.name} has {format_size(disk.free_bytes)} free for a bundle of {format_size(needed)}"
        yield DiskFull(message, hint=f"{_MORE_ROOM}; on the device: df -h {shlex.quote(str(Path(folder).parent))}")
    if needed and disk.free_files is not None and disk.free_files < len(manifest.files):
        yield DiskFull(
            f"{device.name} has no room for {len(manifest.files)} more files",
            hint=f"{_MORE_ROOM}; on the device: df -i",
        )
    planned = manifest.planned_ram_bytes
    if planned and told.memory_free_bytes is not None and told.memory_free_bytes < planned:
        free = format_size(told.memory_free_bytes)
        message = f"{device.name} has {free} of memory free, the model needs {format_size(planned)}"
        yield OutOfMemory(message, hint="on the device: ps aux --sort=-rss | head")


def _reasons(told: Ready) -> dict[str, str]:
    return {
        faults.clean(name, 60): faults.clean(found.why or "no reason given") for name, found in told.runtimes.items()
    }


def _where(told: Ready) -> Where:
    return Where(machine=told.device.machine, python=told.device.python, pip=told.device.pip)


def nothing_runs(reasons: dict[str, str], where: Where, manifest: Manifest, device: Device) -> DeviceError:
    """The error of a device on which no interpreter works, with the command that mends it."""
    text = "; ".join(f"{name}: {why}" for name, why in reasons.items()) or f"none runs {manifest.format}"
    provisioned = any(why.endswith(_PROVISIONED) for why in reasons.values())
    again = f"edgeq deploy BUNDLE -d {shlex.quote(device.name)} --provision" if provisioned else None
    if any(_OTHER_CPU in why for why in reasons.values()):
        package = shlex.quote(f"{_PACKAGES.get(manifest.format, manifest.runtime)}!={manifest.runtime_versions or '0'}")
        return IllegalInstruction(
            f"{device.name}: {manifest.runtime} has instructions that its processor lacks ({text})",
            hint=again or f"on the device: {shlex.quote(device.python)} -m pip install --force-reinstall {package}",
        )
    refusal = Refusal(event="error", kind="runtime-missing", message=text, device=where, format=manifest.format)
    hint = again or faults.install_command(device, refusal)
    return RuntimeMissing(f"{device.name} has no working {manifest.runtime} ({text})", hint=hint)
