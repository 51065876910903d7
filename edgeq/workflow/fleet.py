"""The verbs for several devices: planned, converted and built once, then all devices at the same time.

Every device has a folder of its own, `<output>/devices/<name>`, with the stage files that one device alone has.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq import devices, store
from edgeq.types import Budgets, Bundle, Device, Progress, QuantizedModel, Report, RunSettings, Validation, silent
from edgeq.workflow.device import Warn, conclude, measure, packed, send, unheard
from edgeq.workflow.plan import Wish, default_output
from edgeq.workflow.quantize import Refused, build

if TYPE_CHECKING:
    from edgeq.lab.deploy import Deployment
    from edgeq.lab.fleet import Outcome, Reach

FOLDER = "devices"


def _quiet(device: str) -> Progress:  # noqa: ARG001
    return silent


def _unseen(outcome: Outcome[Any]) -> None:
    """Nobody looks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Who hears of a fleet's work, in any thread.

    `host` of what is done once for all devices, `progress` of each device, `ended` of how it ended, `warn` of what is
    worth a warning.
    """

    host: Progress = silent
    progress: Callable[[str], Progress] = _quiet
    ended: Callable[[Outcome[Any]], None] = _unseen
    warn: Warn = unheard


def folder_of(output: Path, device: str) -> Path:
    """Where a device's stage files go; no two names share a folder, and no address leads out of it."""
    if devices.is_name(device):
        return output / FOLDER / device
    readable = re.sub(r"[^A-Za-z0-9.-]+", "-", device).strip("-.")[:60]
    return output / FOLDER / f"_{readable}-{hashlib.sha256(device.encode()).hexdigest()[:12]}"


def common_folder(folder: Path) -> Path:
    """Where the stage files lie that are the same for all devices: above a device's folder, else the folder itself."""
    above = folder.resolve().parent
    own = above.name != FOLDER or (folder / "quantized.json").is_file()
    return folder if own or not (above.parent / "quantized.json").is_file() else above.parent


def profile_all(
    bundle: Path,
    chosen: Sequence[str],
    *,
    settings: RunSettings | None = None,
    budgets: Budgets | None = None,
    output: Path | None = None,
    resume: bool = False,
    wait_seconds: float = 0.0,
    provision: bool = False,
    watch: Watch | None = None,
) -> list[Outcome[Report]]:
    """`profile` on several devices; `chosen` are names, addresses, groups or `all`."""
    from edgeq.lab import deploy as deploying

    found = deploying.load_bundle(bundle)
    job = _Job(
        command="profile",
        bundle=found,
        quantized=packed(bundle),
        settings=settings or RunSettings(),
        budgets=budgets or Budgets(),
        output=output or bundle.resolve().parent,
        resume=resume,
        wait_seconds=wait_seconds,
        provision=provision,
        watch=watch or Watch(),
    )
    return _measure_all(job, _units(chosen))


def run_all(
    model: Path,
    target: str,
    chosen: Sequence[str],
    data: str,
    *,
    output: Path | None = None,
    wish: Wish | None = None,
    settings: RunSettings | None = None,
    resume: bool = False,
    wait_seconds: float = 0.0,
    provision: bool = False,
    watch: Watch | None = None,
) -> list[Outcome[Report]] | Refused:
    """`run` on several devices of one target: planned, converted and built once."""
    asked, folder, units = wish or Wish(), output or default_output(model, target), _units(chosen)
    heard = watch or Watch()
    found, bundle = build(model, target, data, output=folder, wish=asked, resume=resume, progress=heard.host)
    if isinstance(found, Refused):
        return found
    job = _Job(
        command="run",
        bundle=bundle,
        quantized=found,
        settings=settings or RunSettings(),
        budgets=asked.budgets,
        output=folder,
        resume=resume,
        wait_seconds=wait_seconds,
        provision=provision,
        watch=heard,
    )
    return _measure_all(job, units)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """What is measured, the same on every device."""

    command: str
    bundle: Bundle | None
    quantized: QuantizedModel
    settings: RunSettings
    budgets: Budgets
    output: Path
    resume: bool
    wait_seconds: float
    provision: bool
    watch: Watch


def _units(chosen: Sequence[str]) -> list[Device]:
    return [devices.load(name) for name in devices.expand(chosen)]


def _measure_all(job: _Job, units: Sequence[Device]) -> list[Outcome[Report]]:
    from edgeq.lab import fleet

    return fleet.each(units, lambda unit, reach: _measure_one(job, unit, reach), ended=job.watch.ended)


def _measure_one(job: _Job, unit: Device, reach: Reach) -> Report:
    """One device's measurement is on this host's disk before anything else begins there."""
    folder = store.make_folder(folder_of(job.output, unit.name))
    measured = None
    if job.bundle is not None:
        measured = measure(
            job.bundle,
            unit,
            job.settings,
            folder,
            job.resume,
            job.watch.progress(unit.name),
            wait_seconds=job.wait_seconds,
            provision=job.provision,
            reach=reach,
        )
    return conclude(folder, job.bundle, job.quantized, measured, job.budgets, command=job.command, warn=job.watch.warn)


def deploy_all(
    bundle: Path, chosen: Sequence[str], *, provision: bool = False, watch: Watch | None = None
) -> list[Outcome[Deployment]]:
    """`deploy` to several devices."""
    from edgeq.lab import deploy as deploying
    from edgeq.lab import fleet

    found, heard = deploying.load_bundle(bundle), watch or Watch()

    def one(unit: Device, reach: Reach) -> Deployment:
        with reach(unit) as reached:
            return send(found, reached, heard.progress(unit.name), provision=provision)

    return fleet.each(_units(chosen), one, ended=heard.ended)


def validate_all(
    bundle: Path,
    chosen: Sequence[str],
    data: str,
    *,
    output: Path | None = None,
    wait_seconds: float = 0.0,
    watch: Watch | None = None,
) -> list[Outcome[Validation]]:
    """`validate` on several devices; the host scores once."""
    from edgeq.lab import fleet
    from edgeq.workflow.validate import conclude as conclude_scores
    from edgeq.workflow.validate import on_device, on_host, prepare, stored

    units, heard, base = _units(chosen), watch or Watch(), output or bundle.resolve().parent
    scoring = prepare(bundle, data)
    here = on_host(scoring, heard.host)
    with tempfile.TemporaryDirectory(prefix="edgeq-validate-") as scratch:
        inputs = stored(scoring, Path(scratch))

        def one(unit: Device, reach: Reach) -> Validation:
            folder = store.make_folder(folder_of(base, unit.name))
            told = heard.progress(unit.name)
            there = on_device(scoring, unit, lambda: inputs, wait_seconds=wait_seconds, progress=told, reach=reach)
            return conclude_scores(folder, scoring, here, there)

        return fleet.each(units, one, ended=heard.ended)
