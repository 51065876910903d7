"""`make bench-doctor`: faults planted in the eleven cases of ../shared, and how many the calibration doctor finds.

Each case is split anew at random into calibration and scored samples that do not overlap; then one fault at a time is
planted and the doctor looks. Whether a fault means anything is decided first, without the doctor (see `effect`): a
fault that changes neither the float model's score nor the ranges of its activations cannot be seen in principle, and is
counted apart. False alarms are warnings about random splits with nothing planted.

Prints Markdown, writes build/doctor.json, ends with 1 when a bar is missed. `--cases`, `--faults` take names.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from doctor_faults import FAULTS, Fault, Material

from edgeq import datasets, models, search
from edgeq.datasets import feeding
from edgeq.errors import DatasetError
from edgeq.evaluation import scoring
from edgeq.evaluation.doctor import activations, answers, coverage, quality
from edgeq.evaluation.metrics import METRICS
from edgeq.types import Dataset, InputSpec, LabelSpec, ModelGraph
from edgeq.workflow import diagnosis

ROOT = Path(__file__).resolve().parents[2]
SHARED = Path(os.environ.get("EDGEQ_SHARED", ROOT.parent / "shared")) / "models"
CASES = {
    "kws_dscnn": "kws_float.tflite",
    "ic_resnet8": "resnet8_float.tflite",
    "vww_mobilenetv1": "vww_float.tflite",
    "ad_autoencoder": "ad_float.tflite",
    "imagenet_mobilenetv2": "mobilenet_v2_float.onnx",
    "lstm_mnist": "mnist_lstm_float.tflite",
    "seg_mobilenetv3": "portrait_float.tflite",
    "sr_espcn": "espcn_float.tflite",
    "sine_hello_world": "hello_world_float.tflite",
    "text_minilm_l3": "minilm_l3_float.onnx",
    "det_fastestdet": "fastestdet_float.onnx",
}
MOST = 400
LARGE_BYTES = 24 << 20  # of stored samples: a few large pictures say as much as many
REACHED = 0.75
"""A calibration set is faulty by effect when its ranges differ by more than this ratio on average."""
CERTAIN = 3.0
FOUND, FALSE_ALARMS = 0.95, 0.05


class Case(NamedTuple):
    """One real model with samples of its own, as they are stored."""

    name: str
    graph: ModelGraph
    session: Any
    material: Material
    calibrating: int


class Result(NamedTuple):
    """What came of one planted fault, or of nothing planted (`fault` is empty)."""

    case: str
    fault: str
    meaningful: bool
    effect: str
    found: bool
    named: bool
    rules: tuple[str, ...]
    seconds: float


def main() -> int:
    """Plant every fault in every case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--faults", nargs="*", default=[fault.name for fault in FAULTS])
    parser.add_argument("--clean", type=int, default=5, help="random splits of each case with nothing planted")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, default=ROOT / "build" / "doctor.json")
    wanted = parser.parse_args()
    if not SHARED.is_dir():
        sys.stderr.write(f"nothing to do: {SHARED} is absent\n")
        return 0
    results: list[Result] = []
    for name in wanted.cases:
        case = load(name)
        for result in (*_clean(case, wanted.clean, wanted.seed), *_planted(case, wanted.faults, wanted.seed)):
            results.append(result)
    lines, ok = summary(results)
    sys.stdout.write("\n".join(lines) + "\n")
    wanted.json.parent.mkdir(exist_ok=True)
    document = {"schema_version": 1, "results": [result._asdict() for result in results]}
    wanted.json.write_text(json.dumps(document, indent=2) + "\n")
    return 0 if ok else 1


def load(name: str) -> Case:
    """A case with as many of its samples as are needed, each of them once."""
    graph = models.read(SHARED / name / CASES[name])
    dataset = datasets.bind(datasets.load(str(SHARED / name / "dataset.yaml")), graph)
    session = search.open_session(graph.format, Path(graph.path))
    numbers = _distinct(dataset)
    with feeding.opened(dataset) as sources:
        arrays = [np.stack([source.read(number) for number in numbers]) for source in sources]
    labels = datasets.labels(dataset, numbers) if dataset.labels else None
    material = Material(
        inputs=tuple(arrays),
        specs=dataset.inputs,
        labels=labels,
        label_spec=dataclasses.replace(dataset.labels, scale=None) if dataset.labels else None,
        metric=dataset.metric,
        label_is_input=_source(dataset.labels) == _source(dataset.inputs[0]) != (None, None),
    )
    share = len(dataset.calibration) / (len(dataset.calibration) + len(dataset.evaluation))
    return Case(name, graph, session, material, max(4, min(len(dataset.calibration), round(share * len(numbers)))))


