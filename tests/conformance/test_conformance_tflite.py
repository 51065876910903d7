"""One-operator TFLite models: what is tried, how it is built, and that real kernels judge it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq import conformance, targets
from edgeq.conformance import litert, litert_reference
from edgeq.conformance.tflite import cases, model, quantized, trying, variants
from edgeq.conformance.tflite.operands import spread
from edgeq.conformance.tflite.recipes import RECIPES, UNBUILT
from edgeq.types import Case, Constraint, OperatorRow, OperatorTable, Outcome, Signature

TABLE = targets.load_table("tflite-litert-cpu")
FEW = ("CONV_2D", "LOGISTIC", "ADD", "RESHAPE", "UNIQUE")


def signature(text: str) -> Signature:
    """Activations, weights, bias, granularity, symmetry; a dash leaves one out."""
    names = ("activations", "weights", "bias", "granularity", "symmetric")
    return Signature(**{name: part for name, part in zip(names, text.split(), strict=False) if part != "-"})  # type: ignore[arg-type]


def table(rows: dict[str, OperatorRow]) -> OperatorTable:
    return dataclasses.replace(TABLE, operators=rows)


def verify(rows: dict[str, OperatorRow]) -> dict[str, list[Outcome]]:
    """Outcomes of a table's own operators by standing."""
    changed = table(rows)
    found: dict[str, list[Outcome]] = {}
    tried = [case for case in litert.cases(changed) if case.operator in rows]
    for outcome in litert.prove(tried, changed):
        found.setdefault(conformance.standing(outcome), []).append(outcome)
    return found


# --- which cases -----------------------------------------------------------------------------


def test_every_operator_of_the_table_has_a_recipe() -> None:
    assert TABLE.operators.keys() <= RECIPES.keys()


def test_no_operator_is_both_built_and_unbuilt() -> None:
    assert not RECIPES.keys() & UNBUILT.keys()


def test_every_operator_of_the_schema_has_a_case() -> None:
    schema = set(litert.schema_operators())
    assert set(RECIPES) <= schema
    assert {case.operator for case in litert.cases(TABLE)} == schema | TABLE.operators.keys()


def test_no_case_twice() -> None:
    found = litert.cases(TABLE)
    assert len(found) == len(set(found))


def test_every_claim_is_a_case() -> None:
    found = {(case.operator, case.signature) for case in litert.cases(TABLE) if case.claimed}
    claims = {(name, one) for name, row in TABLE.operators.items() for one in row.signatures or ()}
    assert claims <= found
    assert len(claims) > 500


def test_denials_are_what_the_claims_leave() -> None:
    row = OperatorRow(signatures=(signature("int8"), signature("float32")))
    found = [case for case in cases.cases(table({"ADD": row}), ()) if not case.claimed]
    assert [case.signature.activations for case in found] == ["uint8", "int16"]


def test_edges_of_a_rank_and_of_a_version() -> None:
    limit = Constraint(rule="rank", of="input", equals=4)
    row = OperatorRow(signatures=(signature("float32"),), constraints=(limit,), max_version=3)
    found = {case.variant: case.claimed for case in cases.cases(table({"L2_POOL_2D": row}), ()) if case.variant}
    assert found == {"rank of input 4": True, "rank of input 3": False, "rank of input 5": False, "version 4": False}


def test_constraint_of_another_kind_is_untried() -> None:
    limit = Constraint(rule="attribute", of="stride", maximum=3)
    found = verify({"ADD": OperatorRow(signatures=(signature("float32"),), constraints=(limit,))})
    assert [one.case.variant for one in found["untried"]] == ["outside of attribute of stride"]


@pytest.mark.parametrize(
    ("claim", "other", "covered"),
    [
        ("int8 int8 int32 per-tensor weights", "int8 int8 int32 per-tensor weights", True),
        ("int8 int8 int32 per-tensor none", "int8 int8 int32 per-tensor weights", True),
        ("int8 int8 int32 per-tensor weights", "int8 int8 int32 per-tensor none", False),
        ("int8 int8 int32 per-tensor weights", "int8 int8 int32 per-channel weights", False),
        ("int16 int8 int64 per-tensor both", "int16 int8 int32 per-tensor both", False),
        ("int16 int8 - per-tensor both", "int16 int8 int32 per-tensor both", True),
        ("float32 float32", "float32 float32 float32", True),
        ("float32 float32", "float32 float16 float32", False),
    ],
)
def test_covers(claim: str, other: str, covered: bool) -> None:
    assert cases.covers(signature(claim), signature(other)) is covered


# --- how it is stored ------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_grid_covers_the_range_and_zero(dtype: str) -> None:
    on = quantized.grid(dtype, 0.5, 1.4)
    stored = quantized.activations(np.array([0.0, 0.5, 1.4], np.float32), dtype, on)
    assert np.abs(stored.real - [0.0, 0.5, 1.4]).max() <= on.scale / 2 + 1e-6
    assert stored.real[0] == 0.0


