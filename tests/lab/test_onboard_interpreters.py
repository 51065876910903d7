"""Interpreters as a device has them: which is taken, what is wrong with broken ones, recurrent state, layouts."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.lab import runner
from edgeq.lab.onboard import bundle as bundles
from edgeq.lab.onboard import evaluate, interpreters, known_answer, parity, probe
from edgeq.lab.onboard.events import Failure
from edgeq.lab.onboard.session import Session
from edgeq.testing import models
from edgeq.testing.bundles import make_bundle, write_manifest

PYTHONS = sorted(Path.home().glob(".pyenv/versions/3.*/bin/python3"))  # before the tests get a home of their own
PLAIN = [path for path in PYTHONS if path.parts[-3].startswith("3.7.")] or [Path(sys.executable)]

HONEST = """\
class Interpreter:
    def __init__(self, **_): pass
    def allocate_tensors(self): pass
    def invoke(self): pass
    def get_input_details(self): return []
    def get_output_details(self): return [{"index": 0}]
    def reset_all_variables(self): pass
    def get_tensor(self, _): return Answer()
class Answer:
    def tolist(self): return ANSWER
"""
NUMPY = "int8 = uint8 = None\ndef array(value, kind): return value\n"


def package(site: Path, name: str, interpreter: str | None = "", init: str = "") -> None:
    """A package with an `interpreter` module of this source; None leaves the module out."""
    (site / name).mkdir(parents=True, exist_ok=True)
    (site / name / "__init__.py").write_text(init)
    if interpreter is not None:
        (site / name / "interpreter.py").write_text(interpreter)


def chosen(site: Path, model_format: str = "tflite") -> dict[str, Any]:
    """What `choose` says in a Python that has only these packages."""
    package(site, "numpy", None, NUMPY)
    source = (
        "import sys, json, importlib\n"
        "sys.path[:0] = sys.argv[1:3]\n"
        "interpreters = importlib.import_module('onboard.interpreters')\n"
        "events = importlib.import_module('onboard.events')\n"
        "events.open_stream()\n"
        "try: events.emit('chosen', name=interpreters.choose(sys.argv[3]))\n"
        "except events.Failure as failure: events.emit(failure.kind, message=failure.message, **failure.facts)\n"
    )
    argv = [str(PLAIN[0]), "-I", "-S", "-c", source, str(site), str(runner.FOLDER.parent), model_format]
    done = subprocess.run(argv, capture_output=True, timeout=60, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def honest(answer: object = known_answer.ANSWER) -> str:
    return f"ANSWER = {answer!r}\n{HONEST}"


# --- which one is taken ---


@pytest.mark.parametrize(
    ("there", "taken"),
    [
        (["ai_edge_litert", "tflite_runtime"], "ai_edge_litert"),
        (["tflite_runtime"], "tflite_runtime"),
        (["tensorflow", "tflite_runtime"], "tflite_runtime"),
    ],
)
def test_the_lightest_that_works_is_taken(tmp_path: Path, there: list[str], taken: str) -> None:
    for name in there:
        package(tmp_path, name, honest())
    assert chosen(tmp_path)["name"] == taken


def test_whole_tensorflow_is_the_last_resort(tmp_path: Path) -> None:
    package(tmp_path, "tensorflow", None, f"class lite:\n    {honest().replace(chr(10), chr(10) + '    ')}\n")
    text = (tmp_path / "tensorflow/__init__.py").read_text().replace("return ANSWER", f"return {known_answer.ANSWER}")
    (tmp_path / "tensorflow/__init__.py").write_text(text.replace("return Answer()", "return lite.Answer()"))
    assert chosen(tmp_path).get("name") == "tensorflow"


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("raise ImportError('numpy.core.multiarray failed to import')", "ImportError: numpy.core.multiarray failed"),
        ("raise SystemError('initialization failed')", "SystemError: initialization failed"),
        ("raise OSError('libfoo.so: cannot open shared object file\\nmore')", "OSError: libfoo.so: cannot open"),
        ("this is no python", "SyntaxError"),
        ("", "AttributeError"),
        (honest([[1, 2, 3, 4]]), "ValueError: it computes [[1, 2, 3, 4]] where [[34, 20, 36, 36]] is right"),
        (HONEST.replace("pass", "raise RuntimeError()"), "RuntimeError: "),
        (None, "ModuleNotFoundError"),
    ],
)
def test_a_broken_one_is_passed_over_with_its_reason(tmp_path: Path, source: str | None, why: str) -> None:
    package(tmp_path, "ai_edge_litert", source)
    told = chosen(tmp_path)
    assert told["event"] == "runtime-missing"
    assert told["format"] == "tflite"
    assert told["reasons"]["ai_edge_litert"].startswith(why)
    assert "\n" not in told["message"]
    assert told["reasons"]["tflite_runtime"] == told["reasons"]["tensorflow"] == "not installed"
    package(tmp_path, "tflite_runtime", honest())
    assert chosen(tmp_path)["name"] == "tflite_runtime"


@pytest.mark.parametrize("words", ["libX.so: failed to map segment from shared object", "std::bad_alloc"])
def test_one_that_finds_no_memory_is_not_said_to_be_missing(tmp_path: Path, words: str) -> None:
    """`pip install` would not mend it, and the next package needs more."""
    package(tmp_path, "ai_edge_litert", f"raise ImportError({words!r})")
    package(tmp_path, "tflite_runtime", honest())
    told = chosen(tmp_path)
    assert (told["event"], told["message"]) == ("out-of-memory", f"ai_edge_litert: ImportError: {words}")


def test_an_empty_device_lists_every_name(tmp_path: Path) -> None:
    for model_format, names in interpreters.FORMATS.items():
        told = chosen(tmp_path, model_format)
        assert told["reasons"] == dict.fromkeys(names, "not installed")


@pytest.mark.parametrize("name", ["ai_edge_litert", "onnxruntime"])
def test_the_real_ones_know_the_answer(name: str) -> None:
    assert interpreters.installed(name)
    interpreters.prove(name)
    assert interpreters.version(name)


def test_reasons_are_short() -> None:
    assert len(interpreters.explain(ValueError("x" * 5000))) == 300
    assert interpreters.explain(KeyError()) == "KeyError: "


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "out-of-memory"),
        (RuntimeError("std::bad_alloc"), "out-of-memory"),
        (ValueError("Failed to allocate tensors"), "out-of-memory"),
        (RuntimeError("Node 3 failed to prepare"), "model-failed"),
        (Exception(), "model-failed"),
    ],
)
def test_what_failed_with_the_model(error: Exception, kind: str) -> None:
    failure = interpreters.model_failure(error, "running the model")
    assert failure.kind == kind
    assert failure.message.startswith("running the model: ")


# --- probe tells crashes from absence ---


def probed(site: Path, name: str = "tflite_runtime") -> dict[str, Any]:
    argv = [sys.executable, "-I", str(runner.FOLDER / "__main__.py"), "probe", "--runtime", name]
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(argv, capture_output=True, timeout=60, check=True, env=environment)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])["runtimes"][name]
    return found


@pytest.mark.parametrize(
    ("number", "why"),
    [("SIGSEGV", "killed by SIGSEGV"), ("SIGABRT", "killed by SIGABRT"), ("SIGRTMIN + 3", "killed by signal 37")],
)
@pytest.mark.parametrize("where", ["init", "interpreter"])
def test_a_crash_is_named_wherever_it_is(tmp_path: Path, where: str, number: str, why: str) -> None:
    """A package's own __init__ must not run in the process that asks: it would take the whole answer along."""
    crash = f"import os, signal\nos.kill(os.getpid(), signal.{number})\n"
    package(tmp_path, "tflite_runtime", **{where: crash})
    assert probed(tmp_path) == {"version": None, "ok": False, "why": why}


