"""Questions and answers with a firmware over a stream, whatever noise lies between.

Every answer carries the tag of its question and a sum: what is late, damaged or of somebody else is not taken. A
question that was lost is asked again; a board that starts again, faults or falls silent ends the conversation.
"""

from __future__ import annotations

import itertools
import secrets
import time
import zlib
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from edgeq.errors import CommandFailed, Disconnected, TimedOut
from edgeq.lab.boards import Stream
from edgeq.lab.boards.lines import Kind, Line, Lines, number, parse
from edgeq.lab.faults import clean

TRIES = 4
ANSWER_SECONDS = 1.5
"""How long a firmware that does not infer may think, beyond what its bytes take."""
_CALLS = 2
_AFTER_SECONDS = 0.4
"""How long the rest of an answer is waited for once the firmware says that it is done."""
_QUIET_SECONDS = 0.1
_FLOOD_BYTES = 1 << 20
_PIECE_BYTES = 76
"""Of an input in one command: the firmware takes 160 characters."""
_MOST_TAG = 0xFFFFFF
_RESET = "reset the board, then measure again"
_NOISE = "check the cable, its ground and the baud rate"
_TEXT = bytes([*range(0x20, 0x7F), *b"\t\r\n"])


class Answer(NamedTuple):
    """A line of our own, its tag taken off."""

    name: str
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """What came before anything was understood."""

    size_bytes: int
    printable_share: float
    last: str


@dataclass(kw_only=True)
class _Attempt:
    """What one try at a question has brought so far."""

    tag: int
    wants: Mapping[str, int]
    until: float
    gap_seconds: float
    found: list[Answer]
    trouble: str = ""

    def is_whole(self) -> bool:
        return Counter(answer.name for answer in self.found) == Counter(self.wants)


