"""Does the runtime that a bundle needs work on the device? Asked before anything is measured."""

from __future__ import annotations

import shlex
from dataclasses import asdict

from edgeq.errors import DeviceError, IllegalInstruction, RuntimeMissing
from edgeq.lab import faults, runner
from edgeq.lab.answers import Probe, Refusal, Where
from edgeq.lab.transports import Transport
from edgeq.types import Device, Manifest, Progress, silent

PREFLIGHT_SECONDS = 180.0
INTERPRETERS = {"tflite": ("ai_edge_litert", "tflite_runtime", "tensorflow"), "onnx": ("onnxruntime",)}
_PACKAGES = {"tflite": "ai-edge-litert", "onnx": "onnxruntime"}
_OTHER_CPU = "SIGILL"


def preflight(
    folder: str, manifest: Manifest, transport: Transport, *, progress: Progress = silent
) -> dict[str, object]:
    """Try the interpreters that can run the bundle, best first; {interpreter, version, device} of the one that works.

    Raises RuntimeMissing or IllegalInstruction with the command that mends it, RunnerKilled, TimedOut.
    """
    reasons: dict[str, str] = {}
    where = Where()
    for name in INTERPRETERS.get(manifest.format, ()):
        told = probe(folder, transport, name, progress)
        found = told.runtimes.get(name)
        if found is not None and found.ok:
            return {"interpreter": name, "version": found.version, "device": asdict(told.device)}
        reasons[name] = faults.clean(found.why or "no reason given") if found else "unknown to the runner"
        where = Where(machine=told.device.machine, python=told.device.python, pip=told.device.pip)
    raise nothing_runs(reasons, where, manifest, transport.device)


def probe(folder: str, transport: Transport, interpreter: str, progress: Progress = silent) -> Probe:
    """The deployed runner's `probe` for one interpreter."""
    argv = [*runner.deployed(transport, folder), "probe", "--runtime", interpreter]
    return runner.call(transport, argv, Probe, timeout_seconds=PREFLIGHT_SECONDS, progress=progress)


def nothing_runs(reasons: dict[str, str], where: Where, manifest: Manifest, device: Device) -> DeviceError:
    """The error of a device on which no interpreter works, with the command that mends it."""
    text = "; ".join(f"{name}: {why}" for name, why in reasons.items()) or f"none runs {manifest.format}"
    if any(_OTHER_CPU in why for why in reasons.values()):
        package = f"{_PACKAGES.get(manifest.format, manifest.runtime)}!={manifest.runtime_versions or '0'}"
        return IllegalInstruction(
            f"{device.name}: {manifest.runtime} has instructions that its processor lacks ({text})",
            hint=f"on the device: {shlex.quote(device.python)} -m pip install --force-reinstall '{package}'",
        )
    refusal = Refusal(event="error", kind="runtime-missing", message=text, device=where, format=manifest.format)
    return RuntimeMissing(
        f"{device.name} has no working {manifest.runtime} ({text})", hint=faults.install_command(device, refusal)
    )