def test_zero_point_of_8_bits_is_not_trivial() -> None:
    values = RECIPES["ADD"].operands[0].values
    for dtype, trivial in (("int8", {0, -128}), ("uint8", {0, 128})):
        assert quantized.grid(dtype, float(values.min()), float(values.max())).zero not in trivial


def test_int4_is_packed_low_half_first() -> None:
    stored = quantized.weights(
        np.array([[0.1, 0.7, -0.7]], np.float32), "int4", axis=0, per_channel=False, symmetric=True
    )
    assert quantized.packed(stored).tolist() == [0x71, 0x09]


def test_spread_values_are_distinct_and_repeatable() -> None:
    first = spread((1, 4, 4, 4), -1, 1.4)
    assert np.unique(first).size == 64
    assert np.array_equal(first, spread((1, 4, 4, 4), -1, 1.4))


# --- what is wanted --------------------------------------------------------------------------


def same(*values: Any) -> Any:
    return values[0]


def sigmoid(x: Any) -> Any:
    return 1 / (1 + np.exp(-x))


def softmax(x: Any) -> Any:
    raised = np.exp(x - x.max(-1, keepdims=True))
    return raised / raised.sum(-1, keepdims=True)


def convolved(x: Any, w: Any, b: Any) -> Any:
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    return np.einsum("nhwcij,oijc->nhwo", windows, w) + b


TWINS: dict[str, Callable[..., Any]] = {
    "ADD": np.add, "SUB": np.subtract, "MUL": np.multiply, "DIV": np.divide, "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum, "SQUARED_DIFFERENCE": lambda a, b: (a - b) ** 2, "POW": np.power, "ATAN2": np.arctan2,
    "FLOOR_DIV": np.floor_divide, "FLOOR_MOD": np.mod, "ABS": np.abs, "EXP": np.exp, "LOG": np.log, "SQRT": np.sqrt,
    "RSQRT": lambda x: 1 / np.sqrt(x), "NEG": np.negative, "SQUARE": np.square, "SIN": np.sin, "COS": np.cos,
    "FLOOR": np.floor, "SIGN": np.sign, "ZEROS_LIKE": np.zeros_like, "RELU": lambda x: np.maximum(x, 0),
    "RELU6": lambda x: np.clip(x, 0, 6), "RELU_N1_TO_1": lambda x: np.clip(x, -1, 1), "TANH": np.tanh,
    "RELU_0_TO_1": lambda x: np.clip(x, 0, 1), "LEAKY_RELU": lambda x: np.where(x > 0, x, 0.1 * x),
    "PRELU": lambda x, a: np.where(x > 0, x, a * x), "HARD_SWISH": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "LOGISTIC": sigmoid, "SOFTMAX": softmax, "LOG_SOFTMAX": lambda x: np.log(softmax(x)),
    "L2_NORMALIZATION": lambda x: x / np.sqrt((x**2).sum(-1, keepdims=True)), "CONV_2D": convolved,
    "FULLY_CONNECTED": lambda x, w, b: x @ w.T + b, "BATCH_MATMUL": np.matmul,
    "MEAN": lambda x, _: x.mean((1, 2), keepdims=True), "SUM": lambda x, _: x.sum((1, 2), keepdims=True),
    "REDUCE_MAX": lambda x, _: x.max((1, 2), keepdims=True), "REDUCE_PROD": lambda x, _: x.prod((1, 2), keepdims=True),
    "CUMSUM": lambda x, _: x.cumsum(2), "TRANSPOSE": np.transpose, "TILE": np.tile, "EQUAL": np.equal,
    "LESS": np.less, "ARG_MAX": lambda x, _: x.argmax(3), "CONCATENATION": lambda a, b: np.concatenate([a, b], 3),
    "PAD": np.pad, "SELECT": np.where, "REVERSE_V2": lambda x, _: x[:, :, ::-1], "RESHAPE": np.reshape,
    "EMBEDDING_LOOKUP": lambda at, w: w[at], "GATHER": lambda x, at: x[at],
    "MATRIX_DIAG": lambda x: x[..., None] * np.eye(4),
}  # fmt: skip


@pytest.mark.parametrize("operator", sorted(TWINS))
def test_float_twin_is_what_numpy_says(operator: str) -> None:
    one = "float32 float32 float32" if RECIPES[operator].has_weights else "float32"
    case = Case(operator=operator, signature=signature(one), claimed=True)
    trial = model.build(case, 1, litert_reference.run)
    wanted = TWINS[operator](*(operand.values for operand in RECIPES[operator].operands))
    np.testing.assert_allclose(trial.wanted[0], wanted, rtol=2e-5, atol=2e-6)


# --- how it is judged ------------------------------------------------------------------------


def trial_of(operator: str, text: str) -> model.Trial:
    return model.build(Case(operator=operator, signature=signature(text), claimed=True), 1, litert_reference.run)


def test_one_step_of_moved_data_is_wrong() -> None:
    trial = trial_of("RESHAPE", "int8")
    right = litert.run(trial.model, trial.feeds)
    assert model.differs(trial, right) == ""
    right[0][0, 0] += 1
    assert "away from float" in model.differs(trial, right)


