"""Try a case on a runtime: build its model, run it and judge it, in a child process."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

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
    prover: str


def prove(
    cases: Sequence[Case], table: OperatorTable, prover: str, *, progress: Progress = silent
) -> Iterator[Outcome]:
    """Try each case on a prover's `run(model, feeds)`, in order."""
    jobs = [Job(case, _version(table, case.operator), prover) for case in cases]
    answers = child.run(f"{__name__}:answer", jobs)
    for number, (job, found) in enumerate(zip(jobs, answers, strict=True), 1):
        progress(table.name, number, len(cases))
        yield _alone(job) if isinstance(found, child.Lost) else found


def _alone(job: Job) -> Outcome:
    """Try a case that ended its child again, in one of its own: a kernel before it may have spoilt the heap."""
    (found,) = child.run(f"{__name__}:answer", [job])
    return Outcome(case=job.case, result="refused", why=found.why) if isinstance(found, child.Lost) else found


def _version(table: OperatorTable, operator: str) -> int:
    row = table.operators.get(operator)
    return (row.max_version if row else None) or 1


def answer(job: Job) -> Outcome:
    """What a runtime does with a case. Runs in the child."""
    result, why = _tried(job)
    return Outcome(case=job.case, result=result, why=why)


def _tried(job: Job) -> tuple[Result, str]:
    case, run = job.case, _run_of(job.prover)
    if case.operator not in RECIPES:
        return _without_recipe(case.operator, run)
    if variants.is_unknown(case.variant):
        return "untried", "no model that breaks this constraint is built here"
    try:
        trial = model.build(case, variants.version_of(case, job.version), _run_of(TWIN))
    except REFUSALS as problem:
        return "refused", f"its float twin does not run either: {_said(problem)}"
    try:
        got = run(trial.model, trial.feeds)
    except REFUSALS as problem:
        return "refused", _said(problem)
    wrong = model.differs(trial, got)
    return ("wrong", wrong) if wrong else ("runs", "")


def _run_of(prover: str) -> model.Run:
    found: model.Run = backends.find("conformance", prover).run
    return found


def _without_recipe(operator: str, run: model.Run) -> tuple[Result, str]:
    """Refused where the runtime does not know the operator at all."""
    tensor, node = Tensor(name="x", shape=(1,)), Node(type=operator, inputs=(), outputs=())
    probe = tflite_bytes(Graph(tensors=(tensor,), nodes=(node,), inputs=("x",), outputs=("x",)), signature=False)
    try:
        run(probe, [])
    except REFUSALS as problem:
        if _UNKNOWN in str(problem):
            return "refused", _said(problem)
    return "untried", UNBUILT.get(operator, _NOT_BUILT)


def _said(problem: BaseException) -> str:
    """The first sentence of a runtime's words, at most 200 characters."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return (lines[0] if lines else type(problem).__name__)[:200]
