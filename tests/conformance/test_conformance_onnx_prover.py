"""onnxruntime's prover: what is fused, what is near, what a changed table and a crash come to."""

from __future__ import annotations

import dataclasses
from importlib import metadata
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import TensorProto, helper

from edgeq import backends, conformance, targets
from edgeq.conformance import child
from edgeq.conformance import onnxruntime as prover
from edgeq.conformance.onnxruntime import Node, Verdict
from edgeq.types import Case, OperatorRow, OperatorTable, Outcome, Signature

TABLE = targets.load_table("onnx-ort-cpu")


def judged(operator: str, variant: str = "", **types: str) -> Verdict:
    signature = Signature(**types)  # type: ignore[arg-type]
    return prover.judge(Case(operator=operator, signature=signature, claimed=True, variant=variant))


def layer(
    activations: str, stored: str, granularity: str = "per-channel", symmetric: str = "weights"
) -> dict[str, str]:
    bias = "float32" if activations == "float32" else "int32"
    return {
        "activations": activations,
        "weights": stored,
        "bias": bias,
        "granularity": granularity,
        "symmetric": symmetric,
    }


# --- what is fused -------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", ["Add", "Mul", "Sigmoid", "Softmax", "AveragePool", "Relu", "Transpose", "ArgMax"])
def test_integer_kernels_are_seen(name: str, dtype: str) -> None:
    assert judged(name, activations=dtype) == Verdict("runs")


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
@pytest.mark.parametrize("name", ["Sub", "Div", "Tanh", "Max", "HardSwish", "LayerNormalization"])
def test_what_has_no_integer_kernel_runs_in_float(name: str, dtype: str) -> None:
    found = judged(name, activations=dtype)
    assert found.result == "refused"
    assert found.why.startswith("runs in float: ")


@pytest.mark.parametrize("name", ["Add", "Mul", "Sigmoid", "Softmax", "GlobalAveragePool", "Concat"])
def test_16_bit_activations_are_not_fused(name: str) -> None:
    assert judged(name, activations="int16").result == "refused"


@pytest.mark.parametrize("name", ["Conv", "MatMul", "Gemm"])
@pytest.mark.parametrize("types", [("int8", "int8"), ("uint8", "uint8"), ("uint8", "int8")])
@pytest.mark.parametrize("granularity", ["per-tensor", "per-channel"])
@pytest.mark.parametrize("symmetric", ["weights", "none"])
def test_layers_are_fused(name: str, types: tuple[str, str], granularity: str, symmetric: str) -> None:
    assert judged(name, **layer(*types, granularity, symmetric)).result == "runs"


@pytest.mark.parametrize("name", ["LSTM", "GRU", "ConvTranspose"])
def test_layers_without_an_integer_kernel_are_not(name: str) -> None:
    assert judged(name, **layer("uint8", "int8")).result == "refused"


@pytest.mark.parametrize("name", ["Conv", "MatMul", "Gemm", "LSTM"])
def test_dynamic_forms_meet_integer_kernels(name: str) -> None:
    assert judged(name, **layer("float32", "int8")).result == "runs"


def test_a_convolution_with_a_zero_point_per_channel_does_not() -> None:
    assert judged("Conv", **layer("float32", "int8", symmetric="none")).result == "refused"
    assert judged("Conv", **layer("float32", "int8", "per-tensor", "none")).result == "runs"


def test_a_form_that_onnx_does_not_have_is_refused() -> None:
    found = judged("GRU", **layer("float32", "int8"))
    assert (found.result, "no form" in found.why) == ("refused", True)


def test_only_nearest_resizing_is_fused() -> None:
    assert judged("Resize", activations="uint8").result == "runs"
    assert judged("Resize", "linear", activations="uint8").result == "refused"


def test_an_opset_beyond_a_kernel_is_refused() -> None:
    assert judged("RoiAlign", "opset 21", activations="float32").result == "runs"
    found = judged("RoiAlign", "opset 22", activations="float32")
    assert (found.result, "implementation" in found.why) == ("refused", True)


def test_an_opset_beyond_the_runtime_is_refused() -> None:
    newest = prover.newest_opset()
    assert judged("Relu", f"opset {newest}", activations="float32").result == "runs"
    assert judged("Relu", f"opset {newest + 1}", activations="float32").result == "refused"


