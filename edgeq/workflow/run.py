"""All stages in one go, and what they left behind."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from edgeq import devices, store
from edgeq.errors import EdgeqError
from edgeq.types import Budgets, Measurement, Progress, QuantizedModel, Report, RunSettings, Validation, silent
from edgeq.workflow.device import compose, connected, measure
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
    progress: Progress = silent,
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
    if bundle is None:
        return compose(folder, None, found, None, None, asked.budgets)
    measured = measure(bundle, unit, settings or RunSettings(), folder, resume, progress)
    return compose(folder, bundle, found, measured, None, asked.budgets)


def report(folder: Path, *, budgets: Budgets | None = None) -> Report:
    """Put together whatever stage files a folder has; raises EdgeqError when there are none."""
    stages = {
        name: store.read(folder / f"{name}.json", cls) if (folder / f"{name}.json").is_file() else None
        for name, cls in (("quantized", QuantizedModel), ("measurement", Measurement), ("validation", Validation))
    }
    if not any(stages.values()):
        raise EdgeqError(
            "no stage files here", where=str(folder), hint="edgeq run MODEL -t TARGET -d DEVICE --data DATASET"
        )
    from edgeq.lab import deploy as deploying
    from edgeq.report import verdict

    bundle = deploying.load_bundle(folder / "bundle") if (folder / "bundle").is_dir() else None
    quantized = cast("QuantizedModel | None", stages["quantized"])
    measured = cast("Measurement | None", stages["measurement"])
    validated = cast("Validation | None", stages["validation"])
    return Report(
        model=bundle.manifest.name if bundle else quantized.artifact.path if quantized else folder.name,
        quantized=quantized,
        bundle=bundle.manifest if bundle else None,
        measurement=measured,
        validation=validated,
        verdict=verdict.judge(quantized, measured, validated, budgets or Budgets()),
    )
