"""A plan before what it speaks of, and what its claims are derived from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

from edgeq.planning import schemes
from edgeq.planning.audit import verdicts
from edgeq.planning.audit.ask import Ask
from edgeq.planning.sensitive import always_float, sensitive
from edgeq.planning.view import View
from edgeq.types import OperatorTable, Placement, Plan, RuntimeSpec, Scheme, Target


class Finding(NamedTuple):
    """One claim of a plan that does not follow: what the plan says and what follows instead."""

    subject: str
    claimed: str
    derived: str
    why: str


class Scene(NamedTuple):
    """A plan before what it speaks of; `kept` is what its scheme keeps in float, `before` leads to layers."""

    plan: Plan
    look: View
    target: Target
    runtime: RuntimeSpec
    tables: Mapping[str, OperatorTable]
    before: frozenset[int]
    kept: Mapping[int, str] = {}

    @property
    def table(self) -> OperatorTable:
        return self.tables[self.runtime.operators]

    @property
    def cpu(self) -> OperatorTable | None:
        return None if self.runtime.fallback is None else self.tables[self.runtime.fallback]


def ladder(scene: Scene) -> list[schemes.Rung]:
    """Every scheme that the model could get on the runtime, the best first."""
    fast = scene.target.kind == "mcu" or scene.table.placement == "npu"
    return list(schemes.ladder(scene.look.graph.format, scene.target.cpu, scene.table, fast_int16=fast))


def inner_rule(scene: Scene, number: int, one: Placement) -> str:
    """The rule by which the CPU runs an operator that the accelerator denies."""
    if one.rule != "falls-back-to-cpu":
        return one.rule
    table = scene.cpu or scene.table
    ask = ask_of(scene, number, {})._replace(table=table)
    return verdicts.verdict(ask._replace(table=dataclasses.replace(table, placement="cpu")), None).rule


def ask_of(scene: Scene, number: int, made: Mapping[int, str]) -> Ask:
    """The question of one operator; `made` are the data types of what stands before it."""
    look = scene.look
    operator = look.graph.operators[number]
    return Ask(look, operator, scene.table, scene.plan.scheme, scene.kept, made, scene.before)


def kept_in_float(look: View, scheme: Scheme) -> Mapping[int, str]:
    """What a scheme keeps in float, with the reasons."""
    if not scheme.is_static or scheme.name == "as_is":
        return {}
    always = always_float(look)
    if scheme.islands:
        return {**always, **dict.fromkeys(scheme.islands, schemes.ISLAND)}
    return {**always, **sensitive(look)} if scheme.name == schemes.MIXED else always
