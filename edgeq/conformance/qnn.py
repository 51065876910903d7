"""onnxruntime's QNN provider, proved by one-operator models in Qualcomm's x86 emulation of the Hexagon processor.

A case runs where the provider takes the whole model, the CPU's fallback being forbidden, and its answer is near to what
the same model gives in exact arithmetic. The emulation is of the oldest processor on the shelf that has the table.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from edgeq import tools
from edgeq.conformance import child, onnx, outside
from edgeq.conformance import onnxruntime as cpu
from edgeq.conformance.onnx.build import recipe_of
from edgeq.conformance.onnx.recipes import RECIPES
from edgeq.conformance.onnxruntime import Verdict
from edgeq.errors import ModelError, TargetError
from edgeq.runtimes import onnxruntime as runtime
from edgeq.types import Case, OperatorTable, Outcome, Progress, silent

BATCH = 100
"""Cases to one start of the tool's Python."""
ENGINE = Path(__file__).parent / "outside" / "_qnn.py"
ITEM_SECONDS = 60.0
_LIMITS = child.Limits(item_s=20, start_s=60)


class Trial(NamedTuple):
    """A model to run, what its float twin computes, and what it computes itself on the CPU with nothing fused."""

    model: onnx.OneOperator
    wanted: list[Any]
    exact: list[Any]
    is_random: bool


def version() -> str:
    """Version of the installed onnxruntime-qnn; raises ToolError where it is missing."""
    return tools.find("qnn").version


def cases(table: OperatorTable) -> list[Case]:
    """The table's claims, and the denials among all operators of which models are built."""
    return onnx.cases(table, RECIPES, onnx.OPSET)


def prove(cases: Sequence[Case], table: OperatorTable, *, progress: Progress = silent) -> Iterator[Outcome]:
    """Run cases in the tool's environment; a crash or a hang of the emulation is a refusal."""
    tool, settings = tools.find("qnn"), _settings(table)
    todo = zip(cases, child.run(f"{__name__}:prepared", cases, _LIMITS), strict=True)
    done = 0
    while some := list(islice(todo, BATCH)):
        trials = [item for _, item in some if isinstance(item, Trial)]
        answers = iter(_run(tool, trials, settings))
        for case, item in some:
            done += 1
            progress(table.name, done, len(cases))
            verdict = judged(item, next(answers)) if isinstance(item, Trial) else Verdict("untried", item.why)
            yield Outcome(case=case, result=verdict.result, why=verdict.why)


def _settings(table: OperatorTable) -> dict[str, str]:
    """The provider's settings; every node goes to the processor, those that round the model's ports too."""
    found = [one for one in outside.accelerators(table) if one.soc_id is not None]
    if not found:
        raise TargetError(f"operator table {table.name} cannot be proved: no target that names it has a soc_id")
    oldest = min(found, key=lambda one: (int("0" + (one.arch or "").strip("v")), one.soc_id))
    return {"soc_model": str(oldest.soc_id), "offload_graph_io_quantization": "0"}


def _run(tool: tools.Tool, trials: Sequence[Trial], settings: dict[str, str]) -> list[outside.Answer]:
    jobs = [outside.Job(one.model.content, one.model.feeds, len(one.exact)) for one in trials]
    return outside.run(tool, ENGINE, jobs, settings=settings, item_seconds=ITEM_SECONDS) if jobs else []


def prepared(case: Case) -> Trial | Verdict:
    """A case's model and what to compare with, or why there is none. Runs in the child."""
    try:
        plain = onnx.twin(case)
        with tempfile.TemporaryDirectory(prefix="edgeq-") as folder:
            wanted, _ = cpu.run(plain, Path(folder), fuse=False)
            model = onnx.quantized(case, wanted)
            exact, _ = cpu.run(model, Path(folder), fuse=False)
    except onnx.NoModel as reason:
        return Verdict("untried", str(reason))
    except ModelError as error:
        return Verdict("untried", f"onnxruntime's CPU kernels do not run it either: {error.message}")
    return Trial(model, wanted, exact, bool(recipe_of(case).random))


def judged(trial: Trial, answer: outside.Answer) -> Verdict:
    """Whether the provider took a model, and its answer is near."""
    if answer.outputs is None:
        return Verdict("refused", runtime.one_line(ValueError(answer.raised)))
    if len(answer.outputs) != len(trial.exact):
        return Verdict("wrong", f"it has {len(answer.outputs)} outputs, not {len(trial.exact)}")
    return Verdict("runs") if trial.is_random else cpu.compared(trial.wanted, trial.exact, answer.outputs)
