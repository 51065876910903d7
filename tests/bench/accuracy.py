"""`make bench-accuracy`: INT8 by edgeq and by its peers on the same models and samples, scored by one program.

Every model of ../shared (or EDGEQ_SHARED) in every format; then the same with rescaled channels; then 8-bit and 4-bit
weights of the recurrent cell and the transformer. Each tool runs in a process of its own, the peers in environments
of their own below build/peers where these can be made. `scored.py`, which imports nothing of edgeq, scores all files.
Writes build/accuracy.json and build/accuracy.md and ends with 1 when a bar is missed.

With --case, --format or --section only that part runs, and its rows replace those of the same models in the file.
"""

from __future__ import annotations

import argparse
import datetime
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import accuracy_tables
import contenders
import numpy as np
import published
import scored
import verdicts
from accuracy_rows import Job, Row, Scorer, started
from measuring import ROOT, SHARED

SECTIONS = ("models", "rescaled", "weights")
RESCALED = ("ic_resnet8", "vww_mobilenetv1", "kws_dscnn")
HARD = ("lstm_mnist", "text_minilm_l3")
KEPT_CODES = (0, 3)
"""edgeq writes its best file too where no scheme keeps the accuracy (3)."""


def main(words: Sequence[str] | None = None) -> int:
    """Run what was asked for."""
    asked = _arguments(words)
    if not asked.models.is_dir():
        sys.stderr.write(f"error: {asked.models} is absent\n  hint: --models FOLDER\n")
        return 2
    chosen = list(_jobs(asked))
    if not chosen:
        sys.stderr.write("error: no model matches\n")
        return 2
    document = _before(asked)
    for job in chosen:
        with tempfile.TemporaryDirectory(prefix="edgeq-accuracy-") as folder:
            found = _measured(job, Path(folder), install=not asked.no_install)
        _put(document, job, found)
        accuracy_tables.write(document, asked.output)
    sys.stdout.write("\n".join(accuracy_tables.lines(document)) + "\n")
    return 0 if all(one["holds"] is not False for one in verdicts.bars(document)) else 1


def _arguments(words: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="INT8 by edgeq and by its peers, on the same models and samples")
    parser.add_argument("--models", type=Path, default=SHARED, help="folder of folders with models and a dataset.yaml")
    parser.add_argument("--case", action="append", default=[], metavar="NAME", help="part of a case's name; again")
    parser.add_argument("--format", choices=("tflite", "onnx"))
    parser.add_argument("--section", action="append", default=[], choices=SECTIONS)
    parser.add_argument("--no-install", action="store_true", help="make no environments for peers")
    parser.add_argument("--output", type=Path, default=ROOT / "build" / "accuracy.json")
    return parser.parse_args(words)


# --- what is run -----------------------------------------------------------------------------


def _jobs(asked: argparse.Namespace) -> Iterator[Job]:
    for section in asked.section or SECTIONS:
        for dataset in sorted(asked.models.glob("*/dataset.yaml")):
            case = dataset.parent.name
            named = not asked.case or any(part in case for part in asked.case)
            for model in sorted(dataset.parent.glob("*_float.*"), reverse=True) if named else ():
                if asked.format in (None, model.suffix[1:]) and _belongs(section, case):
                    yield _job(section, case, model, dataset)


def _belongs(section: str, case: str) -> bool:
    return section == "models" or case in (RESCALED if section == "rescaled" else HARD)


def _job(section: str, case: str, model: Path, dataset: Path) -> Job:
    own = section == "models" and model.suffix == ".tflite"
    references = sorted(model.parent.glob("*_reference_*.tflite")) if own else []
    keras = sorted(model.parent.glob("*.h5")) if own else []
    return Job(section, case, model, dataset, next(iter(references), None), next(iter(keras), None))


def _measured(job: Job, folder: Path, *, install: bool) -> verdicts.Compared:
    """The rows of one model, float first, and edgeq's last, with what is said of them."""
    if job.section == "rescaled":
        job = _with_rescaled(job, folder)
    scorer = Scorer(job, folder)
    rows = [scorer.row("float", job.model)]
    if job.reference is not None:
        rows.append(scorer.row("reference", job.reference))
    if job.section != "weights":
        rows += _peers(job, scorer, folder, rows[0], install=install)
    edgeqs = {**contenders.EDGEQ_STATIC, **(contenders.EDGEQ_SCHEMES if job.section == "weights" else {})}
    rows += [_edgeq(job, scorer, folder, name, words) for name, words in edgeqs.items()]
    return verdicts.compared(rows, scorer)


