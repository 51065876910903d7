"""Measurements of a deployed bundle, and its outputs for stored inputs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq import documents, store
from edgeq.errors import Altered, BuildError, CommandFailed, EdgeqError
from edgeq.lab import conditions, runner, vectors
from edgeq.lab.answers import Bench, Drawn, Evaluated, Times
from edgeq.lab.faults import clean
from edgeq.lab.runner import GRACE_SECONDS, USUAL_ROOTS, Roots
from edgeq.lab.transports import Transport
from edgeq.lab.vectors import Contract
from edgeq.types import (
    Energy,
    Latency,
    Manifest,
    MeasuredMemory,
    Measurement,
    Parity,
    Progress,
    RunSettings,
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
    seconds = settings.timeout_seconds + GRACE_SECONDS
    answer = runner.call(transport, argv, Bench, timeout_seconds=seconds, progress=progress)
    return measurement(transport.device.name, manifest, settings, answer)


def _settings(transport: Transport, manifest: Manifest, settings: RunSettings) -> dict[str, Any]:
    """What the runner is told, with the hashes that the host knows."""
    used = {manifest.model, manifest.golden, CONTRACT}
    return {
        **asdict(settings),
        "meter": transport.device.meter,
        "tolerance_steps": PARITY_TOLERANCE_STEPS,
        "files": {entry.path: entry.sha256 for entry in manifest.files if entry.path in used},
    }


def measurement(name: str, manifest: Manifest, settings: RunSettings, answer: Bench) -> Measurement:
    """The runner's answer as a Measurement; raises CommandFailed where it contradicts itself."""
    state = conditions.pair(answer.conditions.before, answer.conditions.after)
    missing = unmeasured(answer)
    reasons = {key: clean(answer.unavailable.get(key, "")) or _NO_REASON for key in missing}
    if answer.latency.stride > 1:
        reasons["latency_samples"] = f"only every {answer.latency.stride}th sample was kept"
    if answer.parity.not_finite:
        reasons["parity"] = f"{answer.parity.not_finite} output values are NaN, infinite or of another shape there"
    return Measurement(
        device={"name": name, **asdict(answer.device)},
        runtime={clean(key, 50): clean(value, 100) for key, value in answer.runtime.items()},
        settings=settings,
        latency_ms=latency(answer.latency),
        latency_samples_ns=answer.latency.samples_ns,
        batch=answer.latency.batch,
        memory_bytes=MeasuredMemory(**asdict(answer.memory)),
        energy=_energy(answer.energy) if answer.energy else None,
        parity=_parity(name, manifest, answer),
        conditions=state,
        manifest_sha256=hashlib.sha256(store.to_json(manifest).encode()).hexdigest(),
        unavailable={**reasons, **conditions.unavailable(state)},
    )


def _energy(told: Drawn) -> Energy:
    parts = {clean(name, 40): part for name, part in told.uncertainty_parts_mj.items()}
    texts = {"source": clean(told.source), "includes": clean(told.includes)}
    return Energy(**{**asdict(told), **texts, "uncertainty_parts_mj": parts})


def unmeasured(answer: Bench) -> list[str]:
    """Names of what the answer does not tell; `arena` no runner of ours can."""
    told = {"energy_mj": answer.energy, "arena": None, **asdict(answer.memory)}
    return [name for name, value in told.items() if value is None]


def _parity(name: str, manifest: Manifest, answer: Bench) -> Parity:
    told = answer.parity
    wanted = manifest.golden_vectors
    if told.vectors < wanted or (told.exact and (told.max_steps or told.not_finite)):
        raise CommandFailed(f"{name} gave a parity that cannot be: {told.vectors} of {wanted} vectors")
    ok = not told.not_finite and told.max_steps <= PARITY_TOLERANCE_STEPS
    return Parity(exact=told.exact, max_steps=told.max_steps, vectors=wanted, ok=ok)


def latency(times: Times) -> Latency:
    """Statistics of the raw samples in ms; percentiles are interpolated linearly, `std` is the population's."""
    samples_ms = np.asarray(times.samples_ns, np.float64) / 1e6
    p50, p90, p99 = (float(value) for value in np.percentile(samples_ms, (50, 90, 99)))
    return Latency(
        p50=p50,
        p90=p90,
        p99=p99,
        mean=float(samples_ms.mean()),
        std=float(samples_ms.std()),
        min=float(samples_ms.min()),
        max=float(samples_ms.max()),
        runs=times.inferences,
        first=times.first_ns / 1e6,
        load=times.load_ns / 1e6,
    )


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
