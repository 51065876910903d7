"""Calls the onboard runner over a transport and reads its events. What comes back is not trusted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from edgeq import documents
from edgeq.errors import CommandFailed
from edgeq.lab import faults
from edgeq.lab.faults import clean
from edgeq.lab.transports import Completed, Transport
from edgeq.types import Device, Progress, silent

T = TypeVar("T")
FOLDER = Path(__file__).parent / "onboard"
ANSWER_LIMIT_BYTES = 4 << 20
GRACE_SECONDS = 30.0
"""How much longer than the runner's own limit the transport waits for it."""
_PROGRESS_LIMIT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where the device's kernel trees are; another place only for emulated devices and tests."""

    sysfs: str = "/sys"
    proc: str = "/proc"
    vcgencmd: str = "vcgencmd"

    def argv(self) -> list[str]:
        """The runner's options for what is not in its usual place."""
        given = {"--sysfs": self.sysfs, "--proc": self.proc, "--vcgencmd": self.vcgencmd}
        return [word for option, path in given.items() if path != _USUAL[option] for word in (option, path)]


_USUAL = {"--sysfs": "/sys", "--proc": "/proc", "--vcgencmd": "vcgencmd"}
USUAL_ROOTS = Roots()


def files() -> list[Path]:
    """The runner's own files, which a bundle carries as `runner/…`."""
    return sorted(FOLDER.glob("*.py"))


def deployed(transport: Transport, folder: str) -> list[str]:
    """The argv that starts the runner of a deployed bundle."""
    return [transport.device.python, "-I", f"{folder}/runner/__main__.py"]


def call(
    transport: Transport,
    argv: Sequence[str],
    answer: type[T],
    *,
    timeout_seconds: float,
    stdin: bytes = b"",
    progress: Progress = silent,
) -> T:
    """Run one verb to its end; raises what `faults` makes of a failure, CommandFailed for a wrong answer."""
    completed = transport.run(
        argv,
        timeout_seconds=timeout_seconds,
        stdin=stdin,
        output_limit_bytes=ANSWER_LIMIT_BYTES,
        on_line=lambda line: show(line, progress),
    )
    return read(transport.device, completed, answer)


def read(device: Device, completed: Completed, answer: type[T]) -> T:
    """The result of a verb that has ended; raises as `call` does."""
    last = last_event(completed)
    if completed.exit_status != 0 or last.get("event") != "result":
        raise faults.error(device, completed, last)
    return documents.decode(answer, last, where=f"the runner on {device.name}", error=CommandFailed)


def show(line: str, progress: Progress) -> None:
    """Pass a progress line on; everything else is ignored here."""
    if len(line) > _PROGRESS_LIMIT or '"progress"' not in line:
        return
    event = parse(line)
    step, done, total = event.get("step"), event.get("done"), event.get("total")
    if isinstance(step, str) and type(done) is int and type(total) is int and 0 <= done <= total < 2**53:
        progress(clean(step, 60), done, total)


def last_event(completed: Completed) -> dict[str, object]:
    """The last line of the answer as JSON; empty when it is none."""
    lines = completed.stdout.strip().rsplit(b"\n", 1)
    return parse(lines[-1].decode("utf-8", "replace"))


def parse(line: str) -> dict[str, object]:
    """A JSON object of one line; empty for anything else."""
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return event if isinstance(event, dict) else {}
