"""A board that says anything, with the right tag and sum: every question ends soon, in an answer or in one line."""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq.errors import EdgeqError
from edgeq.lab.boards import Stream, firmware, measuring, running, vectors
from edgeq.lab.boards.conversation import Conversation
from edgeq.types import Bundle, silent

SECONDS = 0.3
NAMES = st.sampled_from(
    ["about", "firmware", "model", "core", "compiler", "input", "began", "infer", "run", "ticks", "ran", "output",
     "memory", "x"]
)  # fmt: skip
FIELD = (
    st.integers(0, 2**33).map(str)
    | st.sampled_from(["", "nan", "-1", "0", "1", "1e99", "00", "ff" * 20, "a" * 64, "]", "[", "#", " "])
    | st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), max_size=20)
)
OWN = st.tuples(NAMES, st.lists(FIELD, max_size=7))
PLAIN = st.sampled_from(
    [b"m-ready", b"m-name-dut-[edgeq]", b"m-name-dut-[]", b"e-[unknown command]", b"m-load-done", b"m-eq-", b"\xff" * 9]
) | st.binary(max_size=60)
SCRIPT = st.lists(OWN | PLAIN, max_size=12)


class Scripted:
    """Answers each command with the next part of a script, its own tag put in."""

    name = "scripted"
    byte_seconds = 0.0

    def __init__(self, script: list[list[Any]]) -> None:
        self._script = iter(script)
        self._said = b""

    def write(self, data: bytes) -> None:
        """A command, and what it brings."""
        words = data.decode().rstrip("%").split(" ")
        tag = words[1] if words[0].startswith("eq-") and len(words) > 1 else "0"
        for line in next(self._script, ()):
            self._said += (line if isinstance(line, bytes) else own(*line, tag=tag)) + b"\r\n"

    def read(self, wait_seconds: float) -> bytes:
        """What was said; nothing more comes, so nobody has to wait long for it."""
        said, self._said = self._said, b""
        if not said:
            time.sleep(min(wait_seconds, 0.05))
        return said


def own(name: str, fields: list[str], *, tag: str) -> bytes:
    text = f"m-eq-{name}-[{','.join([tag, *fields])}]".encode()
    return text + b"#%08x" % zlib.crc32(text)


def ask_all(talk: Conversation, bundle: Bundle, asked: str) -> object:
    """One of the questions that a measurement asks."""
    pace = running.Pace(seconds=0.01, ticks=100)
    wanted = firmware.expected(bundle)
    told = firmware.Told(firmware="", model="", core="", compiler="", input_bytes=1, output_bytes=1, arena_bytes=10,
                         ticks_per_second=0)  # fmt: skip
    questions: dict[str, Callable[[], object]] = {
        "greet": lambda: firmware.greet(talk, ""),
        "about": lambda: firmware.about(talk, ""),
        "infer": lambda: vectors.infer(talk, b"\x01\x02", 7),
        "compare": lambda: vectors.compare(talk, bundle, wanted, silent),
        "run": lambda: running.command(talk, 3, 2, pace),
        "memory": lambda: measuring._marks(talk, told),
    }
    return questions[asked]()


@pytest.mark.parametrize("asked", ["greet", "about", "infer", "compare", "run", "memory"])
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(SCRIPT, max_size=8))
def test_every_question_ends(built: Bundle, asked: str, script: list[list[Any]]) -> None:
    stream = Scripted(script)
    assert isinstance(stream, Stream)
    begun = time.monotonic()
    try:
        ask_all(Conversation(stream, seconds=SECONDS), built, asked)
    except EdgeqError as error:
        assert "\n" not in error.message
        assert error.message.isprintable()
    assert time.monotonic() - begun < 100 * SECONDS


def test_a_board_that_echoes(built: Bundle) -> None:
    """What is said to it comes back: a loop at the plug, or a shell that waits."""

    class Echo(Scripted):
        def write(self, data: bytes) -> None:
            self._said += data + b"\r\n"

    with pytest.raises(EdgeqError) as caught:
        firmware.greet(Conversation(Echo([]), seconds=SECONDS), "")
    assert "%name%" in caught.value.message