def _source(spec: InputSpec | LabelSpec | None) -> tuple[str | None, str | None]:
    return (spec.npz, spec.array) if spec else (None, None)


def _distinct(dataset: Dataset) -> list[int]:
    """Numbers of samples whose content no other has (pairs: both rows), at most `MOST` and some MiB of them."""
    width = 2 if dataset.metric == "pair_spearman" else 1
    seen: set[bytes] = set()
    numbers: list[int] = []
    with feeding.opened(dataset) as sources:
        size = sum(source.read(0).nbytes for source in sources)
        most = min(MOST, max(64, LARGE_BYTES // size)) // width
        units = np.random.default_rng(0).permutation(dataset.count // width)
        for unit in units:
            rows = range(width * unit, width * unit + width)
            contents = {b"".join(source.read(row).tobytes() for source in sources) for row in rows}
            if len(contents) == width and not contents & seen and len(numbers) < width * most:
                seen |= contents
                numbers += rows
    return numbers


def split(case: Case, seed: int) -> Material:
    """The case's samples with a random choice of those that calibrate; the others are scored."""
    random = np.random.default_rng((seed, *case.name.encode()))
    width = 2 if case.material.metric == "pair_spearman" else 1
    units = random.permutation(len(case.material.inputs[0]) // width)
    rows = [int(width * unit + k) for unit in units for k in range(width)]
    scored = sorted(rows[case.calibrating :]) if width == 1 else _sorted_pairs(rows[case.calibrating :])
    return case.material._replace(calibration=tuple(sorted(rows[: case.calibrating])), evaluation=tuple(scored))


def _sorted_pairs(rows: list[int]) -> list[int]:
    whole = sorted({row // 2 for row in rows if row ^ 1 in set(rows)})
    return [2 * pair + k for pair in whole for k in range(2)]


def _clean(case: Case, times: int, seed: int) -> Iterator[Result]:
    for number in range(times):
        material = split(case, 1000 + 100 * seed + number)
        rules, seconds = look(case, material)
        result = Result(case.name, "", False, "nothing planted", bool(rules), False, rules, seconds)
        _tell(result)
        yield result


def _planted(case: Case, names: list[str], seed: int) -> Iterator[Result]:
    for fault in FAULTS:
        if fault.name not in names:
            continue
        material = split(case, seed)
        random = np.random.default_rng((seed, *fault.name.encode()))
        broken = fault.plant(material, random)
        if broken is None:
            continue
        meaningful, why = effect(case, fault, material, broken)
        rules, seconds = look(case, broken)
        found = bool(set(rules) & fault.finds)
        result = Result(case.name, fault.name, meaningful, why, found, bool(set(rules) & fault.names), rules, seconds)
        _tell(result)
        yield result


def _tell(result: Result) -> None:
    sys.stderr.write(
        f"{result.case} {result.fault or 'clean'}: {result.effect}; "
        f"{'means something' if result.meaningful else '-'}; {'found' if result.found else 'nothing'} "
        f"{', '.join(result.rules)} ({result.seconds:.0f} s)\n"
    )
    sys.stderr.flush()


def look(case: Case, material: Material) -> tuple[tuple[str, ...], float]:
    """Rules that warn, and seconds; a dataset that is refused outright counts as `refused`."""
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="edgeq-bench-doctor-") as folder:
        try:
            dataset = material.write(Path(folder), case.graph)
            found = list(diagnosis.examine(case.graph, dataset))
        except DatasetError:
            return ("refused",), time.perf_counter() - started
    rules = tuple(sorted({one.rule for one in found if one.severity != "note"}))
    return rules, time.perf_counter() - started


def effect(case: Case, fault: Fault, clean: Material, broken: Material) -> tuple[bool, str]:
    """Whether a fault does anything, seen without the doctor.

    `always`: it is one by what it is (a sample twice in the set). `score`: the float model's own metric falls by more
    than three times what edgeq tolerates by default, and the samples' fit falls by three standard errors. `ranges`: the
    calibration samples' ranges differ from the scored ones' by a quarter, on average over activations.
    """
    if fault.matters == "always":
        return True, "a fault by what it is"
    with tempfile.TemporaryDirectory(prefix="edgeq-bench-doctor-") as folder:
        parts = [Path(folder) / name for name in ("clean", "broken")]
        for part in parts:
            part.mkdir()
        try:
            pair = [material.write(part, case.graph) for material, part in zip((clean, broken), parts, strict=True)]
        except DatasetError as error:
            return True, f"refused: {error.message}"
        if fault.matters == "score":
            return _score_effect(case, *pair)
        return _range_effect(case, pair[1])


def _score_effect(case: Case, clean: Dataset, broken: Dataset) -> tuple[bool, str]:
    outputs = [scoring.collect(case.session, one, case.graph, one.evaluation) for one in (clean, broken)]
    metric = METRICS[clean.metric]
    if not metric.needs_labels:
        score = metric.score(outputs[1][0], outputs[0][0], LabelSpec())
        return bool(score < 1 - metric.tolerance(1.0, np.zeros(1))), f"{clean.metric} {score:.3f}"
    scores, fits = [], []
    for dataset, found in zip((clean, broken), outputs, strict=True):
        labels = datasets.labels(dataset, dataset.evaluation)
        scores.append(metric.score(np.nan_to_num(found[0]), labels, dataset.labels or LabelSpec()))
        fits.append(answers.Answers(dataset, dataset.evaluation, np.nan_to_num(found[0]), labels).fit())
    drop = scoring.drop(clean.metric, *scores)
    tolerance = metric.tolerance(scores[0], datasets.labels(clean, clean.evaluation))
    loss = quality.paired(fits[0], fits[1])
    return bool(drop > 3 * tolerance and loss.z > CERTAIN), f"{clean.metric} {scores[0]:.4g} -> {scores[1]:.4g}"


def _range_effect(case: Case, broken: Dataset) -> tuple[bool, str]:
    numbers = [*broken.calibration, *broken.evaluation[:128]]
    with activations.probing(case.graph) as probe:
        rows = np.array([probe.read(sample) for sample in datasets.samples(broken, case.graph, numbers)])
    count = len(broken.calibration)
    own, scored = (np.subtract(*reversed(coverage.ends(part))) for part in (rows[:count], rows[count:]))
    used = np.isfinite(own) & np.isfinite(scored) & (scored > 0)
    gap = float(np.abs(np.log2(np.maximum(own[used], 1e-3 * scored[used]) / scored[used])).mean())
    return bool(gap > -np.log2(REACHED)), f"ranges differ by a factor of {2**gap:.2f}"


def summary(results: list[Result]) -> tuple[list[str], bool]:
    """Markdown, and whether both bars hold."""
    planted = [result for result in results if result.fault]
    meant = [result for result in planted if result.meaningful]
    clean = [result for result in results if not result.fault]
    alarms = [result for result in clean if result.found]
    cases = list(dict.fromkeys(result.case for result in results))
    lines = ["| fault | " + " | ".join(cases) + " |", "|---|" + "---|" * len(cases)]
    for fault in dict.fromkeys(result.fault for result in planted):
        cells = {result.case: _cell(result) for result in planted if result.fault == fault}
        lines.append(f"| {fault} | " + " | ".join(cells.get(case, "") for case in cases) + " |")
    found, named = sum(result.found for result in meant), sum(result.named for result in meant)
    share, rate = found / max(len(meant), 1), len(alarms) / max(len(clean), 1)
    lines += [
        "",
        "yes: found and named; part: found, but under another name; MISSED; (brackets): no effect, not counted",
        f"{len(meant)} faults that mean something, {found} found ({share:.1%}), {named} by their own name",
        f"{len(planted) - len(meant)} without effect, {sum(one.found for one in planted if not one.meaningful)} found",
        f"{len(clean)} clean splits, {len(alarms)} false alarms ({rate:.1%})",
    ]
    return lines, share >= FOUND and rate <= FALSE_ALARMS


def _cell(result: Result) -> str:
    word = "yes" if result.named else "part" if result.found else "MISSED" if result.meaningful else "no"
    return word if result.meaningful else f"({word})"


if __name__ == "__main__":
    sys.exit(main())
