"""Limits on one operator: what they allow, how they read, and which change mends them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import PlanError
from edgeq.planning import constraints, edits, view
from edgeq.planning.measures import MEASURES
from edgeq.planning.rules import Subject
from edgeq.types import Constraint, ModelGraph, OperatorRow, OutputSpec, Signature


def pool(tiny: Any, kind: str = "AVERAGE_POOL_2D", **words: Any) -> ModelGraph:
    graph = tiny.Graph().tensor("x", (1, 8, 8, 4)).tensor("y", (1, 4, 4, 4))
    done: ModelGraph = graph.operator(kind, "x", "y", **words).done("x", "y")
    return done


def measured(graph: ModelGraph, rule: str, of: str | None = None) -> int | str | None:
    return MEASURES[rule](view.view(graph), graph.operators[-1], of)


def broken(tiny: Any, graph: ModelGraph, limit: Constraint) -> str | None:
    return constraints.broken(view.view(graph), graph.operators[-1], tiny.table({}), limit)


def subject(tiny: Any, graph: ModelGraph, row: OperatorRow | None, **others: OperatorRow) -> Subject:
    return Subject(view.view(graph), graph.operators[-1], tiny.table(others), row)


# --- attributes as exporters write them -------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "value"),
    [
        ({"mode": 3}, 3),
        ({"mode": "SAME"}, "SAME"),
        ({"mode": True}, 1),
        ({"mode": 0.5}, None),
        ({"mode": [1, 2]}, None),
        ({"mode": None}, None),
        ({"other": 3}, None),
    ],
)
def test_an_attribute_is_measured_where_it_is_a_number_or_a_word(tiny: Any, words: Any, value: Any) -> None:
    assert measured(pool(tiny, **words), "attribute", "mode") == value


@pytest.mark.parametrize(
    ("words", "largest", "uneven"),
    [
        ({}, 1, 0),
        ({"dilation_h_factor": 2, "dilation_w_factor": 2}, 2, 0),
        ({"dilation_h_factor": 2}, 2, 1),
        ({"dilations": [3, 3]}, 3, 0),
        ({"dilations": [1, 4]}, 4, 1),
        ({"dilations": [2]}, 2, 0),
        ({"dilations": []}, 1, 0),
        ({"dilations": ["2", 2.5]}, 1, 0),
        ({"dilations": 2}, 1, 0),
        ({"dilation_h_factor": True, "dilation_w_factor": 1}, 1, 0),
    ],
)
def test_dilations_of_both_formats(tiny: Any, words: Any, largest: int, uneven: int) -> None:
    graph = pool(tiny, **words)
    assert (measured(graph, "dilation"), measured(graph, "uneven_dilation")) == (largest, uneven)


@pytest.mark.parametrize(
    ("words", "largest"),
    [
        ({"strides": [3]}, 3),
        ({"strides": []}, 1),
        ({"strides": [1, 2, 9]}, 2),
        ({"strides": ["2", 4]}, 4),
        ({"strides": [1, 1], "stride_h": 7}, 1),
        ({"stride_h": 2.0, "stride_w": 3}, 3),
    ],
)
def test_strides_of_both_formats(tiny: Any, words: Any, largest: int) -> None:
    assert measured(pool(tiny, **words), "stride") == largest


@pytest.mark.parametrize(
    ("words", "both"),
    [
        ({"stride_w": 2, "dilation_h_factor": 2}, 1),
        ({"strides": [1, 2], "dilations": [2, 1]}, 1),
        ({"strides": [1, 1], "dilations": [2, 2]}, 0),
        ({"strides": [2, 2], "dilations": []}, 0),
        ({"stride_w": 2}, 0),
        ({"stride_w": "2", "dilation_w_factor": 2}, 0),
    ],
)
def test_dilating_and_striding_at_once(tiny: Any, words: Any, both: int) -> None:
    assert measured(pool(tiny, **words), "dilation_with_stride") == both


@pytest.mark.parametrize(
    ("shape", "before_last", "before_last_three"),
    [
        ((2, 3, 4, 5), 24, 2),
        ((6, 2, 3, 4, 5), 144, 12),
        ((-1, 3, 4, 5), 12, 1),
        ((7,), 1, 1),
        ((), 1, 1),
        ((0, 5, 5, 5), 25, 1),
    ],
)
def test_sizes_of_the_leading_axes(tiny: Any, shape: Any, before_last: int, before_last_three: int) -> None:
    graph = tiny.Graph().tensor("x", shape).tensor("y", shape).operator("RELU", "x", "y").done("x", "y")
    assert measured(graph, "size_before_last") == before_last
    assert measured(graph, "size_before_last_three") == before_last_three


@pytest.mark.parametrize(
    ("shape", "height"),
    [((4, 3, 5, 2), 3), ((4, 0, 5, 2), None), ((4, -1, 5, 2), None), ((4, 3, 5), None), ((4,), None)],
)
def test_a_kernel_is_known_only_from_four_known_axes(tiny: Any, shape: Any, height: int | None) -> None:
    graph = tiny.Graph().tensor("x", (1, 8, 8, 2)).tensor("w", shape, constant=True).tensor("y", (1, 8, 8, 4))
    done = graph.operator("CONV_2D", "x w", "y", filter_height=9).done("x", "y")
    assert measured(done, "kernel_height") == height


def test_measures_of_a_moved_axis_need_known_lengths(tiny: Any) -> None:
    graph = tiny.Graph().tensor("x", (1, -1, 8)).tensor("y", (1, 8)).operator("MEAN", "x", "y").done("x", "y")
    rules = ("removed_axis", "reduced_elements", "reduced_axis", "depth_reduced_with_height_and_width")
    assert [measured(graph, rule) for rule in rules] == [None] * 4


def test_weights_that_are_computed_are_no_constant_but_a_present_operand(tiny: Any) -> None:
    graph = tiny.Graph().tensor("x", (1, 8)).tensor("w", (4, 8)).tensor("y", (1, 4))
    done = graph.operator("FULLY_CONNECTED", "x w", "y").done("x", "y")
    assert measured(done, "constant", "weights") == 0
    assert measured(done, "constant", "bias") is None
    assert measured(done, "present", "operand 1") == 1
    assert measured(done, "present", "weights") == 0


# --- what a limit allows ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        (Constraint(rule="attribute", of="mode", equals=2), None),
        (Constraint(rule="attribute", of="mode", equals=3), "attribute of mode is 2, allowed is 3"),
        (Constraint(rule="attribute", of="mode", minimum=2, maximum=2), None),
        (Constraint(rule="attribute", of="mode", minimum=3), "attribute of mode is 2, allowed is at least 3"),
        (
            Constraint(rule="attribute", of="mode", one_of=(1, 3), maximum=4),
            "attribute of mode is 2, allowed is 1, 3 and at most 4",
        ),
        (
            Constraint(rule="attribute", of="mode", one_of=(2, 9), maximum=1),
            "attribute of mode is 2, allowed is 2, 9 and at most 1",
        ),
        (Constraint(rule="attribute", of="missing", equals=3), None),
        (Constraint(rule="attribute", of="mode"), None),
        (Constraint(rule="attribute", of="word", minimum=5), None),
        (Constraint(rule="attribute", of="word", one_of=("VALID",)), "attribute of word is SAME, allowed is VALID"),
        (Constraint(rule="stride", equals=0), "stride is 1, allowed is 0"),
    ],
)
def test_a_limit_reads_as_it_stands_in_the_table(tiny: Any, limit: Constraint, words: str | None) -> None:
    assert broken(tiny, pool(tiny, mode=2, word="SAME"), limit) == words


def test_a_rule_that_forbids_something_can_still_be_asked_for(tiny: Any) -> None:
    uneven = pool(tiny, dilation_h_factor=2)
    assert broken(tiny, uneven, Constraint(rule="uneven_dilation")) == "uneven dilation is 1, allowed is 0"
    assert broken(tiny, uneven, Constraint(rule="uneven_dilation", equals=1)) is None
    assert broken(tiny, pool(tiny), Constraint(rule="uneven_dilation", equals=1)) is not None


def test_an_unknown_rule_names_the_table_and_lists_the_known(tiny: Any) -> None:
    with pytest.raises(PlanError, match=r"operator table tiny .* 'strides' on AVERAGE_POOL_2D") as raised:
        broken(tiny, pool(tiny), Constraint(rule="strides", equals=1))
    assert set(MEASURES) <= set(str(raised.value.hint).replace("use one of ", "").split(", "))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(
    value=st.integers(-5, 5),
    low=st.none() | st.integers(-5, 5),
    high=st.none() | st.integers(-5, 5),
    choices=st.lists(st.integers(-5, 5), max_size=3).map(tuple),
)
def test_a_number_is_allowed_exactly_within_all_limits(
    tiny: Any, value: int, low: int | None, high: int | None, choices: tuple[int, ...]
) -> None:
    limit = Constraint(rule="attribute", of="mode", minimum=low, maximum=high, one_of=choices)
    allowed = (low is None or low <= value) and (high is None or value <= high) and (not choices or value in choices)
    assert (broken(tiny, pool(tiny, mode=value), limit) is None) == allowed


# --- what would mend it ----------------------------------------------------------------------

WANTED = Signature(activations="int8", weights="int8", bias="int32", granularity="per-channel", symmetric="weights")


@pytest.mark.parametrize(
    ("limit", "change"),
    [
        (Constraint(rule="constant", of="input", equals=1), "make input a constant"),
        (Constraint(rule="stride", maximum=0), "change stride to at most 0"),
        (Constraint(rule="depth", of="input", minimum=8), "change depth of input to at least 8"),
        (Constraint(rule="dilation_with_stride"), "use a stride of 1 where it dilates"),
        (Constraint(rule="uneven_dilation"), "change uneven dilation to 0"),
        (Constraint(rule="rank", maximum=3), "pad the operator to at most 3 dimensions"),
    ],
)
def test_a_broken_limit_is_mended_in_its_own_words(tiny: Any, limit: Constraint, change: str) -> None:
    row = OperatorRow(signatures=None, constraints=(Constraint(rule="batch", equals=1), limit))
    asked = subject(tiny, pool(tiny, stride_w=2, dilation_h_factor=2), row)
    assert edits.edit("constraint-violated", asked, WANTED) == change


@pytest.mark.parametrize(
    ("kind", "has", "change"),
    [
        ("HARD_SWISH", ("ADD", "RELU6", "MUL"), "replace `HARD_SWISH` by `ADD` and `RELU6` and `MUL`"),
        ("HARD_SWISH", ("ADD", "MUL"), None),
        ("Flatten", ("Reshape",), "replace `Flatten` by `Reshape`"),
        ("CONV_2D", ("DEPTHWISE_CONV_2D",), None),
    ],
)
def test_a_substitute_needs_all_its_operators(tiny: Any, kind: str, has: tuple[str, ...], change: str | None) -> None:
    others = {name: OperatorRow(signatures=None) for name in has}
    assert edits.edit("operator-unknown", subject(tiny, pool(tiny, kind), None, **others), WANTED) == change


@pytest.mark.parametrize(
    ("has", "change"),
    [
        ({"granularity": "per-tensor"}, "export with per-tensor weights"),
        ({"symmetric": "both"}, "export with symmetric weights and activations"),
        ({"bias": "int64", "symmetric": "both"}, "--scheme static_wi8_ai8"),
        ({"activations": "int16", "bias": "int64"}, "--scheme static_wi8_ai16"),
        ({"activations": "uint8", "weights": "uint8"}, "--scheme static_wi8_ai8"),
        ({"activations": "float32", "weights": "float32"}, "--scheme float32"),
        ({"activations": "float16", "weights": "float16"}, None),
    ],
)
def test_the_nearest_signature_of_a_row_is_the_edit(tiny: Any, has: dict[str, Any], change: str | None) -> None:
    fields = {"activations": "int8", "weights": "int8", "bias": "int32", "granularity": "per-channel"}
    row = OperatorRow(signatures=(Signature(**{**fields, "symmetric": "weights", **has}),))
    found = edits.edit("signature-unsupported", subject(tiny, pool(tiny), row), WANTED)
    assert found == change


def test_an_output_keeps_the_scale_of_the_row_with_its_own_activations(tiny: Any) -> None:
    fixed = Signature(activations="int8", output=OutputSpec(dtype="int8", scale=0.5, zero_point=-4))
    wide = Signature(activations="int16", output=OutputSpec(dtype="int16", scale=0.25, zero_point=0))
    asked = subject(tiny, pool(tiny), OperatorRow(signatures=(wide, fixed)))
    assert edits.edit("output-fixed", asked, WANTED) == "export with scale 0.5 and zero point -4 of its output"
    assert edits.edit("output-fixed", asked, Signature(activations="uint8")) is None
    assert edits.edit("output-fixed", subject(tiny, pool(tiny), None), WANTED) is None


def test_other_rules_have_no_edit_and_versions_name_the_newest(tiny: Any) -> None:
    asked = subject(tiny, pool(tiny), OperatorRow(signatures=None, max_version=2))
    assert edits.edit("left-in-float", asked, WANTED) is None
    assert edits.edit("version-too-new", asked, WANTED) == "export with version 2 or older of `AVERAGE_POOL_2D`"
    assert edits.cut(asked) == "cut at operator 0: `AVERAGE_POOL_2D` runs on the CPU"
