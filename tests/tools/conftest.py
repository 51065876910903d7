"""Real environments: a tiny wheel made here, installed by pip into a real venv without a network."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from edgeq.tools import Tool, installing
from edgeq.tools.table import ANY, Recipe

# What its console script does is its first argument.
SOURCE = """
import os, subprocess, sys, time

def main():
    what, *rest = sys.argv[1:]
    if what == "echo":
        print(*rest)
    if what == "fail":
        print("to stdout"); print("bad thing", file=sys.stderr); return 7
    if what == "environment":
        print("\\n".join(f"{k}={v}" for k, v in sorted(os.environ.items())))
    if what == "stdin":
        print(repr(sys.stdin.read()))
    if what == "missing":
        import edgeq_tiny_is_not_there
    if what == "flood":
        for _ in range(int(rest[0])):
            sys.stdout.write("x" * (1 << 20)); sys.stdout.flush()
        print("the end")
    if what == "memory":
        bytearray(int(rest[0])); print("had it")
    if what == "family":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        open(rest[0], "w").write(f"{os.getpid()} {child.pid}")
        if rest[1:] != ["leave"]:
            time.sleep(600)
    return 0
"""


def write_wheel(folder: Path, version: str = "1.2", source: str = SOURCE) -> Path:
    """A wheel of `edgeqtiny`, which is a zip of a package and its metadata."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"edgeqtiny-{version}-py3-none-any.whl"
    info = f"edgeqtiny-{version}.dist-info"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("edgeqtiny/__init__.py", source)
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: edgeqtiny\nVersion: {version}\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/entry_points.txt", "[console_scripts]\ntiny = edgeqtiny:main\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


TINY = Recipe(
    name="tiny",
    purpose="tests",
    requirements=((ANY, ("edgeqtiny>=1,<2",)),),
    distribution="edgeqtiny",
    modules=("edgeqtiny",),
    console="tiny",
    size_bytes=1,
)


def offline(wheels: Path) -> list[str]:
    """Arguments with which pip takes wheels from a folder only."""
    return ["--no-index", "--find-links", str(wheels)]


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """The tiny tool in a real environment; tests that break it copy it first."""
    folder = tmp_path_factory.mktemp("tools")
    write_wheel(folder / "wheels")
    return installing.install_recipe(TINY, folder / "installed", arguments=offline(folder / "wheels"))
