"""Does `edgeq analyze` name the operator and the step in which a fault was planted?

`make bench-attribution`: 100 random plantings (fixed seeds) in real quantized models of both formats; writes a table
and build/attribution.json. A planting that changes the outputs by less than quantization itself does is invisible in
principle: its effect is measured before anybody is asked, and another is drawn. Needs ../shared/models.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import planting

from edgeq import backends, datasets, models, runtimes, workflow
from edgeq.analysis import attribution, rows
from edgeq.analysis.net import Net
from edgeq.errors import EdgeqError
from edgeq.runtimes import litert
from edgeq.types import Analysis, Dataset, ModelGraph, Plan
from edgeq.workflow.analyze import chosen, host_target

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("EDGEQ_SHARED", ROOT.parent / "shared")) / "models"
CASES = (
    "ic_resnet8/resnet8_float.tflite",
    "ic_resnet8/resnet8_float.onnx",
    "kws_dscnn/kws_float.tflite",
    "kws_dscnn/kws_float.onnx",
    "ad_autoencoder/ad_float.tflite",
    "ad_autoencoder/ad_float.onnx",
    "vww_mobilenetv1/vww_float.tflite",
    "vww_mobilenetv1/vww_float.onnx",
    "lstm_mnist/mnist_lstm_float.tflite",
    "sine_hello_world/hello_world_float.tflite",
    "seg_mobilenetv3/portrait_float.tflite",
    "det_fastestdet/fastestdet_float.onnx",
)
SHARES = {"quantized": 0.55, "prepared": 0.25, "runtime": 0.2}
SCHEME = "static_wi8_ai8"
SAMPLES = 4
DRAWS = 60
WANTED = 0.95


class Case(NamedTuple):
    """One healthy conversion."""

    name: str
    formats: Any
    graph: ModelGraph
    dataset: Dataset
    plan: Plan
    files: attribution.Files
    samples: list[Any]
    noise: float
    nets: dict[str, Net]
    places: dict[str, list[tuple[Any, str]]]
    answers: dict[str, Any]


class Planted(NamedTuple):
    """What was planted where, and what was said about it."""

    case: str
    step: str
    fault: str
    what: str
    operator: str
    said: str
    right: bool
    first_right: bool
    effect_db: float
    seconds: float


def main() -> int:
    """Plant, ask, count; 1 where fewer are right than wanted."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--step", choices=list(SHARES), help="only in this step")
    parser.add_argument("--case", action="append", help="only cases whose name holds this")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "attribution.json")
    asked = parser.parse_args()
    if not SHARED.is_dir():
        sys.exit(f"{SHARED} is absent: the real models are not part of the project")
    with tempfile.TemporaryDirectory(prefix="edgeq-attribution-") as folder:
        names = [name for name in CASES if not asked.case or any(part in name for part in asked.case)]
        cases = [_case(name, Path(folder) / str(place)) for place, name in enumerate(names)]
        healthy = [_healthy(case) for case in cases]
        found, invisible = _plant(cases, asked.step, asked.count, np.random.default_rng(asked.seed), Path(folder))
    _tell(found, invisible, healthy, asked.output)
    return 0 if sum(one.right for one in found) >= WANTED * len(found) else 1


def _case(name: str, folder: Path) -> Case:
    """Quantize one of the shared models and keep every step's file."""
    sys.stderr.write(f"quantizing {name}\n")
    path = SHARED / name
    folder.mkdir()
    graph = models.read(path)
    dataset = datasets.bind(datasets.load(str(path.parent / "dataset.yaml")), graph)
    plan = workflow.plan(path, host_target(), output=folder, wish=workflow.Wish(scheme=SCHEME))
    made = folder / f"quantized.{graph.format}"
    files = attribution.Files(path, _converted(graph, plan, dataset, made), made, made)
    numbers = chosen(dataset, SAMPLES)
    samples = list(datasets.samples(dataset, graph, numbers))
    formats = attribution._formats(made)
    noise = _difference(_answers(path, samples), _answers(made, samples))
    nets = {step: formats.load(getattr(files, step)) for step in ("floating", "prepared", "quantized")}
    answers = {step: _answers(getattr(files, step), samples) for step in ("prepared", "quantized")}
    return Case(
        name, formats, graph, dataset, plan, files, samples, noise, nets,
        {"prepared": _pieces(nets), "quantized": _measured(nets)}, answers,
    )  # fmt: skip


def _pieces(nets: dict[str, Net]) -> list[tuple[Any, str]]:
    """Operators of the prepared model that are compared with the original, and the names of their results."""
    found = rows.prepared_rows(nets["prepared"], nets["floating"])
    return [(row.part.operator, nets["prepared"].graph.tensors[row.part.goals[0]].name) for row in found]


def _measured(nets: dict[str, Net]) -> list[tuple[Any, str]]:
    """Operators of the quantized model that are measured, and the names of their results in the float model."""
    found = planting.plantable(rows.quantized_rows(nets["quantized"], nets["prepared"]))
    return [(row.part.operator, nets["prepared"].graph.tensors[row.goals[0]].name) for row in found]


def _converted(graph: ModelGraph, plan: Plan, dataset: Dataset, made: Path) -> Path:
    """Quantize to `made`; returns the float model as it was quantized."""
    kept = made.with_name(f"prepared.{graph.format}")
    backends.find("converters", graph.format).convert(graph, plan, dataset, made, prepared=kept)
    return kept if kept.is_file() else Path(graph.path)


