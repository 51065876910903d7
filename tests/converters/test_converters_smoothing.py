"""Outlier channels before a transformer's products: the function stays, integers come nearer to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from edgeq.converters.improving import Samples
from edgeq.converters.onnx import smoothing
from edgeq.types import silent

Array = NDArray[Any]
FLOAT = TensorProto.FLOAT
WIDTH = 16
OUTLIER = 40.0


def block(gamma: Array, *, seed: int = 0, trans_b: bool = False, extra: str = "") -> Any:
    """Normalization, two products that read it, and a residual addition that reads it too; `extra` names a tensor."""
    random = np.random.default_rng(seed)
    nodes = [
        helper.make_node("LayerNormalization", ["x", "gamma", "beta"], ["normal"], "norm", axis=-1),
        helper.make_node("MatMul", ["normal", "wide"], ["up"], "up"),
        helper.make_node("MatMul", ["normal", "gate"], [extra or "down"], "gate"),
        helper.make_node("Mul", ["up", extra or "down"], ["both"], "both"),
        helper.make_node("Gemm", ["both", "back"], ["made"], "back", transB=int(trans_b)),
        helper.make_node("Add", ["made", "normal"], ["y"], "add"),
    ]
    constants = {
        "gamma": gamma,
        "beta": random.normal(size=WIDTH),
        "wide": random.normal(size=(WIDTH, WIDTH)),
        "gate": random.normal(size=(WIDTH, WIDTH)),
        "back": random.normal(size=(WIDTH, WIDTH)),
    }
    graph = helper.make_graph(
        nodes,
        "block",
        [helper.make_tensor_value_info("x", FLOAT, (4, WIDTH))],
        [helper.make_tensor_value_info("y", FLOAT, (4, WIDTH))],
        [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    made = onnx.shape_inference.infer_shapes(made, strict_mode=True)
    onnx.checker.check_model(made)
    return made


def peaked(reach: float = OUTLIER) -> Array:
    gamma = np.ones(WIDTH, np.float32)
    gamma[5] = reach
    return gamma


def samples(count: int = 12, *, scale: float = 1.0) -> tuple[Samples, int]:
    def take(most: int) -> Iterable[tuple[Array, ...]]:
        random = np.random.default_rng(7)
        for _ in range(min(most, count)):
            yield (random.normal(scale=scale, size=(4, WIDTH)).astype(np.float32),)

    return take, count


def smoothed(model: Any, folder: Path, names: set[str] | None = None) -> tuple[Any, list[str]]:
    wanted = {"up", "gate", "back"} if names is None else names
    return smoothing.smoothed(model, wanted, *samples(), folder, "block.onnx", silent)


def run(model: Any, x: Array) -> Array:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": x})[0])


def held_out(count: int = 20) -> Iterator[Array]:
    random = np.random.default_rng(99)
    for _ in range(count):
        yield random.normal(size=(4, WIDTH)).astype(np.float32)


def kinds(model: Any) -> list[str]:
    return [node.op_type for node in model.graph.node]


def in_eight_bits(model: Any, source: str, product: str) -> Array:
    """What a product makes of its source in 256 steps and weights in 255 for each output, in float64."""
    constants = {item.name: numpy_helper.to_array(item).astype(np.float64) for item in model.graph.initializer}
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.append(helper.make_tensor_value_info(source, FLOAT, None))
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    read = np.concatenate([session.run([source], {"x": x})[0] for x in held_out()]).astype(np.float64)
    weights = constants[next(node for node in model.graph.node if node.name == product).input[1]]
    step = (read.max() - read.min()) / 255
    steps = np.abs(weights).max(axis=0) / 127
    return np.asarray((np.rint(read / step) * step) @ (np.rint(weights / steps) * steps))


def error(found: Array, wanted: Array) -> float:
    return float(((found - wanted) ** 2).sum() / (wanted**2).sum())


# --- what stays and what is gained ------------------------------------------------------------


def test_the_function_stays_and_one_multiplication_serves_all_that_read_a_tensor(tmp_path: Path) -> None:
    model = block(peaked())
    made, notes = smoothed(model, tmp_path, {"up", "gate"})
    onnx.checker.check_model(made, full_check=True)
    assert kinds(made).count("Mul") == kinds(model).count("Mul") + 1
    assert notes == ["outlier channels were smoothed before products at 1 tensors"]
    for x in held_out():
        np.testing.assert_allclose(run(made, x), run(model, x), rtol=2e-4, atol=2e-3)


def test_both_products_read_the_multiplied_tensor_and_the_residual_addition_the_first_one(tmp_path: Path) -> None:
    made, _ = smoothed(block(peaked()), tmp_path)
    nodes = {node.name: node for node in made.graph.node}
    between = nodes["up"].input[0]
    assert between != "normal"
    assert nodes["gate"].input[0] == between
    assert list(nodes["add"].input) == ["made", "normal"]
    assert between in {item.name for item in made.graph.value_info}


@pytest.mark.parametrize("product", ["up", "gate"])
def test_eight_bits_are_nearer_to_float_by_far(product: str, tmp_path: Path) -> None:
    model = block(peaked())
    made, _ = smoothed(model, tmp_path)
    between = next(node for node in made.graph.node if node.name == product).input[0]
    constants = {item.name: numpy_helper.to_array(item).astype(np.float64) for item in model.graph.initializer}
    exposed = onnx.ModelProto()
    exposed.CopyFrom(model)
    exposed.graph.output.append(helper.make_tensor_value_info("normal", FLOAT, None))
    session = onnxruntime.InferenceSession(exposed.SerializeToString(), providers=["CPUExecutionProvider"])
    read = np.concatenate([session.run(["normal"], {"x": x})[0] for x in held_out()]).astype(np.float64)
    wanted = read @ constants["wide" if product == "up" else "gate"]
    before, after = (
        error(in_eight_bits(model, "normal", product), wanted),
        error(in_eight_bits(made, between, product), wanted),
    )
    assert after < before / 2


def test_a_model_without_outliers_is_taken_as_it_is(tmp_path: Path) -> None:
    model = block(np.ones(WIDTH, np.float32))
    made, notes = smoothed(model, tmp_path)
    assert made is model
    assert notes == []


def test_products_that_stay_in_float_keep_what_they_read(tmp_path: Path) -> None:
    model = block(peaked())
    made, _ = smoothed(model, tmp_path, {"up"})
    nodes = {node.name: node for node in made.graph.node}
    assert nodes["gate"].input[0] == "normal"
    assert nodes["up"].input[0] != "normal"
    for x in held_out(5):
        np.testing.assert_allclose(run(made, x), run(model, x), rtol=2e-4, atol=2e-3)


def test_no_products_at_all_change_nothing(tmp_path: Path) -> None:
    model = block(peaked())
    made, notes = smoothed(model, tmp_path, set())
    assert made is model
    assert notes == []


def test_no_samples_change_nothing(tmp_path: Path) -> None:
    model = block(peaked())
    made, notes = smoothing.smoothed(model, {"up", "gate"}, lambda _: (), 0, tmp_path, "block.onnx", silent)
    assert made is model
    assert notes == []


def test_the_given_model_is_not_changed(tmp_path: Path) -> None:
    model = block(peaked())
    before = model.SerializeToString(deterministic=True)
    smoothed(model, tmp_path)
    assert model.SerializeToString(deterministic=True) == before


def test_names_that_the_model_has_already_are_not_taken(tmp_path: Path) -> None:
    model = block(peaked(), extra="smooth1")
    made, _ = smoothed(model, tmp_path)
    onnx.checker.check_model(made, full_check=True)
    results = [name for node in made.graph.node for name in node.output]
    assert len(results) == len(set(results))
    for x in held_out(3):
        np.testing.assert_allclose(run(made, x), run(model, x), rtol=2e-4, atol=2e-3)


@pytest.mark.parametrize("trans_b", [False, True])
def test_a_gemm_that_reads_an_outlier_is_smoothed_in_either_layout(trans_b: bool, tmp_path: Path) -> None:
    gamma = peaked(300.0)
    model = block(gamma, trans_b=trans_b)
    made, notes = smoothed(model, tmp_path, {"back"})
    assert notes
    for x in held_out(5):
        np.testing.assert_allclose(run(made, x), run(model, x), rtol=1e-3, atol=0.5)


def test_progress_is_told_up_to_the_last_sample(tmp_path: Path) -> None:
    told: list[tuple[str, int, int]] = []
    take, count = samples(5)
    smoothing.smoothed(
        block(peaked()),
        {"up", "gate", "back"},
        take,
        count,
        tmp_path,
        "block.onnx",
        lambda step, done, total: told.append((step, done, total)),
    )
    assert told[0] == ("look at products", 0, 5)
    assert told[-1] == ("look at products", 5, 5)


@settings(max_examples=25, deadline=None)
@given(
    reaches=st.lists(st.floats(1e-3, 1e3), min_size=WIDTH, max_size=WIDTH),
    seed=st.integers(0, 1000),
)
def test_whatever_the_channels_reach_the_function_stays(
    reaches: list[float], seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = block(np.array(reaches, np.float32), seed=seed)
    made, _ = smoothed(model, tmp_path_factory.mktemp("smooth"))
    for x in held_out(2):
        wanted = run(model, x).astype(np.float64)
        noise = ((run(made, x) - wanted) ** 2).sum()
        assert noise <= 1e-6 * (wanted**2).sum()


def test_a_channel_that_is_always_zero_gets_a_finite_factor(tmp_path: Path) -> None:
    gamma = peaked()
    gamma[3] = 0.0
    model = block(gamma)
    beta = next(item for item in model.graph.initializer if item.name == "beta")
    values = numpy_helper.to_array(beta).copy()
    values[3] = 0.0
    beta.CopyFrom(numpy_helper.from_array(values, "beta"))
    made, _ = smoothed(model, tmp_path)
    for item in made.graph.initializer:
        assert np.isfinite(numpy_helper.to_array(item)).all()
    for x in held_out(3):
        np.testing.assert_allclose(run(made, x), run(model, x), rtol=2e-4, atol=2e-3)