def test_computed_data_may_be_off_by_a_step_but_not_by_ten() -> None:
    trial = trial_of("ADD", "int8")
    got = litert.run(trial.model, trial.feeds)[0]
    assert model.differs(trial, [np.clip(got.astype(int) + 1, -128, 127).astype("int8")]) == ""
    assert model.differs(trial, [np.roll(got, 1)]) != ""
    assert "not int8" in model.differs(trial, [got[:, :2]])
    assert "not int8" in model.differs(trial, [got.astype("int16")])


def test_not_a_number_is_wrong() -> None:
    trial = trial_of("ADD", "float32")
    assert "away" in model.differs(trial, [np.full((1, 4, 4, 4), np.nan, np.float32)])


def test_version_variant_says_its_version() -> None:
    case = Case(operator="ADD", signature=signature("int8"), claimed=False, variant=variants.version(9))
    assert variants.version_of(case, 2) == 9
    assert variants.version_of(dataclasses.replace(case, variant=""), 2) == 2


# --- a table changed by hand is caught ---------------------------------------------------------


@pytest.fixture(scope="module")
def rows() -> dict[str, OperatorRow]:
    return {name: TABLE.operators[name] for name in FEW}


def test_rows_as_they_are_hold(rows: dict[str, OperatorRow]) -> None:
    found = verify(rows)
    assert found.keys() <= {"proved", "denied"}
    assert len(found["proved"]) > 30


@pytest.mark.parametrize(
    ("operator", "added"),
    [
        ("ADD", "float16"),
        ("LOGISTIC", "int32"),
        ("CONV_2D", "uint8 int8 int32 per-channel weights"),
        ("CONV_2D", "int8 int8 int32 per-tensor none"),
    ],
)
def test_added_claim_is_false(rows: dict[str, OperatorRow], operator: str, added: str) -> None:
    row = rows[operator]
    claim = Signature(activations="bool") if added == "float16" else signature(added)
    changed = dataclasses.replace(row, signatures=(*(row.signatures or ()), claim))
    found = verify({operator: changed})
    assert {one.case.signature for one in found["false"]} == {claim}
    assert "missed" not in found


@pytest.mark.parametrize("operator", FEW)
def test_removed_claim_is_missed(rows: dict[str, OperatorRow], operator: str) -> None:
    row = rows[operator]
    claims = row.signatures or tuple(cases.universe(RECIPES[operator]))
    removed = claims[0]
    others = tuple(one for one in claims[1:] if not cases.covers(one, removed))
    found = verify({operator: dataclasses.replace(row, signatures=others)})
    assert removed in {one.case.signature for one in found["missed"]}
    assert "false" not in found


def test_wrong_version_and_wrong_rank_are_caught(rows: dict[str, OperatorRow]) -> None:
    row = dataclasses.replace(rows["CONV_2D"], max_version=7)
    assert {one.case.variant for one in verify({"CONV_2D": row})["missed"]} == {"version 8"}
    row = dataclasses.replace(rows["CONV_2D"], constraints=(Constraint(rule="rank", of="input", equals=5),))
    found = verify({"CONV_2D": row})
    assert {one.case.variant for one in found["false"]} == {"rank of input 5"}
    assert {one.case.variant for one in found["missed"]} == {"rank of input 4"}


def test_unknown_operator_is_missed_or_untried() -> None:
    tried = [case for case in litert.cases(table({})) if case.operator in ("ADD", "WHILE", "SVDF", "CONCAT_EMBEDDINGS")]
    found = {(one.case.operator, conformance.standing(one)) for one in litert.prove(tried, table({}))}
    assert {("ADD", "missed"), ("WHILE", "untried"), ("SVDF", "missed"), ("CONCAT_EMBEDDINGS", "denied")} <= found


# --- kernels that die --------------------------------------------------------------------------


PLUG_IN = """
import os
from edgeq.conformance import litert

def run(model, feeds):
    if len(feeds) == 1:
        os.abort()
    return litert.run(model, feeds)
"""


def test_crash_is_an_outcome_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A prover of somebody's own, found by its entry point, whose kernels abort on operators of one input."""
    (tmp_path / "fragile_prover.py").write_text(PLUG_IN)
    (tmp_path / "fragile-1.dist-info").mkdir()
    (tmp_path / "fragile-1.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: fragile\nVersion: 1\n")
    (tmp_path / "fragile-1.dist-info/entry_points.txt").write_text("[edgeq.conformance]\nfragile = fragile_prover\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    tried = [Case(operator=name, signature=signature("int8"), claimed=True) for name in ("ADD", "ABS", "SUB")]
    found = list(trying.prove(tried, TABLE, "fragile"))
    assert [one.result for one in found] == ["runs", "refused", "runs"]
    assert "SIGABRT" in found[1].why


def test_reference_kernels_differ() -> None:
    tried = [Case(operator="SUM", signature=signature("int8"), claimed=True)]
    assert next(iter(litert.prove(tried, TABLE))).result == "runs"
    reference = targets.load_table("tflite-litert-reference")
    assert next(iter(litert_reference.prove(tried, reference))).result == "wrong"
