"""How well latencies measured on one host predict one another, by the work that a plan counts.

Every model of ../shared (or EDGEQ_SHARED) and the shipped digits is planned as it stands (float in float, INT8 as it
came), its work counted, and timed with one thread. Then each is predicted from all the others of its format. Alone
(`.venv/bin/python tests/bench/predicted.py`) it prints every model; either way it writes build/predicted.json.
"""

from __future__ import annotations

import json
import platform
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
from measuring import ROOT, SHARED, Row

from edgeq import backends, models, planning, runtimes, targets
from edgeq.planning import rates
from edgeq.runtimes import Session
from edgeq.types import Observation, Roofline

TARGET = f"generic-linux-{platform.machine()}"
NAMES = {"tflite": "TFLite", "onnx": "ONNX"}
FIGURES = ("measured ms", "predicted ms", "error")
ROUNDS, SECONDS, LEAST_RUNS = 3, 0.2, 5


class Predicted(NamedTuple):
    """One model: what it took, and what all the others of its format say that it takes."""

    model: str
    format: str
    state: str
    measured_ms: float
    predicted_ms: float
    work: dict[str, float]

    @property
    def error(self) -> float:
        """Relative, 0 for none; -0.5 is half of what was measured."""
        return self.predicted_ms / self.measured_ms - 1


class Timed(NamedTuple):
    """One model, and what was observed of it."""

    model: str
    format: str
    state: str
    seen: Observation


def rows() -> Iterator[Row]:
    """The median error of each format: figures to look at, without a bar."""
    yield from _medians(every())


def every() -> list[Predicted]:
    """Measure and predict all models; writes build/predicted.json."""
    roofline = targets.load(TARGET).roofline
    timed = _timed(_files())
    found = [
        one for format in NAMES for one in _from_others([each for each in timed if each.format == format], roofline)
    ]
    document = {
        "schema_version": 1,
        "models": [{**one._asdict(), "error": one.error} for one in found],
        "seconds_per_unit": {format: _fitted(timed, format) for format in NAMES},
    }
    out = ROOT / "build" / "predicted.json"
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps(document, indent=2) + "\n")
    return found


def _files() -> list[Path]:
    """Partly quantized files stay out: a plan restores them first, and runs another one."""
    folders = [*SHARED.glob("*"), ROOT / "examples" / "digits"]
    found = (path for folder in folders for format in NAMES for path in folder.glob(f"*.{format}"))
    return sorted(path for path in found if models.read(path).state in ("float", "quantized"))


def _timed(paths: Sequence[Path]) -> list[Timed]:
    """The least of some medians, each of a round over all models: what else the host does only adds."""
    sessions = [_open(path) for path in paths]
    rounds = [[_median_seconds(session) for session in sessions] for _ in range(ROUNDS)]
    return [_one(path, min(each)) for path, each in zip(paths, zip(*rounds, strict=True), strict=True)]


def _open(path: Path) -> Session:
    runtime = backends.find("runtimes", runtimes.BY_FORMAT[path.suffix[1:]])
    return cast(Session, runtime.open(path, threads=1))


def _median_seconds(session: Session) -> float:
    """Processor time of the one thread that computes: waiting for its turn does not count."""
    feeds = [np.zeros([max(size, 1) for size in port.shape], port.dtype) for port in session.inputs]
    for _ in range(3):
        session.run(feeds)
    taken: list[float] = []
    while sum(taken) < SECONDS or len(taken) < LEAST_RUNS:
        started = time.thread_time()
        session.run(feeds)
        taken.append(time.thread_time() - started)
    return statistics.median(taken)


def _one(path: Path, seconds: float) -> Timed:
    graph, target = models.read(path), targets.load(TARGET)
    scheme = "float32" if graph.state == "float" else "as_is"
    plan = planning.choose(graph, target, targets.load_tables(target), scheme=scheme)
    seen = Observation(
        runtime=plan.runtime,
        artifact_sha256=graph.sha256,
        device="",
        date="",
        latency_ms=1000 * seconds,
        work=plan.predicted.work,
    )
    return Timed(path.stem, graph.format, graph.state, seen)


def _from_others(timed: Sequence[Timed], roofline: Roofline | None) -> Iterator[Predicted]:
    if len(timed) < 2:
        return
    for place, (model, format, state, one) in enumerate(timed):
        others = [other.seen for other in (*timed[:place], *timed[place + 1 :])]
        guess_ms = 1000 * rates.seconds(one.work, rates.fit(others, roofline))
        yield Predicted(model, format, state, one.latency_ms, guess_ms, one.work)


def _fitted(timed: Sequence[Timed], format: str) -> dict[str, float]:
    """What each kind of work costs by all models of a format, from the general starting point."""
    seen = [one.seen for one in timed if one.format == format]
    return dict(rates.fit(seen, None)) if seen else {}


def _medians(found: Sequence[Predicted]) -> Iterator[Row]:
    for format, name in NAMES.items():
        errors = [abs(one.error) for one in found if one.format == format]
        if errors:
            what = f"latency of {len(errors)} {name} models, each predicted from the others"
            yield Row(what, 100 * statistics.median(errors), None, "% off (median)", "-", True)


def main() -> int:
    """Print every model, and the median of each format."""
    from rich.console import Console
    from rich.table import Column, Table

    found = every()
    shown = Table("model", "format", "state", *(Column(name, justify="right") for name in FIGURES))
    for one in found:
        figures = f"{one.measured_ms:.4f}", f"{one.predicted_ms:.4f}", f"{one.error:+.0%}"
        shown.add_row(one.model, NAMES[one.format], one.state, *figures)
    Console(width=120).print(shown)
    for row in _medians(found):
        sys.stdout.write(f"{row.what}: {row.edgeq:.0f} {row.unit}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
