"""onnxruntime as a Session: ports, dynamic batch, refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from edgeq import runtimes
from edgeq.errors import ModelError
from edgeq.runtimes import onnxruntime as runtime
from edgeq.testing import models


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.conv_onnx(tmp_path_factory.mktemp("model"))


def test_ports_are_named_and_open_in_the_batch(conv: Path) -> None:
    session = runtime.open(conv)
    assert [(p.name, p.shape, p.dtype) for p in session.inputs] == [("input", (-1, 3, 12, 12), "float32")]
    assert [(p.name, p.shape, p.dtype) for p in session.outputs] == [("scores", (-1, 4), "float32")]
    assert session.inputs[0].scale is None


@pytest.mark.parametrize("batch", [1, 2, 7])
def test_any_batch_runs_and_rows_do_not_depend_on_it(conv: Path, batch: int) -> None:
    session = runtime.open(conv)
    values = np.random.default_rng(0).random((batch, 3, 12, 12), np.float32)
    together = session.run([values])[0]
    alone = np.concatenate([session.run([row[np.newaxis]])[0] for row in values])
    assert together.shape == (batch, 4)
    np.testing.assert_allclose(together, alone, rtol=1e-5)
    np.testing.assert_allclose(together.sum(axis=1), 1, rtol=1e-5)


def test_optimising_and_threads_do_not_change_a_float_model(conv: Path) -> None:
    values = np.random.default_rng(1).random((2, 3, 12, 12), np.float32)
    plain = runtime.open(conv, optimise=False).run([values])[0]
    for options in ({"threads": 1}, {"threads": 2}, {"lean": True}):
        np.testing.assert_allclose(runtime.open(conv, **options).run([values])[0], plain, rtol=1e-4)


def test_infer_takes_doubles(conv: Path) -> None:
    assert runtimes.infer(runtime.open(conv), [np.zeros((1, 3, 12, 12))])[0].dtype == np.float32


def mixed_model(path: Path) -> Path:
    """Two inputs of different types, two outputs, in an order that is not alphabetic."""
    nodes = [
        helper.make_node("Cast", ["zeta"], ["real"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["real", "alpha"], ["sum"]),
        helper.make_node("Identity", ["zeta"], ["copy"]),
    ]
    zeta = helper.make_tensor_value_info("zeta", TensorProto.INT64, ["N", 2])
    alpha = helper.make_tensor_value_info("alpha", TensorProto.FLOAT, ["N", 2])
    total = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N", 2])
    copy = helper.make_tensor_value_info("copy", TensorProto.INT64, ["N", 2])
    graph = helper.make_graph(nodes, "mixed", [zeta, alpha], [total, copy])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_ports_keep_the_models_order(tmp_path: Path) -> None:
    session = runtime.open(mixed_model(tmp_path / "mixed.onnx"))
    assert [(p.name, p.dtype) for p in session.inputs] == [("zeta", "int64"), ("alpha", "float32")]
    total, copy = session.run([np.array([[1, 2]]), np.array([[0.5, 0.5]], np.float32)])
    assert total.tolist() == [[1.5, 2.5]]
    assert copy.tolist() == [[1, 2]]


def test_external_data_is_found(tmp_path: Path, conv: Path) -> None:
    values = np.ones((1, 3, 12, 12), np.float32)
    outside = runtime.open(models.external_data_onnx(tmp_path)).run([values])[0]
    np.testing.assert_array_equal(outside, runtime.open(conv).run([values])[0])


def test_external_data_gone_is_a_model_error(tmp_path: Path) -> None:
    path = models.external_data_onnx(tmp_path)
    path.with_name(path.name + ".data").unlink()
    with pytest.raises(ModelError, match="cannot load"):
        runtime.open(path)


def test_unknown_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"edgeq\.test:Mystery") as caught:
        runtime.open(models.custom_op_onnx(tmp_path))
    assert caught.value.hint is not None
    assert caught.value.where is not None


@pytest.mark.parametrize(
    "bad",
    [
        [np.zeros((1, 3, 12, 11), np.float32)],
        [np.zeros((1, 12, 12), np.float32)],
        [np.zeros((1, 3, 12, 12), np.float64)],
        [np.array([["a"]])],
        [],
        [np.zeros((1, 3, 12, 12), np.float32)] * 2,
    ],
    ids=["shape", "rank", "dtype", "text", "none", "two"],
)
def test_inputs_that_do_not_fit_are_one_line(conv: Path, bad: list[np.ndarray]) -> None:
    session = runtime.open(conv)
    with pytest.raises(ModelError) as caught:
        session.run(bad)
    assert "\n" not in caught.value.message
    assert caught.value.where == str(conv)
    assert session.run([np.zeros((1, 3, 12, 12), np.float32)])[0].shape == (1, 4)


def test_missing_file_and_folder(tmp_path: Path) -> None:
    for path in (tmp_path / "none.onnx", tmp_path):
        with pytest.raises(ModelError, match="no such file"):
            runtime.open(path)


@pytest.mark.parametrize("content", [b"", b"hello\n", b"\x00" * 100, b"TFL3" * 20])
def test_other_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError) as caught:
        runtime.open(path)
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 300


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.integers(1, 5000))
def test_truncated_files_never_crash(conv: Path, tmp_path: Path, kept: int) -> None:
    whole = conv.read_bytes()
    path = tmp_path / "cut.onnx"
    path.write_bytes(whole[: kept % len(whole)])
    with pytest.raises(ModelError):
        runtime.open(path)


@pytest.mark.parametrize("seed", range(4))
def test_flipped_bytes_are_model_errors_or_run(
    conv: Path, tmp_path: Path, seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, draw, path = conv.read_bytes(), np.random.default_rng(seed), tmp_path / "flipped.onnx"
    refused = 0
    for _ in range(100):
        content = bytearray(whole)
        for _ in range(draw.integers(1, 5)):
            content[draw.integers(len(content))] = draw.integers(256)
        path.write_bytes(content)
        try:
            session = runtime.open(path)
            session.run([np.zeros([abs(n) % 64 for n in port.shape], port.dtype) for port in session.inputs])
        except ModelError as error:
            refused += 1
            assert "\n" not in error.message
    assert 10 < refused < 100
    assert capfd.readouterr() == ("", "")


def test_nothing_is_printed(conv: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ModelError):
        runtime.open(conv).run([np.zeros((1, 1), np.float32)])
    with pytest.raises(ModelError):
        runtime.open(models.custom_op_onnx(tmp_path))
    assert capfd.readouterr() == ("", "")


def test_optimised_writes_what_runs(conv: Path, tmp_path: Path) -> None:
    out = tmp_path / "basic.onnx"
    runtime.optimised(conv, out, basic=True)
    values = np.ones((2, 3, 12, 12), np.float32)
    np.testing.assert_allclose(runtime.open(out).run([values])[0], runtime.open(conv).run([values])[0], rtol=1e-5)
    assert {node.domain for node in onnx.load(str(out)).graph.node} <= {"", "ai.onnx"}


def test_version_is_the_packages() -> None:
    from importlib import metadata

    assert runtime.version() == metadata.version("onnxruntime")


def test_real_models_score_as_published(shared: Path) -> None:
    data = np.load(shared / "kws_dscnn/kws01_500.npz")
    values = data["xq"][100:].astype(np.float32) * np.float32(0.5847029089927673) - np.float32(48.530341446)
    scores = runtime.open(shared / "kws_dscnn/kws_float.onnx").run([values])[0]
    assert float(np.mean(scores.argmax(axis=1) == data["y"][100:])) == pytest.approx(0.9, abs=0.003)
