"""tflite-micro's reference kernels, proved by one-operator models that its own Python package runs on this host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from edgeq import tools
from edgeq.conformance import litert, outside
from edgeq.conformance.tflite import trying
from edgeq.conformance.tflite.model import Trial
from edgeq.conformance.tflite.recipes import RECIPES
from edgeq.conformance.tflite.trying import Verdict
from edgeq.types import Case, OperatorTable, Outcome, Progress, silent

BATCH = 200
"""Cases to one start of the tool's Python."""
ENGINE = Path(__file__).parent / "outside" / "_tflm.py"
cases = litert.cases


def version() -> str:
    """Version of the installed tflite-micro; raises ToolError where it is missing."""
    return tools.find("tflm").version


def prove(cases: Sequence[Case], table: OperatorTable, *, progress: Progress = silent) -> Iterator[Outcome]:
    """Run cases in the tool's environment; a crash or a hang of tflite-micro is a refusal."""
    tool = tools.find("tflm")
    todo = zip(cases, trying.prepare(cases, table), strict=True)
    done = 0
    while some := list(islice(todo, BATCH)):
        for case, verdict in zip((case for case, _ in some), _tried(tool, some), strict=True):
            done += 1
            progress(table.name, done, len(cases))
            yield Outcome(case=case, result=verdict.result, why=verdict.why)


def _tried(tool: tools.Tool, some: Sequence[tuple[Case, Trial | Verdict]]) -> Iterator[Verdict]:
    """A verdict for each case; what has no model is asked for with a probe, or stays as it is."""
    jobs = {number: job for number, (case, item) in enumerate(some) if (job := _job(case, item))}
    answers = dict(zip(jobs, outside.run(tool, ENGINE, list(jobs.values())), strict=True)) if jobs else {}
    for number, (case, item) in enumerate(some):
        yield _verdict(case, item, answers.get(number))


def _job(case: Case, item: Trial | Verdict) -> outside.Job | None:
    if isinstance(item, Trial):
        feeds = {str(place): values for place, values in enumerate(item.feeds)}
        return outside.Job(item.model, feeds, len(item.outputs))
    return None if case.operator in RECIPES else outside.Job(trying.probe(case.operator), {}, 0)


def _verdict(case: Case, item: Trial | Verdict, answer: outside.Answer | None) -> Verdict:
    words = trying.said(answer.chatter or answer.raised) if answer else ""  # its first line names the cause
    if isinstance(item, Verdict):
        return trying.unknown(case.operator, words) if words else item
    if answer is None or answer.outputs is None:
        return Verdict("refused", words)
    return trying.judged(item, answer.outputs)