def test_what_cannot_be_built_is_untried() -> None:
    assert judged("StringConcat", activations="float32").result == "untried"


def graph_of(tmp_path: Path, *nodes: onnx.NodeProto) -> list[Node]:
    ports = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [4])]
    model = helper.make_model(helper.make_graph(list(nodes), "g", ports, []))
    onnx.save(model, str(tmp_path / "g.onnx"))
    return prover.nodes(tmp_path / "g.onnx")


def test_reals_are_followed_through_float_operators(tmp_path: Path) -> None:
    found = graph_of(
        tmp_path,
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"]),
        helper.make_node("MaxPool", ["q"], ["p"]),
        helper.make_node("DequantizeLinear", ["p", "s"], ["d"]),
        helper.make_node("Reshape", ["d", "shape"], ["r"]),
        helper.make_node("Tanh", ["r"], ["t"]),
    )
    assert [node.reads_reals for node in found] == [True, False, False, True, True]
    assert prover.in_integers(found) == "runs in float: Reshape, Tanh"
    assert prover.in_integers(found[:3]) == ""


def test_a_float_product_is_no_integer_product(tmp_path: Path) -> None:
    found = graph_of(tmp_path, helper.make_node("MatMul", ["x", "w"], ["y"]))
    assert prover.meets_integers(found) == "runs in float: MatMul"
    assert prover.meets_integers(graph_of(tmp_path, helper.make_node("MatMulInteger", ["x", "w"], ["y"]))) == ""


def test_an_operator_that_this_onnx_does_not_know_is_tried_in_float() -> None:
    table = changed("NoSuchOperator", OperatorRow(signatures=None))
    assert [one.result for one in proved(table, "NoSuchOperator")] == ["untried"]


# --- what is near --------------------------------------------------------------------------------

REALS = arrays.arrays(np.float32, (3, 4), elements=st.floats(-1e3, 1e3, width=32))


@given(values=REALS, share=st.floats(0, 1))
def test_difference_is_relative_to_the_largest_value(values: prover.Array, share: float) -> None:
    largest = float(np.abs(values).max())
    moved = values.astype(np.float64)
    moved[0, 0] += share * largest
    assert prover.apart(values.astype(np.float64), moved) == pytest.approx(share if largest else 0, abs=1e-6)


def test_integers_differ_by_their_share() -> None:
    assert prover.apart(np.arange(8), np.arange(8)) == 0
    assert prover.apart(np.arange(8), np.array([0, 1, 2, 3, 4, 5, 6, 0])) == 1 / 8


def test_shapes_and_nans_are_never_near() -> None:
    assert prover.apart(np.zeros(3), np.zeros(4)) == float("inf")
    assert not prover.apart(np.ones(2), np.array([1, np.nan])) <= prover.NEAR
    assert prover.apart(np.array([np.nan, 1.0]), np.array([np.nan, 1.0])) == 0


def test_an_answer_that_is_off_is_wrong_and_says_which_run() -> None:
    right, off = [np.array([1.0, 2.0])], [np.array([1.0, 2.5])]
    assert prover.compared(right, right, right) == Verdict("runs")
    assert prover.compared(right, right, off) == Verdict("wrong", "fused, it is off by 0.25 of the largest value")
    assert prover.compared(right, off, off).why.startswith("not fused")


def test_results_at_random_are_not_compared() -> None:
    assert judged("RandomNormal", activations="float32").result == "runs"


# --- a table that says something else ------------------------------------------------------------


def proved(table: OperatorTable, operator: str) -> list[Outcome]:
    return list(prover.prove([one for one in prover.cases(table) if one.operator == operator], table))


def standings(outcomes: list[Outcome]) -> set[str]:
    return {conformance.standing(one) for one in outcomes}


def changed(operator: str, row: OperatorRow | None) -> OperatorTable:
    rows = {name: one for name, one in TABLE.operators.items() if name != operator}
    return dataclasses.replace(TABLE, operators=rows if row is None else {**rows, operator: row})


