"""The kernels, compiled once."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator

import pytest

from edgeq.testing import kernel_cases, kernels


@pytest.fixture(scope="session")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, ctypes.CDLL]]:
    """Every compile-time path of the kernels."""
    folder = tmp_path_factory.mktemp("kernels")
    extra = kernels.SANITIZERS if os.environ.get("EDGEQ_KERNELS_SANITIZED") else ()
    yield {name: kernels.load(kernels.compile_library(folder, name, extra)) for name in kernels.VARIANTS}
    print("bytes compared:", kernel_cases.COMPARED)  # noqa: T201 a figure for those who run with -s


@pytest.fixture
def library(libraries: dict[str, ctypes.CDLL]) -> ctypes.CDLL:
    """The portable path."""
    return libraries["portable"]
