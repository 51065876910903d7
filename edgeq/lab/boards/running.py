"""Inferences one after the other on a board, timed by its own ticks; this host watches whether they can be true."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from edgeq.errors import CommandFailed
from edgeq.lab.answers import MAX_SAMPLES, Times
from edgeq.lab.boards.conversation import Conversation
from edgeq.lab.boards.lines import number, numbers
from edgeq.types import Progress, RunSettings

SAMPLE_SECONDS = 0.01
"""Shorter inferences are timed several at once: a line of its own for each would take longer than it."""
SAMPLE_TICKS = 1000
"""So many ticks make a sample's resolution 0.1 %."""
COMMAND_SECONDS = 0.5
MOST_IN_A_COMMAND = 100
_MOST_BATCH = 100_000
_SLOWER = 10.0
"""A board that takes so many times longer than before hangs."""
_GRACE_SECONDS = 5.0
_TOO_MUCH = 1.1
_TOO_LITTLE = 0.25
_JITTER_SECONDS = 0.05
_LEAST_TICKS = 100
_WRAP = 2**32


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How long an inference takes, about: enough to choose how many go into a command."""

    seconds: float
    ticks: int

    def batch(self, settings: RunSettings) -> int:
        """Inferences in a sample: enough for the clock and for the line, few enough to keep all samples."""
        wanted = settings.seconds + 60 * (settings.sustained_minutes or 0.0)
        least = max(
            SAMPLE_SECONDS / self.seconds,
            SAMPLE_TICKS / max(self.ticks, 1),
            wanted / self.seconds / (MAX_SAMPLES - MOST_IN_A_COMMAND),
            settings.runs / (MAX_SAMPLES - MOST_IN_A_COMMAND),
        )
        return max(1, min(math.ceil(least), _MOST_BATCH))


@dataclass(kw_only=True)
class Ran:
    """Samples in ticks; `seconds` is how long this host saw the board at it."""

    batch: int
    ticks: list[int] = field(default_factory=list)
    seconds: float = 0.0
    shares: list[float] = field(default_factory=list)
    """Of each command's time as this host saw it, what the board says it took; empty without a tick rate."""

    def inferences(self) -> int:
        """How many inferences were timed."""
        return self.batch * len(self.ticks)


def pace(seconds: float, ticks: int, ticks_per_second: int) -> Pace:
    """From one inference: its ticks where they are time, else what this host saw of it."""
    told = ticks / ticks_per_second if ticks_per_second and ticks else seconds
    return Pace(seconds=max(min(told, seconds), 1e-7), ticks=ticks)


def run(
    conversation: Conversation, settings: RunSettings, found: Pace, ticks_per_second: int, progress: Progress
) -> Ran:
    """Warm up, then take samples for at least the seconds and runs that were asked for."""
    ran = Ran(batch=found.batch(settings))
    _until(conversation, Ran(batch=ran.batch), found, (settings.warmup_seconds, 0), "warm-up", progress)
    seconds = max(settings.seconds, 60 * (settings.sustained_minutes or 0.0))
    _until(conversation, ran, found, (seconds, settings.runs), "runs", progress, ticks_per_second)
    return ran


def _until(
    conversation: Conversation,
    ran: Ran,
    found: Pace,
    wanted: tuple[float, int],
    step: str,
    progress: Progress,
    ticks_per_second: int = 0,
) -> None:
    """Commands until so many seconds and inferences are there, or as many samples as are kept."""
    seconds, runs = wanted
    each = max(1, min(MOST_IN_A_COMMAND, int(COMMAND_SECONDS / (found.seconds * ran.batch))))
    while (ran.seconds < seconds or ran.inferences() < runs) and len(ran.ticks) + each <= MAX_SAMPLES:
        progress(step, min(int(ran.seconds * 1000), int(seconds * 1000)), int(seconds * 1000) + 1)
        begun = time.monotonic()
        ticks = command(conversation, each, ran.batch, found)
        lasted = time.monotonic() - begun
        ran.ticks += ticks
        ran.seconds += lasted
        if ticks_per_second:
            ran.shares.append(sum(ticks) / ticks_per_second / (lasted + _JITTER_SECONDS))
    progress(step, int(seconds * 1000) + 1, int(seconds * 1000) + 1)


def command(conversation: Conversation, samples: int, batch: int, found: Pace) -> list[int]:
    """Ticks of so many samples of so many inferences; raises CommandFailed for an answer that cannot be."""
    answers = conversation.ask(
        "run",
        samples,
        batch,
        0,
        wants={"run": 1, "ticks": samples, "ran": 1},
        gap_seconds=_SLOWER * found.seconds * batch + _GRACE_SECONDS,
    )
    begun, *told, ran = answers
    pairs = [numbers(answer.fields, 2) for answer in told]
    is_right = (begun.name, begun.fields) == ("run", (str(samples), str(batch), "0"))
    is_right &= ran.name == "ran" and number(ran.fields[0]) == samples
    if not is_right or [pair and pair[0] for pair in pairs] != list(range(samples)):
        raise CommandFailed(f"the firmware at {conversation.name} told of its runs what cannot be")
    return [pair[1] for pair in pairs if pair]


def untrue(ran: Ran, first_seconds: float, ticks_per_second: int) -> str | None:
    """Why the board's ticks are no time, or not the right one; None where they can be."""
    if not ticks_per_second:
        return "the firmware's ticks are no time: its port has no tick rate, as in an emulator"
    if not any(ran.ticks):
        return "the firmware's ticks are too coarse for this model: none passed"
    if max(ran.shares) > _TOO_MUCH:
        return "the firmware's clock is wrong: it told more time than passed here; look at its port's tick rate"
    if first_seconds > 0.9 * _WRAP / ticks_per_second:
        return "an inference takes longer than the firmware's tick counter lasts"
    is_long = sum(ran.ticks) / ran.inferences() >= _LEAST_TICKS
    if is_long and max(ran.shares) < _TOO_LITTLE:
        return "the firmware's clock is wrong: it told far less time than passed here; look at its port's tick rate"
    return None


def times(ran: Ran, reset_ticks: int, first_ticks: int, ticks_per_second: int) -> Times:
    """Ticks as nanoseconds, for the statistics that every device's samples get."""
    rate = 1e9 / ticks_per_second
    return Times(
        load_ns=round(reset_ticks * rate),
        first_ns=round(first_ticks * rate),
        samples_ns=tuple(max(1, round(ticks * rate / ran.batch)) for ticks in ran.ticks),
        batch=ran.batch,
        inferences=ran.inferences(),
        stride=1,
    )