@pytest.mark.parametrize("operator", ["Tanh", "Sigmoid", "Conv", "RoiAlign", "Resize"])
def test_the_table_as_it_is_holds(operator: str) -> None:
    assert standings(proved(TABLE, operator)) <= {"proved", "denied"}


def test_an_added_claim_is_false() -> None:
    row = OperatorRow(signatures=(Signature(activations="int8"), Signature(activations="float32")))
    wrong = [one for one in proved(changed("Tanh", row), "Tanh") if conformance.standing(one) == "false"]
    assert [one.case.signature.activations for one in wrong] == ["int8"]
    assert "Tanh" in wrong[0].why


def test_a_removed_claim_is_missed() -> None:
    row = OperatorRow(signatures=(Signature(activations="uint8"), Signature(activations="float32")))
    missed = [one for one in proved(changed("Sigmoid", row), "Sigmoid") if conformance.standing(one) == "missed"]
    assert [one.case.signature.activations for one in missed] == ["int8"]


def test_a_removed_row_is_missed() -> None:
    assert "missed" in standings(proved(changed("Softsign", None), "Softsign"))


def test_a_removed_version_limit_is_false() -> None:
    row = dataclasses.replace(TABLE.operators["RoiAlign"], max_version=None)
    assert "false" in standings(proved(changed("RoiAlign", row), "RoiAlign"))


def test_a_version_limit_that_is_too_low_is_missed() -> None:
    row = dataclasses.replace(TABLE.operators["RoiAlign"], max_version=18)
    assert "missed" in standings(proved(changed("RoiAlign", row), "RoiAlign"))


def test_a_removed_constraint_is_false() -> None:
    row = dataclasses.replace(TABLE.operators["Resize"], constraints=())
    wrong = [one for one in proved(changed("Resize", row), "Resize") if conformance.standing(one) == "false"]
    assert {one.case.variant for one in wrong} == {"linear", "cubic"}


def test_the_tables_prover_is_this_one() -> None:
    assert TABLE.prover is not None
    assert backends.find("conformance", TABLE.prover) is prover
    assert prover.version() == metadata.version("onnxruntime")


def test_progress_counts_cases() -> None:
    seen: list[tuple[str, int, int]] = []
    some = [one for one in prover.cases(TABLE) if one.operator == "Not"]
    list(prover.prove(some, TABLE, progress=lambda *step: seen.append(step)))
    assert seen == [(TABLE.name, number, len(some)) for number in range(1, len(some) + 1)]


# --- the child -----------------------------------------------------------------------------------


def test_a_crash_is_an_outcome_and_the_next_item_has_a_new_child() -> None:
    first, second, third = child.run("ctypes:string_at", [b"one", 0, b"two"])
    assert (first, third) == (b"one", b"two")
    assert second == child.Lost("died with SIGSEGV")
    assert prover.survived(second) == Verdict("refused", "onnxruntime died with SIGSEGV")


def test_a_hang_is_an_outcome() -> None:
    found = list(child.run("time:sleep", [0, 30, 0], child.Limits(item_s=0.5, start_s=30)))
    assert found == [None, child.Lost("no answer after 0.5 s"), None]


def test_memory_is_limited() -> None:
    limits = child.Limits(memory_bytes=1 << 30)
    with pytest.raises(RuntimeError, match="MemoryError"):
        list(child.run("builtins:bytes", [4 << 30], limits))


def test_a_child_that_leaves_is_an_outcome() -> None:
    (found,) = child.run("os:_exit", [3])
    assert found == child.Lost("died with exit code 3")


def test_an_exception_is_a_bug_and_is_raised() -> None:
    with pytest.raises(RuntimeError, match="ValueError: invalid literal"):
        list(child.run("builtins:int", ["not a number"]))


def test_what_the_function_prints_does_not_disturb_the_answers() -> None:
    assert list(child.run("builtins:print", ["noise"] * 3)) == [None] * 3


def test_no_items_start_no_child() -> None:
    assert list(child.run("no_such_module:function", [])) == []


@settings(max_examples=8, deadline=None)
@given(items=st.lists(st.binary(max_size=2000) | st.integers() | st.text(max_size=50), max_size=6))
def test_items_come_back_in_order_and_whole(items: list[object]) -> None:
    assert list(child.run("copy:copy", items)) == items
