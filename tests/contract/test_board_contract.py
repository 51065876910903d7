"""What every way to a board must do, run over each of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgeq import backends, devices
from edgeq.errors import DeviceBusy, ToolError
from edgeq.lab import boards
from edgeq.lab.boards.conversation import Conversation
from edgeq.testing import firmware
from edgeq.testing.boards import PtyBoard

WAYS = ("serial",)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return firmware.program(firmware.bundle(tmp_path_factory.mktemp("boards")))
    except ToolError as error:
        pytest.skip(error.message)


@pytest.fixture(params=WAYS)
def board(request: pytest.FixtureRequest, program: Path) -> Iterator[boards.Board]:
    """A board of each kind, running the firmware."""
    with ExitStack() as open_boards:
        one = open_boards.enter_context(PtyBoard([program]))
        yield boards.connect(devices.load(one.url))


def test_every_way_is_here() -> None:
    assert set(backends.names("lab.boards")) == set(WAYS)


def test_it_keeps_the_protocol(board: boards.Board) -> None:
    assert isinstance(board, boards.Board)
    assert boards.speaks(board.device)
    with board.opened() as stream:
        assert isinstance(stream, boards.Stream)
        assert stream.name
        assert stream.byte_seconds >= 0


def test_bytes_go_there_and_come_back(board: boards.Board) -> None:
    with board.opened() as stream:
        assert Conversation(stream, seconds=30).hello(20) == "edgeq"


def test_it_can_be_opened_again(board: boards.Board) -> None:
    for _ in range(3):
        with board.opened() as stream:
            assert Conversation(stream, seconds=30).hello(20) == "edgeq"


def test_silence_is_no_bytes_after_the_time(board: boards.Board) -> None:
    with board.opened() as stream:
        while stream.read(0.5):
            pass  # what the firmware said when it began
        begun = time.monotonic()
        assert stream.read(0.3) == b""
        assert 0.25 < time.monotonic() - begun < 10


def test_it_belongs_to_one_at_a_time(board: boards.Board) -> None:
    other = boards.connect(board.device)
    with board.opened(), pytest.raises(DeviceBusy), other.opened():
        pass
    with other.opened():
        pass


def test_reading_is_interrupted(board: boards.Board) -> None:
    with board.opened() as stream:
        threading.Timer(0.2, board.interrupt).start()
        begun = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            while True:
                stream.read(60)
        assert time.monotonic() - begun < 30


def test_facts_are_plain(board: boards.Board) -> None:
    import json

    assert json.loads(json.dumps(board.facts())) == board.facts()


def test_it_may_be_closed_twice(board: boards.Board) -> None:
    board.close()
    board.close()
