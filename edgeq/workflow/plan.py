"""Model in, plan out."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from edgeq import backends, models, store, targets
from edgeq.errors import UsageError
from edgeq.types import Budgets, ModelGraph, Plan, Progress, silent

if TYPE_CHECKING:
    from edgeq import planning

Preference = Literal["latency", "memory", "accuracy"]
NAME_LENGTH = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the user asks of a conversion; `scheme` forces one by name, `workers` try schemes at the same time."""

    prefer: Preference = "latency"
    budgets: Budgets = field(default_factory=Budgets)
    scheme: str | None = None
    workers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A plan and every claim in it that does not follow."""

    plan: Plan
    findings: tuple[planning.Finding, ...]


def default_output(model: Path, target: str) -> Path:
    """Where stage files go when nobody says: build/<model>/<target>."""
    return Path("build") / safe_name(model.stem) / safe_name(Path(target).stem)


def safe_name(name: str) -> str:
    """A plain file name, short enough that suffixes fit behind it."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip(".")[:NAME_LENGTH].strip(".") or "model"


def read_model(model: Path, folder: Path, progress: Progress = silent, *, target: str | None = None) -> ModelGraph:
    """Structure of a model; Keras and SavedModel become float TFLite in `folder` first.

    So does ONNX for a target whose runtimes read only TFLite.
    """
    importer = backends.find("converters", "keras")
    if not importer.is_source(model):
        graph = models.read(model)
        return graph if target is None else _for_target(graph, target, folder, progress)
    imported = folder / f"{safe_name(model.stem)}_float.tflite"
    progress("importing Keras", 0, 1)
    importer.to_tflite(model, imported)
    progress("importing Keras", 1, 1)
    return models.read(imported)


def _for_target(graph: ModelGraph, target: str, folder: Path, progress: Progress) -> ModelGraph:
    """The model in a format that the target reads."""
    formats = {runtime.format for runtime in targets.load(target).runtimes}
    if graph.format != "onnx" or "onnx" in formats or "tflite" not in formats:
        return graph
    imported = folder / f"{safe_name(Path(graph.path).stem)}_float.tflite"
    found = backends.find("converters", "onnx2tf").import_model(graph, imported, progress=progress)
    return cast(ModelGraph, found)


def plan(model: Path, target: str, *, output: Path | None = None, wish: Wish | None = None) -> Plan:
    """Which runtime and scheme a target gets, and why; written to plan.json."""
    folder = output or default_output(model, target)
    graph = read_model(model, folder, target=target)
    found = planned(graph, target, wish or Wish()).chosen
    write(folder, found, graph, target)
    return found


def planned(graph: ModelGraph, target: str, wish: Wish) -> planning.Planned:
    """The plan to take and all that could be tried, from what was measured on the target too."""
    from edgeq import planning
    from edgeq.workflow import observed

    profile = targets.load(target)
    return planning.plan(
        graph,
        profile,
        targets.load_tables(profile, target),
        budgets=wish.budgets,
        prefer=wish.prefer,
        scheme=wish.scheme,
        observations=observed.load(profile.name),
        spread=planning.spreads.of_weights(graph),
    )


def write(folder: Path, found: Plan, graph: ModelGraph, target: str) -> None:
    """Write plan.json, with where model and target are, so that it can be checked alone."""
    is_file = Path(target).suffix in (".yaml", ".yml") or len(Path(target).parts) > 1
    ref = str(Path(target).resolve()) if is_file else target
    stamped = dataclasses.replace(found, model_path=str(Path(graph.path).resolve()), target_ref=ref)
    store.write(folder / "plan.json", stamped)


def check(path: Path, *, model: Path | None = None, target: str | None = None) -> Checked:
    """Derive every verdict of a plan.json anew; model and target are those that it names unless others are given."""
    from edgeq import planning

    found = store.read(path, Plan)
    source, ref = model or Path(found.model_path), target or found.target_ref
    if source == Path() or not ref:
        missing = "its model" if source == Path() else "its target"
        raise UsageError(f"{path} does not say {missing}", hint=f"edgeq plan MODEL -t TARGET --check {path}")
    graph = read_model(source, path.parent, target=ref)
    profile = targets.load(ref)
    findings = planning.audit(found, graph, profile, targets.load_tables(profile, ref))
    return Checked(plan=found, findings=findings)
