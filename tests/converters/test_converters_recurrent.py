"""Recurrent cells with int8 weights beside float states, and small files without what no runtime reads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq import models, planning, targets
from edgeq.converters import _flatbuffer as flatbuffer
from edgeq.converters import tflite
from edgeq.converters.tflite import recurrent
from edgeq.converters.tflite.restore import type_name
from edgeq.runtimes import litert
from edgeq.testing import models as tiny
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite
from edgeq.types import FLOAT32, ModelGraph, Plan, Signature

LSTM = "UNIDIRECTIONAL_SEQUENCE_LSTM"
HOST = "generic-linux-x86_64"
STEPS, WIDE, UNITS = 5, 6, 4
HYBRID = Signature(activations="float32", weights="int8", granularity="per-tensor", symmetric="weights")


def cell(folder: Path, scale: float = 1.0, name: str = "lstm.tflite") -> Path:
    """A cell over 5 rows of 6 values, and a dense layer on its last state."""
    random = np.random.default_rng(3)

    def real(*shape: int) -> np.ndarray:
        return (random.normal(0, 0.4, shape) * scale).astype(np.float32)

    matrices = [Tensor(name=f"w{n}", shape=(UNITS, WIDE), data=real(UNITS, WIDE)) for n in range(4)]
    matrices += [Tensor(name=f"r{n}", shape=(UNITS, UNITS), data=real(UNITS, UNITS)) for n in range(4)]
    biases = [Tensor(name=f"b{n}", shape=(UNITS,), data=real(UNITS)) for n in range(4)]
    states = [Tensor(name=n, shape=(1, UNITS), variable=True) for n in ("state", "memory")]
    names = ["x", *(one.name for one in matrices), "", "", "", *(one.name for one in biases), "", "", "state", "memory"]
    lstm = Node(
        type=LSTM,
        inputs=(*names, "", "", "", ""),
        outputs=("h",),
        options_table="UnidirectionalSequenceLSTMOptions",
        options={"fusedActivationFunction": 4, "cellClip": 10.0},
    )
    dense = Node(
        type="FULLY_CONNECTED", inputs=("h", "dense/w", ""), outputs=("y",), options_table="FullyConnectedOptions"
    )
    tensors = (
        Tensor(name="x", shape=(1, STEPS, WIDE)),
        *matrices,
        *biases,
        *states,
        Tensor(name="dense/w", shape=(3, UNITS), data=real(3, UNITS)),
        Tensor(name="h", shape=(1, STEPS, UNITS)),
        Tensor(name="y", shape=(STEPS, 3)),
    )
    graph = Graph(tensors=tensors, nodes=(lstm, dense), inputs=("x",), outputs=("y",))
    return write_tflite(folder / name, graph)


def planned(graph: ModelGraph, scheme: str, target: str = HOST) -> Plan:
    chosen = targets.load(target)
    return planning.plan(graph, chosen, targets.load_tables(chosen), scheme=scheme).chosen


def answers(path: Path, count: int = 20) -> np.ndarray:
    random = np.random.default_rng(7)
    session = litert.open(path)
    return np.stack([session.run([random.normal(0, 1, (1, STEPS, WIDE)).astype(np.float32)])[0] for _ in range(count)])


def sqnr_db(wanted: np.ndarray, found: np.ndarray) -> float:
    return float(10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum()))


def stored(path: Path) -> dict[int, tuple[str, Any]]:
    """Type and quantization of the cell's operands, by place."""
    model = flatbuffer.load(path)
    graph = model.subgraphs[0]
    operator = next(one for one in graph.operators if flatbuffer.type_of(model, one) == LSTM)
    found = {place: graph.tensors[index] for place, index in enumerate(operator.inputs) if index >= 0}
    return {place: (type_name(one), one.quantization) for place, one in found.items()}


# --- cells -----------------------------------------------------------------------------------


