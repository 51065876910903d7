"""The program as a process: what it imports, its streams, signals, terminals and locales."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeq.testing import models

TARGET = "generic-linux-x86_64"
PROGRAM = (sys.executable, "-m", "edgeq")
HEAVY = {
    "numpy", "onnx", "onnxruntime", "ai_edge_litert", "litert_quantizer", "paramiko", "pydantic", "rich", "tensorflow",
    "PIL", "ruamel", "psutil",
}  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with a model whose tensors have names outside ASCII, and the usual one with samples."""
    models.conv_tflite(tmp_path)
    models.mlp_tflite(tmp_path)
    models.tiny_dataset(tmp_path, models.MLP_SHAPE)
    return tmp_path


def _run(*argv: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **environment}
    command = [*PROGRAM, *argv]
    return subprocess.run(
        command, capture_output=True, text=True, encoding="utf-8", errors="replace", cwd=cwd, env=env, timeout=60,
        check=False,
    )  # fmt: skip


def test_help_imports_nothing_heavy() -> None:
    code = "import sys\nfrom edgeq.cli import cli\ncli.main(['--help'], standalone_mode=False)\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "edgeq.cli.run" in loaded
    assert not loaded & HEAVY


def test_a_plan_imports_no_runtime(desk: Path) -> None:
    """Planning a TFLite model needs neither TensorFlow, nor a runtime, nor SSH."""
    code = (
        "import sys\nfrom edgeq.cli import cli\n"
        f"cli.main(['plan', 'mlp.tflite', '-t', '{TARGET}', '--json'], standalone_mode=False)\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=desk, timeout=60, check=True
    )
    assert json.loads(done.stdout)["ok"]
    assert not set(done.stderr.split()) & {"tensorflow", "onnxruntime", "paramiko", "onnx", "litert_quantizer", "PIL"}


def test_the_console_script_is_the_module(desk: Path) -> None:
    script = Path(sysconfig.get_path("scripts")) / "edgeq"
    if not script.exists():
        pytest.skip("the console script is not installed in this environment")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=60, check=False)
    module = _run("--help")
    assert (done.returncode, done.stdout, done.stderr) == (module.returncode, module.stdout, module.stderr) == (
        0, module.stdout, ""
    )  # fmt: skip


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "latin-1"},
    ],
    ids=["ascii", "posix", "latin-1"],
)
def test_a_locale_without_unicode_does_not_break_tables(desk: Path, environment: dict[str, str]) -> None:
    name = "modèle-模型.tflite"
    (desk / "mlp.tflite").rename(desk / name)
    for argv in (["inspect", name], ["plan", name, "-t", TARGET], ["inspect", "nosuch-模型.tflite"]):
        done = _run(*argv, cwd=desk, **environment)
        assert "Traceback" not in done.stderr, done.stderr
        assert done.returncode == (1 if "nosuch" in argv[1] else 0), done.stderr
        assert ("error: " in done.stderr) == ("nosuch" in argv[1])
    document = json.loads(_run("inspect", name, "--json", cwd=desk, **environment).stdout)
    assert document["format"] == "tflite"


@pytest.mark.parametrize("columns", ["10", "20", "40"])
def test_narrow_terminals_get_their_tables(desk: Path, columns: str) -> None:
    done = _run("plan", "mlp.tflite", "-t", TARGET, cwd=desk, COLUMNS=columns)
    assert (done.returncode, done.stderr) == (0, "")
    assert "litert" in done.stdout


@pytest.mark.parametrize("argv", [("targets", "--json"), ("targets",), ("inspect", "mlp.tflite"), ("--help",)])
def test_a_reader_that_left_ends_it_quietly(desk: Path, argv: tuple[str, ...]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [*PROGRAM, *argv], stdout=writing, stderr=subprocess.PIPE, text=True, cwd=desk, timeout=60, check=False
        )
    finally:
        os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 1


@contextlib.contextmanager
def _terminal() -> Iterator[tuple[int, int]]:
    """Both ends of a pseudo-terminal."""
    ours, theirs = pty.openpty()
    try:
        yield ours, theirs
    finally:
        for handle in (ours, theirs):
            with contextlib.suppress(OSError):
                os.close(handle)


