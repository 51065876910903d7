"""What every runtime on this host owes its callers, whatever the format."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy
from onnx import TensorProto, helper

from edgeq import backends, runtimes
from edgeq.errors import ModelError
from edgeq.testing import models as tiny
from edgeq.testing.bundles import RUNTIMES
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite
from edgeq.types import Port

FORMATS = ("tflite", "onnx")
ATOL = 1e-6


def several_tflite(folder: Path) -> Path:
    """Two inputs and two outputs, none in the order of names or tensors: sum and difference."""
    tensors = tuple(Tensor(name=name, shape=(-1, 3)) for name in ("difference", "a", "sum", "z"))
    nodes = (
        Node(type="ADD", inputs=("z", "a"), outputs=("sum",), options_table="AddOptions"),
        Node(type="SUB", inputs=("z", "a"), outputs=("difference",), options_table="SubOptions"),
    )
    return write_tflite(
        folder / "several.tflite",
        Graph(tensors=tensors, nodes=nodes, inputs=("z", "a"), outputs=("sum", "difference")),
    )


def several_onnx(folder: Path) -> Path:
    """The same in ONNX."""
    ports = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 3])
        for name in ("z", "a", "sum", "difference")
    }
    nodes = [helper.make_node("Add", ["z", "a"], ["sum"]), helper.make_node("Sub", ["z", "a"], ["difference"])]
    graph = helper.make_graph(nodes, "g", [ports["z"], ports["a"]], [ports["sum"], ports["difference"]])
    path = folder / "several.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


class Runtime(NamedTuple):
    """A runtime's module with models for it; samples are in the layout that its models want."""

    format: str
    conv: Path
    several: Path
    samples: np.ndarray

    def open(self, path: Path | None = None, **words: object) -> runtimes.Session:
        module = backends.find("runtimes", RUNTIMES[f".{self.format}"])
        return module.open(path or self.conv, **words)  # type: ignore[no-any-return]


