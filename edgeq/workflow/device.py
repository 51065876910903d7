"""Bundle in, numbers from the device out."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq import devices, store
from edgeq.errors import BuildError, EdgeqError, IllegalInstruction, RunnerKilled, RuntimeMissing
from edgeq.types import (
    Budgets,
    Bundle,
    Device,
    Measurement,
    Progress,
    QuantizedModel,
    Report,
    RunSettings,
    Validation,
    silent,
)
from edgeq.workflow import observed

if TYPE_CHECKING:
    from edgeq.lab.deploy import Deployment
    from edgeq.lab.fleet import Reach, Reached
    from edgeq.lab.preflight import Fit
    from edgeq.lab.provisioning import Provisioned
    from edgeq.lab.transports import Transport
    from edgeq.lab.trust import HostKey

Warn = Callable[[str], None]


def unheard(text: str) -> None:
    """A Warn that nobody listens to."""


@contextlib.contextmanager
def connected(device: Device) -> Iterator[Reached]:
    """A way to a device, closed afterwards."""
    from edgeq.lab import fleet

    reached = fleet.connect(device)
    try:
        yield reached
    finally:
        reached.close()


def deploy(bundle: Path, device: str, *, provision: bool = False, progress: Progress = silent) -> Deployment:
    """Copy what changed, verify hashes there, preflight the runtime; give the device one if it may be provisioned."""
    from edgeq.lab import deploy as deploying

    found = deploying.load_bundle(bundle)
    with connected(devices.load(device)) as reached:
        return send(found, reached, progress, provision=provision)


def send(bundle: Bundle, reached: Reached, progress: Progress, *, provision: bool = False) -> Deployment:
    """Preflight the device over an open transport, then deploy a bundle; a board is asked whether it has it."""
    from edgeq.lab import deploy as deploying
    from edgeq.lab.boards import Board, measuring

    if isinstance(reached, Board):
        return measuring.deploy(reached, bundle, progress=progress)
    transport = on_a_computer(bundle, reached)
    fit, made = prepare(bundle, transport, progress, provision=provision)
    deployment = deploying.deploy(bundle, transport, progress=progress)
    return dataclasses.replace(deployment, warnings=fit.warnings, provisioned=made)


def prepare(
    bundle: Bundle, transport: Transport, progress: Progress, *, provision: bool
) -> tuple[Fit, Provisioned | None]:
    """`look`; a device without an interpreter that works is given one, if it may be provisioned."""
    from edgeq.lab import provisioning

    if not provision:
        return look(bundle, transport, progress), None
    try:
        return look(bundle, transport, progress, again=True), None
    except (RuntimeMissing, IllegalInstruction):
        if bundle.manifest.format not in provisioning.FORMATS:
            raise
    made = provisioning.provision(bundle.manifest.format, transport, progress=progress)
    return look(bundle, transport, progress, again=True), made


def look(bundle: Bundle, transport: Transport, progress: Progress, *, again: bool = False) -> Fit:
    """Is the device fit for the bundle? Raises what makes an upload or a run impossible.

    A bundle that lies there already has its interpreter tried by its own runner, or here where it is looked `again`.
    """
    from edgeq.lab import deploy as deploying
    from edgeq.lab.pythons import settle

    digest = "" if again else store.sha256(Path(bundle.path) / deploying.MANIFEST)
    folder = deploying.destination(bundle, transport)
    return settle(folder, bundle.manifest, transport, manifest_sha256=digest, progress=progress)


def profile(
    bundle: Path,
    device: str,
    *,
    settings: RunSettings | None = None,
    budgets: Budgets | None = None,
    output: Path | None = None,
    resume: bool = False,
    wait_seconds: float = 0.0,
    provision: bool = False,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> Report:
    """Deploy if needed, measure, check parity; written to measurement.json and report.json beside the bundle.

    The device is leased meanwhile: DeviceBusy when somebody else has it for longer than `wait_seconds`. The run is
    kept in the history; where that cannot be written, `warn` is told.
    """
    from edgeq.lab import deploy as deploying

    found = deploying.load_bundle(bundle)
    folder = store.make_folder(output or bundle.resolve().parent)
    unit = devices.load(device)
    quantized = packed(bundle)
    chosen = settings or RunSettings()
    measured = measure(found, unit, chosen, folder, resume, progress, wait_seconds=wait_seconds, provision=provision)
    return conclude(folder, found, quantized, measured, budgets or Budgets(), command="profile", warn=warn)


def conclude(
    folder: Path,
    bundle: Bundle | None,
    quantized: QuantizedModel,
    measured: Measurement | None,
    budgets: Budgets,
    *,
    command: str,
    warn: Warn,
) -> Report:
    """The report over what was measured; written to report.json, and what was measured is remembered."""
    if measured is not None:
        _learn(quantized, measured, warn)
    result = compose(folder, bundle, quantized, measured, None, budgets)
    store.write(folder / "report.json", result)
    if measured is not None:
        _remember(result, folder, command, warn)
    return result


def _learn(quantized: QuantizedModel, measured: Measurement, warn: Warn) -> None:
    try:
        observed.record(quantized, measured)
    except EdgeqError as error:  # as below: the next plan predicts worse, this measurement holds
        warn(f"plans will not predict from this run: {error.message}" + (f" ({error.where})" if error.where else ""))


def _remember(result: Report, folder: Path, command: str, warn: Warn) -> None:
    from edgeq import history

    try:
        history.record(result, folder=folder, command=command)
    except EdgeqError as error:  # the measurement holds and is written, wherever the history is
        warn(f"the run is not in the history: {error.message}" + (f" ({error.where})" if error.where else ""))


def packed(bundle: Path) -> QuantizedModel:
    """What the conversion said of the model in a bundle."""
    return store.read(bundle / "quantized.json", QuantizedModel)


def measure(
    bundle: Bundle,
    device: Device,
    settings: RunSettings,
    folder: Path,
    resume: bool,
    progress: Progress,
    *,
    wait_seconds: float = 0.0,
    provision: bool = False,
    reach: Reach = connected,
) -> Measurement:
    """Deploy and measure, nobody else being at the device; written to measurement.json."""
    path = folder / "measurement.json"
    done = _measured(path, bundle, device, settings) if resume else None
    if done is not None:
        return done
    with reach(device) as reached:
        measured = _measure_on(bundle, reached, settings, progress, wait_seconds, provision)
        store.write(path, measured)
    return measured


def _measure_on(
    bundle: Bundle,
    reached: Reached,
    settings: RunSettings,
    progress: Progress,
    wait_seconds: float,
    provision: bool,
) -> Measurement:
    """By the board's own words, or by the runner under a lease."""
    from edgeq.lab.boards import Board, measuring
    from edgeq.lab.leases import leased

    if isinstance(reached, Board):
        return measuring.measure(reached, bundle, settings, wait_seconds=wait_seconds, progress=progress)
    transport = on_a_computer(bundle, reached)
    loading = threading.Thread(target=_load)
    loading.start()
    with leased(transport, wait_seconds=wait_seconds, progress=progress) as check:
        measured = _measure_there(bundle, transport, settings, progress, provision, loading.join)
        check()
    return measured


