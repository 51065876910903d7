"""What provers make of what the real thing said: Vela's split, tflite-micro's words, the QNN provider's answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import models, targets
from edgeq.conformance import onnx as generator
from edgeq.conformance import onnxruntime as prover
from edgeq.conformance import qnn, tflite_micro, vela
from edgeq.conformance.outside import Answer, Array
from edgeq.conformance.tflite import model, trying
from edgeq.conformance.tflite.joined import joined, prefix
from edgeq.conformance.tflite.recipes import UNBUILT
from edgeq.conformance.tflite.trying import Verdict
from edgeq.errors import BuildError, TargetError
from edgeq.models.write_tflite import Graph, Node, Tensor, write_tflite
from edgeq.tools.vela import COMMAND, Split
from edgeq.types import Case, ModelGraph, Operator, OperatorTable, Signature

INT8 = Signature(activations="int8")
ON_NPU = Split(0, 9)


def branch(outputs: int = 1, kind: str = "ADD", optional: bool = False) -> Graph:
    made = tuple(f"out{number}" for number in range(outputs))
    return Graph(
        tensors=tuple(Tensor(name=name, shape=(1, 2)) for name in ("a", "b", *made)),
        nodes=(Node(type=kind, inputs=("a", "", "b") if optional else ("a", "b"), outputs=made, intermediates=("b",)),),
        inputs=("a", "b"),
        outputs=made,
    )


def compiled(*writers: str) -> ModelGraph:
    """A model whose outputs are written by operators of these types; "" leaves an output to nobody."""
    operators = tuple(
        Operator(index=number, type=kind, version=1, inputs=(), outputs=(number,))
        for number, kind in enumerate(writers)
        if kind
    )
    return ModelGraph(
        format="tflite", path="", sha256="", size_bytes=0, inputs=(), outputs=tuple(range(len(writers))), tensors=(),
        operators=operators, parameters=0, weight_bytes=0, macs=0, peak_activation_bytes=0,
    )  # fmt: skip


# --- vela ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("writers", "verdict"),
    [
        ([COMMAND], Verdict("runs")),
        ([COMMAND, COMMAND], Verdict("runs")),
        (["SOFTMAX"], Verdict("refused", "it is left to the CPU: SOFTMAX")),
        ([COMMAND, "TILE"], Verdict("refused", "it is left to the CPU: TILE")),
        (["TILE", "CAST"], Verdict("refused", "it is left to the CPU: TILE")),
        (["", "CAST"], Verdict("refused", "it is left to the CPU: CAST")),
        ([""], Verdict("untried", "Vela leaves nothing of it to run")),
        ([COMMAND, ""], Verdict("untried", "Vela leaves nothing of it to run")),
    ],
)
def test_an_operator_is_placed_where_all_its_outputs_come_from(writers: list[str], verdict: Verdict) -> None:
    assert vela.verdicts([branch(len(writers))], ON_NPU, compiled(*writers)) == [verdict]


def test_an_operator_that_the_split_names_is_on_the_cpu_although_the_npu_writes_its_output() -> None:
    split = Split(1, 1, ("Pad = c1_out0 (outputs [1, 2])",))
    found = vela.verdicts([branch(), branch()], split, compiled(COMMAND, COMMAND))
    assert found == [Verdict("runs"), Verdict("refused", f"it is left to the CPU: {split.on_cpu[0]}")]


def test_a_branch_is_not_mistaken_for_one_whose_number_begins_alike() -> None:
    split = Split(1, 11, ("Pad = c11_out0 (outputs [1, 2])",))
    found = vela.verdicts([branch()] * 12, split, compiled(*[COMMAND] * 12))
    assert [one.result for one in found] == ["runs"] * 11 + ["refused"]


@pytest.mark.parametrize("line", ["c0_out0 (outputs [1, 2])", "c0_ = other (outputs [])", "Pad = xc0_out0 ()"])
def test_only_the_name_behind_the_type_names_a_branch(line: str) -> None:
    assert vela.verdicts([branch()], Split(1, 0, (line,)), compiled(COMMAND)) == [Verdict("runs")]


def test_each_branch_is_judged_by_its_own_outputs() -> None:
    graphs = [branch(2), branch(1), branch(3)]
    found = vela.verdicts(graphs, ON_NPU, compiled(COMMAND, COMMAND, "TILE", COMMAND, COMMAND, ""))
    assert [one.result for one in found] == ["runs", "refused", "untried"]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_compiled_model_with_other_outputs_is_not_theirs(count: int) -> None:
    with pytest.raises(BuildError, match="other outputs"):
        vela.verdicts([branch(), branch()], ON_NPU, compiled(*[COMMAND] * count))


@pytest.mark.parametrize("name", ["ethos-u55", "ethos-u85"])
def test_each_configuration_of_a_table_is_compiled_for_once(name: str) -> None:
    table = targets.load_table(name)
    found = [one.config for one in vela.accelerators(table)]
    assert found
    assert len(found) == len(set(found))
    assert all(config and config.startswith("ethos-u") for config in found)


# --- many models as one ----------------------------------------------------------------------


@settings(max_examples=20, deadline=None)
@given(sizes=st.lists(st.integers(1, 3), max_size=12))
def test_branches_of_a_joined_graph_share_no_tensor_and_keep_their_order(sizes: list[int]) -> None:
    whole = joined([branch(size) for size in sizes])
    names = [tensor.name for tensor in whole.tensors]
    assert len(names) == len(set(names)) == sum(sizes) + 2 * len(sizes)
    assert whole.outputs == tuple(f"c{number}_out{place}" for number, size in enumerate(sizes) for place in range(size))
    assert whole.inputs == tuple(f"c{number}_{name}" for number in range(len(sizes)) for name in "ab")
    for number, node in enumerate(whole.nodes):
        assert all(name.startswith(prefix(number)) for name in (*node.inputs, *node.outputs, *node.intermediates))


def test_an_operand_that_is_left_out_stays_left_out_in_a_branch() -> None:
    node = joined([branch(), branch(optional=True)]).nodes[1]
    assert node.inputs == ("c1_a", "", "c1_b")
    assert node.intermediates == ("c1_b",)


def test_a_joined_graph_is_a_model_that_is_read_back_branch_by_branch(tmp_path: Path) -> None:
    kinds = ("ADD", "MUL", "SUB")
    path = write_tflite(tmp_path / "joined.tflite", joined([branch(kind=kind) for kind in kinds]), signature=False)
    found = models.read(path)
    assert tuple(operator.type for operator in found.operators) == kinds
    assert [found.tensors[port].name for port in found.outputs] == ["c0_out0", "c1_out0", "c2_out0"]
    judged = vela.verdicts([branch()] * 3, ON_NPU, found)
    assert [one.why for one in judged] == [f"it is left to the CPU: {kind}" for kind in kinds]


# --- tflite-micro ----------------------------------------------------------------------------


def trial(*wanted: Array, bound: float = 0.1) -> model.Trial:
    outputs = tuple(Tensor(name=f"out{number}", shape=one.shape) for number, one in enumerate(wanted))
    feeds = (np.array([[1.0, 2.0]], np.float32), np.array([[3.0, 4.0]], np.float32))
    graph = branch(len(wanted))
    return model.Trial(graph=graph, feeds=feeds, wanted=wanted, outputs=outputs, bounds=(bound,) * len(wanted))


def case(operator: str) -> Case:
    return Case(operator=operator, signature=INT8, claimed=True)


WANTED = np.array([1.0, -1.0])
NEAR = [np.array([1.05, -1.0], np.float32)]
FAR = [np.array([1.2, -1.0], np.float32)]
NO_RECIPE = min(UNBUILT)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        (Answer(NEAR), Verdict("runs")),
        (Answer(FAR), Verdict("wrong", "output 0 is 0.2 away from float, allowed is 0.1")),
        (Answer([NEAR[0][:1]]), Verdict("wrong", "output 0 is float32 [1], not float32 [2]")),
        (Answer([WANTED]), Verdict("wrong", "output 0 is float64 [2], not float32 [2]")),
        (Answer(None, "raised", "kernel: bad type\nmore"), Verdict("refused", "kernel: bad type")),
        (Answer(None, "died with SIGSEGV"), Verdict("refused", "died with SIGSEGV")),
        (Answer(None, "\n\n  second line\n"), Verdict("refused", "second line")),
        (Answer(None, "w" * 999), Verdict("refused", "w" * 200)),
    ],
)
def test_an_answer_of_tflite_micro_is_near_or_wrong_or_a_refusal(answer: Answer, verdict: Verdict) -> None:
    assert tflite_micro._verdict(case("ADD"), trial(WANTED), answer) == verdict


@pytest.mark.parametrize(
    ("answer", "result"),
    [
        (None, "untried"),
        (Answer(None, "Didn't find op for builtin opcode 'X'"), "refused"),
        (Answer(None, "raised", "Didn't find op for builtin opcode 'X'\nFailed"), "refused"),
        (Answer(None, "its inputs are missing"), "untried"),
        (Answer([]), "untried"),
    ],
)
def test_an_operator_without_a_model_is_refused_only_where_it_is_not_known(answer: Answer | None, result: str) -> None:
    why = Verdict("untried", trying.unbuilt(NO_RECIPE))
    found = tflite_micro._verdict(case(NO_RECIPE), why, answer)
    assert found.result == result
    assert ("find op" in found.why) == (result == "refused")


def test_what_could_not_be_built_of_a_known_operator_stays_as_it_is() -> None:
    why = Verdict("untried", "no model that breaks this constraint is built here")
    assert tflite_micro._job(case("ADD"), why) is None
    assert tflite_micro._verdict(case("ADD"), why, None) is why


def test_a_job_for_tflite_micro_has_its_inputs_by_place() -> None:
    made = trial(WANTED, WANTED)
    job = tflite_micro._job(case("ADD"), made)
    assert job is not None
    assert (job.model, job.outputs, list(job.feeds)) == (made.model, 2, ["0", "1"])
    assert job.feeds["1"] is made.feeds[1]


@pytest.mark.parametrize("operator", sorted(UNBUILT))
def test_a_probe_is_a_model_that_asks_for_its_operator_alone(tmp_path: Path, operator: str) -> None:
    job = tflite_micro._job(case(operator), Verdict("untried"))
    assert job is not None
    assert (dict(job.feeds), job.outputs) == ({}, 0)
    path = tmp_path / "probe.tflite"
    path.write_bytes(job.model)
    assert [one.type for one in models.read(path).operators] == [operator]


def test_why_an_operator_has_no_model_is_said_of_every_operator() -> None:
    assert all(trying.unbuilt(operator) for operator in (*UNBUILT, "NO_SUCH_OPERATOR"))


# --- the QNN provider ------------------------------------------------------------------------


def qnn_trial(wanted: Array, exact: Array, *, is_random: bool = False) -> qnn.Trial:
    return qnn.Trial(generator.OneOperator(b"", {}), [wanted], [exact], is_random)


REAL = np.array([1.0, -2.0], np.float32)


@pytest.mark.parametrize(
    ("answer", "is_random", "result", "why"),
    [
        (Answer([REAL]), False, "runs", ""),
        (Answer([REAL * np.float32(1.001)]), False, "runs", ""),
        (Answer([-REAL]), False, "wrong", "off by 2 of the largest value"),
        (Answer([REAL[:1]]), False, "wrong", "off by inf"),
        (Answer([REAL * np.float32(np.nan)]), False, "wrong", "off by nan"),
        (Answer([-REAL]), True, "runs", ""),
        (Answer([]), False, "wrong", "it has 0 outputs, not 1"),
        (Answer([REAL, REAL]), True, "wrong", "it has 2 outputs, not 1"),
        (Answer(None, "node not supported"), False, "refused", "node not supported"),
        (Answer(None, "died with SIGSEGV", "chatter"), True, "refused", "died with SIGSEGV"),
    ],
)
def test_an_answer_of_the_provider_is_compared_with_the_same_model_on_the_cpu(
    answer: Answer, is_random: bool, result: str, why: str
) -> None:
    found = qnn.judged(qnn_trial(REAL, REAL, is_random=is_random), answer)
    assert found.result == result
    assert why in found.why
    assert bool(found.why) == bool(why)


def test_a_poor_model_is_told_from_poor_kernels() -> None:
    poor = qnn.judged(qnn_trial(REAL, -REAL), Answer([-REAL]))
    assert (poor.result, poor.why.partition(",")[0]) == ("wrong", "not fused")
    kernels = qnn.judged(qnn_trial(REAL, REAL), Answer([-REAL]))
    assert (kernels.result, kernels.why.partition(",")[0]) == ("wrong", "fused")


def test_the_oldest_processor_of_the_shelf_is_emulated() -> None:
    table = targets.load_table("qualcomm-htp")
    found = qnn._settings(table)
    assert found["soc_model"] == "43"  # Snapdragon 8 Gen 2, Hexagon v73
    assert found["offload_graph_io_quantization"] == "0"


def test_a_table_whose_accelerators_have_no_soc_cannot_be_proved_by_the_provider() -> None:
    with pytest.raises(TargetError, match="soc_id"):
        qnn._settings(targets.load_table("ethos-u55"))
    nobody = OperatorTable(name="nobody", runtime="qnn", version="1", source="s", operators={})
    with pytest.raises(TargetError, match="no target with an accelerator"):
        qnn._settings(nobody)


@pytest.mark.parametrize(
    ("operator", "why"), [("StringConcat", "strings"), ("NoSuchOperator", "there is no recipe for it")]
)
def test_a_case_without_a_model_is_not_sent_to_the_provider(operator: str, why: str) -> None:
    found = qnn.prepared(case(operator))
    assert isinstance(found, prover.Verdict)
    assert found.result == "untried"
    assert why in found.why


def test_a_prepared_case_holds_the_model_and_both_answers_to_compare_with() -> None:
    found = qnn.prepared(case("Add"))
    assert isinstance(found, qnn.Trial)
    assert not found.is_random
    assert [one.shape for one in found.wanted] == [one.shape for one in found.exact]
    assert qnn.judged(found, Answer(found.exact)).result == "runs"