def _healthy(case: Case) -> str:
    found = attribution.attribute(case.files, case.samples, len(case.samples))
    return "" if found.guilty is None else f"{case.name}: {found.guilty}"


def _answers(path: Path, samples: Sequence[Any]) -> list[np.ndarray[Any, Any]]:
    session = backends.find("runtimes", runtimes.BY_FORMAT[path.suffix[1:]]).open(path)
    return [answer for sample in samples for answer in runtimes.infer(session, sample)]


def _difference(one: Iterable[Any], other: Iterable[Any]) -> float:
    """Energy of the difference over the energy of the first, summed over outputs."""
    pairs = [(a.astype(np.float64), b.astype(np.float64)) for a, b in zip(one, other, strict=True)]
    return sum(float(((a - b) ** 2).sum()) for a, b in pairs) / max(sum(float((a**2).sum()) for a, _ in pairs), 1e-30)


def _plant(
    cases: Sequence[Case], only: str | None, count: int, random: np.random.Generator, folder: Path
) -> tuple[list[Planted], Counter[str]]:
    found: list[Planted] = []
    invisible: Counter[str] = Counter()
    steps, weights = list(SHARES), list(SHARES.values())
    for number in range(count):
        case = cases[number % len(cases)]
        step = only or str(random.choice(steps, p=weights))
        for draw in range(DRAWS):
            place = folder / f"planted-{number}-{draw}"
            place.mkdir()
            one = _one(case, step, random, place, invisible)
            if one is not None:
                found.append(one)
                sys.stderr.write(_line(one) + "\n")
                break
    return found, invisible


def _one(case: Case, step: str, random: np.random.Generator, folder: Path, invisible: Counter[str]) -> Planted | None:
    """One planting, or None where it cannot be planted or has no effect."""
    fault = planting.FAULTS[step][int(random.integers(len(planting.FAULTS[step])))]
    kind = "prepared" if step == "prepared" else "quantized"
    source = getattr(case.files, kind)
    net = Net(case.nets[kind].graph, case.formats.raw(source))
    operator, name = case.places[kind][int(random.integers(len(case.places[kind])))]
    path = folder / source.name
    try:
        what = fault(model := planting.editable(net), operator, random)
        model.save(path)
        if path.suffix == ".tflite":
            litert.open(path, kernels="reference")  # scales that contradict one another are refused there only
        effect = _difference(case.answers[kind], _answers(path, case.samples))
    except (planting.CannotPlantError, EdgeqError):
        return None
    if not math.isfinite(effect) or effect <= case.noise:
        invisible[step] += 1
        return None
    started = time.monotonic()
    said = attribution.attribute(_files(case, step, path, folder), case.samples, len(case.samples))
    return Planted(
        case.name, step, fault.__name__, what, f"{operator.type} {name}",
        _said(said), _names(said.guilty, step, name), _names(said.first_wrong, step, name),
        round(10 * math.log10(effect), 1), round(time.monotonic() - started, 2),
    )  # fmt: skip


def _files(case: Case, step: str, path: Path, folder: Path) -> attribution.Files:
    """The chain with the fault in one step; what is made from a faulty file is made as ever."""
    if step == "quantized":
        return case.files._replace(quantized=path, runtime=path)
    if step == "runtime":
        return case.files._replace(runtime=path)
    graph = models.read(path)
    made = folder / f"quantized.{graph.format}"
    plan = dataclasses.replace(case.plan, scheme=dataclasses.replace(case.plan.scheme, overrides={}))
    kept = _converted(graph, plan, datasets.bind(case.dataset, graph), made)
    return attribution.Files(case.files.floating, kept, made, made)


def _names(blame: Any, step: str, name: str) -> bool:
    return blame is not None and (blame.step, blame.name) == (step, name)


def _said(found: Analysis) -> str:
    blame = found.guilty
    return "nothing" if blame is None else f"{blame.step}: {blame.type} {blame.name}, {blame.excess_db:.0f} dB"


def _line(one: Planted) -> str:
    mark = "right" if one.right else "WRONG"
    return (
        f"{mark:5}  {one.case.split('/')[1]:26} {one.step:9} {one.what:32} {one.operator.split()[0]:18} "
        f"{one.effect_db:6.1f} dB  {one.seconds:5.1f} s" + ("" if one.right else f"  {one.operator} -> {one.said}")
    )


def _tell(found: Sequence[Planted], invisible: Counter[str], healthy: Sequence[str], output: Path) -> None:
    lines = [*map(_line, found), ""]
    for step in SHARES:
        of_step = [one for one in found if one.step == step]
        right = sum(one.right for one in of_step)
        lines.append(f"{step:10} {right} of {len(of_step)} right, {invisible[step]} were invisible")
    right, first = sum(one.right for one in found), sum(one.first_right for one in found)
    lines.append(f"{'all':10} {right} of {len(found)} right, wanted {WANTED:.0%}; first wrong: {first}")
    alarms = [line for line in healthy if line]
    lines += [f"{'healthy':10} {len(alarms)} false alarms in {len(healthy)} conversions", *alarms]
    sys.stdout.write("\n".join(lines) + "\n")
    document = {"right": right, "count": len(found), "invisible": invisible, "healthy": list(healthy),
                "plantings": [one._asdict() for one in found]}  # fmt: skip
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(document, indent=2) + "\n")


if __name__ == "__main__":
    sys.exit(main())
