"""What a person reads of a plan's memory: the arena by what it holds, where that is more than activations."""

from __future__ import annotations

import dataclasses

import pytest
from rich.console import Console

from edgeq import types
from edgeq.report import json, plans

PARTS = {"activations": 16000, "interpreter": 1108, "operators": 5816, "variables": 0}


def shown(plan: types.Plan, *, explain: bool = False) -> str:
    console = Console(width=200)
    with console.capture() as captured:
        console.print(plans.plan(plan, every_operator=explain))
    return captured.get()


def with_parts(plan: types.Plan, **parts: int) -> types.Plan:
    size = sum(parts.values())
    memory = types.PlannedMemory(flash_bytes=1, ram_bytes=size, arena_bytes=size, arena_parts_bytes=parts)
    return dataclasses.replace(plan, memory=memory)


def test_the_parts_of_an_arena_in_one_line(plan: types.Plan) -> None:
    text = shown(with_parts(plan, **PARTS))
    assert "activations 15.6 KiB, interpreter 1.1 KiB, operators 5.7 KiB" in text
    assert "variables" not in text, "nothing is held there"


def test_explained_each_part_has_a_line_of_its_own(plan: types.Plan) -> None:
    text = shown(with_parts(plan, **PARTS), explain=True)
    lines = {line.split()[0]: line for line in text.splitlines() if line[:2] == "  " and line.strip()}
    assert set(lines) >= {"activations", "interpreter", "operators"}
    assert "1.1 KiB: the interpreter" in lines["interpreter"]


@pytest.mark.parametrize("explain", [False, True])
@pytest.mark.parametrize("parts", [{}, {"activations": 4096}])
def test_an_arena_of_activations_alone_needs_no_line(plan: types.Plan, parts: dict[str, int], explain: bool) -> None:
    text = shown(with_parts(plan, **parts), explain=explain)
    assert "activations " not in text.split("operators")[0]


def test_a_part_without_words_is_shown_by_its_name(plan: types.Plan) -> None:
    text = shown(with_parts(plan, activations=1, scratch=2048), explain=True)
    assert "scratch      2.0 KiB: scratch" in text


def test_json_keeps_its_keys_and_adds_the_parts(plan: types.Plan) -> None:
    memory = json.plan(with_parts(plan, **PARTS))["memory"]
    sizes = {"flash_bytes": 1, "ram_bytes": 22924, "arena_bytes": 22924}
    assert memory == {**sizes, "arena_parts_bytes": PARTS, "compiled_bytes": {}, "compiled_refusal": None}


def test_what_the_compiled_model_takes_has_a_line(plan: types.Plan) -> None:
    assert "compiled to C" not in shown(plan)
    sizes = {"arena": 9536, "constants": 27253, "code": 9583}
    memory = dataclasses.replace(plan.memory, compiled_bytes=sizes)
    text = shown(dataclasses.replace(plan, memory=memory))
    assert "flash 36.0 KiB, RAM 9.3 KiB (arena, exact)" in text


def test_what_cannot_be_compiled_says_why(plan: types.Plan) -> None:
    memory = dataclasses.replace(plan.memory, compiled_refusal="operator 7 (COS) has no kernel in C")
    text = shown(dataclasses.replace(plan, memory=memory))
    assert "compiled to C  no: operator 7 (COS) has no kernel in C" in text
