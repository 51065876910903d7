"""The project's file: `edgeq.yaml` sets defaults of flags, by their long names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edgeq.errors import UsageError


def load(path: Path, group: click.Group) -> dict[str, Any]:
    """Defaults for every command that has a flag of that name; raises UsageError for a name that no flag has.

    The file is a mapping such as `target: raspberry-pi-4` and `max-drop: 0.01`.
    """
    from edgeq import documents

    data, lines = documents.read_yaml(path, error=UsageError)
    wanted = {str(key).replace("-", "_"): value for key, value in data.items()}
    for key in data:
        if str(key).replace("-", "_") not in _flags(group):
            known = ", ".join(sorted(name.replace("_", "-") for name in _flags(group)))
            raise UsageError(f"no flag is called {key!r}", where=f"{path}:{lines[(key,)]}", hint=f"flags: {known}")
    for key, value in data.items():
        if isinstance(value, bool | list | dict):
            raise UsageError(f"{key} takes one number or text", where=f"{path}:{lines[(key,)]}")
    return dict.fromkeys(group.commands, wanted)


def _flags(group: click.Group) -> set[str]:
    """Names of the options that the environment can set too: those that mean the same everywhere."""
    return {
        str(option.name)
        for command in group.commands.values()
        for option in command.params
        if isinstance(option, click.Option) and option.envvar
    }
