"""Is this host ready, and what mends it?"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from edgeq.types import Check

SUPPORTED = ((3, 10), (3, 13))
MINIMUM_FREE_BYTES = 1 << 30
PACKAGES = (  # distribution, module, needed for
    ("ai-edge-litert", "ai_edge_litert", "running TFLite models"),
    ("litert-quantizer", "litert_quantizer", "writing INT8 TFLite"),
    ("onnx", "onnx", "reading ONNX models"),
    ("onnxruntime", "onnxruntime", "running and writing INT8 ONNX"),
    ("paramiko", "paramiko", "devices over SSH"),
    ("pillow", "PIL", "pictures in datasets"),
)


def doctor() -> tuple[Check, ...]:
    """Checks of this host; `rule` is `needed` or `optional`, `hint` the command that mends it."""
    return (_python(), *_packages(), _tensorflow(), _keys(), _disk(), _devices(), *_tools())


def _python() -> Check:
    low, high = SUPPORTED
    return Check(
        rule="needed",
        subject="Python",
        ok=low <= sys.version_info[:2] <= high,
        needed="3.10 to 3.13",
        available=".".join(map(str, sys.version_info[:3])),
    )


def _packages() -> Iterator[Check]:
    for distribution, module, purpose in PACKAGES:
        found = _version(distribution, module)
        hint = None if found else f"{sys.executable} -m pip install {distribution}"
        yield Check(rule="needed", subject=distribution, ok=found is not None, available=found, why=purpose, hint=hint)


def _version(distribution: str, module: str) -> str | None:
    try:
        return version(distribution) if find_spec(module) else None
    except PackageNotFoundError:
        return None


def _tensorflow() -> Check:
    found = _version("tensorflow", "tensorflow")
    return Check(
        rule="optional",
        subject="tensorflow",
        ok=found is not None,
        available=found,
        why="importing .keras, .h5 and SavedModel",
        hint=None if found else f"{sys.executable} -m pip install 'edgeq[tensorflow]'",
    )


def _keys() -> Check:
    folder = Path.home() / ".ssh"
    keys = sorted(path.stem for path in folder.glob("id_*.pub")) if folder.is_dir() else []
    agent = bool(os.environ.get("SSH_AUTH_SOCK"))
    return Check(
        rule="optional",
        subject="SSH keys",
        ok=bool(keys) or agent,
        available=", ".join([*keys, *(["agent"] if agent else [])]) or None,
        why="logging in to devices without a password",
        hint=None if keys or agent else "ssh-keygen -t ed25519",
    )


def _disk() -> Check:
    free = shutil.disk_usage(Path.cwd()).free
    return Check(
        rule="needed",
        subject="free disk here",
        ok=free >= MINIMUM_FREE_BYTES,
        needed=MINIMUM_FREE_BYTES,
        available=free,
        unit="bytes",
        why="stage files and bundles",
    )


def _devices() -> Check:
    from edgeq import devices
    from edgeq.errors import EdgeqError

    try:
        known = devices.load_all()
    except EdgeqError as error:
        why = f"{error.message} ({error.where})" if error.where else error.message
        return Check(rule="needed", subject="devices.yaml", ok=False, why=why, hint=error.hint)
    return Check(rule="needed", subject="devices.yaml", ok=True, available=f"{len(known)} devices")


def _tools() -> Iterator[Check]:
    """External compilers that were installed here; the others are spoken of when a target needs them."""
    from edgeq import tools

    for status in tools.statuses():
        if not (tools.folder() / status.recipe.name).is_dir():
            continue
        yield Check(
            rule="optional",
            subject=status.recipe.name,
            ok=status.tool is not None,
            available=status.tool.version if status.tool else None,
            why=status.why or status.recipe.purpose,
            hint=None if status.tool else f"edgeq tools install {status.recipe.name}",
        )