def test_a_dynamic_scheme_stores_a_cell_in_8_bits(tmp_path: Path) -> None:
    path, out = cell(tmp_path), tmp_path / "m.tflite"
    graph = models.read(path)
    plan = planned(graph, "dynamic_wi8_af32")
    assert plan.operators[0].signature.startswith("float32/int8")
    made = tflite.convert(graph, plan, None, out)
    assert {port.dtype for port in (*made.inputs, *made.outputs)} == {"float32"}
    found = stored(out)
    assert {found[place][0] for place in range(1, 9)} == {"INT8"}
    assert all(len(found[place][1].scale) == 1 for place in range(1, 9))
    assert {found[place][0] for place in (*range(12, 16), 18, 19)} == {"FLOAT32"}
    assert sqnr_db(answers(path), answers(out)) > 30


def test_a_cell_that_the_plan_keeps_in_float_stays_so(tmp_path: Path) -> None:
    path, out = cell(tmp_path), tmp_path / "m.tflite"
    graph = models.read(path)
    plan = planned(graph, "dynamic_wi8_af32")
    kept = replace(plan, scheme=replace(plan.scheme, overrides={0: FLOAT32}))
    tflite.convert(graph, kept, None, out)
    assert {stored(out)[place][0] for place in range(1, 9)} == {"FLOAT32"}


def test_a_runtime_without_the_hybrid_kernel_keeps_the_cell_in_float(tmp_path: Path) -> None:
    """tflite-micro computes cells in integers or in float, never on both."""
    path, out = cell(tmp_path), tmp_path / "m.tflite"
    graph = models.read(path)
    plan = planned(graph, "dynamic_wi8_af32", "stm32h743")
    assert "int8" not in plan.operators[0].signature
    if plan.ok:
        tflite.convert(graph, plan, None, out)
        assert {stored(out)[place][0] for place in range(1, 9)} == {"FLOAT32"}


def test_the_version_that_reads_8_bits_is_named(tmp_path: Path) -> None:
    path, out = cell(tmp_path), tmp_path / "m.tflite"
    graph = models.read(path)
    tflite.convert(graph, planned(graph, "dynamic_wi8_af32"), None, out)
    model = flatbuffer.load(out)
    versions = {flatbuffer.type_of_code(code): code.version for code in model.operatorCodes}
    assert versions[LSTM] == 2
    assert len(model.operatorCodes) == 2, "the code of the float cell is gone"


def test_cells_of_real_models_shrink(shared: Path, tmp_path: Path) -> None:
    path, out = shared / "lstm_mnist" / "mnist_lstm_float.tflite", tmp_path / "m.tflite"
    graph = models.read(path)
    made = tflite.convert(graph, planned(graph, "dynamic_wi8_af32"), None, out)
    assert made.artifact.size_bytes < 0.30 * made.artifact.float_size_bytes


@settings(max_examples=20, deadline=None)
@given(scale=st.sampled_from([0.0, 1e-42, 1e-38, 1e-20, 1e-3, 1.0, 1e3, 1e30]))
def test_matrices_come_back_within_half_a_step(tmp_path_factory: pytest.TempPathFactory, scale: float) -> None:
    path = cell(tmp_path_factory.mktemp("cell"), scale)
    model = flatbuffer.load(path)
    before = matrices(model)
    assert recurrent.shrink(model, {"h"}) == 8
    for real, after in zip(before, matrices(flatbuffer.parse(flatbuffer.dump(model))), strict=True):
        step = float(np.abs(real).max()) / 127
        assert np.abs(real - after).max() <= step * 0.501 + 1e-37


def test_only_the_cells_that_are_named_change(tmp_path: Path) -> None:
    model = flatbuffer.load(cell(tmp_path))
    assert recurrent.shrink(model, {"y", "other"}) == 0
    assert recurrent.shrink(model, {"h"}) == 8
    assert recurrent.shrink(model, {"h"}) == 0, "what is stored already is left alone"


def matrices(model: Any) -> list[np.ndarray]:
    """Real values of the cell's matrices."""
    graph, found = model.subgraphs[0], []
    operator = next(one for one in graph.operators if flatbuffer.type_of(model, one) == LSTM)
    for place in range(1, 9):
        tensor = graph.tensors[operator.inputs[place]]
        raw = np.asarray(model.buffers[tensor.buffer].data, np.uint8).tobytes()
        if type_name(tensor) == "INT8":
            found.append(np.frombuffer(raw, np.int8).astype(np.float64) * float(tensor.quantization.scale[0]))
        else:
            found.append(np.frombuffer(raw, np.float32).astype(np.float64))
    return found


