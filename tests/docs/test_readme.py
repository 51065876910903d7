"""The README's commands run as they stand."""

from __future__ import annotations

import os
import platform
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "README.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)
    for line in block.splitlines()
    if line.strip() and not line.startswith("#")
]
TO_A_BOARD = [line for line in COMMANDS if line.startswith("edgeq ") and re.search(r"\bboard\b", line)]
HERE = [line for line in COMMANDS if line.startswith("edgeq ") and line not in TO_A_BOARD]
LOADED = ("at 95 %", "steady", "outliers", "speed-up")
"""Rows of a report whose words depend on what else the host does."""
QUICK = ("--runs", "5", "--seconds", "0.1", "--warmup-seconds", "0")
Edgeq = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder with the examples in it, where commands are run."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_first_two_commands_are_demo_and_test() -> None:
    assert [line.split("#")[0].split() for line in COMMANDS[:2]] == [["make", "demo"], ["make", "test"]]


@pytest.mark.parametrize("line", [line for line in COMMANDS if line.startswith("make ")])
def test_make_commands_are_targets_of_the_makefile(line: str) -> None:
    target = line.split()[1]
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


def test_inline_make_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"`make (\w+)`", TEXT):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_commands_without_a_board_run(edgeq: Edgeq, folder: Path) -> None:
    """In the README's order: the last one reports on what those before it left."""
    assert len(HERE) >= 3
    for line in HERE:
        words = [_here(word) for word in shlex.split(line)[1:]]
        ran = edgeq(*words, *(QUICK if words[0] in ("run", "profile") else ()))
        assert ran.code == 0, f"{line}\n{ran.err}"


def _here(word: str) -> str:
    """The same target for another kind of host."""
    return word.replace("generic-linux-x86_64", f"generic-linux-{platform.machine()}")


def test_the_recipe_of_demo_ends_in_the_report(edgeq: Edgeq, folder: Path) -> None:
    if shutil.which("make") is None:
        pytest.skip("there is no make on this host")
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    steps = subprocess.run(
        ["make", "-n", "demo"], cwd=ROOT, env=quiet, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    program, dash, module, *words = shlex.split(steps[-1])
    assert (program, dash, module) == (".venv/bin/python", "-m", "edgeq")
    assert words[0] == "run"
    assert words[words.index("-d") + 1] == "local:"
    ran = edgeq(*words, *QUICK)
    assert ran.code == 0, ran.err
    assert "everything holds" in ran.out


@pytest.mark.parametrize("line", TO_A_BOARD)
def test_commands_to_a_board_are_understood(edgeq: Edgeq, line: str) -> None:
    """The command line knows every word of them; the board itself is tests/system's."""
    words = shlex.split(line)[1:]
    ran = edgeq(*words[: 2 if words[0] == "devices" else 1], "--help")
    assert ran.code == 0
    for flag in (word for word in words if word.startswith("-")):
        assert flag in ran.out, flag


def test_the_report_shown_is_one_that_edgeq_prints(edgeq: Edgeq, folder: Path) -> None:
    """Line by line, figures aside; of what a busy host decides, the label only."""
    target = f"generic-linux-{platform.machine()}"
    data = folder / "examples" / "digits" / "dataset.yaml"
    model = folder / "examples" / "digits" / "digits_float.tflite"
    ran = edgeq("run", model, "-t", target, "-d", "local:", "--data", data, *QUICK)
    printed = {_words(line) for line in ran.out.splitlines()}
    shown = next(block for block in re.findall(r"```text\n(.*?)```", TEXT, re.DOTALL) if "verdict" in block)
    for line in shown.splitlines():
        label = next((one for one in LOADED if line.lstrip().startswith(one)), None)
        if label:
            assert re.search(rf"^ *(not )?{label} ", ran.out, re.MULTILINE), line
        else:
            assert _words(line.replace("measured on board", "measured on local:")) in printed, line


def _words(line: str) -> tuple[str, ...]:
    return tuple(word for word in line.split() if not re.search(r"\d", word) and word not in ("µs", "ms", "µs,", "ms,"))