@pytest.mark.parametrize("source", ["import os; os._exit(0)", "import os; os._exit(9)", "raise SystemExit(3)"])
def test_one_that_ends_without_a_word(tmp_path: Path, source: str) -> None:
    package(tmp_path, "tflite_runtime", source)
    assert probed(tmp_path)["why"] == "it ended without an answer"


@pytest.mark.parametrize(
    "output", [b"", b"\n", b"{", b"[]", b"3", b"null", b'"x"', b'{"ok": true}', b"\xff", b'{"event":"error"}']
)
def test_answers_that_are_none(output: bytes) -> None:
    assert probe._answer(output) == {"version": None, "ok": False, "why": "it ended without an answer"}


def test_the_last_line_is_the_answer() -> None:
    told = {"version": "1", "ok": True, "why": None}
    assert probe._answer(b'{"event": "progress"}\n' + json.dumps({"event": "result", **told}).encode()) == told


# --- real models in the session ---


def opened(folder: Path, threads: int = 1) -> tuple[Session, bundles.Bundle]:
    found = bundles.Bundle(folder)
    return Session(found, "onnxruntime" if found.format == "onnx" else "ai_edge_litert", threads), found


@pytest.fixture(params=["tflite", "onnx"])
def folder(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    x, _ = models.tiny_samples(models.CONV_SHAPE, models.CLASSES, 8)
    if request.param == "onnx":
        make_bundle(models.conv_onnx(tmp_path), tmp_path / "b", [np.ascontiguousarray(x.transpose(0, 3, 1, 2))])
    else:
        make_bundle(models.conv_tflite(tmp_path), tmp_path / "b", [x])
    return tmp_path / "b"


def compared(folder: Path, inputs: list[Any] | None = None) -> dict[str, Any]:
    session, found = opened(folder)
    inputs = inputs or bundles.arrays(found.golden, "input", found.inputs)
    golden = bundles.arrays(found.golden, "output", found.outputs)
    told: dict[str, Any] = parity.check(session, inputs, golden, found.outputs, 1.0)
    return told


def test_arrays_stored_in_columns_are_the_same_arrays(folder: Path) -> None:
    """An .npz keeps Fortran order; the interpreters must not read its bytes as rows."""
    inputs = bundles.arrays(folder / "golden.npz", "input", bundles.Bundle(folder).inputs)
    np.savez(folder.parent / "columns.npz", input_0=np.asfortranarray(inputs[0]))
    columns = bundles.arrays(folder.parent / "columns.npz", "input", bundles.Bundle(folder).inputs)
    assert columns[0].flags.f_contiguous
    assert compared(folder, columns) == compared(folder)
    assert compared(folder)["exact"]


def test_outputs_are_copies(folder: Path) -> None:
    session, found = opened(folder)
    inputs = bundles.arrays(found.golden, "input", found.inputs)
    first = session.run(inputs, 0)[0]
    kept = first.copy()
    session.run(inputs, 1)
    assert np.array_equal(first, kept)


def test_a_session_says_what_it_is(folder: Path) -> None:
    session, found = opened(folder, threads=2)
    told = session.about()
    assert told["name"] == ("onnxruntime" if found.format == "onnx" else "ai_edge_litert")
    assert told["threads"] == "2"
    assert told["version"][0].isdigit()
    assert session.load_ns > 0


@pytest.mark.parametrize("content", [b"", b"TFL3", b"\x00" * 1000, b"\x1c\x00\x00\x00TFL3" + b"\xff" * 200])
def test_a_model_that_is_none_fails_by_name(folder: Path, content: bytes) -> None:
    found = bundles.Bundle(folder)
    found.model.write_bytes(content)
    with pytest.raises(Failure, match="loading the model") as caught:
        Session(found, "onnxruntime" if found.format == "onnx" else "ai_edge_litert", 1)
    assert caught.value.kind == "model-failed"


def test_a_dynamic_batch_can_change_from_vector_to_vector(folder: Path) -> None:
    session, found = opened(folder)
    inputs = bundles.arrays(found.golden, "input", found.inputs)
    single = np.concatenate([session.run(inputs, number)[0] for number in range(8)])
    session.batch = 4
    four = np.concatenate([session.run(inputs, number)[0] for number in range(2)])
    session.batch = 1
    again = session.run(inputs, 7)[0]
    assert np.allclose(single, four, atol=1e-6)
    assert np.array_equal(again[0], single[7])


# --- recurrent models ---


@pytest.fixture
def lstm(shared: Path, tmp_path: Path) -> Path:
    """A bundle of the float LSTM with golden vectors each made by an interpreter of its own."""
    from ai_edge_litert.interpreter import Interpreter

    model = shared / "lstm_mnist/mnist_lstm_float.tflite"
    with np.load(shared / "lstm_mnist/mnist_1000.npz") as stored:
        x = stored["x"][:6].astype(np.float32) / np.float32(255)
    details = Interpreter(model_path=str(model)).get_input_details()[0]
    x = x.reshape(6, *details["shape"][1:])
    make_bundle(model, tmp_path / "b", [x])
    rows = []
    for number in range(6):
        fresh = Interpreter(model_path=str(model), num_threads=1)
        fresh.allocate_tensors()
        fresh.set_tensor(details["index"], x[number : number + 1])
        fresh.invoke()
        rows.append(fresh.get_tensor(fresh.get_output_details()[0]["index"]))
    np.savez(tmp_path / "b/golden.npz", input_0=x, output_0=np.concatenate(rows))
    write_manifest(tmp_path / "b", ".tflite")
    return tmp_path / "b"


def test_a_recurrent_state_does_not_reach_the_next_vector(lstm: Path) -> None:
    told = compared(lstm)
    assert (told["exact"], told["vectors"], told["ok"]) == (True, 6, True)


def test_a_recurrent_model_answers_the_same_however_often(lstm: Path) -> None:
    session, found = opened(lstm)
    inputs = bundles.arrays(found.golden, "input", found.inputs)
    first = session.run(inputs, 2)[0]
    for number in (0, 2, 5, 2, 2):
        again = session.run(inputs, number)[0]
        assert np.array_equal(again, first) is (number == 2)


def test_runs_without_a_feed_do_carry_the_state(lstm: Path) -> None:
    """The model really has a state: without it the two tests above would prove nothing."""
    session, found = opened(lstm)
    inputs = bundles.arrays(found.golden, "input", found.inputs)
    fresh = session.run(inputs, 0)[0]
    session.invoke()
    session.invoke()
    assert not np.array_equal(session.model.fetch()[0], fresh)


# --- evaluate ---


def test_parts_are_joined_and_nothing_else_is_left(tmp_path: Path) -> None:
    parts = [[np.array([[1, 2]], np.int8), np.array([[3, 4]], np.int8)], [np.array([0.5]), np.array([0.25])]]
    evaluate.write(tmp_path / "out.npz", parts)
    with np.load(tmp_path / "out.npz") as stored:
        assert stored["output_0"].tolist() == [[1, 2], [3, 4]]
        assert stored["output_1"].tolist() == [0.5, 0.25]
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


@pytest.mark.parametrize("second", [np.zeros((1, 3)), np.zeros(2), np.zeros(())])
def test_outputs_that_change_shape_leave_the_old_file(tmp_path: Path, second: Any) -> None:
    (tmp_path / "out.npz").write_bytes(b"old")
    with pytest.raises(Failure) as caught:
        evaluate.write(tmp_path / "out.npz", [[np.zeros((1, 2)), second]])
    assert caught.value.kind == "model-failed"
    assert (tmp_path / "out.npz").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.npz"]


def test_a_folder_that_is_not_there_is_not_writable(tmp_path: Path) -> None:
    with pytest.raises(Failure) as caught:
        evaluate.write(tmp_path / "gone/out.npz", [[np.zeros((1, 2))]])
    assert caught.value.kind == "not-writable"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_full_disk_is_named(tmp_path: Path) -> None:
    (tmp_path / ".out.npz.part").symlink_to("/dev/full")
    with pytest.raises(Failure) as caught:
        evaluate.write(tmp_path / "out.npz", [[np.zeros((1, 2))]])
    assert caught.value.kind == "disk-full"
    assert list(tmp_path.iterdir()) == []


def test_leftovers_go_after_a_day(tmp_path: Path) -> None:
    for name, age in (("old", evaluate.STALE_SECONDS + 60), ("young", 60)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "inputs.npz").write_bytes(b"x")
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    evaluate.sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["young"]
    evaluate.sweep(tmp_path / "absent")


def test_leftovers_that_point_elsewhere_take_nothing_along(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/file").write_text("x")
    (tmp_path / "swept").mkdir()
    (tmp_path / "swept/link").symlink_to(tmp_path / "kept")
    os.utime(tmp_path / "kept", (1, 1))
    evaluate.sweep(tmp_path / "swept")
    assert (tmp_path / "kept/file").exists()


def test_the_packages_here_are_real() -> None:
    """Were the interpreters absent, the tests above would compare nothing."""
    assert all(importlib.util.find_spec(name) for name in ("ai_edge_litert", "onnxruntime", "numpy"))
