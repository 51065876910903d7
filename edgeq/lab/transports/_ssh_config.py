"""~/.ssh/config as text for paramiko, which knows no Include and gives the words of `Match exec` to a shell."""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

MOST_FILES = 200
DEEPEST = 16
_WORDS = re.compile(r"\s*(\w+)(?:\s*=\s*|\s+)(.*)")
_NEVER = "Host !*"


def file() -> Path:
    """The user's SSH configuration."""
    return Path("~/.ssh/config").expanduser()


def lines(path: Path, block: str = "Host *", above: tuple[Path, ...] = (), read: list[Path] | None = None) -> list[str]:
    """The lines of a file with what it includes in place, `block` being the Host or Match line that holds there.

    A `Match exec` block never holds: edgeq starts no shell. The Host blocks of a file that is included inside a
    block hold whether or not that block does. Raises OSError, ValueError (too many files, unbalanced quotes).
    """
    read = [] if read is None else read
    read.append(path)
    if len(read) > MOST_FILES or len(above) > DEEPEST:
        raise ValueError("its files include one another without end")
    with path.open(encoding="utf-8", errors="replace") as stream:
        text = stream.read()
    found: list[str] = []
    for line in text.splitlines():
        key, rest = _words(line)
        if key in ("host", "match"):
            block = _NEVER if key == "match" and re.search(r"\bexec\b", rest, re.IGNORECASE) else line
        for name in _included(rest) if key == "include" else ():
            found += lines(name, block, (*above, path), read)
        found.append(block if key in ("host", "match", "include") else line)
    return found


def _words(line: str) -> tuple[str, str]:
    match = _WORDS.match(line)
    return (match[1].lower(), match[2]) if match else ("", "")


def _included(rest: str) -> Iterator[Path]:
    """Files that an Include names: patterns, from ~/.ssh on; none is fine."""
    for word in shlex.split(rest, comments=True):
        pattern = file().parent / Path(word).expanduser()
        names = sorted(glob.glob(str(pattern)))  # noqa: PTH207 Path.glob would walk the disk for `**`
        yield from (path for path in map(Path, names) if path.is_file())
