"""Models whose state outlives an inference: SVDF, one inference after another, until they are reset."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.codegen import generate, network, reference
from edgeq.codegen.lowering.operands import Operands
from edgeq.codegen.twins.states import Svdf
from edgeq.errors import BuildError
from edgeq.testing import c_models
from edgeq.testing.single_op import Grid, constant, single, tensor
from edgeq.testing.tflite import Graph, Node, Tensor, tflite_bytes, write_tflite

FEATURES, FILTERS, MEMORY, RANK = 9, 8, 5, 2
SOURCE, STATE, MIDDLE = Grid(0.05, -3), Grid(2.0**-9), Grid(0.07, 5)
UNITS = FILTERS // RANK


def state(name: str, dtype: str = "int16", grid: Grid = STATE, size: int = FILTERS * MEMORY) -> Tensor:
    return Tensor(
        name=name, shape=(1, size), dtype=dtype, scales=(grid.scale,), zero_points=(grid.zero_point,), variable=True
    )


def svdf_tensors(seed: int, depth: int, suffix: str = "", dtype: str = "int16") -> list[Tensor]:
    """Weights, bias and state of one layer."""
    random = np.random.default_rng(seed)
    features = random.integers(-127, 128, (FILTERS, depth)).astype(np.int8)
    times = random.integers(-127, 128, (FILTERS, MEMORY)).astype(dtype)
    bias = random.integers(-500, 500, UNITS).astype(np.int32)
    grid = STATE if dtype == "int16" else Grid(0.1, 4)
    return [
        constant(f"features{suffix}", features, Grid(0.004)),
        constant(f"times{suffix}", times, Grid(0.01)),
        constant(f"bias{suffix}", bias, Grid(float(np.float32(grid.scale * 0.01)))),
        state(f"state{suffix}", dtype, grid),
    ]


def layer(dtype: str = "int16", **options: object) -> Graph:
    inputs = [tensor("x", (1, FEATURES), SOURCE), *svdf_tensors(1, FEATURES, dtype=dtype)]
    made = single(
        "SVDF",
        inputs,
        [tensor("y", (1, UNITS), MIDDLE)],
        "SVDFOptions",
        {"rank": RANK, "fusedActivationFunction": 1, **options},
        version=3,
    )
    return dataclasses.replace(made, inputs=("x",))


def streaming() -> Graph:
    """A keyword spotter's shape: SVDF, SVDF, FULLY_CONNECTED, SOFTMAX; one frame an inference."""
    first, second = svdf_tensors(2, FEATURES, "1"), svdf_tensors(3, UNITS, "2")
    weights = np.random.default_rng(4).integers(-127, 128, (3, UNITS)).astype(np.int8)
    tensors = [
        tensor("x", (1, FEATURES), SOURCE),
        *first,
        tensor("one", (1, UNITS), MIDDLE),
        *second,
        tensor("two", (1, UNITS), MIDDLE),
        constant("w", weights, Grid(0.01)),
        tensor("dense", (1, 3), Grid(0.1)),
        tensor("y", (1, 3), Grid(1 / 256, -128)),
    ]
    svdf = {"options_table": "SVDFOptions", "options": {"rank": RANK, "fusedActivationFunction": 1}, "version": 3}
    nodes = (
        Node(type="SVDF", inputs=("x", *(one.name for one in first)), outputs=("one",), **svdf),  # type: ignore[arg-type]
        Node(type="SVDF", inputs=("one", *(one.name for one in second)), outputs=("two",), **svdf),  # type: ignore[arg-type]
        Node(
            type="FULLY_CONNECTED", inputs=("two", "w"), outputs=("dense",), options_table="FullyConnectedOptions",
            version=2,
        ),
        Node(type="SOFTMAX", inputs=("dense",), outputs=("y",), options_table="SoftmaxOptions", options={"beta": 1.0}),
    )  # fmt: skip
    return Graph(tensors=tuple(tensors), nodes=nodes, inputs=("x",), outputs=("y",))


def frames(count: int, seed: int = 7) -> list[list[np.ndarray]]:
    random = np.random.default_rng(seed)
    return [[random.integers(-128, 128, (1, FEATURES)).astype(np.int8)] for _ in range(count)]


def litert(graph: Graph, samples: list[list[np.ndarray]]) -> list[list[np.ndarray]]:
    """LiteRT's reference kernels, the variables kept from one inference to the next."""
    from ai_edge_litert import interpreter

    made = interpreter.Interpreter(
        model_content=tflite_bytes(graph, signature=False),
        experimental_op_resolver_type=interpreter.OpResolverType.BUILTIN_REF,
    )
    made.allocate_tensors()
    answers = []
    for sample in samples:
        made.set_tensor(made.get_input_details()[0]["index"], sample[0])
        made.invoke()
        answers.append([np.array(made.get_tensor(made.get_output_details()[0]["index"]))])
    return answers


