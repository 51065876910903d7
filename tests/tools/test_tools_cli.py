"""edgeq tools, as a user and as a script see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.testing.tools import install_stand_in

Edgeq = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEQ_TOOLS", str(tmp_path / "tools"))
    return tmp_path / "tools"


def test_the_list_says_what_is_found_and_what_for(edgeq: Edgeq, folder: Path) -> None:
    install_stand_in(folder, "vela", "def main(): return 0", "5.2.0")
    ran = edgeq("tools", "--json")
    assert ran.code == 0
    rows = {row["name"]: row for row in ran.document["tools"]}
    assert set(rows) == {"vela", "onnx2tf", "qnn", "tflm"}
    assert (rows["vela"]["found"], rows["vela"]["version"]) == (True, "5.2.0")
    assert rows["vela"]["path"].startswith(str(folder))
    assert (rows["qnn"]["found"], rows["qnn"]["why"]) == (False, "qnn is not installed")
    text = edgeq("tools").out
    assert "Ethos-U" in text
    assert "5.2.0" in text


def test_what_is_installed_is_not_installed_again(edgeq: Edgeq, folder: Path) -> None:
    install_stand_in(folder, "vela", "def main(): return 0", "5.2.0")
    ran = edgeq("tools", "install", "vela", "--json", "-q")
    assert ran.code == 0
    assert ran.document["tool"]["version"] == "5.2.0"


@pytest.mark.parametrize("verb", ["install", "remove"])
def test_a_name_that_is_no_tool(edgeq: Edgeq, folder: Path, verb: str) -> None:
    ran = edgeq("tools", verb, "../vela")
    assert ran.code == 1
    assert ran.error == "error: no tool is called '../vela'"
    assert not folder.exists()


@pytest.mark.slow
def test_an_install_without_the_package_is_one_line(
    edgeq: Edgeq, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    (tmp_path / "pip.conf").write_text("[install]\nno-index = true\n")
    ran = edgeq("tools", "install", "vela", "-q")
    assert ran.code == 1
    assert ran.error.startswith("error: vela cannot be installed: No matching distribution found for ethos-u-vela")
    assert edgeq("tools", "--json").document["tools"][0]["found"] is False


def test_removing(edgeq: Edgeq, folder: Path) -> None:
    install_stand_in(folder, "vela", "def main(): return 0")
    assert edgeq("tools", "remove", "vela", "--json").document["removed"] is True
    assert edgeq("tools", "remove", "vela", "--json").document["removed"] is False
    assert not (folder / "vela").exists()


def test_doctor_speaks_only_of_tools_that_were_installed(edgeq: Edgeq, folder: Path) -> None:
    def told() -> dict[str, Any]:
        checks = edgeq("doctor", "--json").document["checks"]
        return {check["subject"]: check for check in checks if check["subject"] in ("vela", "onnx2tf", "qnn", "tflm")}

    assert told() == {}
    environment = install_stand_in(folder, "vela", "def main(): return 0", "5.2.0")
    assert {name: check["ok"] for name, check in told().items()} == {"vela": True}
    (environment / "bin" / "python").unlink()
    assert told()["vela"]["ok"] is False
    assert told()["vela"]["hint"] == "edgeq tools install vela"
