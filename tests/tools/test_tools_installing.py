"""An install is whole or not there at all."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edgeq import tools
from edgeq.errors import ToolError
from edgeq.tools import environments, installing
from edgeq.tools.table import RECIPES, Recipe

HERE = Path(__file__).parent


def _support() -> object:
    """This folder's conftest, whose wheel and recipe the tests share."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("tools_support", HERE / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SUPPORT = _support()
TINY: Recipe = SUPPORT.TINY  # type: ignore[attr-defined]


@pytest.fixture
def copied(installed: tools.Tool, tmp_path: Path) -> Path:
    """A folder of tools with a copy of the tiny one, to be broken."""
    shutil.copytree(installed.folder.parent, tmp_path / "tools" / "tiny", symlinks=True)
    return tmp_path / "tools"


def _look(folder: Path) -> tools.Tool:
    return environments.look(TINY, folder / "tiny")


def test_an_install_is_found_with_its_version_and_record(installed: tools.Tool) -> None:
    assert installed.version == "1.2"
    record = json.loads((installed.folder.parent / "tool.json").read_text())
    assert record["packages"][0] == "edgeqtiny==1.2"
    assert record["environment"] == installed.folder.name
    assert record["python"].split(".")[0] == "3"
    assert len(record["date"]) == 10


def test_a_second_install_keeps_what_is_whole(installed: tools.Tool) -> None:
    started = time.monotonic()
    again = installing.install_recipe(TINY, installed.folder.parents[1], arguments=["--no-index"])
    assert again == installed
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda env: (env / "bin" / "python").unlink(), "its Python is gone"),
        (lambda env: shutil.rmtree(next(env.glob("lib/python*/site-packages/edgeqtiny"))), "edgeqtiny is gone"),
        (lambda env: shutil.rmtree(next(env.glob("lib/*/*/edgeqtiny-*.dist-info"))), "edgeqtiny is gone"),
        (lambda env: (env.parent / "tool.json").write_text("{"), "not JSON"),
        (lambda env: (env.parent / "tool.json").write_text("{}"), "tool.json|missing|needed|required"),
        (lambda env: (env.parent / "tool.json").unlink(), "is not installed"),
    ],
)
def test_a_broken_environment_is_said_with_the_mending_command(copied: Path, harm: object, said: str) -> None:
    harm(_look(copied).folder)  # type: ignore[operator]
    with pytest.raises(ToolError, match=said) as caught:
        _look(copied)
    assert caught.value.hint == "edgeq tools install tiny"


def test_another_version_than_was_installed_is_broken(copied: Path) -> None:
    info = next(_look(copied).folder.glob("lib/*/*/edgeqtiny-*.dist-info")) / "METADATA"
    info.write_text(info.read_text().replace("1.2", "0.9"))
    with pytest.raises(ToolError, match=r"it has version 0\.9, 1\.2 was installed"):
        _look(copied)


@pytest.mark.parametrize("elsewhere", ["../../evil", "/tmp/evil", "a/b", ""])
def test_a_record_cannot_point_elsewhere(copied: Path, elsewhere: str) -> None:
    path = copied / "tiny" / "tool.json"
    record = json.loads(path.read_text()) | {"environment": elsewhere}
    path.write_text(json.dumps(record))
    with pytest.raises(ToolError, match=r"lies elsewhere|Python is gone"):
        _look(copied)