@pytest.fixture(scope="module", params=FORMATS)
def runtime(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runtime:
    folder = tmp_path_factory.mktemp("models")
    samples = tiny.tiny_samples(tiny.CONV_SHAPE, tiny.CLASSES, 8)[0]
    if request.param == "tflite":
        return Runtime("tflite", tiny.conv_tflite(folder), several_tflite(folder), samples)
    turned = np.ascontiguousarray(samples.transpose(0, 3, 1, 2))
    return Runtime("onnx", tiny.conv_onnx(folder), several_onnx(folder), turned)


# --- ports -----------------------------------------------------------------------------------


def test_ports_stand_in_the_models_own_order(runtime: Runtime) -> None:
    session = runtime.open(runtime.several)
    assert [port.name for port in session.inputs] == ["z", "a"]
    assert [port.name for port in session.outputs] == ["sum", "difference"]
    z, a = np.array([[5, 7, 9]], np.float32), np.array([[1, 2, 4]], np.float32)
    total, difference = session.run([z, a])
    assert total.tolist() == [[6, 9, 13]]
    assert difference.tolist() == [[4, 5, 5]]
    total, difference = session.run([a, z])
    assert difference.tolist() == [[-4, -5, -5]]


def test_float_ports_have_an_open_batch_and_no_scale(runtime: Runtime) -> None:
    session = runtime.open()
    for port in (*session.inputs, *session.outputs):
        assert isinstance(session.inputs, tuple)
        assert port.shape[0] == -1
        assert port.dtype == "float32"
        assert (port.scale, port.zero_point) == (None, None)
        assert port.preprocessing == {}


def test_every_backend_is_found_by_name() -> None:
    names = backends.names("runtimes")
    assert {"litert", "onnxruntime"} <= set(names)
    for name in RUNTIMES.values():
        module = backends.find("runtimes", name)
        assert callable(module.open)
        assert module.version()[0].isdigit()


# --- batch -----------------------------------------------------------------------------------


@pytest.mark.parametrize("batches", [(1,), (8,), (3, 1, 8), (8, 1, 8), (1, 2, 4, 1)])
def test_the_batch_may_change_from_run_to_run(runtime: Runtime, batches: tuple[int, ...]) -> None:
    session = runtime.open()
    alone = np.concatenate([session.run([runtime.samples[n : n + 1]])[0] for n in range(8)])
    for batch in batches:
        (scores,) = session.run([runtime.samples[:batch]])
        assert scores.shape == (batch, tiny.CLASSES)
        np.testing.assert_allclose(scores, alone[:batch], atol=ATOL)


def test_rows_of_a_batch_do_not_touch_each_other(runtime: Runtime) -> None:
    session = runtime.open()
    (before,) = session.run([runtime.samples])
    changed = runtime.samples.copy()
    changed[3] = 1000
    (after,) = session.run([changed])
    others = [n for n in range(8) if n != 3]
    np.testing.assert_allclose(after[others], before[others], atol=ATOL)
    assert not np.allclose(after[3], before[3])


# --- refusals --------------------------------------------------------------------------------


def wrong_rank(samples: np.ndarray) -> list[np.ndarray]:
    return [samples[0]]


def wrong_axis(samples: np.ndarray) -> list[np.ndarray]:
    return [samples[:, :, :5]]


def doubles(samples: np.ndarray) -> list[np.ndarray]:
    return [samples.astype(np.float64)]


def integers(samples: np.ndarray) -> list[np.ndarray]:
    return [samples.astype(np.int8)]


def halves(samples: np.ndarray) -> list[np.ndarray]:
    return [samples.astype(np.float16)]


def none(samples: np.ndarray) -> list[np.ndarray]:
    return []


def twice(samples: np.ndarray) -> list[np.ndarray]:
    return [samples, samples]


def scalar(samples: np.ndarray) -> list[np.ndarray]:
    return [np.array(1, np.float32)]


Wrong = Callable[[np.ndarray], list[np.ndarray]]
WRONG: list[Wrong] = [wrong_rank, wrong_axis, doubles, integers, halves, none, twice, scalar]


@pytest.mark.parametrize("wrong", WRONG)
def test_arrays_that_do_not_fit_are_one_line_and_harm_nothing(runtime: Runtime, wrong: Wrong) -> None:
    session = runtime.open()
    (before,) = session.run([runtime.samples])
    with pytest.raises(ModelError) as caught:
        session.run(wrong(runtime.samples))
    assert "\n" not in caught.value.message
    assert caught.value.where == str(runtime.conv)
    (after,) = session.run([runtime.samples])
    np.testing.assert_array_equal(before, after)


def test_the_error_of_a_wrong_count_gives_both_numbers(runtime: Runtime) -> None:
    session = runtime.open(runtime.several)
    with pytest.raises(ModelError, match=r"2 inputs.* 1"):
        session.run([np.zeros((1, 3), np.float32)])


def test_inputs_whose_batches_differ_are_refused_or_broadcast(runtime: Runtime) -> None:
    """Two rows against three cannot be added; one row against three can."""
    session = runtime.open(runtime.several)
    with pytest.raises(ModelError):
        session.run([np.zeros((2, 3), np.float32), np.zeros((3, 3), np.float32)])
    total, _ = session.run([np.ones((3, 3), np.float32), np.ones((3, 3), np.float32)])
    assert total.tolist() == [[2.0] * 3] * 3


@pytest.mark.parametrize("content", [b"", b"\0" * 64, b"TFL3", b"text of some length, no model at all\n" * 20])
def test_what_is_no_model_is_one_line(runtime: Runtime, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / f"broken.{runtime.format}"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        session = runtime.open(path)
        session.run([runtime.samples])  # protobuf takes nothing for an empty message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 400


@pytest.mark.parametrize("make", [lambda p: p, lambda p: p.mkdir() or p])
def test_no_file_and_a_folder_are_told_apart_from_models(
    runtime: Runtime, tmp_path: Path, make: Callable[[Path], Path]
) -> None:
    with pytest.raises(ModelError, match="no such file"):
        runtime.open(make(tmp_path / f"gone.{runtime.format}"))


def test_the_other_formats_file_is_refused(runtime: Runtime, tmp_path: Path) -> None:
    other = tiny.conv_onnx(tmp_path) if runtime.format == "tflite" else tiny.conv_tflite(tmp_path)
    with pytest.raises(ModelError):
        runtime.open(other)


# --- repeatability ---------------------------------------------------------------------------


def test_the_same_input_gives_the_same_bits_again_and_in_another_session(runtime: Runtime) -> None:
    first, second = runtime.open(), runtime.open()
    (wanted,) = first.run([runtime.samples])
    for session in (first, second, runtime.open()):
        for _ in range(3):
            np.testing.assert_array_equal(session.run([runtime.samples])[0], wanted)


def test_a_run_between_leaves_no_trace(runtime: Runtime) -> None:
    session = runtime.open()
    (wanted,) = session.run([runtime.samples[:2]])
    session.run([np.full_like(runtime.samples, 100)])
    np.testing.assert_array_equal(session.run([runtime.samples[:2]])[0], wanted)


def test_results_belong_to_the_caller(runtime: Runtime) -> None:
    session = runtime.open()
    (kept,) = session.run([runtime.samples])
    copy = kept.copy()
    session.run([np.zeros_like(runtime.samples)])
    np.testing.assert_array_equal(kept, copy)
    if kept.flags.writeable:
        kept[:] = -1
    np.testing.assert_array_equal(session.run([runtime.samples])[0], copy)


def test_inputs_are_not_written_to(runtime: Runtime) -> None:
    given_array = runtime.samples.copy()
    given_array.flags.writeable = False
    runtime.open().run([given_array])
    np.testing.assert_array_equal(given_array, runtime.samples)


def test_arrays_in_any_memory_layout_are_read_by_value(runtime: Runtime) -> None:
    session = runtime.open()
    (wanted,) = session.run([runtime.samples])
    strided = np.repeat(runtime.samples, 2, axis=0)[::2]
    fortran = np.asfortranarray(runtime.samples)
    backwards = runtime.samples[::-1]
    np.testing.assert_array_equal(session.run([strided])[0], wanted)
    np.testing.assert_array_equal(session.run([fortran])[0], wanted)
    np.testing.assert_allclose(session.run([backwards])[0], wanted[::-1], atol=ATOL)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_threads_do_not_change_the_answer(runtime: Runtime, threads: int) -> None:
    (wanted,) = runtime.open().run([runtime.samples])
    (found,) = runtime.open(threads=threads).run([runtime.samples])
    np.testing.assert_allclose(found, wanted, atol=ATOL)


def test_sessions_run_beside_each_other(runtime: Runtime) -> None:
    """One session for each thread, as the search does."""
    (wanted,) = runtime.open().run([runtime.samples])
    found: list[np.ndarray] = []

    def work() -> None:
        session = runtime.open()
        found.extend(session.run([runtime.samples])[0] for _ in range(20))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(found) == 80
    assert all(np.array_equal(scores, wanted) for scores in found)


def test_both_runtimes_agree_on_the_same_network(tmp_path: Path) -> None:
    samples = tiny.tiny_samples(tiny.CONV_SHAPE, tiny.CLASSES, 8)[0]
    (ours,) = backends.find("runtimes", "litert").open(tiny.conv_tflite(tmp_path)).run([samples])
    turned = np.ascontiguousarray(samples.transpose(0, 3, 1, 2))
    (theirs,) = backends.find("runtimes", "onnxruntime").open(tiny.conv_onnx(tmp_path)).run([turned])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


# --- odd numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 3e38, -3e38, 1e-45])
def test_odd_numbers_end_in_an_answer_of_the_right_shape(runtime: Runtime, value: float) -> None:
    session = runtime.open()
    odd = runtime.samples.copy()
    odd[0] = value
    (scores,) = session.run([odd])
    assert scores.shape == (8, tiny.CLASSES)
    assert np.isfinite(scores[1:]).all(), "the other rows of the batch are sound"
    (after,) = session.run([runtime.samples])
    assert np.isfinite(after).all()


def test_nan_and_infinity_pass_through_plain_arithmetic(runtime: Runtime) -> None:
    session = runtime.open(runtime.several)
    odd = np.array([[math.nan, math.inf, -math.inf]], np.float32)
    total, difference = session.run([odd, np.ones((1, 3), np.float32)])
    for values in (total, difference):
        assert math.isnan(values[0, 0])
        assert values[0, 1:].tolist() == [math.inf, -math.inf]


# --- real and stored values ------------------------------------------------------------------

ports = st.builds(
    Port,
    name=st.just("p"),
    shape=st.just((-1,)),
    dtype=st.sampled_from(["int8", "uint8", "int16"]),
    scale=st.floats(2.0**-20, 2.0**10, width=32),
    zero_point=st.integers(-128, 127),
)


@given(port=ports, data=st.data())
def test_stored_values_survive_decode_and_encode(port: Port, data: st.DataObject) -> None:
    limits = np.iinfo(port.dtype)
    stored = data.draw(st_numpy.arrays(port.dtype, st.integers(1, 20), elements=st.integers(limits.min, limits.max)))
    real = runtimes.decode(port, stored)
    assert real.dtype == np.float32
    np.testing.assert_array_equal(runtimes.encode(port, real), stored)


@given(port=ports, data=st.data())
def test_real_values_come_back_within_half_a_step(port: Port, data: st.DataObject) -> None:
    limits = np.iinfo(port.dtype)
    assert port.scale is not None
    assert port.zero_point is not None
    low, high = ((limit - port.zero_point) * port.scale for limit in (limits.min, limits.max))
    real = data.draw(st_numpy.arrays(np.float64, st.integers(1, 20), elements=st.floats(low, high)))
    back = runtimes.decode(port, runtimes.encode(port, real))
    assert (np.abs(back - real) <= port.scale * 0.5 + 1e-5 * np.abs(real)).all()


@given(port=ports, value=st.floats(-1e30, 1e30))
def test_what_lies_outside_is_clipped_to_the_nearest_end(port: Port, value: float) -> None:
    limits = np.iinfo(port.dtype)
    assert port.scale is not None
    (stored,) = runtimes.encode(port, np.array([value]))
    steps = value / port.scale + (port.zero_point or 0)
    if steps > limits.max:
        assert stored == limits.max
    if steps < limits.min:
        assert stored == limits.min


@given(port=ports, data=st.data())
def test_encoding_keeps_the_order(port: Port, data: st.DataObject) -> None:
    reals = np.sort(data.draw(st_numpy.arrays(np.float64, 12, elements=st.floats(-1e6, 1e6))))
    assert (np.diff(runtimes.encode(port, reals).astype(np.int64)) >= 0).all()


def test_halves_round_to_even_and_zero_is_exact() -> None:
    port = Port(name="p", shape=(-1,), dtype="int8", scale=1.0, zero_point=3)
    assert runtimes.encode(port, np.array([0.5, 1.5, 2.5, -0.5, -1.5])).tolist() == [3, 5, 5, 3, 1]
    assert runtimes.decode(port, np.array([3], np.int8)).tolist() == [0.0]


@given(st_numpy.arrays(np.float32, st.integers(0, 20), elements=st.floats(width=32)))
def test_float_ports_pass_values_through(values: np.ndarray) -> None:
    port = Port(name="p", shape=(-1,), dtype="float32")
    np.testing.assert_array_equal(runtimes.encode(port, values), values)
    np.testing.assert_array_equal(runtimes.decode(port, values), values)


@settings(max_examples=25)
@given(data=st.data())
def test_any_finite_batch_gives_probabilities(runtime: Runtime, data: st.DataObject) -> None:
    session = runtime.open()
    shape = (data.draw(st.integers(1, 3)), *runtime.samples.shape[1:])
    values = data.draw(st_numpy.arrays(np.float32, shape, elements=st.floats(-1e4, 1e4, width=32), fill=st.just(0.5)))
    (scores,) = session.run([values])
    np.testing.assert_allclose(scores.sum(axis=1), 1, atol=1e-4)
    assert ((scores >= 0) & (scores <= 1)).all()


def test_infer_wants_as_many_values_as_inputs(runtime: Runtime) -> None:
    with pytest.raises(ValueError, match="shorter"):
        runtimes.infer(runtime.open(runtime.several), [np.zeros((1, 3), np.float32)])


def test_infer_on_a_quantized_tflite_speaks_real_values(tmp_path: Path) -> None:
    """Stored 0..255 of scale 0.5 and zero point 10: relu of 1.0 is 1.0, of -3.0 is 0.0."""
    scaled = {"scales": (0.5,), "zero_points": (10,)}
    tensors = (
        Tensor(name="x", shape=(1, 4), dtype="int8", **scaled),  # type: ignore[arg-type]
        Tensor(name="y", shape=(1, 4), dtype="int8", **scaled),  # type: ignore[arg-type]
    )
    nodes = (Node(type="RELU", inputs=("x",), outputs=("y",), version=2),)
    path = write_tflite(tmp_path / "relu.tflite", Graph(tensors=tensors, nodes=nodes, inputs=("x",), outputs=("y",)))
    session = backends.find("runtimes", "litert").open(path)
    assert (session.inputs[0].scale, session.inputs[0].zero_point) == (0.5, 10)
    (real,) = runtimes.infer(session, [np.array([[1.0, -3.0, 2.26, 1e9]])])
    assert real.tolist() == [[1.0, 0.0, 2.5, 58.5]]
