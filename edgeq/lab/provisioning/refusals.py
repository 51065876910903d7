"""Runtimes that died on a kind of processor, remembered on this host so that they are not tried there again."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from edgeq import store
from edgeq.errors import OutputError
from edgeq.lab.answers import Machine

DEADLY = ("killed by SIGILL", "it computes ")
"""What no retry mends; a missing library, a full memory or a file system without execution may be mended."""


def path() -> Path:
    """The file: {processor: {distribution: {version: why}}}."""
    return store.state_folder() / "refused-runtimes.json"


def processor(device: Machine) -> str:
    """A processor by what decides which instructions it has."""
    features = hashlib.sha256(" ".join(device.cpu.features).encode()).hexdigest()[:12]
    return f"{device.machine} {device.cpu.model or 'unknown'} {features}"


def of(device: Machine, distribution: str) -> dict[str, str]:
    """{version: why} of what died there."""
    found = _read().get(processor(device), {}).get(distribution, {})
    return {str(version): str(why) for version, why in found.items()}


def remember(device: Machine, distribution: str, version: str, why: str) -> None:
    """Add one; what cannot be written is tried again another time."""
    known = _read()
    known.setdefault(processor(device), {}).setdefault(distribution, {})[version] = why
    try:
        with store.replacing(path()) as temporary:
            temporary.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n")
    except OutputError:
        return


def _read() -> dict[str, dict[str, dict[str, str]]]:
    try:
        found = json.loads(path().read_text())
    except (OSError, ValueError):
        return {}
    whole = isinstance(found, dict) and all(
        isinstance(one, dict) and all(isinstance(versions, dict) for versions in one.values()) for one in found.values()
    )
    return found if whole else {}
