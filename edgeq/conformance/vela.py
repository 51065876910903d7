"""What Vela places on an Ethos-U, by Vela's own account: this proves placement, not arithmetic.

An operator runs where the compiled model leaves its outputs to the NPU's command and the operator split does not name
it on the CPU, for every accelerator on the shelf that has the table. Vela's exit code says nothing of that. Many
operators are branches of one model, as a start takes a second; a model that Vela refuses is halved until the operators
that it refuses stand alone.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from edgeq import models, tools
from edgeq.conformance import litert, outside
from edgeq.conformance.tflite import trying
from edgeq.conformance.tflite.joined import joined, prefix
from edgeq.conformance.tflite.model import Trial
from edgeq.conformance.tflite.trying import Verdict
from edgeq.errors import BuildError, EdgeqError, ModelError, ToolError
from edgeq.models.write_tflite import Graph, Node, Tensor, write_tflite
from edgeq.tools import vela as reading
from edgeq.types import Accelerator, Case, ModelGraph, OperatorTable, Outcome, Progress, silent

BATCH = 50
"""Operators to one start of Vela."""
SECONDS = 120.0
cases = litert.cases


def version() -> str:
    """Version of the installed Vela; raises ToolError where it is missing."""
    return tools.find("vela").version


def prove(cases: Sequence[Case], table: OperatorTable, *, progress: Progress = silent) -> Iterator[Outcome]:
    """Compile cases for each accelerator of the table; raises ToolError where Vela does not work at all."""
    vela, wanted = tools.find("vela"), accelerators(table)
    for accelerator in wanted:
        _check(vela, accelerator)
    todo = zip(cases, trying.prepare(cases, table), strict=True)
    done = 0
    while some := list(islice(todo, BATCH)):
        graphs = [item.graph for _, item in some if isinstance(item, Trial)]
        verdicts = iter(everywhere(vela, graphs, wanted))
        for case, item in some:
            done += 1
            progress(table.name, done, len(cases))
            verdict = item if isinstance(item, Verdict) else next(verdicts)
            yield Outcome(case=case, result=verdict.result, why=verdict.why)


def accelerators(table: OperatorTable) -> list[Accelerator]:
    """One accelerator on the shelf of each configuration that has a table; raises TargetError where there is none."""
    return list({one.config: one for one in outside.accelerators(table)}.values())


def everywhere(vela: tools.Tool, graphs: Sequence[Graph], wanted: Sequence[Accelerator]) -> list[Verdict]:
    """For each graph the first verdict that is not `runs`, else `runs`."""
    columns = [[_told(one, accelerator) for one in placed(vela, graphs, accelerator)] for accelerator in wanted]
    return [next((one for one in row if one.why), row[0]) for row in zip(*columns, strict=True)]


def _told(verdict: Verdict, accelerator: Accelerator) -> Verdict:
    return verdict._replace(why=f"{accelerator.config}: {verdict.why}") if verdict.why else verdict


def placed(vela: tools.Tool, graphs: Sequence[Graph], accelerator: Accelerator) -> list[Verdict]:
    """Where Vela places each graph; raises ToolError for a broken environment."""
    if not graphs:
        return []
    try:
        return _compile(vela, graphs, accelerator)
    except ToolError as error:
        if error.hint:  # not a model that takes too long
            raise
        failure: EdgeqError = error
    except (BuildError, ModelError) as error:
        failure = error
    if len(graphs) == 1:
        return [Verdict("refused", failure.message)]
    middle = len(graphs) // 2
    return placed(vela, graphs[:middle], accelerator) + placed(vela, graphs[middle:], accelerator)


def _compile(vela: tools.Tool, graphs: Sequence[Graph], accelerator: Accelerator) -> list[Verdict]:
    with tempfile.TemporaryDirectory(prefix="edgeq-vela-") as folder:
        path = write_tflite(Path(folder) / "cases.tflite", joined(graphs), signature=False)
        made = reading.start(vela, path, accelerator, Path(folder), timeout_seconds=SECONDS)
        return verdicts(graphs, reading.read_split(made.text), models.read(made.model))


def verdicts(graphs: Sequence[Graph], split: reading.Split, compiled: ModelGraph) -> list[Verdict]:
    """What the split and the compiled model say of each graph; raises BuildError for a model that is not theirs."""
    if len(compiled.outputs) != sum(len(graph.outputs) for graph in graphs):
        raise BuildError("Vela wrote a model with other outputs than it was given")
    writers = {tensor: operator.type for operator in compiled.operators for tensor in operator.outputs}
    ports = iter(compiled.outputs)
    found = []
    for number, graph in enumerate(graphs):
        types = [writers.get(port, "") for port in islice(ports, len(graph.outputs))]
        found.append(_verdict(types, _named_on_cpu(split, prefix(number))))
    return found


def _verdict(types: Sequence[str], on_cpu: str) -> Verdict:
    left = [kind for kind in types if kind not in ("", reading.COMMAND)]
    if left or on_cpu:
        return Verdict("refused", f"it is left to the CPU: {on_cpu or left[0]}")
    return Verdict("runs") if all(types) else Verdict("untried", "Vela leaves nothing of it to run")


def _named_on_cpu(split: reading.Split, before: str) -> str:
    """The split's line on the first of a branch's operators that is on the CPU: `TYPE = NAME (outputs SHAPE)`."""
    return next((line for line in split.on_cpu if line.partition(" = ")[2].startswith(before)), "")


def _check(vela: tools.Tool, accelerator: Accelerator) -> None:
    """Compile a sum of two tensors, which every Ethos-U has: its failure is not a model's."""
    tensors = tuple(
        Tensor(name=name, shape=(1, 4, 4, 8), dtype="int8", scales=(0.1,), zero_points=(0,)) for name in ("a", "b", "c")
    )
    node = Node(type="ADD", inputs=("a", "b"), outputs=("c",), options_table="AddOptions")
    (found,) = placed(vela, [Graph(tensors=tensors, nodes=(node,), inputs=("a", "b"), outputs=("c",))], accelerator)
    if found.result != "runs":
        raise ToolError(f"Vela {vela.version} does not work for {accelerator.config}: {found.why}")