@pytest.mark.slow
def test_a_killed_install_leaves_nothing_that_is_found(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    SUPPORT.write_wheel(wheels)  # type: ignore[attr-defined]
    program = (
        "import importlib.util, sys; from pathlib import Path; from edgeq.tools import installing\n"
        "spec = importlib.util.spec_from_file_location('s', sys.argv[1]); s = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(s)\n"
        "show = lambda step, done, total: print(done, flush=True)\n"
        "installing.install_recipe(s.TINY, Path(sys.argv[2]), show, arguments=s.offline(Path(sys.argv[3])))\n"
    )
    argv = [sys.executable, "-c", program, str(HERE / "conftest.py"), str(tmp_path / "tools"), str(wheels)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "1":  # the environment stands, pip is running
                break
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ToolError, match="tiny is not installed"):
        _look(tmp_path / "tools")
    left = list((tmp_path / "tools" / "tiny").glob("env-*"))
    assert len(left) == 1
    arguments = SUPPORT.offline(wheels)  # type: ignore[attr-defined]
    made = installing.install_recipe(TINY, tmp_path / "tools", arguments=arguments)
    assert [made.folder] == list((tmp_path / "tools" / "tiny").glob("env-*"))  # what was left is swept


@pytest.mark.slow
def test_two_installs_at_once(tmp_path: Path) -> None:
    SUPPORT.write_wheel(tmp_path / "wheels")  # type: ignore[attr-defined]
    found: list[tools.Tool] = []
    arguments = SUPPORT.offline(tmp_path / "wheels")  # type: ignore[attr-defined]

    def install() -> None:
        found.append(installing.install_recipe(TINY, tmp_path / "tools", arguments=arguments))

    threads = [threading.Thread(target=install) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(found) == 2
    assert found[0] == found[1] == _look(tmp_path / "tools")
    assert len(list((tmp_path / "tools" / "tiny").glob("env-*"))) == 1


@pytest.mark.slow
def test_an_unknown_package_is_one_line_of_pips_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ToolError) as caught:
        installing.install_recipe(TINY, tmp_path / "tools", arguments=["--no-index"])
    assert caught.value.message.startswith("tiny cannot be installed: No matching distribution found for edgeqtiny")
    assert "\n" not in caught.value.message
    assert list((tmp_path / "tools" / "tiny").iterdir()) == []


@pytest.mark.slow
def test_a_package_that_does_not_import_is_not_installed(tmp_path: Path) -> None:
    SUPPORT.write_wheel(tmp_path / "wheels", source="import nothing_of_this_name")  # type: ignore[attr-defined]
    with pytest.raises(ToolError, match="does not start: ModuleNotFoundError"):
        arguments = SUPPORT.offline(tmp_path / "wheels")  # type: ignore[attr-defined]
        installing.install_recipe(TINY, tmp_path / "tools", arguments=arguments)
    assert list((tmp_path / "tools" / "tiny").iterdir()) == []


def test_shims_that_do_not_run_are_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for minor in (10, 11, 12, 13):
        shim = tmp_path / f"python3.{minor}"
        shim.write_text("#!/bin/sh\necho no such version >&2\nexit 127\n")
        shim.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert installing.interpreter(TINY).path == Path(sys.executable)
    other = (3, 13) if sys.version_info[:2] != (3, 13) else (3, 12)
    wanted = replace(TINY, requirements=(((other, other), ("x",)),))
    with pytest.raises(ToolError, match=r"needs Python 3\.\d+ with the modules venv and ensurepip"):
        installing.interpreter(wanted)


def test_a_c_library_that_is_too_old(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"needs glibc 99\.1 or newer, this host has"):
        installing.install_recipe(replace(TINY, glibc=(99, 1)), tmp_path / "tools")


def test_a_folder_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools").chmod(0o777)
    with pytest.raises(ToolError, match="others may write"):
        installing.install_recipe(TINY, tmp_path / "tools")


def test_where_tools_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert tools.folder() == Path(os.environ["HOME"]) / ".local/share/edgeq/tools"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert tools.folder() == tmp_path / "data/edgeq/tools"
    monkeypatch.setenv("EDGEQ_TOOLS", str(tmp_path / "own"))
    assert tools.folder() == tmp_path / "own"


def test_removing_takes_only_what_was_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EDGEQ_TOOLS", str(tmp_path))
    assert tools.remove("vela") is False
    (tmp_path / "vela" / "env-old" / "bin").mkdir(parents=True)
    (tmp_path / "vela" / "tool.json").write_text("{}")
    (tmp_path / "other").mkdir()
    assert tools.remove("vela") is True
    assert not (tmp_path / "vela").exists()
    assert (tmp_path / "other").is_dir()


@pytest.mark.parametrize(
    ("name", "python", "first"),
    [
        ("vela", (3, 10), "ethos-u-vela>=5.2,<6"),
        ("vela", (3, 13), "ethos-u-vela>=5.2,<6"),
        ("onnx2tf", (3, 11), "onnx2tf>=1.29.24,<2"),
        ("onnx2tf", (3, 12), "onnx2tf>=2.6,<3"),
        ("qnn", (3, 10), None),
        ("qnn", (3, 12), "onnxruntime-qnn>=2.7,<3"),
        ("tflm", (3, 11), "tflite-micro>=0.dev0"),
        ("tflm", (3, 12), None),
        ("vela", (3, 14), None),
    ],
)
def test_what_pip_is_given(name: str, python: tuple[int, int], first: str | None) -> None:
    packages = tools.recipe(name).packages(python)
    assert (packages[0] if packages else None) == first


def test_every_requirement_is_bounded() -> None:
    for recipe in RECIPES:
        assert all(">=" in one or "==" in one for _, packages in recipe.requirements for one in packages), recipe.name
    with pytest.raises(ToolError, match="no tool is called 'nvcc'") as caught:
        tools.find("nvcc")
    assert caught.value.hint == "known: vela, onnx2tf, qnn, tflm"
