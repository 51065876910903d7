"""Stand-ins for external tools: a real environment with a package that does what a test says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edgeq import tools
from edgeq.errors import ToolError


def install_stand_in(folder: Path, name: str, source: str, version: str = "9.9") -> Path:
    """Make an environment below `folder` (for EDGEQ_TOOLS) that `tools.find(name)` finds; its folder.

    `source` is a module with a function `main()`, which the tool's console script starts. Raises ToolError.
    """
    recipe = tools.recipe(name)
    environment = folder / name / "env-stand-in"
    done = subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(environment)], check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise ToolError(f"no environment can be made here: {tools.last_line(done.stderr)}")
    packages = next(environment.glob("lib/python*/site-packages"))
    for module in recipe.modules:
        path = packages.joinpath(*module.split("."))
        path.mkdir(parents=True)
        (path / "__init__.py").write_text(source)
    info = packages / f"{recipe.distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {recipe.distribution}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[console_scripts]\n{recipe.console} = {recipe.modules[0]}:main\n")
    record = {"name": name, "version": version, "environment": environment.name, "python": "3", "packages": []}
    (folder / name / "tool.json").write_text(json.dumps({**record, "date": "2026-11-21", "schema_version": 1}))
    return environment