def _on_a_terminal(argv: list[str], cwd: Path, **environment: str) -> tuple[int, str]:
    """Exit code and all that a terminal shows of stdout and stderr."""
    with _terminal() as (ours, theirs):
        env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **environment}
        process = subprocess.Popen([*PROGRAM, *argv], stdin=theirs, stdout=theirs, stderr=theirs, cwd=cwd, env=env)
        os.close(theirs)
        seen = b""
        with contextlib.suppress(OSError):  # the terminal is gone when the process is
            while piece := os.read(ours, 4096):
                seen += piece
        return process.wait(timeout=60), seen.decode(errors="replace")


def test_colours_are_for_terminals_that_want_them(desk: Path) -> None:
    argv = ["plan", "mlp.tflite", "-t", TARGET]
    code, coloured = _on_a_terminal(argv, desk)
    assert code == 0
    assert "\x1b[32m" in coloured
    code, plain = _on_a_terminal(argv, desk, NO_COLOR="1")
    assert code == 0
    assert "\x1b[32m" not in plain


def test_a_terminal_gets_bars_that_vanish(desk: Path) -> None:
    argv = ["quantize", "mlp.tflite", "-t", TARGET, "--data", "dataset.yaml", "-o", "out"]
    code, seen = _on_a_terminal(argv, desk)
    assert code == 0, seen
    assert "scoring float" in seen
    assert "\x1b[?25h" in seen, "the cursor is shown again"
    assert "likeness to float" in seen.replace("\x1b[1m", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda number: number.name)
def test_a_kill_is_like_ctrl_c(desk: Path, number: signal.Signals) -> None:
    """A script that calibrates for ever is told to stop: the scratch folders go, no half-written result stays."""
    scratch = desk / "scratch"
    scratch.mkdir()
    (desk / "slow.py").write_text(
        "import sys, time\nimport numpy as np\n\n\ndef samples():\n"
        "    print('sampling', file=sys.stderr, flush=True)\n"
        "    while True:\n        time.sleep(0.02)\n        yield {'input': np.zeros(16, np.float32)}\n"
    )
    argv = [*PROGRAM, "quantize", "mlp.tflite", "-t", TARGET, "--data", "slow.py:samples", "-o", "out"]
    env = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        argv, cwd=desk, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        seen = ""
        for line in process.stderr:
            seen += line
            if "sampling" in line:
                break
        process.send_signal(number)
        seen += process.stderr.read()
        assert process.stdout.read() == ""
        assert process.wait(timeout=30) == 130, seen
    assert "Traceback" not in seen
    assert seen.rstrip().endswith("interrupted")
    assert list(scratch.iterdir()) == []
    assert {path.name for path in (desk / "out").rglob("*")} <= {"plan.json"}


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real sshd whose key nobody has vouched for."""
    from edgeq.errors import ToolError
    from edgeq.testing import sshd

    try:
        sshd.program()
    except ToolError as error:
        pytest.skip(f"{error.message} ({error.hint})")
    with sshd.running(tmp_path_factory.mktemp("sshd")) as running:
        yield running.url


def test_trust_asks_and_takes_no_for_an_answer(tmp_path: Path, server: str) -> None:
    own = tmp_path / "known_hosts"
    argv = [*PROGRAM, "devices", "trust", server]
    env = {**os.environ, "EDGEQ_KNOWN_HOSTS": str(own)}
    for answer in ("n\n", "\n", ""):
        done = subprocess.run(argv, input=answer, capture_output=True, text=True, env=env, timeout=60, check=False)
        assert done.returncode == 130, done.stderr
        assert "SHA256:" in done.stderr
        assert "interrupted" in done.stderr
        assert done.stdout == ""
        assert not own.exists()
    done = subprocess.run(argv, input="y\n", capture_output=True, text=True, env=env, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert own.read_text().strip()
    assert f"recorded in {own}" in done.stderr