def test_a_layer_in_a_row_of_inferences_is_litert_s(tmp_path: Path) -> None:
    path, samples = write_tflite(tmp_path / "model.tflite", layer()), frames(12)
    model = c_models.Model(generate.compile_model(path), tmp_path)
    wanted = litert(layer(), samples)
    for number, (sample, want) in enumerate(zip(samples, wanted, strict=True)):
        assert c_models.differing_bytes(model.run(sample, fresh=number == 0), want) == 0
    assert c_models.differing_bytes(reference.open(path).sequence(samples)[-1], wanted[-1]) == 0


def test_a_streaming_model_goes_on_from_where_it_was(tmp_path: Path) -> None:
    path, samples = write_tflite(tmp_path / "model.tflite", streaming()), frames(20)
    compiled = generate.compile_model(path)
    model, oracle = c_models.Model(compiled, tmp_path), reference.open(path)
    wanted = oracle.sequence(samples)
    got = [model.run(sample, fresh=number == 0) for number, sample in enumerate(samples)]
    assert sum(c_models.differing_bytes(one, other) for one, other in zip(got, wanted, strict=True)) == 0
    assert len({one[0].tobytes() for one in wanted}) > 5
    again = [model.run(samples[0], fresh=False), model.run(samples[0])]
    assert c_models.differing_bytes(again[1], wanted[0]) == 0
    assert c_models.differing_bytes(again[0], wanted[0]) > 0
    assert "eq_svdf.c" in compiled.kernels


def test_two_arenas_are_two_streams(tmp_path: Path) -> None:
    """The code keeps nothing of its own."""
    path, (a, b) = write_tflite(tmp_path / "model.tflite", streaming()), (frames(5, 1), frames(5, 2))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    compiled = generate.compile_model(path)
    one, two = (c_models.Model(compiled, tmp_path / name) for name in ("one", "two"))
    oracle = reference.open(path)
    wanted = oracle.sequence(a), oracle.sequence(b)
    for number, (first, second) in enumerate(zip(a, b, strict=True)):
        assert c_models.differing_bytes(one.run(first, fresh=number == 0), wanted[0][number]) == 0
        assert c_models.differing_bytes(two.run(second, fresh=number == 0), wanted[1][number]) == 0


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(seed=st.integers(0, 2**31), count=st.integers(1, 8))
def test_a_state_of_int8_is_tflite_micros(tmp_path_factory: pytest.TempPathFactory, seed: int, count: int) -> None:
    """LiteRT knows a state of int16 only; tflite-micro, and the twin, has both."""
    folder, samples = tmp_path_factory.mktemp("int8"), frames(count, seed)
    path = write_tflite(folder / "model.tflite", layer("int8"))
    model, net = c_models.Model(generate.compile_model(path), folder, "-O1"), network.read(path)
    twin = Svdf(Operands(net, net.operators[0]))
    for number, sample in enumerate(samples):
        values = {net.graph.inputs[0]: sample[0]}
        twin.run(values)
        want = [np.asarray(values[net.graph.outputs[0]])]
        assert c_models.differing_bytes(model.run(sample, fresh=number == 0), want) == 0


def changed(**parts: Tensor) -> Graph:
    graph = layer()
    return dataclasses.replace(graph, tensors=tuple(parts.get(one.name, one) for one in graph.tensors))


@pytest.mark.parametrize(
    ("graph", "what"),
    [
        (layer(rank=3), "of rank 3"),
        (layer(fusedActivationFunction=0), "has no RELU"),
        (changed(state=state("state", size=7)), "has a state of int16 [1, 7] for weights of int16"),
        (changed(state=state("state", "int8")), "has a state of int8 [1, 40] for weights of int16"),
        (changed(state=state("state", grid=Grid(0.1, 3))), "a zero point of 0 for its state"),
        (changed(state=constant("state", np.zeros((1, 40), np.int16), STATE)), "a variable"),
        (changed(bias=constant("bias", np.zeros(3, np.int32), STATE)), "has a bias of int32 [3] for 4 units"),
        (changed(features=constant("features", np.zeros((8, 4), np.int8), Grid(0.1))), "[8, 4] for 9 features"),
        (changed(features=constant("features", np.zeros((8, 9), np.int8), Grid(0.1, 1))), "weights with a zero point"),
        (changed(y=tensor("y", (1, 5), MIDDLE)), "it follows to be [1, 4]"),
    ],
)
def test_other_layers_are_refused_by_name(tmp_path: Path, graph: Graph, what: str) -> None:
    path = write_tflite(tmp_path / "model.tflite", graph)
    with pytest.raises(BuildError, match=r"^operator 0 \(SVDF\)") as caught:
        generate.compile_model(path)
    assert what in caught.value.message


def test_variables_by_handle_are_refused_by_name(tmp_path: Path) -> None:
    handle = Tensor(name="h", shape=(1,), dtype="int32")
    made = single("VAR_HANDLE", [], [handle], "VarHandleOptions")
    path = write_tflite(tmp_path / "model.tflite", dataclasses.replace(made, outputs=("h",)))
    with pytest.raises(BuildError, match=r"operator 0 \(VAR_HANDLE\) has no kernel in C"):
        generate.compile_model(path)
