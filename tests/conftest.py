"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real models beside the checkout; skips where it is absent."""
    folder = Path(os.environ.get("EDGEQ_SHARED", ROOT.parent / "shared")) / "models"
    if not folder.is_dir():
        pytest.skip(f"{folder} is absent: the real models are not part of the project")
    return folder


@pytest.fixture(scope="session")
def examples() -> Path:
    """The project's own examples."""
    return ROOT / "examples"
