"""LiteRT sessions: ports, runs, intermediate tensors, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.errors import ModelError
from edgeq.runtimes import decode, encode, infer, litert
from edgeq.runtimes._child import captured_stderr, last_line
from edgeq.testing import models as tiny
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.conv_tflite(tmp_path_factory.mktemp("litert"))


def draw(shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0, 1, shape).astype(np.float32)


def quantize_pair(folder: Path) -> Path:
    """float -> int8 -> float, with an int8 tensor between."""
    tensors = (
        Tensor(name="real", shape=(1, 4)),
        Tensor(name="steps", shape=(1, 4), dtype="int8", scales=(0.5,), zero_points=(3,)),
    )
    node = Node(type="QUANTIZE", inputs=("real",), outputs=("steps",), options_table="QuantizeOptions")
    graph = Graph(tensors=tensors, nodes=(node,), inputs=("real",), outputs=("steps",))
    return write_tflite(folder / "quantize.tflite", graph)


def test_ports_tell_name_shape_and_type_with_an_open_batch(conv: Path) -> None:
    session = litert.open(conv)
    assert [(port.name, port.shape, port.dtype) for port in session.inputs] == [("input", (-1, 12, 12, 3), "float32")]
    assert [(port.name, port.shape, port.scale) for port in session.outputs] == [("scores", (-1, 4), None)]


def test_a_quantized_port_has_scale_and_zero_point(tmp_path: Path) -> None:
    session = litert.open(quantize_pair(tmp_path))
    (port,) = session.outputs
    assert (port.dtype, port.scale, port.zero_point) == ("int8", 0.5, 3)
    real = np.array([[-1.0, 0.0, 0.25, 100.0]], np.float32)
    (stored,) = session.run([real])
    assert stored.tolist() == [[1, 3, 4, 127]] or stored.tolist() == [[1, 3, 3, 127]]
    assert decode(port, encode(port, np.array([[-1.0]], np.float32))).tolist() == [[-1.0]]


def test_a_batch_answers_like_its_samples_one_by_one(conv: Path) -> None:
    session = litert.open(conv)
    batch = draw((5, 12, 12, 3))
    (together,) = session.run([batch])
    alone = np.concatenate([session.run([batch[i : i + 1]])[0] for i in range(5)])
    assert together.shape == (5, 4)
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_infer_passes_real_values_through_float_ports(conv: Path) -> None:
    (scores,) = infer(litert.open(conv), [draw((1, 12, 12, 3)).astype(np.float64)])
    assert scores.dtype == np.float32
    assert scores.sum() == pytest.approx(1, abs=1e-5)


def test_reference_kernels_agree_with_the_optimised(conv: Path) -> None:
    sample = draw((1, 12, 12, 3))
    fast, exact = litert.open(conv, threads=2), litert.open(conv, kernels="reference")
    np.testing.assert_allclose(fast.run([sample])[0], exact.run([sample])[0], atol=1e-5)


def test_outputs_are_copies_that_the_next_run_leaves_alone(conv: Path) -> None:
    session = litert.open(conv)
    (first,) = session.run([draw((1, 12, 12, 3), 1)])
    kept = first.copy()
    session.run([draw((1, 12, 12, 3), 2)])
    assert np.array_equal(first, kept)


def test_preserved_tensors_can_be_read_by_name(conv: Path) -> None:
    session = litert.open(conv, preserve=True)
    sample = draw((1, 12, 12, 3))
    (scores,) = session.run([sample])
    values = dict(session.tensors({"input", "depthwise", "mean", "scores"}))
    assert set(values) == {"input", "depthwise", "mean", "scores"}
    assert np.array_equal(values["input"], sample)
    assert np.array_equal(values["scores"], scores)
    pooled = values["depthwise"].reshape(1, 3, 2, 3, 2, 8).mean(axis=(2, 4))
    np.testing.assert_allclose(values["mean"], pooled.mean(axis=(1, 2)), atol=1e-5)
    assert {"conv/w", "conv/b"} < set(dict(session.tensors()))


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((1, 12, 12, 3), np.float64), "takes float32 [-1, 12, 12, 3], got float64"),
        (np.zeros((1, 12, 12), np.float32), "got float32 [1, 12, 12]"),
        (np.zeros((1, 12, 12, 4), np.float32), "got float32 [1, 12, 12, 4]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(conv: Path, array: np.ndarray, said: str) -> None:
    session = litert.open(conv)
    with pytest.raises(ModelError) as caught:
        session.run([array])
    assert said in caught.value.message
    assert caught.value.where == str(conv)
    assert session.run([draw((1, 12, 12, 3))])[0].shape == (1, 4)


def test_a_wrong_number_of_inputs_is_refused(conv: Path) -> None:
    with pytest.raises(ModelError, match="has 1 inputs, got 2"):
        litert.open(conv).run([draw((1, 12, 12, 3))] * 2)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file") as caught:
        litert.open(tmp_path / "absent.tflite")
    assert caught.value.where == str(tmp_path / "absent.tflite")


@pytest.mark.parametrize("content", [b"", b"not a model at all", b"\x1c\x00\x00\x00TFL3" + bytes(64)])
def test_what_is_no_model_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.tflite"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        litert.open(path)
    assert "\n" not in caught.value.message


def test_a_custom_operator_is_named_in_the_refusal(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="EdgeqMystery"):
        litert.open(tiny.custom_op_tflite(tmp_path))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 3000))
def test_a_truncated_file_is_refused(tmp_path: Path, conv: Path, cut: int) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes(conv.read_bytes()[:cut])
    with pytest.raises(ModelError):
        litert.open(path)


def test_native_chatter_stays_off_stderr(conv: Path, capfd: pytest.CaptureFixture[str]) -> None:
    litert.open(conv, preserve=True).run([draw((2, 12, 12, 3))])
    assert capfd.readouterr().err == ""


def test_captured_stderr_gives_back_the_lines_and_the_descriptor(capfd: pytest.CaptureFixture[str]) -> None:
    import os

    with captured_stderr() as outer, captured_stderr() as inner:
        os.write(2, b"from native code\n")
    os.write(2, b"afterwards\n")
    assert (inner, outer) == (["from native code"], [])
    assert capfd.readouterr().err == "afterwards\n"


def test_captured_stderr_is_undone_by_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    import os

    with pytest.raises(KeyError), captured_stderr():
        raise KeyError("x")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


@pytest.mark.parametrize(("text", "line"), [("", ""), ("a\n b \n\n", "b"), ("x" * 900, "x" * 300)])
def test_last_line(text: str, line: str) -> None:
    assert last_line(text) == line


def test_version_is_the_installed_one() -> None:
    from importlib import metadata

    assert litert.version() == metadata.version("ai-edge-litert")


def test_an_lstm_starts_from_zero_at_each_run(shared: Path) -> None:
    session = litert.open(shared / "lstm_mnist" / "mnist_lstm_float.tflite")
    sample = draw((1, 28, 28))
    first = session.run([sample])[0]
    session.run([draw((1, 28, 28), 5)])
    assert np.array_equal(session.run([sample])[0], first)


def test_every_shared_model_opens_and_runs(shared: Path) -> None:
    paths = sorted(shared.glob("*/*.tflite"))
    assert len(paths) >= 16
    for path in paths:
        session = litert.open(path)
        zeros = [np.zeros([abs(size) for size in port.shape], port.dtype) for port in session.inputs]
        assert len(session.run(zeros)) == len(session.outputs), path.name
