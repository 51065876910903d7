"""The fault table: a part of its rows played for real, and its document in step with it (`make faults` plays all)."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq import errors
from edgeq.cli.exits import code_of
from edgeq.errors import ToolError
from edgeq.testing import sshd as servers

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests/faults/table.py"
PAGE = ROOT / "docs/faults.md"
LINE = re.compile(r"\| (?P<fault>[^|]+) \| (?P<steps>[^|]+) \| (?P<error>[^|()]*)\((?P<code>-?\d+)\) \|")


def table(*words: object) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False, env=dict(os.environ))


def expected() -> list[re.Match[str]]:
    found = [LINE.fullmatch(line) for line in table("--list").stdout.splitlines()[2:]]
    assert all(found)
    return [one for one in found if one]


def test_the_page_has_the_table() -> None:
    """After a change: python tests/faults/table.py --list, into docs/faults.md."""
    assert table("--list").stdout in PAGE.read_text()


def test_there_are_enough_rows_and_each_has_an_error_of_the_tree() -> None:
    rows = expected()
    assert sum(row["steps"].count(",") + 1 for row in rows) >= 30
    for row in rows:
        for name in filter(None, row["error"].strip().split(" or ")):
            assert code_of(getattr(errors, name)("x")) == int(row["code"]), row[0]
        if not row["error"].strip():
            assert int(row["code"]) in (0, -9, 130)


@pytest.mark.slow
def test_a_part_of_the_rows_holds(tmp_path: Path) -> None:
    try:
        servers.program()
    except ToolError as error:
        pytest.skip(f"{error.message} ({error.hint})")
    done = table("--quick", "--jobs", 4, "-o", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = json.loads((tmp_path / "faults.json").read_text())["rows"]
    assert len(rows) >= 8
    for row in rows:
        assert row["holds"], row
        assert [row[key] for key in ("lost", "doubled", "orphans", "leases", "again")] == [0, 0, 0, 0, "0"], row
    text = (tmp_path / "faults.md").read_text()
    assert f"{len(rows)} of {len(rows)} rows hold." in text
    assert text.count("\n| ") == len(rows)


def test_a_row_that_does_not_hold_is_told(tmp_path: Path) -> None:
    """The script is asked to believe something false: an sshd whose device has no Python must give a result."""
    program = (
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r}); sys.argv = ['table.py', '-o', {str(tmp_path)!r}]\n"
        "import rows, table\n"
        "def play(scene):\n"
        "    scene.register(python='/nonexistent/python3')\n"
        "    yield scene.run()\n"
        "table.rows = lambda: [rows.Row('no Python', 'connect', '', 0, play)]\n"
        "sys.exit(table.main())\n"
    )
    try:
        servers.program()
    except ToolError as error:
        pytest.skip(f"{error.message} ({error.hint})")
    environment = {**os.environ, "EDGEQ_FAULTS_INSIDE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=False, env=environment
    )
    assert done.returncode == 1, done.stdout + done.stderr
    (row,) = json.loads((tmp_path / "faults.json").read_text())["rows"]
    assert not row["holds"]
    assert "RuntimeMissing (1)" in row["problems"][0]
    assert row["again"] != "0"
    assert "| **no** |" in (tmp_path / "faults.md").read_text()
