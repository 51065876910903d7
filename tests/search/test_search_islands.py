"""Which operators are kept in float: by hand on a graph, and on a model that one tensor ruins."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq import datasets, models, planning, search, targets
from edgeq.search import islands
from edgeq.search.trying import Job, attempt
from edgeq.testing import models as tiny
from edgeq.testing.plans import plan_of
from edgeq.types import Placement, Plan, QuantizedModel

TARGET = "generic-linux-x86_64"


class Planted:
    """A model that adds an offset and takes it away again, its samples and its plans."""

    def __init__(self, folder: Path, offset: float = 300.0) -> None:
        self.graph = models.read(tiny.offset_tflite(folder, offset))
        description = tiny.tiny_dataset(folder, tiny.MLP_SHAPE, count=128)
        lines = description.read_text().replace("metric: top1", "metric: cosine").splitlines()
        description.write_text("\n".join(line for line in lines if not line.startswith("labels")))
        self.dataset = datasets.bind(datasets.load(str(description)), self.graph)
        profile = targets.load(TARGET)
        self.tables = targets.load_tables(profile, TARGET)
        self.profile = profile
        self.planned = planning.plan(self.graph, profile, self.tables)

    @property
    def plans(self) -> list[Plan]:
        return [plan for plan in self.planned.candidates if plan.ok]

    def static(self) -> Plan:
        return next(plan for plan in self.plans if plan.scheme.name == "static_wi8_ai8")

    def island(self, base: Plan, operators: Any) -> Plan:
        return planning.with_islands(self.planned, base, operators)


@pytest.fixture
def planted(tmp_path: Path) -> Planted:
    return Planted(tmp_path)


def found(planted: Planted, out: Path, **words: Any) -> QuantizedModel:
    island = functools.partial(planning.with_islands, planted.planned)
    return search.search(planted.graph, planted.plans, planted.dataset, out, max_drop=0.001, island=island, **words)


def test_the_operators_round_the_costly_tensor_are_kept_in_float(planted: Planted, tmp_path: Path) -> None:
    made = found(planted, tmp_path / "q.tflite")
    assert made.plan.scheme.name == "static_wi8_ai8_mixed"
    assert made.plan.scheme.islands == (0, 1), "ADD and SUB"
    assert made.accuracy is not None
    assert made.accuracy.ok
    assert [trial.ok for trial in made.plan.trials] == [False] * 5 + [True]
    assert all(trial.sqnr_db is not None and trial.sqnr_db < 10 for trial in made.plan.trials[:-1])
    assert made.fidelity[0].sqnr_db is not None
    assert made.fidelity[0].sqnr_db > 35
    written = models.read(tmp_path / "q.tflite")
    kinds = {one.type: written.tensors[one.outputs[0]].dtype for one in written.operators}
    assert (kinds["ADD"], kinds["SUB"], kinds["FULLY_CONNECTED"]) == ("float32", "float32", "int8")


def test_without_islands_it_ends_in_float_arithmetic(planted: Planted, tmp_path: Path) -> None:
    made = search.search(planted.graph, planted.plans, planted.dataset, tmp_path / "q.tflite", max_drop=0.001)
    assert not made.plan.scheme.is_static


def test_the_plan_with_islands_follows_from_its_tables(planted: Planted, tmp_path: Path) -> None:
    made = found(planted, tmp_path / "q.tflite")
    settled = planning.settled(planted.planned, made.plan, made.tried)
    assert settled.scheme == made.plan.scheme
    audit = functools.partial(planning.audit, graph=planted.graph, target=planted.profile, tables=planted.tables)
    assert audit(settled) == ()
    assert {one.placement for one in settled.operators if one.index in (0, 1)} == {"float"}
    assert all("loses among the most" in one.why for one in settled.operators if one.index in (0, 1))
    fewer = dataclasses.replace(settled.scheme, islands=(0,))
    assert audit(dataclasses.replace(settled, scheme=fewer)), "an operator in float that no island covers"
    elsewhere = dataclasses.replace(settled.scheme, islands=(0, 1, 2))
    assert audit(dataclasses.replace(settled, scheme=elsewhere)), "an island that computes in integers"
    strange = dataclasses.replace(settled.scheme, islands=(0, 1), ranges="entropy", reduce_range=True)
    assert audit(dataclasses.replace(settled, scheme=strange)), "no such scheme in the ladder"


def test_an_island_changes_nothing_else(planted: Planted) -> None:
    base = planted.static()
    plan = planted.island(base, [1])
    assert plan.ok
    assert planning.label(plan.scheme) == planning.label(base.scheme).replace("ai8 (", "ai8_mixed (").replace(
        ")", ", 1 in float)"
    )
    for before, after in zip(base.operators, plan.operators, strict=True):
        assert (before.signature == after.signature) == (before.index != 1)
    assert (plan.prefer, plan.budgets, plan.target) == (base.prefer, base.budgets, base.target)
    assert planted.island(plan, [0]).scheme.islands == (0,), "islands are of the plan without any"
    assert planted.island(base, []) == base


def test_the_guiltiest_tensor_comes_first(planted: Planted, tmp_path: Path) -> None:
    job = Job(graph=planted.graph, dataset=planted.dataset, folder=tmp_path)
    base = attempt(job, planted.static(), tmp_path / "base.tflite")
    groups = islands.guilty(job, base, lambda *_: None)
    assert groups[0] == {0, 1}
    assert all(group <= {0, 1, 2, 3} for group in groups)


def test_what_cannot_be_analysed_has_no_islands(planted: Planted, tmp_path: Path) -> None:
    job = Job(graph=planted.graph, dataset=planted.dataset, folder=tmp_path)
    base = attempt(job, planted.static(), tmp_path / "base.tflite")
    base.file.write_bytes(b"not a model")
    assert islands.guilty(job, base, lambda *_: None) == []


# --- groups and plans by hand -------------------------------------------------------------------


def placements(plan: Plan, *floating: int) -> Plan:
    def one(place: Placement) -> Placement:
        return dataclasses.replace(place, signature="float32") if place.index in floating else place

    return dataclasses.replace(plan, operators=tuple(one(place) for place in plan.operators))


def test_groups_are_makers_and_readers_that_compute_in_integers(planted: Planted) -> None:
    base = planted.static()
    costs = {"raised": 0.1, "input": 0.5, "hidden": 0.3, "nowhere": 9.0, "scores": 0.2}
    assert list(islands.groups(planted.graph, base, costs)) == [{0}, {2, 3}, {3}, {0, 1}]
    assert list(islands.groups(planted.graph, placements(base, 3), costs)) == [{0}, {2}, {0, 1}]
    assert list(islands.groups(planted.graph, placements(base, 0, 1, 2, 3), costs)) == []


@given(st.lists(st.frozensets(st.integers(0, 19), min_size=1, max_size=3), max_size=20))
def test_plans_double_until_half_is_in_float(groups: list[frozenset[int]]) -> None:
    base = _of_twenty()
    made = [plan.scheme.islands for plan in islands.plans(base, groups, _with)]
    assert all(len(islets) <= islands.MOST_SHARE * 20 for islets in made)
    assert all(set(one) < set(other) for one, other in itertools.pairwise(made)), "each is larger"
    counts = [1, 2, 4, 8, 16, 32]
    allowed = [tuple(sorted(frozenset[int]().union(*groups[:count]))) for count in counts]
    assert set(made) <= set(allowed)
    if groups and len(groups[0]) <= islands.MOST_SHARE * 20:
        assert made[0] == allowed[0]


def _of_twenty() -> Plan:
    from edgeq.types import Scheme
    from edgeq.types.targets import Signature

    words: dict[str, Any] = {"type": "ADD", "placement": "cpu", "rule": "r", "why": "w"}
    operators = tuple(Placement(index=number, signature="int8", **words) for number in range(20))
    scheme = Scheme(name="static_wi8_ai8", default=Signature(activations="int8"))
    return plan_of(None, scheme, operators=operators)


def _with(base: Plan, operators: Any) -> Plan:
    return dataclasses.replace(base, scheme=dataclasses.replace(base.scheme, islands=tuple(operators)))


# --- noise on its way to the outputs --------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".tflite", ".onnx"])
def test_noise_that_is_added_arrives_as_it_does_in_the_model(tmp_path: Path, suffix: str) -> None:
    """The session with noise inputs is the model itself where they are silent, and linear noise arrives whole."""
    from edgeq import runtimes
    from edgeq.analysis import attribution

    path = tiny.conv_tflite(tmp_path) if suffix == ".tflite" else tiny.conv_onnx(tmp_path)
    formats = attribution._formats(path)
    net = formats.load(path)
    shape = tiny.CONV_SHAPE if suffix == ".tflite" else (3, 12, 12)
    sample = (np.random.default_rng(3).random((1, *shape)).astype(np.float32),)
    wanted = [tensor.index for tensor in net.graph.tensors if net.is_activation(tensor.index)]
    wanted = [tensor for tensor in wanted if tensor not in net.graph.inputs]
    seen = formats.trace(net, wanted, tmp_path, exact=False)(sample)
    session = formats.noisy(net, wanted, seen, tmp_path)
    assert len(session.inputs) == 1 + len(wanted)
    silent = [np.zeros(seen[tensor].shape, np.float32) for tensor in wanted]
    plain = search.open_session(suffix[1:], path)
    clean = np.asarray(runtimes.infer(plain, sample)[0], np.float64)
    np.testing.assert_allclose(np.asarray(runtimes.infer(session, [*sample, *silent])[0], np.float64), clean, atol=1e-6)
    last = wanted.index(net.graph.outputs[0])
    silent[last] = np.full_like(silent[last], 0.25)
    noised = np.asarray(runtimes.infer(session, [*sample, *silent])[0], np.float64)
    np.testing.assert_allclose(noised - 0.25, clean, atol=1e-6)