def on_a_computer(bundle: Bundle, transport: Transport) -> Transport:
    """The transport, if the bundle is for what it leads to; raises BuildError for a microcontroller's."""
    from edgeq.lab.boards import firmware

    if firmware.is_for_boards(bundle):
        raise BuildError(
            f"this bundle is firmware for {bundle.manifest.target}: {transport.device.name} cannot run it",
            where=bundle.path,
            hint="flash a board with it, then -d serial:///dev/ttyACM0",
        )
    return transport


def _load() -> None:
    """Import what comes after preflight while the device works at it; beside the runs it would disturb this host's."""
    with contextlib.suppress(ImportError):  # which comes again where it is used
        from edgeq.history import runs  # noqa: F401
        from edgeq.lab import bench, hostmeter  # noqa: F401
        from edgeq.report import verdict  # noqa: F401


def _measure_there(
    bundle: Bundle,
    transport: Transport,
    settings: RunSettings,
    progress: Progress,
    provision: bool,
    loaded: Callable[[], None],
) -> Measurement:
    """Preflight, deploy, measure once all is `loaded`."""
    from edgeq.lab import deploy as deploying

    fit, _made = prepare(bundle, transport, progress, provision=provision)
    folder = deploying.deploy(bundle, transport, progress=progress).folder
    loaded()
    from edgeq.lab import bench, hostmeter

    take = hostmeter.measure if hostmeter.named(transport) else bench.measure
    try:
        measured = take(transport, folder, bundle.manifest, settings, progress=progress)
    except RuntimeMissing:
        look(bundle, transport, progress, again=True)  # another Python there may have it
        measured = take(transport, folder, bundle.manifest, settings, progress=progress)
    except (IllegalInstruction, RunnerKilled):
        look(bundle, transport, progress, again=True)
        raise
    return dataclasses.replace(measured, preflight=fit.warnings)


def _measured(path: Path, bundle: Bundle, device: Device, settings: RunSettings) -> Measurement | None:
    """A measurement of the same bundle on the same device with the same settings."""
    if not path.is_file():
        return None
    found = store.read(path, Measurement)
    same = found.manifest_sha256 == store.sha256(Path(bundle.path) / "manifest.json") and found.settings == settings
    return found if same and found.device.get("name") == device.name else None


def compose(
    folder: Path,
    bundle: Bundle | None,
    quantized: QuantizedModel | None,
    measured: Measurement | None,
    validated: Validation | None,
    budgets: Budgets,
) -> Report:
    """A report over the stages there are."""
    from edgeq.report import verdict

    return Report(
        model=bundle.manifest.name if bundle else quantized.artifact.path if quantized else folder.name,
        quantized=quantized,
        bundle=bundle.manifest if bundle else None,
        measurement=measured,
        validation=validated,
        verdict=verdict.judge(quantized, measured, validated, budgets),
    )


def probe(device: str) -> dict[str, Any]:
    """What a device really is: cpu, memory, runtimes, sensors; `warnings` are what would spoil measurements now."""
    from edgeq.lab import preflight
    from edgeq.lab import probe as probing
    from edgeq.lab.boards import Board, measuring

    with connected(devices.load(device)) as reached:
        if isinstance(reached, Board):
            return {**measuring.probe(reached), "warnings": []}
        spoils = preflight.spoils(reached)  # first: what comes next is a load itself
        return {**probing.probe(reached), "warnings": spoils}


def host_key(device: str) -> HostKey:
    """A device's host key, shown without being trusted."""
    from edgeq.lab import trust as trusting

    return trusting.scan(devices.load(device))


def trust(device: str, key: HostKey) -> Path:
    """Record a host key; returns the file."""
    from edgeq.lab import trust as trusting

    return trusting.record(devices.load(device), key)
