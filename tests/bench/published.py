"""Figures of peers.md beside the checkout: read, never measured here."""

from __future__ import annotations

import re
from pathlib import Path

from measuring import SHARED

PEERS_MD = SHARED.parent / "design" / "peers.md"
_NUMBER = r"-?\d+(?:\.\d+)?"


def figures(path: Path = PEERS_MD) -> dict[tuple[str, str], dict[str, float]]:
    """By case and tool: `score`, `plain` (graph optimisation off) and `sqnr_db`; empty without the file."""
    if not path.is_file():
        return {}
    found: dict[tuple[str, str], dict[str, float]] = {}
    for title, body in re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", path.read_text(), re.S | re.M):
        kind = "score" if title.startswith("The metric") else "sqnr_db" if title.startswith("SQNR") else ""
        for case, tool, cell in _cells(body) if kind else ():
            numbers = re.findall(_NUMBER, cell.replace("\N{MINUS SIGN}", "-"))
            if numbers:
                row = found.setdefault((case, tool), {})
                row.update(zip((kind, "plain"), map(float, numbers), strict=False))
    return found


def _cells(body: str) -> list[tuple[str, str, str]]:
    lines = [[cell.strip() for cell in line.strip("| ").split(" |")] for line in body.splitlines() if line[:1] == "|"]
    if len(lines) < 3:
        return []
    head = lines[0]
    return [
        (line[0].split()[0], tool, cell)
        for line in lines[2:]
        for tool, cell in zip(head[1:], line[1:], strict=False)
        if line[0]
    ]
