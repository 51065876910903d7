"""Bundle in, numbers from the device out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from edgeq import backends, devices, store
from edgeq.errors import IllegalInstruction, RunnerKilled, RuntimeMissing
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
    from edgeq.lab.transports import Transport
    from edgeq.lab.trust import HostKey


@contextmanager
def connected(device: Device) -> Iterator[Transport]:
    """A transport to a device, closed afterwards."""
    transport = cast("Transport", backends.find("lab.transports", device.transport).connect(device))
    try:
        yield transport
    finally:
        transport.close()


def deploy(bundle: Path, device: str, *, progress: Progress = silent) -> Deployment:
    """Copy what changed, verify hashes there, preflight the runtime."""
    from edgeq.lab import deploy as deploying

    found = deploying.load_bundle(bundle)
    with connected(devices.load(device)) as transport:
        return send(found, transport, progress)


def send(bundle: Bundle, transport: Transport, progress: Progress) -> Deployment:
    """Deploy a bundle over an open transport and preflight the runtime there."""
    from edgeq.lab import deploy as deploying
    from edgeq.lab.pythons import settle

    deployment = deploying.deploy(bundle, transport, progress=progress)
    settle(deployment.folder, bundle.manifest, transport)
    return deployment


def profile(
    bundle: Path,
    device: str,
    *,
    settings: RunSettings | None = None,
    budgets: Budgets | None = None,
    output: Path | None = None,
    resume: bool = False,
    progress: Progress = silent,
) -> Report:
    """Deploy if needed, measure, check parity; written to measurement.json and report.json beside the bundle."""
    from edgeq.lab import deploy as deploying

    found = deploying.load_bundle(bundle)
    folder = store.make_folder(output or bundle.resolve().parent)
    unit = devices.load(device)
    quantized = packed(bundle)
    measured = measure(found, unit, settings or RunSettings(), folder, resume, progress)
    observed.record(quantized, measured)
    result = compose(folder, found, quantized, measured, None, budgets or Budgets())
    store.write(folder / "report.json", result)
    return result


def packed(bundle: Path) -> QuantizedModel:
    """What the conversion said of the model in a bundle."""
    return store.read(bundle / "quantized.json", QuantizedModel)


def measure(
    bundle: Bundle, device: Device, settings: RunSettings, folder: Path, resume: bool, progress: Progress
) -> Measurement:
    """Deploy and measure; written to measurement.json."""
    path = folder / "measurement.json"
    done = _measured(path, bundle, device, settings) if resume else None
    if done is not None:
        return done
    with connected(device) as transport:
        measured = _measure_there(bundle, transport, settings, progress)
    store.write(path, measured)
    return measured


def _measure_there(bundle: Bundle, transport: Transport, settings: RunSettings, progress: Progress) -> Measurement:
    """Deploy and measure; the runner tries the interpreter first, so that a preflight only explains a failure."""
    from edgeq.lab import bench
    from edgeq.lab import deploy as deploying
    from edgeq.lab.pythons import settle

    folder = deploying.deploy(bundle, transport, progress=progress).folder
    try:
        return bench.measure(transport, folder, bundle.manifest, settings, progress=progress)
    except RuntimeMissing:
        settle(folder, bundle.manifest, transport)  # another Python there may have it
        return bench.measure(transport, folder, bundle.manifest, settings, progress=progress)
    except (IllegalInstruction, RunnerKilled):
        settle(folder, bundle.manifest, transport)
        raise


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
    """What a device really is: cpu, memory, runtimes, sensors."""
    from edgeq.lab import probe as probing

    with connected(devices.load(device)) as transport:
        return dict(probing.probe(transport))


def host_key(device: str) -> HostKey:
    """A device's host key, shown without being trusted."""
    from edgeq.lab import trust as trusting

    return trusting.scan(devices.load(device))


def trust(device: str, key: HostKey) -> Path:
    """Record a host key; returns the file."""
    from edgeq.lab import trust as trusting

    return trusting.record(devices.load(device), key)
