"""The process in which a model is tried first: refusals, crashes, hangs, memory."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import EdgeqError, ModelError
from edgeq.runtimes import preflight
from edgeq.runtimes._child import module_argv
from edgeq.testing import models as tiny
from edgeq.testing.tflite import Graph, Node, Tensor, write_tflite


def test_a_good_tflite_passes_in_a_second(tmp_path: Path) -> None:
    path = tiny.conv_tflite(tmp_path)
    preflight.check(path, "tflite")
    start = time.monotonic()
    preflight.check(path, "tflite")
    assert time.monotonic() - start < 20  # 0.15 s on a free machine


def test_a_good_onnx_passes(tmp_path: Path) -> None:
    preflight.check(tiny.conv_onnx(tmp_path), "onnx")


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_a_refusal_arrives_as_the_runtime_worded_it(tmp_path: Path, format: str) -> None:
    path = tmp_path / f"text.{format}"
    path.write_text("hello\n" * 40)
    with pytest.raises(ModelError) as caught:
        preflight.check(path, format)
    assert caught.value.where == str(path)
    assert "\n" not in caught.value.message
    assert "crashes" not in caught.value.message


def test_a_custom_operator_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="EdgeqMystery"):
        preflight.check(tiny.custom_op_tflite(tmp_path), "tflite")


def test_a_missing_file_is_a_refusal(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        preflight.check(tmp_path / "absent.tflite", "tflite")


def test_a_hang_ends_at_the_timeout(tmp_path: Path) -> None:
    path = tmp_path / "pipe.tflite"
    path.write_bytes(endless_model())
    start = time.monotonic()
    with pytest.raises(ModelError, match="does not finish within 2 s"):
        preflight.check(path, "tflite", timeout_seconds=2)
    assert time.monotonic() - start < 20


def endless_model() -> bytes:
    """WHILE whose condition is always true."""
    from edgeq.testing.tflite import tflite_bytes

    one = Tensor(name="one", shape=(1,), data=np.array([1], np.float32))
    outer = Graph(
        tensors=(Tensor(name="x", shape=(1,)), Tensor(name="y", shape=(1,))),
        nodes=(
            Node(
                type="WHILE",
                inputs=("x",),
                outputs=("y",),
                options_table="WhileOptions",
                options={"condSubgraphIndex": 1, "bodySubgraphIndex": 2},
            ),
        ),
        inputs=("x",),
        outputs=("y",),
    )
    condition = Graph(
        tensors=(Tensor(name="c_in", shape=(1,)), Tensor(name="c_out", shape=(1,), dtype="bool")),
        nodes=(Node(type="EQUAL", inputs=("c_in", "c_in"), outputs=("c_out",), options_table="EqualOptions"),),
        inputs=("c_in",),
        outputs=("c_out",),
    )
    body = Graph(
        tensors=(Tensor(name="b_in", shape=(1,)), one, Tensor(name="b_out", shape=(1,))),
        nodes=(
            Node(type="MAXIMUM", inputs=("b_in", "one"), outputs=("b_out",), options_table="MaximumMinimumOptions"),
        ),
        inputs=("b_in",),
        outputs=("b_out",),
    )
    return tflite_bytes(outer, condition, body)


def test_a_model_that_wants_too_much_memory_is_refused(tmp_path: Path) -> None:
    side = 1 << 20
    tensors = (
        Tensor(name="x", shape=(1,)),
        Tensor(name="shape", shape=(3,), dtype="int32", data=np.array([side, side, 64], np.int32)),
        Tensor(name="y", shape=(side, side, 64)),
    )
    node = Node(type="BROADCAST_TO", inputs=("x", "shape"), outputs=("y",), options_table="BroadcastToOptions")
    path = write_tflite(tmp_path / "huge.tflite", Graph(tensors=tensors, nodes=(node,), inputs=("x",), outputs=("y",)))
    with pytest.raises(ModelError):
        preflight.check(path, "tflite", timeout_seconds=30)


CRASH = "import os, signal, sys; os.kill(os.getpid(), getattr(signal, sys.argv[1]))"


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGILL"])
def test_a_crash_is_told_by_its_signal(name: str) -> None:
    done = subprocess.run([sys.executable, "-c", CRASH, name], capture_output=True, text=True, check=False)
    error = preflight._failure(done, Path("m.tflite"))
    assert isinstance(error, ModelError)
    assert error.message == f"the runtime crashes on this file (signal {name})"


def test_another_failure_gives_the_last_line() -> None:
    argv = [sys.executable, "-c", "raise MemoryError('no room')"]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert preflight._failure(done, Path("m")).message == "the runtime fails on this file: MemoryError: no room"


def test_flipped_bits_end_in_an_answer(tmp_path: Path) -> None:
    content = tiny.conv_tflite(tmp_path).read_bytes()
    random = np.random.default_rng(3)
    path = tmp_path / "flipped.tflite"
    refused = 0
    for _ in range(25):
        changed = bytearray(content)
        for _ in range(4):
            changed[int(random.integers(0, len(changed)))] ^= 1 << int(random.integers(0, 8))
        path.write_bytes(changed)
        try:
            preflight.check(path, "tflite", timeout_seconds=20)
        except EdgeqError as error:
            refused += 1
            assert "\n" not in error.message
    assert 0 < refused < 25


def test_the_child_does_not_import_from_the_working_folder(tmp_path: Path) -> None:
    """A hostile numpy.py beside the model must not run."""
    model = tiny.mlp_tflite(tmp_path)
    for name in ("numpy.py", "runpy.py", "edgeq.py"):
        (tmp_path / name).write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\n")
    check = f"preflight.check(Path({model.name!r}), 'tflite')"
    script = f"from pathlib import Path; from edgeq.runtimes import preflight; {check}"
    root = Path(__file__).resolve().parents[2]
    bootstrap = f"import sys; sys.path[:] = [p for p in sys.path if p]; sys.path.insert(0, {str(root)!r}); {script}"
    subprocess.run([sys.executable, "-c", bootstrap], cwd=tmp_path, check=True, timeout=60)
    assert not (tmp_path / "pwned").exists()


def test_module_argv_keeps_odd_arguments_whole(tmp_path: Path) -> None:
    argv = module_argv("json.tool", tmp_path / "a b;c.json")
    (tmp_path / "a b;c.json").write_text('{"x": 1}')
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert '"x": 1' in done.stdout


def test_no_core_file_and_no_stray_output(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    preflight.check(tiny.mlp_tflite(tmp_path), "tflite")
    assert capfd.readouterr() == ("", "")
