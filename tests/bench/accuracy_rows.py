"""What `make bench-accuracy` keeps of each tool on each model, and how a file's figures are made."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Container, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import metrics
import numpy as np
import scored
from measuring import Ran, run

HERE = Path(__file__).resolve().parent
LIMIT_S = 900


@dataclass(frozen=True)
class Job:
    """One float model in one format; `reference` is a published INT8 file, `keras` the same network for TensorFlow."""

    section: str
    case: str
    model: Path
    dataset: Path
    reference: Path | None = None
    keras: Path | None = None

    @property
    def format(self) -> str:
        """tflite or onnx."""
        return self.model.suffix[1:]


@dataclass
class Row:
    """What one tool made of one model; without a score, `problem` says why."""

    section: str
    case: str
    format: str
    tool: str
    metric: str = ""
    samples: int = 0
    score: float | None = None
    drop: float | None = None
    noise: float | None = None
    sqnr_db: float | None = None
    plain_score: float | None = None
    plain_sqnr_db: float | None = None
    size_bytes: int | None = None
    share: float | None = None
    seconds: float | None = None
    peak_mb: float | None = None
    in_float: dict[str, int] | None = None
    versions: dict[str, str] = field(default_factory=dict)
    environment: str = ""
    notes: list[str] = field(default_factory=list)
    problem: str = ""
    read: dict[str, float] = field(default_factory=dict)


def started(argv: Sequence[object], accepted: Container[int] = (0,)) -> Ran | str:
    """What came of it, or why nothing did."""
    sys.stderr.write(f"  {' '.join(map(str, argv[1:4]))} ...\n")
    try:
        return run(argv, accepted=accepted, limit_s=LIMIT_S)
    except subprocess.TimeoutExpired:
        return f"no end after {LIMIT_S} s"
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout or "").strip().splitlines()
        return said[-1][:200] if said else f"code {error.returncode}"


class Scorer:
    """Answers and rows of one model's files; the float model's are what all others are held against."""

    def __init__(self, job: Job, folder: Path) -> None:
        self.job, self.folder = job, folder
        self.samples = scored.Samples(job.dataset)
        self.metric = str(self.samples.settings["metric"])
        self.indices = self.samples.part("evaluation")
        self.parts: dict[str, np.ndarray] = {}
        self.energies: dict[str, np.ndarray] = {}
        self._float: np.ndarray | None = None

    def row(self, tool: str, file: Path, ran: Ran | None = None, **more: Any) -> Row:
        """A file's figures; a file that the runtime refuses has a row that says so."""
        answered = self._answers(file)
        if isinstance(answered, str):
            return self.failed(tool, f"cannot be run: {answered}")
        outputs, in_float = answered
        self._float = outputs if self._float is None else self._float
        row = self._filled(Row(**self._named(tool), in_float=in_float, **more), outputs)
        if file.suffix == ".onnx" and tool != "float":
            row.plain_score, row.plain_sqnr_db = self._plain(file)
        row.size_bytes = file.stat().st_size
        row.share = row.size_bytes / self.job.model.stat().st_size
        if ran is not None:
            row.seconds, row.peak_mb = round(ran.seconds, 2), round(ran.peak_rss_bytes / 1e6, 1)
        return row

    def failed(self, tool: str, problem: str, environment: str = "") -> Row:
        """A row without figures."""
        return Row(**self._named(tool), problem=problem, environment=environment)

    def _named(self, tool: str) -> dict[str, Any]:
        job = self.job
        return {
            "section": job.section,
            "case": job.case,
            "format": job.format,
            "tool": tool,
            "metric": self.metric,
            "samples": len(self.indices),
        }

    def _answers(self, file: Path, *words: str) -> tuple[np.ndarray, dict[str, int]] | str:
        out = self.folder / "answers.npy"
        ran = started([sys.executable, HERE / "scored.py", file, self.job.dataset, out, *words])
        return ran if isinstance(ran, str) else (np.load(out), json.loads(ran.out.strip().splitlines()[-1]))

    def _filled(self, row: Row, outputs: np.ndarray) -> Row:
        own = self.parts[row.tool] = self._rows(outputs)
        self.energies[row.tool] = metrics.energies(self._reference(), outputs)
        row.score = metrics.score(self.metric, own)
        row.drop = metrics.drop(self.metric, metrics.score(self.metric, self.parts["float"]), row.score)
        row.noise = self.noise(row.tool, "float") if row.tool != "float" else self.spread()
        row.sqnr_db = None if row.tool == "float" else metrics.sqnr_db(self.energies[row.tool])
        return row

    def _plain(self, file: Path) -> tuple[float, float] | tuple[None, None]:
        answered = self._answers(file, "--plain")
        if isinstance(answered, str):
            return None, None
        energies = metrics.energies(self._reference(), answered[0])
        return metrics.score(self.metric, self._rows(answered[0])), metrics.sqnr_db(energies)

    def _reference(self) -> np.ndarray:
        if self._float is None:
            raise RuntimeError("the float model comes first")
        return self._float

    def _rows(self, outputs: np.ndarray) -> np.ndarray:
        truth = self._reference() if self.metric == "cosine" else self.samples.truth(self.indices)
        return metrics.parts(self.metric, outputs, truth, self.samples.settings.get("labels"))

    def chance(self) -> float:
        """What naming the most frequent class scores; 0 for other metrics."""
        if self.metric != "top1":
            return 0.0
        truth = self.samples.truth(self.indices)
        return float(np.unique(truth, return_counts=True)[1].max() / len(self.indices))

    def spread(self) -> float:
        """Noise of the float score itself."""
        return metrics.noise(self.parts["float"], lambda rows: metrics.score(self.metric, rows))

    def noise(self, one: str, other: str) -> float:
        """Noise of the difference of two tools' scores on the same samples."""
        sides = np.stack([self.parts[one], self.parts[other]], axis=1)
        return metrics.noise(
            sides, lambda rows: metrics.score(self.metric, rows[:, 0]) - metrics.score(self.metric, rows[:, 1])
        )
