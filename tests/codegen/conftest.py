"""What the tests of generated C need of this host."""

from __future__ import annotations

import shutil

import pytest


@pytest.fixture(scope="session", autouse=True)
def compiler() -> None:
    """Generated C is compiled by the host's gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed on this host: the generated C cannot be compiled")