def _with_rescaled(job: Job, folder: Path) -> Job:
    from edgeq.testing.rescaled import rescaled

    made = folder / f"rescaled{job.model.suffix}"
    rescaled(job.model, made, both_ways=True)
    return Job(job.section, job.case, made, job.dataset)


def _peers(job: Job, scorer: Scorer, folder: Path, plain: Row, *, install: bool) -> list[Row]:
    samples = _stored_samples(scorer.samples, folder / "samples")
    figures = published.figures() if job.section == "models" else {}
    rows = []
    for peer in contenders.PEERS:
        if peer.format == job.format and (not peer.only_with or peer.only_with in (plain.in_float or {})):
            row = _peer(job, scorer, samples, folder, peer, install=install)
            row.read = figures.get((job.case, peer.name), {})
            rows.append(row)
    shutil.rmtree(samples)
    return rows


def _stored_samples(samples: scored.Samples, folder: Path) -> Path:
    """Calibration samples as every peer reads them: one array for each input."""
    folder.mkdir()
    numbers = samples.part("calibration")
    for place in range(len(samples.sources)):
        np.save(folder / f"input-{place}.npy", np.concatenate([samples.one(index)[place] for index in numbers]))
    return folder


def _peer(job: Job, scorer: Scorer, samples: Path, folder: Path, peer: contenders.Peer, *, install: bool) -> Row:
    seat = contenders.seat(peer, install=install)
    if seat.python is None:
        return scorer.failed(peer.name, seat.told)
    model = job.keras if peer.name == "tf_ptq" and job.keras is not None else job.model
    out = folder / f"{peer.name}.{job.format}"
    argv = contenders.peer_argv(peer, seat.python, model, samples, out)
    ran = started(argv)
    if isinstance(ran, str):
        return scorer.failed(peer.name, f"fails: {ran}", environment=seat.told)
    told = json.loads(ran.out.strip().splitlines()[-1])
    return scorer.row(peer.name, out, ran, environment=seat.told, **told)


def _edgeq(job: Job, scorer: Scorer, folder: Path, name: str, words: Sequence[str]) -> Row:
    out = folder / name.replace(" ", "-")
    ran = started(contenders.edgeq_argv(words, job.model, job.dataset, out), accepted=KEPT_CODES)
    if isinstance(ran, str):
        return scorer.failed(name, f"fails: {ran}")
    answer = json.loads(ran.out)
    if "artifact" not in answer:
        return scorer.failed(name, "no plan")
    settings = {key: answer["plan"].get(key) for key in ("scheme", "ranges")}
    notes = [" ".join(str(value) for value in settings.values() if value), *map(str, answer["notes"])]
    return scorer.row(name, out / answer["artifact"]["path"], ran, versions=answer["tools"], notes=notes)


# --- results ---------------------------------------------------------------------------------


def _before(asked: argparse.Namespace) -> dict[str, Any]:
    """An empty document, or the one that this part belongs to."""
    is_part = bool(asked.case or asked.format or asked.section)
    if is_part and asked.output.is_file():
        return dict(json.loads(asked.output.read_text()))
    return {"schema_version": 1, "host": accuracy_tables.host(), "models": []}


def _put(document: dict[str, Any], job: Job, found: verdicts.Compared) -> None:
    """Replace a model's entry."""
    key = {"section": job.section, "case": job.case, "format": job.format}
    document["models"] = [one for one in document["models"] if any(one[name] != key[name] for name in key)]
    when = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    rows = [asdict(row) for row in found.rows]
    said = [one._asdict() for one in found.verdicts]
    document["models"].append({**key, "when": when, "chance": found.chance, "rows": rows, "verdicts": said})
    document["models"].sort(key=lambda one: (SECTIONS.index(one["section"]), one["case"], one["format"]))


if __name__ == "__main__":
    sys.exit(main())
