"""Measurements of a deployed bundle, and its outputs for stored inputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq import documents, store
from edgeq.errors import Altered, BuildError, CommandFailed, EdgeqError
from edgeq.lab import conditions, findings, runner, vectors
from edgeq.lab.answers import Bench, Drawn, Evaluated
from edgeq.lab.faults import clean
from edgeq.lab.runner import GRACE_SECONDS, USUAL_ROOTS, Roots
from edgeq.lab.transports import Transport
from edgeq.lab.vectors import Contract
from edgeq.types import (
    Energy,
    Manifest,
    MeasuredMemory,
    Measurement,
    Parity,
    Progress,
    RunSettings,
    Steadiness,
    Warmup,
    silent,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

PARITY_TOLERANCE_STEPS = 1.0
"""Kernels that round a tie the other way differ by one step; anything more is another computation."""
CONTRACT = "io.json"
_CONTRACT_LIMIT_BYTES = 1 << 20
_NO_REASON = "the device does not tell it and does not say why"


def measure(
    transport: Transport,
    folder: str,
    manifest: Manifest,
    settings: RunSettings,
    *,
    progress: Progress = silent,
    roots: Roots = USUAL_ROOTS,
) -> Measurement:
    """Measure the bundle that lies in `folder` on the device.

    Raises RuntimeMissing, IllegalInstruction, OutOfMemory, RunnerKilled, Altered, TimedOut, UsageError (cores
    that it has not), CommandFailed (the model cannot run there, or the answer is unusable).
    """
    words = json.dumps(_settings(transport, manifest, settings))
    argv = [*runner.deployed(transport, folder), "bench", "--bundle", folder, "--settings", words, *roots.argv()]
    seconds = timeout_seconds(settings) + GRACE_SECONDS
    answer = runner.call(transport, argv, Bench, timeout_seconds=seconds, progress=progress)
    return measurement(transport.device.name, manifest, settings, answer)


def _settings(transport: Transport, manifest: Manifest, settings: RunSettings) -> dict[str, Any]:
    """What the runner is told, with the hashes that the host knows."""
    used = {manifest.model, manifest.golden, CONTRACT, manifest.float_model}
    return {
        **asdict(settings),
        "timeout_seconds": timeout_seconds(settings),
        "meter": transport.device.meter,
        "tolerance_steps": PARITY_TOLERANCE_STEPS,
        "files": {entry.path: entry.sha256 for entry in manifest.files if entry.path in used},
    }


def timeout_seconds(settings: RunSettings) -> float:
    """When to give up; minutes that were asked for come on top."""
    return settings.timeout_seconds + 60.0 * (settings.sustained_minutes or 0.0)


def measurement(name: str, manifest: Manifest, settings: RunSettings, answer: Bench) -> Measurement:
    """The runner's answer as a Measurement; raises CommandFailed where it contradicts itself."""
    findings.check_times(name, answer.latency)
    state = conditions.pair(answer.conditions.before, answer.conditions.after)
    if findings.throttled(answer.watched):
        state = replace(state, throttled=True)
    latency, reasons = findings.latency(answer.latency)
    shape, warmup = findings.steadiness(answer.latency), findings.warmup(answer.latency)
    reasons |= _reasons(answer, settings, shape, warmup)
    minutes = settings.sustained_minutes
    return Measurement(
        device={"name": name, **asdict(answer.device)},
        runtime={clean(key, 50): clean(value, 100) for key, value in answer.runtime.items()},
        settings=settings,
        latency_ms=latency,
        latency_samples_ns=answer.latency.samples_ns,
        sample_starts_ns=answer.latency.starts_ns,
        batch=answer.latency.batch,
        warmup=warmup,
        steadiness=shape,
        sustained=findings.sustained(answer.latency, minutes, shape) if minutes else None,
        speedup=findings.speedup(answer.beside) if answer.beside else None,
        operators=findings.operators(answer.operators) if answer.operators else (),
        watched=findings.watched(answer.watched),
        memory_bytes=MeasuredMemory(**asdict(answer.memory)),
        energy=_energy(answer.energy) if answer.energy else None,
        parity=_parity(name, manifest, answer),
        conditions=state,
        manifest_sha256=hashlib.sha256(store.to_json(manifest).encode()).hexdigest(),
        unavailable={**reasons, **conditions.unavailable(state)},
    )


def _reasons(answer: Bench, settings: RunSettings, shape: Steadiness, warmup: Warmup | None) -> dict[str, str]:
    """Why what is missing is missing."""
    reasons = {key: clean(answer.unavailable.get(key, "")) or _NO_REASON for key in unmeasured(answer, settings)}
    if answer.latency.stride > 1:
        reasons["latency_samples"] = f"only every {answer.latency.stride}th sample was kept"
    if answer.parity.not_finite:
        reasons["parity"] = f"{answer.parity.not_finite} output values are NaN, infinite or of another shape there"
    if answer.operators and answer.operators.left_out:
        reasons["operators"] = f"{answer.operators.left_out} operators more are left out"
    if shape.why:
        reasons["steadiness"] = shape.why
    if findings.unsteady(warmup):
        reasons["steady_state"] = findings.unsteady(warmup)
    return reasons


