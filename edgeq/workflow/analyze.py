"""Where a conversion loses accuracy: operator by operator, step by step."""

from __future__ import annotations

import dataclasses
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgeq import backends, datasets, store
from edgeq.errors import ConvertError, DatasetError, ModelError
from edgeq.types import Analysis, Dataset, ModelGraph, Plan, Progress, QuantizedModel, silent
from edgeq.workflow.plan import Wish, default_output, planned, read_model
from edgeq.workflow.quantize import Refused, quantize

if TYPE_CHECKING:
    from edgeq.analysis.attribution import Files

SAMPLES = 16
DOCUMENT = "analysis.json"
REPORT = "analysis.html"
UNSURE = (
    "the float model was prepared anew, since nothing tells how this file was made: "
    "operators between which channels were equalized look wrong"
)


class Analyzed(NamedTuple):
    """What was found, and the folder with analysis.json and analysis.html."""

    analysis: Analysis
    folder: Path


def host_target() -> str:
    """The profile of a Linux host like this one."""
    return f"generic-linux-{platform.machine()}"


def analyze(
    model: Path,
    data: str,
    *,
    target: str | None = None,
    quantized: Path | None = None,
    prepared: Path | None = None,
    output: Path | None = None,
    samples: int = SAMPLES,
    progress: Progress = silent,
) -> Analyzed | Refused:
    """Compare float, prepared, quantized and running model; written to analysis.json and analysis.html.

    Without `quantized`, the model that `quantize` left in the folder is taken, or one is made. Without `prepared`, the
    float model is prepared as the converter does it. Returns Refused when no scheme fits the target.
    """
    from edgeq.runtimes import preflight

    goal = target or host_target()
    folder = output or default_output(model, goal)
    graph = read_model(model, folder, progress, target=goal)
    if graph.state == "quantized":
        raise ModelError(
            "is quantized already; analyze compares a quantized model with the float one that it was made from",
            where=str(model),
            hint=f"edgeq analyze FLOAT_MODEL --quantized {model} --data {data}",
        )
    dataset = datasets.bind(datasets.load(data), graph)
    file = quantized or _quantized(model, goal, data, folder, graph, progress)
    if isinstance(file, Refused):
        return file
    for path in filter(None, (Path(graph.path), prepared, file)):
        preflight.check(path, graph.format)
    with tempfile.TemporaryDirectory(prefix="edgeq-analyze-") as scratch:
        ready, note = (prepared, "") if prepared else _prepared(graph, goal, dataset, file, Path(scratch), progress)
        found = _attribute(_files(graph, ready, file), dataset, graph, samples, progress)
    found = dataclasses.replace(found, notes=(*found.notes, *([note] if note else [])))
    _write(folder, found)
    return Analyzed(found, folder)


def _quantized(
    model: Path, target: str, data: str, folder: Path, graph: ModelGraph, progress: Progress
) -> Path | Refused:
    """The file of an earlier conversion of this model, or of a new one."""
    document = folder / "quantized.json"
    if document.is_file():
        before = store.read(document, QuantizedModel)
        file = folder / before.artifact.path
        if before.float_sha256 == graph.sha256 and file.is_file() and store.sha256(file) == before.artifact.sha256:
            return file
    found = quantize(model, target, data, output=folder, progress=progress)
    return found if isinstance(found, Refused) else folder / found.artifact.path


def _prepared(
    graph: ModelGraph, target: str, dataset: Dataset, quantized: Path, folder: Path, progress: Progress
) -> tuple[Path, str]:
    """The float model as it was quantized, and a note where that is not certain.

    The conversion is done again by the plan beside the file, or by the target's: the same file must come out of it.
    """
    wanted = store.sha256(quantized)
    plan = _plan(graph, target, quantized, wanted)
    kept = folder / f"kept.{graph.format}"
    if plan is not None and _converted(graph, plan, dataset, kept, progress) == wanted and kept.is_file():
        return kept, ""
    return prepared_anew(graph, folder), UNSURE


def _plan(graph: ModelGraph, target: str, quantized: Path, wanted: str) -> Plan | None:
    """How the file was quantized, or probably was."""
    document = quantized.parent / "quantized.json"
    before = store.read(document, QuantizedModel) if document.is_file() else None
    if before is not None and before.artifact.sha256 == wanted and before.float_sha256 == graph.sha256:
        return before.plan
    chosen = planned(graph, target, Wish()).chosen
    return chosen if chosen.ok else None


def _converted(graph: ModelGraph, plan: Plan, dataset: Dataset, kept: Path, progress: Progress) -> str:
    """Hash of the file that comes out of a plan, or nothing; `kept` gets the float model as it was quantized."""
    again = kept.with_name(f"again.{graph.format}")
    converter = backends.find("converters", graph.format)
    try:
        converter.convert(graph, plan, dataset, again, progress=progress, prepared=kept)
    except ConvertError:
        return ""
    return store.sha256(again)


def prepared_anew(graph: ModelGraph, folder: Path) -> Path:
    """The float model with weights restored and constants folded, no more; the file itself where nothing changes."""
    path = Path(graph.path)
    if graph.format == "onnx":
        from edgeq.converters.onnx import prepare

        model = prepare.load(path)
        prepare.restore_weights(model)
        prepare.save(prepare.prepared(model, folder, graph.path), folder / "prepared.onnx", graph.path)
        return folder / "prepared.onnx"
    from edgeq.converters import _flatbuffer as flatbuffer
    from edgeq.converters.tflite.restore import float_weights

    restored = flatbuffer.load(path)
    if not float_weights(restored):
        return path
    store.write_bytes(folder / "prepared.tflite", flatbuffer.dump(restored))
    return folder / "prepared.tflite"


def _files(graph: ModelGraph, prepared: Path, quantized: Path) -> Files:
    from edgeq.analysis.attribution import Files

    return Files(Path(graph.path), prepared, quantized, quantized)


def _attribute(files: Files, dataset: Dataset, graph: ModelGraph, samples: int, progress: Progress) -> Analysis:
    from edgeq.analysis import attribution

    numbers = chosen(dataset, samples)
    return attribution.attribute(files, datasets.samples(dataset, graph, numbers), len(numbers), progress=progress)


def chosen(dataset: Dataset, samples: int) -> list[int]:
    """As many scoring samples, evenly spread; calibration samples where there are none. Raises DatasetError."""
    pool = dataset.evaluation or dataset.calibration
    if not pool:
        raise DatasetError("holds no samples", where=dataset.path)
    count = min(samples, len(pool))
    return [pool[place * len(pool) // count] for place in range(count)]


def _write(folder: Path, found: Analysis) -> None:
    from edgeq.report import html

    store.write(folder / DOCUMENT, found)
    store.write_bytes(folder / REPORT, html.analysis(found).encode())
