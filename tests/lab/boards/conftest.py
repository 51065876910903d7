"""A firmware built once by this host's compiler, and boards that run it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import ToolError
from edgeq.testing import firmware
from edgeq.testing.boards import PtyBoard
from edgeq.types import Bundle


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A bundle, its line protocol built for this host."""
    found = firmware.bundle(tmp_path_factory.mktemp("firmware"))
    try:
        firmware.program(found)
    except ToolError as error:
        pytest.skip(error.message)
    return found


@pytest.fixture
def program(built: Bundle) -> Path:
    """The firmware."""
    return Path(built.path) / "build" / "protocol"


@pytest.fixture
def board(program: Path) -> Iterator[Callable[..., PtyBoard]]:
    """Starts boards, which end with the test: the firmware's, or with another program."""
    with ExitStack() as open_boards:

        def start(argv: Any = None, **spoils: Any) -> PtyBoard:
            return open_boards.enter_context(PtyBoard([program] if argv is None else argv, **spoils))

        yield start
