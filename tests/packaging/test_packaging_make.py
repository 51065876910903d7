"""The Makefile and its scripts: what they would do, without the network."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES, PYTHON = ROOT / ".ci" / "packages", ROOT / ".ci" / "python"


def run(*argv: object, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    words = {**os.environ, **env}
    for name in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS"):
        words.pop(name, None)
    return subprocess.run(
        list(map(str, argv)), cwd=cwd, env=words, stdin=subprocess.DEVNULL,
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that make reads, in a folder without .venv."""
    if shutil.which("make") is None:
        pytest.skip("there is no make on this host")
    shutil.copytree(ROOT / ".ci", tmp_path / ".ci")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    return tmp_path


@pytest.fixture
def bare(tmp_path: Path) -> str:
    """A PATH with the few commands that the scripts use and no apt-get."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("bash", "env", "sort", "true"):
        (folder / name).symlink_to(str(shutil.which(name)))
    return str(folder)


def test_demo_sets_up_only_what_the_main_job_needs(clone: Path) -> None:
    steps = run("make", "-n", "demo", cwd=clone).stdout
    assert "-m venv .venv" in steps
    assert "install -e ." in steps
    assert "tensorflow" not in steps
    assert "[dev" not in steps
    assert f"-t generic-linux-{platform.machine()} -d local:" in steps


def test_test_sets_up_everything_and_runs_pytest_once(clone: Path) -> None:
    steps = run("make", "-n", "test", cwd=clone).stdout
    assert "install -e '.[dev,tensorflow]'" in steps
    assert "sshd=openssh-server" in steps
    assert steps.count("-m pytest") == 1


def test_what_is_set_up_is_not_set_up_again(clone: Path) -> None:
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").touch()
    os.utime(clone / "pyproject.toml", (1, 1))
    for stamp in (".run", ".install"):
        (clone / ".venv" / stamp).touch()
    steps = run("make", "-n", "demo", "test", "lint", cwd=clone).stdout
    assert "pip" not in steps
    assert "-m venv" not in steps
    (clone / "pyproject.toml").touch()
    os.utime(clone / ".venv" / ".run", (1, 1))
    assert "pip" in run("make", "-n", "demo", cwd=clone).stdout


def test_make_alone_says_what_there_is(clone: Path) -> None:
    shown = run("make", cwd=clone).stdout
    for target in ("demo", "test", "lint", "bench", "install", "clean"):
        assert f"make {target}" in shown


def test_clean_keeps_the_venv(clone: Path) -> None:
    for name in ("build", "edgeq/__pycache__", ".venv", "tests", "examples"):
        (clone / name).mkdir(parents=True)
    ran = run("make", "clean", cwd=clone)
    assert ran.returncode == 0, ran.stderr
    assert (clone / ".venv").is_dir()
    assert not (clone / "build").exists()
    assert not (clone / "edgeq" / "__pycache__").exists()


def test_packages_that_are_there_are_left_alone() -> None:
    ran = run(PACKAGES, "bash=bash", "sort=coreutils")
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_commands_of_the_administrator_count_as_there(bare: str) -> None:
    """/usr/sbin is not on a user's PATH; sshd and ip live there."""
    if not Path("/usr/sbin/ldconfig").exists():
        pytest.skip("there is no ldconfig in /usr/sbin to look for")
    assert run(PACKAGES, "ldconfig=libc-bin", PATH=bare).stderr == ""


def test_missing_packages_are_listed_once_with_the_command(bare: str) -> None:
    pairs = ("bash=bash", "no-such-b=openssh-client", "no-such-a=openssh-client", "no-such-c=iproute2")
    ran = run(PACKAGES, *pairs, PATH=bare)
    assert ran.returncode == 0
    assert "missing Debian packages: iproute2 openssh-client\n" in ran.stderr
    assert "  sudo apt-get install iproute2 openssh-client\n" in ran.stderr


def test_an_apt_that_fails_ends_in_the_list(bare: str) -> None:
    apt = Path(bare) / "apt-get"
    apt.write_text("#!/usr/bin/env bash\necho no network >&2\nexit 100\n")
    apt.chmod(0o755)
    ran = run(PACKAGES, "no-such-a=iproute2", PATH=bare)
    assert ran.returncode == 0
    assert "missing Debian packages: iproute2\n" in ran.stderr


def test_this_python_will_do() -> None:
    ran = run(PYTHON, sys.executable)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_a_python_that_is_not_there_is_named() -> None:
    ran = run(PYTHON, "python9.99")
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: there is no python9.99;")


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ("1 0", "Python 3.99 is not supported"),
        ("0 1", "cannot make virtual environments; on Debian: sudo apt-get install python3-venv"),
    ],
)
def test_a_python_that_will_not_do_is_named(bare: str, answers: str, expected: str) -> None:
    """A program that answers as a Python too new, and as Debian's without python3-venv, would."""
    version, venv = answers.split()
    python = Path(bare) / "python-odd"
    cases = f"--version) echo Python 3.99 ;; *version_info*) exit {version} ;; *) exit {venv} ;;"
    python.write_text(f'#!/usr/bin/env bash\ncase "$*" in {cases} esac\n')
    python.chmod(0o755)
    ran = run(PYTHON, python, PATH=bare)
    assert ran.returncode == 1
    assert expected in ran.stderr


def test_ci_runs_the_readmes_test_command() -> None:
    steps = (ROOT / ".ci" / "run").read_text().splitlines()
    assert steps[-2:] == ["make lint", "make test"]
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
