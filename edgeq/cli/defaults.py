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
    for key in data:
        name = str(key).replace("-", "_")
        try:
            wanted[name] = _default(wanted[name], many=_flags(group)[name])
        except ValueError as error:
            raise UsageError(f"{key} takes {error}", where=f"{path}:{lines[(key,)]}") from error
    return dict.fromkeys(group.commands, wanted)


def _default(value: Any, *, many: bool) -> Any:
    """What click takes as a flag's default; raises ValueError, which says what is wanted."""
    if many and isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return value
    if isinstance(value, bool | list | dict):
        raise ValueError("one text or a list of them" if many else "one number or text")
    return [value] if many else value


def _flags(group: click.Group) -> dict[str, bool]:
    """The options that the environment can set too, those that mean the same everywhere: may they be given twice?"""
    return {
        str(option.name): option.multiple
        for command in group.commands.values()
        for option in command.params
        if isinstance(option, click.Option) and option.envvar
    }