class Conversation:
    """One firmware, asked one question at a time; `seconds` is how long all of it may take."""

    def __init__(self, stream: Stream, *, seconds: float) -> None:
        self._stream = stream
        self._end = time.monotonic() + seconds
        self._seconds = seconds
        self._lines = Lines()
        self._waiting: deque[Line] = deque()
        self._tags = itertools.count(secrets.randbelow(_MOST_TAG // 2))
        self._bytes = 0
        self._bytes_since = 0
        self._printable = 0
        self._last = ""

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._stream.name

    # --- what is asked ---------------------------------------------------------------------------

    def hello(self, seconds: float) -> str | None:
        """The firmware's name; None when it does not tell it in that time. It may be starting meanwhile."""
        until = min(time.monotonic() + seconds, self._end)
        while time.monotonic() < until:
            self._send("%name")  # the first sign ends what somebody else has begun to say
            line = self._wait_for(Kind.NAME, min(until, time.monotonic() + ANSWER_SECONDS / 2))
            if line is not None:
                self._settle()
                return line.text
        return None

    def heard(self) -> Heard:
        """What has come so far."""
        share = self._printable / self._bytes if self._bytes else 1.0
        return Heard(size_bytes=self._bytes, printable_share=share, last=clean(self._last, 60))

    def ask(
        self,
        question: str,
        *arguments: int,
        wants: Mapping[str, int],
        gap_seconds: float = 0.0,
        answer_bytes: int = 0,
    ) -> list[Answer]:
        """The answers to a question: so many of each name, in the order in which they came.

        The first has to come at once, the others within `gap_seconds` of one another. Raises TimedOut, Disconnected,
        CommandFailed.
        """
        trouble = ""
        for _ in range(TRIES):
            tag = next(self._tags)
            command = " ".join(map(str, (f"eq-{question}", tag, *arguments)))
            attempt = self._try(command, tag, wants, gap_seconds, answer_bytes)
            if attempt.is_whole():
                return attempt.found
            trouble = attempt.trouble
            if not self._synchronize():
                begun = f" within {gap_seconds:.3g} s: it hangs" if attempt.found and gap_seconds else ""
                raise TimedOut(f"the firmware at {self.name} does not answer {question!r}{begun}", hint=_RESET)
        told = trouble or "answers are missing"
        raise CommandFailed(f"the firmware at {self.name} cannot be understood: {told}", hint=_NOISE)

    def load(self, content: bytes) -> None:
        """Give the firmware an input, and make sure that it has every byte of it."""
        for _ in range(TRIES):
            if self._try_load(content):
                return
            if not self._synchronize():
                raise TimedOut(f"the firmware at {self.name} fell silent while it was given an input", hint=_RESET)
        raise CommandFailed(f"inputs do not reach {self.name} undamaged", hint=_NOISE)

    def _try_load(self, content: bytes) -> bool:
        digits = content.hex()
        pieces = (digits[at : at + 2 * _PIECE_BYTES] for at in range(0, len(digits), 2 * _PIECE_BYTES))
        if not all(self._obeyed(f"db {piece}") for piece in (f"load {len(content)}", *pieces)):
            return False
        answer = self.ask("input", wants={"input": 1})[0]
        return answer.fields == (str(len(content)), str(zlib.crc32(content)))

    def _obeyed(self, command: str) -> bool:
        """Whether a command that has no tag was taken."""
        self._send(command)
        until = time.monotonic() + self._patience(len(command) + 40)
        while (line := self._next(until)) is not None:
            if line.kind in (Kind.READY, Kind.ERROR):
                return line.kind is Kind.READY
        return False

    # --- how ---------------------------------------------------------------------------------------

    def _try(self, command: str, tag: int, wants: Mapping[str, int], gap_seconds: float, answer_bytes: int) -> _Attempt:
        patience = self._patience(len(command) + answer_bytes + 40 * (len(wants) + 1))
        self._send(command)
        attempt = _Attempt(
            tag=tag, wants=wants, until=time.monotonic() + patience, gap_seconds=gap_seconds + patience, found=[]
        )
        while (line := self._next(attempt.until)) is not None:
            self._take(line, attempt)
            if line.kind is Kind.READY and attempt.is_whole():
                break
        return attempt

    def _take(self, line: Line, attempt: _Attempt) -> None:
        now = time.monotonic()
        if line.kind is Kind.OWN and number(line.fields[0]) == attempt.tag:
            attempt.found.append(Answer(line.name, line.fields[1:]))
            self._check_count(attempt)
            attempt.until = now + (_AFTER_SECONDS if attempt.is_whole() else attempt.gap_seconds)
        elif line.kind is Kind.DAMAGED:
            attempt.trouble = "lines arrive damaged"
        elif line.kind is Kind.ERROR:
            attempt.trouble = f"it says {clean(line.text, 80)!r}"
            attempt.until = now + _AFTER_SECONDS
        elif line.kind is Kind.READY:
            attempt.until = min(attempt.until, now + _AFTER_SECONDS)

    def _check_count(self, attempt: _Attempt) -> None:
        """A line more than was asked for is no noise: its tag and sum are right."""
        name = attempt.found[-1].name
        if sum(answer.name == name for answer in attempt.found) > attempt.wants.get(name, 0):
            raise CommandFailed(f"the firmware at {self.name} answers what it was not asked: {name}")

    def _synchronize(self) -> bool:
        """End whatever command is under way and listen until the firmware is ready; False when it never is."""
        for _ in range(_CALLS):
            self._lines.clear()
            self._send("")
            if self._wait_for(Kind.READY, time.monotonic() + self._patience(40)) is not None:
                self._settle()
                return True
        return False

    def _settle(self) -> None:
        """Pass over answers to earlier questions, for as long as they keep coming."""
        until = time.monotonic() + ANSWER_SECONDS
        quiet = _QUIET_SECONDS + 40 * self._stream.byte_seconds
        while time.monotonic() < until and self._next(min(until, time.monotonic() + quiet)) is not None:
            pass

    def _wait_for(self, kind: Kind, until: float) -> Line | None:
        while (line := self._next(until, is_starting=kind is Kind.NAME)) is not None:
            if line.kind is kind:
                return line
        return None

    def _patience(self, size_bytes: int) -> float:
        return ANSWER_SECONDS + 2 * size_bytes * self._stream.byte_seconds

    def _send(self, command: str) -> None:
        self._check_end()
        self._bytes_since = 0
        self._stream.write(f"{command}%".encode("ascii"))

    def _next(self, until: float, *, is_starting: bool = False) -> Line | None:
        """The next line by then, or None; raises what ends a conversation."""
        while not self._waiting:
            wait = until - time.monotonic()
            if wait <= 0:
                return None
            self._check_end()
            self._receive(self._stream.read(min(wait, ANSWER_SECONDS)))
        line = self._waiting.popleft()
        if line.kind is Kind.BOOT and not is_starting:
            raise Disconnected(
                f"the board at {self.name} started again in the middle",
                hint="look for a watchdog, a weak supply or a fault; then measure again",
            )
        if line.kind is Kind.FAULT:
            raise CommandFailed(f"the firmware at {self.name} faulted: {clean(line.text, 80)}")
        return line

    def _receive(self, data: bytes) -> None:
        self._bytes += len(data)
        self._bytes_since += len(data)
        if self._bytes_since > _FLOOD_BYTES:
            raise CommandFailed(f"the board at {self.name} does not stop talking")
        self._printable += len(data) - len(data.translate(None, _TEXT))
        for line in map(parse, self._lines.feed(data)):
            self._last = line.text or self._last
            self._waiting.append(line)

    def _check_end(self) -> None:
        if time.monotonic() > self._end:
            raise TimedOut(
                f"{self.name} was not done within {self._seconds:.3g} s", hint="more time: --timeout-seconds 3600"
            )