# --- files -----------------------------------------------------------------------------------


@pytest.fixture
def content(tmp_path: Path) -> Any:
    """A file with everything that TensorFlow's converter adds."""
    from ai_edge_litert import schema_py_generated as schema

    model = flatbuffer.load(tiny.conv_tflite(tmp_path))
    model.description = b"MLIR Converted."
    for name in (b"min_runtime_version", b"CONVERSION_METADATA", b"OWNER"):
        entry = schema.MetadataT()
        entry.name, entry.buffer = name, flatbuffer.add_buffer(model, np.frombuffer(name, np.uint8))
        model.metadata = [*(model.metadata or []), entry]
    flatbuffer.add_buffer(model, np.zeros(4000, np.float32))
    model.subgraphs[0].tensors[0].quantization = schema.QuantizationParametersT()
    return model


def runs(content: bytes, path: Path) -> np.ndarray:
    path.write_bytes(content)
    session = litert.open(path)
    shape = [abs(size) for size in session.inputs[0].shape]  # the batch is open
    return np.asarray(session.run([np.linspace(-1, 1, int(np.prod(shape))).reshape(shape).astype(np.float32)])[0])


def test_a_tidy_file_answers_the_same_and_is_smaller(content: Any, tmp_path: Path) -> None:
    before = flatbuffer.dump(content)
    flatbuffer.tidy(content)
    after = flatbuffer.dump(content)
    assert len(after) < len(before) - 4 * 4000
    np.testing.assert_array_equal(runs(before, tmp_path / "a.tflite"), runs(after, tmp_path / "b.tflite"))


def test_what_others_may_read_stays(content: Any) -> None:
    names = [tensor.name for tensor in content.subgraphs[0].tensors if not flatbuffer.is_constant(content, tensor)]
    flatbuffer.tidy(content)
    made = flatbuffer.parse(flatbuffer.dump(content))
    (owner,) = made.metadata
    assert (owner.name, bytes(made.buffers[owner.buffer].data)) == (b"OWNER", b"OWNER")
    kept = [tensor for tensor in made.subgraphs[0].tensors if not flatbuffer.is_constant(made, tensor)]
    assert [tensor.name for tensor in kept] == names
    assert made.description is None
    assert made.signatureDefs


def test_a_description_of_its_own_stays(content: Any) -> None:
    content.description = b"Copyright"
    flatbuffer.tidy(content)
    assert content.description == b"Copyright"


def test_tidying_twice_changes_nothing_more(content: Any) -> None:
    flatbuffer.tidy(content)
    once = flatbuffer.dump(content)
    flatbuffer.tidy(content)
    assert flatbuffer.dump(content) == once


def test_states_keep_their_buffers(tmp_path: Path) -> None:
    """A variable tensor is written to: it must not share the empty buffer's record with ports."""
    model = flatbuffer.load(cell(tmp_path))
    flatbuffer.tidy(model)
    path = tmp_path / "tidy.tflite"
    path.write_bytes(flatbuffer.dump(model))
    np.testing.assert_array_equal(answers(path), answers(cell(tmp_path, name="again.tflite")))


def test_vectors_that_are_alike_are_written_once(tmp_path: Path) -> None:
    """Shapes, zero points and names; constants of 4 KB are told from those of other types with the same bytes."""
    model = flatbuffer.load(tiny.conv_tflite(tmp_path))
    plain = len(flatbuffer.dump(model))
    same = np.arange(1000, dtype=np.int32)
    for _ in range(3):
        flatbuffer.add_buffer(model, same)
    assert len(flatbuffer.dump(model)) < plain + same.nbytes + 200
    parsed = flatbuffer.parse(flatbuffer.dump(model))
    assert [bytes(one.data) for one in parsed.buffers[-3:]] == [same.tobytes()] * 3
