"""Try a case on a runtime: build its model, run it and judge it, in a child process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

from edgeq import backends
from edgeq.conformance import child
from edgeq.conformance.tflite import model, variants
from edgeq.conformance.tflite.recipes import RECIPES, UNBUILT
from edgeq.models.write_tflite import Graph, Node, Tensor, tflite_bytes
from edgeq.types import Case, OperatorTable, Outcome, Progress, silent

TWIN = "litert_reference"
"""The prover whose kernels run the float twins."""
Result = Literal["runs", "refused", "wrong", "untried"]
REFUSALS = (ValueError, RuntimeError, TypeError, MemoryError, OverflowError)
"""What interpreters raise for a model that they do not take."""
_UNKNOWN = "find op"
_NOT_BUILT = "no model of it is built here"


class Job(NamedTuple):
    """A case, the version that its operator says, and the prover that runs it."""

    case: Case
    version: int
    prover: str = ""


class Verdict(NamedTuple):
    """An outcome's result, and why."""

    result: Result
    why: str = ""


def prove(
    cases: Sequence[Case], table: OperatorTable, prover: str, *, progress: Progress = silent
) -> Iterator[Outcome]:
    """Try each case on a prover's `run(model, feeds)`, in order."""
    jobs = [Job(case, _version(table, case.operator), prover) for case in cases]
    for number, (job, found) in enumerate(zip(jobs, _each("answer", jobs), strict=True), 1):
        progress(table.name, number, len(cases))
        yield Outcome(case=job.case, result="refused", why=found.why) if isinstance(found, child.Lost) else found


def prepare(cases: Sequence[Case], table: OperatorTable) -> Iterator[model.Trial | Verdict]:
    """Build each case's model in a child process, for a prover that runs models elsewhere; or why there is none."""
    jobs = [Job(case, _version(table, case.operator)) for case in cases]
    for found in _each("prepared", jobs):
        if isinstance(found, model.Trial):
            yield found
        else:
            yield Verdict("untried", found.why)  # a twin that does not run says nothing of what runs elsewhere


def _each(function: str, jobs: Sequence[Job]) -> Iterator[Any]:
    """What a function of this module answers to each job.

    One that ended its child is tried again in a child of its own: a kernel before it may have spoilt the heap.
    """
    name = f"{__name__}:{function}"
    for job, found in zip(jobs, child.run(name, jobs), strict=True):
        yield next(child.run(name, [job])) if isinstance(found, child.Lost) else found


def _version(table: OperatorTable, operator: str) -> int:
    row = table.operators.get(operator)
    return (row.max_version if row else None) or 1


# --- in the child ----------------------------------------------------------------------------


def answer(job: Job) -> Outcome:
    """What a runtime does with a case."""
    verdict = _tried(job)
    return Outcome(case=job.case, result=verdict.result, why=verdict.why)


def prepared(job: Job) -> model.Trial | Verdict:
    """A case's model, or why there is none."""
    case = job.case
    if case.operator not in RECIPES:
        return Verdict("untried", unbuilt(case.operator))
    if variants.is_unknown(case.variant):
        return Verdict("untried", "no model that breaks this constraint is built here")
    try:
        return model.build(case, variants.version_of(case, job.version), _run_of(TWIN))
    except REFUSALS as problem:
        return Verdict("refused", f"its float twin does not run either: {said(problem)}")


def _tried(job: Job) -> Verdict:
    run = _run_of(job.prover)
    if job.case.operator not in RECIPES:
        return _without_recipe(job.case.operator, run)
    trial = prepared(job)
    if isinstance(trial, Verdict):
        return trial
    try:
        got = run(trial.model, trial.feeds)
    except REFUSALS as problem:
        return Verdict("refused", said(problem))
    return judged(trial, got)


def judged(trial: model.Trial, got: Sequence[model.Array]) -> Verdict:
    """Whether outputs are near to float."""
    wrong = model.differs(trial, got)
    return Verdict("wrong", wrong) if wrong else Verdict("runs")


def _run_of(prover: str) -> model.Run:
    found: model.Run = backends.find("conformance", prover).run
    return found


def _without_recipe(operator: str, run: model.Run) -> Verdict:
    """Refused where the runtime does not know the operator at all."""
    try:
        run(probe(operator), [])
    except REFUSALS as problem:
        return unknown(operator, said(problem))
    return Verdict("untried", unbuilt(operator))


def probe(operator: str) -> bytes:
    """A model that asks for an operator and gives it nothing: only whether it is known can be learnt."""
    tensor, node = Tensor(name="x", shape=(1,)), Node(type=operator, inputs=(), outputs=())
    return tflite_bytes(Graph(tensors=(tensor,), nodes=(node,), inputs=("x",), outputs=("x",)), signature=False)


def unknown(operator: str, words: str) -> Verdict:
    """What a runtime's words on a probe tell."""
    return Verdict("refused", words) if _UNKNOWN in words else Verdict("untried", unbuilt(operator))


def unbuilt(operator: str) -> str:
    """Why there is no model of an operator."""
    return UNBUILT.get(operator, _NOT_BUILT)


def said(problem: BaseException | str) -> str:
    """The first line of a runtime's words, at most 200 characters."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines[0] if lines else type(problem).__name__)[:200]
