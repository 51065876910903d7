"""All stages in one go, and what they left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from edgeq import devices, store
from edgeq.errors import EdgeqError
from edgeq.types import Budgets, Measurement, Progress, QuantizedModel, Report, RunSettings, Validation, silent
from edgeq.workflow.device import Warn, compose, conclude, connected, measure, unheard
from edgeq.workflow.fleet import common_folder
from edgeq.workflow.plan import Wish, default_output
from edgeq.workflow.quantize import Refused, build


def run(
    model: Path,
    target: str,
    device: str,
    data: str,
    *,
    output: Path | None = None,
    wish: Wish | None = None,
    settings: RunSettings | None = None,
    resume: bool = False,
    wait_seconds: float = 0.0,
    provision: bool = False,
    progress: Progress = silent,
    warn: Warn = unheard,
) -> Report | Refused:
    """Plan, quantize, build, deploy, profile, in one go, ending in the report."""
    asked = wish or Wish()
    folder = output or default_output(model, target)
    unit = devices.load(device)
    with connected(unit):
        pass  # a device that cannot be reached is better known before minutes of work
    found, bundle = build(model, target, data, output=folder, wish=asked, resume=resume, progress=progress)
    if isinstance(found, Refused):
        return found
    chosen = settings or RunSettings()
    measured = None
    if bundle:
        words: dict[str, Any] = {"wait_seconds": wait_seconds, "provision": provision}
        measured = measure(bundle, unit, chosen, folder, resume, progress, **words)
    return conclude(folder, bundle, found, measured, asked.budgets, command="run", warn=warn)


def report(folder: Path, *, budgets: Budgets | None = None) -> Report:
    """Put together whatever stage files a folder has; raises EdgeqError when there are none.

    The folder of one device among several has its own measurement; what was converted and built lies above it.
    """
    built = common_folder(folder)
    stages = {
        name: store.read(place / f"{name}.json", cls) if (place / f"{name}.json").is_file() else None
        for name, cls, place in (
            ("quantized", QuantizedModel, built),
            ("measurement", Measurement, folder),
            ("validation", Validation, folder),
        )
    }
    if not any(stages.values()):
        raise EdgeqError(
            "no stage files here", where=str(folder), hint="edgeq run MODEL -t TARGET -d DEVICE --data DATASET"
        )
    from edgeq.lab import deploy as deploying

    bundle = deploying.load_bundle(built / "bundle") if (built / "bundle" / "manifest.json").is_file() else None
    return compose(
        folder,
        bundle,
        cast("QuantizedModel | None", stages["quantized"]),
        cast("Measurement | None", stages["measurement"]),
        cast("Validation | None", stages["validation"]),
        budgets or Budgets(),
    )
