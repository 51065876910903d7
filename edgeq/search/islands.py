"""Which operators a static model had better keep in float, the guiltiest first."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from edgeq import backends, datasets
from edgeq.errors import EdgeqError
from edgeq.planning import view as views
from edgeq.search.trying import Attempt, Job
from edgeq.types import ModelGraph, Plan, Progress

Island = Callable[[Plan, Sequence[int]], Plan]
"""A plan with these operators in float."""
SAMPLES = 4
FOLLOWED = 2
"""Samples on which noise is followed to the outputs, once for each tensor."""
MOST_SHARE = 0.5
"""Share of the integer operators beyond which a model is no longer one with islands."""
_INTEGERS = tuple(views.INTEGERS)


def guilty(job: Job, base: Attempt, progress: Progress) -> list[frozenset[int]]:
    """Groups of operators, by index, that only together keep a tensor from being rounded; the costliest tensor first.

    Empty where the analysis cannot tell: the search goes on without islands.
    """
    from edgeq.analysis import attribution

    graph = job.graph
    numbers = datasets.spread(job.dataset.calibration, SAMPLES)
    with tempfile.TemporaryDirectory(prefix="edgeq-islands-") as folder:
        prepared, again = (Path(folder) / f"{name}.{graph.format}" for name in ("prepared", "again"))
        converter = backends.find("converters", graph.format)
        try:
            converter.convert(
                graph, base.plan, job.dataset, again, progress=progress, prepared=prepared, state=job.calibration
            )
            files = attribution.Files(
                Path(graph.path), prepared if prepared.is_file() else Path(graph.path), base.file, base.file
            )
            samples = list(datasets.samples(job.dataset, graph, numbers))
            found = attribution.attribute(files, samples, len(numbers), progress=progress)
            costs = attribution.costs(files, found, samples[:FOLLOWED], progress=progress)
        except EdgeqError:
            return []
    return list(groups(graph, base.plan, costs))


def groups(graph: ModelGraph, plan: Plan, costs: Mapping[str, float]) -> Iterator[frozenset[int]]:
    """For each tensor, its maker and its readers as far as they are integer ones; by their costs, the highest first."""
    integer = {one.index for one in plan.operators if one.signature.startswith(_INTEGERS)}
    numbers = {tensor.name: tensor.index for tensor in graph.tensors}
    look = views.view(graph)
    for name in sorted((name for name in costs if name in numbers), key=lambda name: -costs[name]):
        tensor = numbers[name]
        maker = [look.producers[tensor]] if tensor in look.producers else []
        about = {operator.index for operator in (*maker, *look.consumers.get(tensor, ()))}
        if about & integer:
            yield frozenset(about & integer)


def union(found: Iterable[frozenset[int]]) -> frozenset[int]:
    """The operators of several groups."""
    return frozenset[int]().union(*found)


def plans(base: Plan, found: Sequence[frozenset[int]], island: Island) -> Iterator[Plan]:
    """Plans with the operators of 1, 2, 4, 8 and so on of the groups in float, as long as most stay integer."""
    integer = sum(one.signature.startswith(_INTEGERS) for one in base.operators)
    count, before = 1, frozenset[int]()
    while count // 2 < len(found):
        chosen = union(found[:count])
        if len(chosen) > MOST_SHARE * integer:
            return
        if chosen != before:
            yield island(base, sorted(chosen))
        count, before = 2 * count, chosen