def _energy(told: Drawn) -> Energy:
    parts = {clean(name, 40): part for name, part in told.uncertainty_parts_mj.items()}
    texts = {"source": clean(told.source), "includes": clean(told.includes)}
    return Energy(**{**asdict(told), **texts, "uncertainty_parts_mj": parts})


def unmeasured(answer: Bench, settings: RunSettings) -> list[str]:
    """Names of what the answer does not tell; `arena` no runner of ours can."""
    told = {"energy_mj": answer.energy, "arena": None, **asdict(answer.memory), "speedup": answer.beside}
    if settings.operators:
        told["operators"] = answer.operators
    return [name for name, value in told.items() if value is None]


def _parity(name: str, manifest: Manifest, answer: Bench) -> Parity:
    told = answer.parity
    wanted = manifest.golden_vectors
    if told.vectors < wanted or (told.exact and (told.max_steps or told.not_finite)):
        raise CommandFailed(f"{name} gave a parity that cannot be: {told.vectors} of {wanted} vectors")
    ok = not told.not_finite and told.max_steps <= PARITY_TOLERANCE_STEPS
    return Parity(exact=told.exact, max_steps=told.max_steps, vectors=wanted, ok=ok)


def evaluate(
    transport: Transport,
    folder: str,
    manifest: Manifest,
    inputs: Sequence[NDArray[Any]],
    workdir: Path,
    progress: Progress = silent,
    *,
    settings: RunSettings | None = None,
) -> list[NDArray[Any]]:
    """Stored outputs of the deployed model for stored inputs, vectors on the first axis.

    Inputs travel in chunks; the outputs lie in files of `workdir` and are mapped, not loaded. Raises what
    `measure` raises, DatasetError for inputs that do not fit the contract, DiskFull, NotWritable.
    """
    contract = read_contract(transport, folder, manifest, workdir)
    count = vectors.check_inputs(contract, inputs)
    told = json.dumps(_settings(transport, manifest, settings or RunSettings()))
    results = vectors.Results(contract, count, workdir)
    with _remote_folder(transport, folder) as remote:
        argv = [*runner.deployed(transport, folder), "evaluate", "--bundle", folder, "--settings", told]
        argv += ["--inputs", f"{remote}/inputs.npz", "--outputs", f"{remote}/outputs.npz"]
        seconds = (settings or RunSettings()).timeout_seconds + GRACE_SECONDS
        for start, stop in vectors.chunks(contract, count):
            progress("evaluate on the device", start, count)
            sent = vectors.write_inputs(contract, inputs, start, stop, workdir / "inputs.npz")
            transport.put(workdir / "inputs.npz", f"{remote}/inputs.npz")
            answer = runner.call(transport, argv, Evaluated, timeout_seconds=seconds)
            if answer.vectors != sent:
                raise CommandFailed(f"{transport.device.name} ran {answer.vectors} of {sent} vectors")
            limit = vectors.limit_bytes(contract, sent)
            transport.get(f"{remote}/outputs.npz", workdir / "outputs.npz", limit_bytes=limit)
            results.add(vectors.read_outputs(contract, workdir / "outputs.npz", sent), start, stop)
    progress("evaluate on the device", count, count)
    return results.arrays


@contextlib.contextmanager
def _remote_folder(transport: Transport, folder: str) -> Iterator[str]:
    """A folder of our own beside the bundle's files, removed at the end."""
    remote = f"{folder}/.evaluate/{secrets.token_hex(8)}"
    transport.make_folder(remote)
    try:
        yield remote
    except BaseException:
        with contextlib.suppress(EdgeqError):  # the first failure is the one to tell
            transport.remove([remote])
        raise
    transport.remove([remote])


def read_contract(transport: Transport, folder: str, manifest: Manifest, workdir: Path) -> Contract:
    """The deployed bundle's I/O contract, taken only if its hash is the manifest's; raises Altered."""
    local = workdir / CONTRACT
    transport.get(f"{folder}/{CONTRACT}", local, limit_bytes=_CONTRACT_LIMIT_BYTES)
    wanted = {entry.path: entry.sha256 for entry in manifest.files}
    if wanted.get(CONTRACT) != store.sha256(local):
        hint = f"edgeq deploy BUNDLE -d {transport.device.name}"
        raise Altered(f"{transport.device.name}: {CONTRACT} is not the file that was sent", hint=hint)
    data = json.loads(local.read_text("utf-8"))
    ports = {key: data.get(key) for key in ("inputs", "outputs")}
    return documents.decode(Contract, ports, where=CONTRACT, error=BuildError)
