"""Plan, convert, score, again and again, until the accuracy holds.

The order is that of the plans, the cheapest first. When every integer plan lost too much, the operators that lose most
are measured and kept in float, more and more of them; only then come plans that compute in float throughout.
`trying` is one candidate, `workers` several at a time, `kept` those of a search that was cut short, `islands` what is
kept in float, `front` how all of them compare.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq import store
from edgeq.errors import ConvertError
from edgeq.search import front, kept, workers
from edgeq.search import islands as islets
from edgeq.search.islands import Island
from edgeq.search.trying import Attempt, Job, attempt, open_session, write_answers
from edgeq.types import Cpu, Dataset, ModelGraph, Plan, Progress, QuantizedModel, Rejected, silent

if TYPE_CHECKING:
    from edgeq.evaluation.scoring import Outputs

__all__ = ["open_session", "search"]

FIRST_ISLANDS = 4
WORTH_DB = 1.0
"""What the first candidates with islands must bring: below it noise comes from everywhere, and more do not help."""
_BASES = ("static_wi8_ai8", "static_wi8_ai8_per_tensor")
"""Schemes that get islands."""


class _Run:
    """A search under way: what was tried so far, and how more is tried."""

    def __init__(self, job: Job, count: int, progress: Progress) -> None:
        self.job, self.count, self.progress = job, count, progress
        self.attempts: list[Attempt] = []

    @property
    def winner(self) -> Attempt | None:
        """The attempt that holds, if the last one does."""
        return self.attempts[-1] if self.attempts and self.attempts[-1].ok else None

    def through(self, plans: Sequence[Plan]) -> None:
        """Try plans in their order up to the first that holds."""
        if self.winner or not plans:
            return
        first = [] if self.attempts else plans[:1]
        for one in self._answers(first, plans[len(first) :]):
            self.attempts.append(one)
            if one.ok:
                return

    def _answers(self, here: Sequence[Plan], there: Sequence[Plan]) -> Iterator[Attempt]:
        """The first ever in this process: usually it holds, and its progress can be shown."""
        if self.count < 2:
            here, there = [*here, *there], []
        yield from (one_attempt(self.job, plan, self.progress) for plan in here)
        calls = [functools.partial(one_attempt, self.job, plan, workers.heed) for plan in there]
        done, total = len(self.attempts), len(self.attempts) + len(there)
        with contextlib.closing(workers.in_order(calls, self.count)) as found:
            for number, (plan, one) in enumerate(zip(there, found, strict=True)):
                self.progress("trying schemes", done + number, total)
                yield one if isinstance(one, Attempt) else Attempt(plan, kept.file_of(self.job, plan), why=str(one))
        if there:
            self.progress("trying schemes", total, total)


def one_attempt(job: Job, plan: Plan, progress: Progress = silent) -> Attempt:
    """The attempt that an earlier search finished, or a new one."""
    before = kept.load(job, plan)
    if before is not None:
        return before
    made = attempt(job, plan, kept.file_of(job, plan), progress)
    kept.save(made)
    return made


def search(
    graph: ModelGraph,
    plans: Sequence[Plan],
    dataset: Dataset,
    out: Path,
    *,
    max_drop: float | None = None,
    min_sqnr_db: float | None = None,
    progress: Progress = silent,
    hear: Callable[[Outputs], None] | None = None,
    island: Island | None = None,
    keep: Path | None = None,
    processes: int = 1,
    cpu: Cpu | None = None,
) -> QuantizedModel:
    """Convert by each plan in turn until one holds; the model goes to `out`.

    One holds that loses no more than `max_drop` (None: the metric's own tolerance) and has an SQNR of `min_sqnr_db` at
    every output. When none holds, the most accurate one is kept and its `accuracy.ok` is False. `tried` lists what was
    given up and why, the plan's `trials` every candidate with its scores. Raises ConvertError when nothing could be
    converted.
    `hear` is told the float model's answers before anything is converted, and may raise. `island` makes a plan with
    operators in float; without it there are none. `keep` is a folder in which attempts outlive this process, taken up
    again by the next call with the same one. With several `processes`, what follows the first plan is tried at once;
    the answer is the same. `cpu` is the target's: notes say where this host's kernels compute otherwise.
    """
    with _folder(keep) as folder:
        reference = _float_outputs(graph, plans[0], dataset, progress)
        if hear is not None and reference is not None:
            hear(reference)
        files = None if reference is None else write_answers(reference, folder)
        del reference
        gates = {"max_drop": max_drop, "min_sqnr_db": min_sqnr_db}
        job = Job(graph=graph, dataset=dataset, folder=folder, reference=files, cpu=cpu, **gates)
        run = _Run(job, processes, progress)
        early = list(itertools.takewhile(_is_integer, plans))
        run.through(early)
        if island is not None:
            _with_islands(run, island)
        run.through(plans[len(early) :])
        return _answer(run, out)


@contextlib.contextmanager
def _folder(keep: Path | None) -> Iterator[Path]:
    if keep is not None:
        yield store.make_folder(keep)
        return
    with tempfile.TemporaryDirectory(prefix="edgeq-search-") as scratch:
        yield Path(scratch)


def _float_outputs(graph: ModelGraph, plan: Plan, dataset: Dataset, progress: Progress) -> Outputs | None:
    """What the float model answers; None when the model came quantized."""
    from edgeq.evaluation import scoring

    if plan.scheme.name == "as_is":
        return None
    session = open_session(graph.format, Path(graph.path))
    return scoring.collect(session, dataset, graph, dataset.evaluation, progress, step="scoring float")


def _is_integer(plan: Plan) -> bool:
    return plan.scheme.name in (*_BASES, "static_wi8_ai16")


def _with_islands(run: _Run, island: Island) -> None:
    """Keep in float what the best integer candidate loses most by, as little of it as holds."""
    known = [one for one in run.attempts if one.quantized is not None and one.plan.scheme.name in _BASES]
    if run.winner or not known:
        return
    base = max(known, key=lambda one: one.sqnr_db)
    found = islets.guilty(run.job, base, run.progress)
    made = []
    for plan in islets.plans(base.plan, found, island):
        if not plan.ok:
            break
        made.append(plan)
    run.through(made[:FIRST_ISLANDS])
    if max(one.sqnr_db for one in run.attempts) - base.sqnr_db >= WORTH_DB:
        run.through(made[FIRST_ISLANDS:])
    if run.winner:
        _narrow(run, base.plan, found, island)


def _narrow(run: _Run, base: Plan, found: Sequence[frozenset[int]], island: Island) -> None:
    """Fewer islands than those that hold but more than those that did not, by halving what lies between."""
    held = run.attempts[-1]
    high = _counts(found, held.plan)
    low = high // 2

    def holds(groups: Sequence[frozenset[int]]) -> bool:
        nonlocal held
        one = one_attempt(run.job, island(base, sorted(islets.union(groups))), run.progress)
        run.attempts.append(one)
        held = one if one.ok else held
        return one.ok

    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(found[:middle]) else (middle, high)
    run.attempts.remove(held)
    run.attempts.append(held)


def _counts(found: Sequence[frozenset[int]], plan: Plan) -> int:
    """How many groups a plan's islands are made of."""
    wanted = frozenset(plan.scheme.islands)
    return next(count for count in range(1, len(found) + 1) if islets.union(found[:count]) >= wanted)


def _answer(run: _Run, out: Path) -> QuantizedModel:
    """The attempt that holds, or the most accurate one, moved to `out`."""
    known = [one for one in run.attempts if one.quantized is not None]
    if not known:
        told = "; ".join(f"{one.label}: {one.reason}" for one in run.attempts)
        raise ConvertError(f"no scheme could be converted: {told}", where=run.job.graph.path)
    by_sqnr = run.job.min_sqnr_db is not None
    taken = run.winner or min(known, key=lambda one: -one.sqnr_db if by_sqnr else one.loss)
    tried = tuple(Rejected(scheme=one.label, why=one.reason) for one in run.attempts if not one.ok)
    quantized = taken.quantized
    if quantized is None:
        raise ConvertError("nothing was scored", where=run.job.graph.path)
    store.write_bytes(out, taken.file.read_bytes())
    artifact = dataclasses.replace(quantized.artifact, path=out.name)
    plan = dataclasses.replace(taken.plan, trials=front.trials(run.attempts))
    return dataclasses.replace(quantized, plan=plan, artifact=artifact, tried=tried)
