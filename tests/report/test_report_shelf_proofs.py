"""Profiles, proofs of tables, plans and the doctor's findings as people read them on a terminal."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console, Group, RenderableType

from edgeq import types
from edgeq.report import plans, proofs, shelf, terminal
from edgeq.types import Case, Outcome, Signature, TableProof

HOSTILE = ("\x1b[31mred", "\x07", "a\nb", "\u202eabc", "\r", "\x00", "\u2028")


def text(*shown: RenderableType) -> str:
    console = Console(width=300, color_system=None)
    with console.capture() as captured:
        console.print(Group(*shown))
    return captured.get()


def line(shown: str, start: str) -> str:
    (found,) = (one for one in shown.splitlines() if one.startswith(start))
    return found


# --- the shelf ------------------------------------------------------------------------------------


def target(name: str = "board", **changes: Any) -> types.Target:
    content: dict[str, Any] = {
        "name": name,
        "title": "A board",
        "kind": "linux",
        "cpu": types.Cpu(arch="aarch64", core="Cortex-A72", cores=4, clock_hz=1_500_000_000),
        "memory": types.Memory(ram_bytes=1 << 30),
        "runtimes": (types.RuntimeSpec(name="litert", format="tflite", operators="litert"),),
        "sources": (types.Source(fact="cpu", where="a manual"),),
    }
    return types.Target(**{**content, **changes})


NPU = types.Accelerator(name="ethos-u55", config="ethos-u55-128", soc_id=0)


def test_the_shelf_has_phones_then_boards_then_microcontrollers_each_with_accelerators_last() -> None:
    found = [
        target("m2", kind="mcu"),
        target("m1", kind="mcu", accelerator=NPU),
        target("l2"),
        target("l1", accelerator=NPU),
        target("a1", kind="android", accelerator=NPU),
        target("a2", kind="android"),
        target("l0"),
    ]
    for order in (found, found[::-1]):
        names = [row.split()[0] for row in text(shelf.targets(order)).splitlines()[1:]]
        assert names == ["a2", "a1", "l0", "l2", "l1", "m2", "m1"]


def test_an_empty_shelf_is_its_head_only() -> None:
    assert len(text(shelf.targets([])).splitlines()) == 1


@pytest.mark.parametrize(
    ("changes", "fact", "value"),
    [
        ({}, "cpu ", "aarch64 Cortex-A72, 4 cores, 1500 MHz"),
        ({"cpu": types.Cpu(arch="arm", core="M4", features=("dsp", "fpu"))}, "cpu.features", "dsp fpu"),
        ({}, "memory", "RAM 1.00 GiB"),
        ({"memory": types.Memory(ram_bytes=2048, flash_bytes=1 << 20)}, "memory", "RAM 2.0 KiB, flash 1.0 MiB"),
        (
            {"memory": types.Memory(ram_bytes=2048, model_budget_bytes=1024, reserved_ram_bytes=512)},
            "memory",
            "RAM 2.0 KiB, for one model 1.0 KiB, reserved RAM 512 B",
        ),
        ({"accelerator": NPU}, "accelerator", "ethos-u55, config ethos-u55-128, soc_id 0"),  # 0 is a number
        ({"power": ("ina219", "hwmon")}, "power", "ina219, hwmon"),
        ({"toolchain": {"cc": "gcc", "libc": "newlib"}}, "toolchain", "gcc newlib"),
        ({"emulator": {"machine": "mps2", "base": 4096}}, "emulator", "machine mps2, base 0x1000"),
        ({"emulator": {"ram": {"at": 256, "name": "sram"}}}, "emulator", "ram at 0x100 name sram"),
        (
            {"roofline": types.Roofline(source="a paper", int8_macs_per_s=1.2345e9)},
            "roofline",
            "int8_macs_per_s 1.23e+09 ",
        ),
    ],
)
def test_a_fact_is_read_with_its_units(changes: dict[str, Any], fact: str, value: str) -> None:
    assert value in line(text(shelf.target(target(**changes))), fact)


def test_each_fact_stands_beside_all_its_sources_and_none_is_lost() -> None:
    sources = tuple(
        types.Source(fact=fact, where=where)
        for fact, where in (("cpu", "first"), ("memory", "second"), ("cpu", "third"), ("cpu.clock_hz", "fourth"))
    )
    shown = text(shelf.target(target(sources=sources)))
    assert "first; third" in line(shown, "cpu ")
    assert "second" in line(shown, "memory")
    assert "fourth" in line(shown, "cpu.clock_hz")
    assert [shown.count(one) for one in ("first", "second", "third", "fourth")] == [1, 1, 1, 1]


@pytest.mark.parametrize("absent", ["accelerator", "power", "toolchain", "emulator", "roofline", "cpu.features", "MHz"])
def test_what_a_profile_does_not_say_has_no_line(absent: str) -> None:
    plain = target(cpu=types.Cpu(arch="arm", core="M0"))
    assert absent not in text(shelf.target(plain))


# --- proofs ---------------------------------------------------------------------------------------

TABLE = types.OperatorTable(name="table", runtime="litert", version="2.1", source="a header", operators={})
INT8 = Signature(activations="int8", weights="int8", bias="int32", granularity="per-channel", symmetric="weights")


def outcome(operator: str = "ADD", result: Any = "refused", why: str = "no kernel", *, claimed: bool = True) -> Outcome:
    return Outcome(case=Case(operator=operator, signature=INT8, claimed=claimed), result=result, why=why)


def proof(*details: Outcome, **changes: Any) -> TableProof:
    made = TableProof(
        name="table", runtime="litert", version="2.3.0", date="2026-01-02", table_sha256="ab" * 32,
        result_sha256="0123456789abcdef" * 4, proved=11, false_claims=22, missed=33, denied=44, untried=55,
        details=details,
    )  # fmt: skip
    return dataclasses.replace(made, **changes)


def test_the_document_of_a_proof_has_its_numbers_and_every_detail() -> None:
    (found,) = proofs.verified_json([proofs.Row(TABLE, proof(outcome(), outcome("MUL", "untried")))])["tables"]
    assert {name: found[name] for name in ("proved", "false", "missed", "denied", "untried")} == {
        "proved": 11, "false": 22, "missed": 33, "denied": 44, "untried": 55,
    }  # fmt: skip
    assert (found["version"], found["why"], found["date"]) == ("2.3.0", None, "2026-01-02")
    assert [(one["operator"], one["result"]) for one in found["details"]] == [("ADD", "refused"), ("MUL", "untried")]
    assert found["details"][0]["signature"]["symmetric"] == "weights"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_the_document_of_a_table_without_proof_says_why() -> None:
    (found,) = proofs.verified_json([proofs.Row(TABLE, None, "there is no compiler")])["tables"]
    assert (found["version"], found["why"], found["details"]) == ("2.1", "there is no compiler", [])
    assert {found[name] for name in ("proved", "false", "missed", "denied", "untried", "date")} == {None}


@pytest.mark.parametrize(
    ("every", "shown"), [(False, {"refused", "wrong", "runs"}), (True, {"refused", "wrong", "runs", "untried"})]
)
def test_the_untried_are_shown_where_every_detail_is(every: bool, shown: set[str]) -> None:
    results = ("refused", "wrong", "runs", "untried")
    details = [outcome(f"OP_{one.upper()}", one) for one in results]
    found = text(proofs.verified([proofs.Row(TABLE, proof(*details))], every_detail=every))
    assert {one for one in results if f"OP_{one.upper()}" in found} == shown


@pytest.mark.parametrize(("count", "rest"), [(39, 0), (40, 0), (41, 1), (100, 60)])
def test_forty_details_are_shown_and_the_rest_counted(count: int, rest: int) -> None:
    row = proofs.Row(TABLE, proof(*(outcome(f"OP{place}_") for place in range(count))))
    found, whole = text(proofs.verified([row])), text(proofs.verified([row], every_detail=True))
    assert found.count("no kernel") == count - rest
    assert (f"and {rest} more" in found) == bool(rest)
    assert whole.count("no kernel") == count
    assert " more;" not in whole


def test_tables_that_could_not_be_proved_stand_apart() -> None:
    rows = [proofs.Row(TABLE, proof()), proofs.Row(dataclasses.replace(TABLE, name="other"), None, "no compiler")]
    found = text(proofs.verified(rows))
    assert line(found, "table  litert").split()[2:] == ["2.3.0", "11", "22", "33", "44", "55"]
    assert "no compiler" in line(found, "other")
    assert "not as the table says" not in found
    assert "signatures" not in text(proofs.verified(rows[1:]))


@pytest.mark.parametrize(("claimed", "said"), [(True, " yes "), (False, " no ")])
def test_a_detail_tells_what_was_claimed_and_how_it_is_symmetric(claimed: bool, said: str) -> None:
    (found,) = (
        one
        for one in text(proofs.verified([proofs.Row(TABLE, proof(outcome(claimed=claimed)))])).splitlines()
        if "ADD" in one
    )
    assert "int8/int8/int32 per-channel, symmetric: weights" in found
    assert said in found


def test_a_stamp_shows_the_start_of_its_hash_and_a_missing_one_its_reason() -> None:
    found = text(proofs.stamps([("table", proof(), "older than the table"), ("bare", None, "no prover")]))
    assert "0123456789ab " in found
    assert "0123456789abc" not in found
    assert "older than the table" in line(found, "table ")
    assert "not proved: no prover" in line(found, "bare")


# --- plans and findings ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("indices", "words"),
    [
        ((), ""),
        ((7,), "7"),
        ((0, 1), "0-1"),
        ((0, 2), "0, 2"),
        ((0, 3, 4, 5), "0, 3-5"),
        ((1, 2, 4, 5, 9), "1-2, 4-5, 9"),
    ],
)
def test_indices_in_a_row_become_a_range(indices: tuple[int, ...], words: str) -> None:
    assert plans._ranges(indices) == words


@settings(max_examples=50, deadline=None)
@given(st.sets(st.integers(0, 60)))
def test_ranges_hold_the_indices_and_no_others(indices: set[int]) -> None:
    ends = [part.split("-") for part in plans._ranges(sorted(indices)).split(", ") if part]
    assert [k for end in ends for k in range(int(end[0]), int(end[-1]) + 1)] == sorted(indices)


@pytest.mark.parametrize(
    ("needed", "available", "ok", "short"),
    [
        (3000, 1000, False, "2.0 KiB"),
        (1024, 1024, False, None),  # at its limit
        (3000, 1000, True, None),
        (3000, None, False, None),
        ("int8", "float32", False, None),
    ],
)
def test_only_figures_over_their_limit_are_short(
    plan: types.Plan, needed: Any, available: Any, ok: bool, short: str | None
) -> None:
    check = types.Check(rule="limit", subject="ram", ok=ok, needed=needed, available=available, unit="bytes", why="-")
    shown = text(plans.plan(dataclasses.replace(plan, checks=(check,))))
    assert ("too much" in shown) == (short is not None)
    assert short is None or shown[shown.index("too much") :].splitlines()[2].split("  ")[-1].strip() == short


def test_equal_operators_share_a_row_with_all_that_was_refused(plan: types.Plan) -> None:
    refused = (types.Alternative(what="npu", why="too wide"), types.Alternative(what="gpu", why="absent"))
    equal = [dataclasses.replace(plan.operators[0], index=k, alternatives=refused, edit="cut it") for k in (0, 1, 2, 5)]
    other = dataclasses.replace(equal[0], index=3, edit="pad it")
    shown = text(plans.plan(dataclasses.replace(plan, operators=(*equal[:3], other, equal[3])), every_operator=True))
    assert "cut it" in line(shown, "0-2, 5")
    assert "pad it" in line(shown, "3 ")
    assert (shown.count("npu: too wide"), shown.count("gpu: absent")) == (2, 2)


def test_an_audit_counts_what_does_not_follow(plan: types.Plan) -> None:
    row = {"subject": "operator 3", "claimed": "npu", "derived": "cpu", "why": "no signature"}
    assert "every verdict of the plan for raspberry-pi-4 follows" in text(plans.findings(plan, []))
    shown = text(plans.findings(plan, [row, row]))
    assert "2 claims do not follow" in shown
    assert [one.split() for one in shown.splitlines()[2:4]] == [["operator", "3", "npu", "cpu", "no", "signature"]] * 2


def finding(**changes: Any) -> types.Finding:
    made = types.Finding(rule="r", severity="warning", why="It is so.", evidence={"share": 0.123456789}, hint="mend it")
    return dataclasses.replace(made, **changes)


def test_a_diagnosis_tells_each_finding_and_its_figures_where_asked() -> None:
    found = [finding(), finding(severity="stop", hint=None)]
    brief, whole = (text(terminal.diagnosis(found, 5, 7, evidence=one)).splitlines() for one in (False, True))
    assert brief == ["5 calibration samples, 7 scored samples", "warning: It is so. (try: mend it)", "stop: It is so."]
    assert whole == [brief[0], brief[1], "  share 0.12346", brief[2], "  share 0.12346"]
    assert text(terminal.diagnosis([], 5, 7)).startswith("nothing speaks against these samples: 5 calibration")


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (None, "bytes", "-"),
        (None, "ms", "-"),
        (2048, "bytes", "2.0 KiB"),
        (0, "B", "0 B"),
        (0.5, "ms", "500 µs"),
        (3, "steps", "3 steps"),
        ("int8", "", "int8"),
        ("many", "bytes", "many bytes"),
        (1 / 3, "", "0.33333"),
    ],
)
def test_quantities_have_the_unit_that_suits_them(value: Any, unit: str, words: str) -> None:
    assert terminal.quantity(value, unit) == words


@pytest.mark.parametrize("name", HOSTILE)
def test_no_name_steers_the_terminal_or_breaks_its_line(plan: types.Plan, name: str) -> None:
    row = dict.fromkeys(("subject", "claimed", "derived", "why"), name)
    rows = [proofs.Row(TABLE, proof(outcome(name, why=name))), proofs.Row(TABLE, None, name)]
    shown = text(
        proofs.verified(rows),
        proofs.stamps([(name, proof(version=name), name), (name, None, name)]),
        shelf.targets([target(name)]),
        terminal.diagnosis([finding(why=name, hint=name)], 1, 1, evidence=True),
        plans.findings(plan, [row]),
        plans.plan(dataclasses.replace(plan, operators=(dataclasses.replace(plan.operators[0], type=name),))),
    )
    assert all(char.isprintable() or char == "\n" for char in shown)


@pytest.mark.parametrize("name", ["[bold]x[/bold]", "[/nothing]", "[link=http://a]b", "\\[x]"])
def test_markup_in_a_cell_is_only_text(name: str) -> None:
    assert name in text(terminal.table(None, ("column",), [(name,)]))
    assert name in text(*terminal.symptoms([finding(why=name)]))
    assert name in text(shelf.targets([target(name)]))
