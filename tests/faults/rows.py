"""The faults, the step at which each strikes, what must come of it.

A Row's `error` is the class that must be told (several with `|`, where both ends race), "" where the command must
succeed all the same, and `says` is looked for in the message or, without an error, in what was said.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import acts
from scene import Ended, Scene

Play = Callable[[Scene], Iterator[Ended]]
STEPS = ("connect", "preflight", "upload", "measure", "fetch")
LOST = "TimedOut|Disconnected"


@dataclass(frozen=True)
class Row:
    """A fault, the step at which it strikes, what is expected of it."""

    fault: str
    step: str
    error: str
    code: int
    play: Play
    says: str = ""
    group: str = "device"
    quick: bool = False
    """Whether the tests play it too."""


# The table -----------------------------------------------------------------------------------------------------------


def link_rows() -> Iterator[Row]:
    link = partial(Row, group="link")
    for step in STEPS:
        yield link("link cut, silently", step, LOST, 4, acts.cut, quick=step == "fetch")
    for step in STEPS:
        error = "Unreachable" if step == "connect" else "Disconnected"
        yield link("link broken (RST)", step, error, 4, acts.reset, quick=step == "upload")
    yield link("nobody listens", "connect", "Unreachable", 4, acts.refused, quick=True)
    yield link("link 200 ms late each way", "all", "", 0, acts.delayed)
    yield link("link throttled to 64 kB/s", "all", "", 0, acts.throttled)
    yield link("link throttled to 16 kB/s", "fetch", "", 0, acts.throttled_answer)
    yield link("link throttled to 256 kB/s", "upload", "", 0, acts.throttled_upload)
    yield link("a bit flipped on the way", "connect", "Unreachable|TimedOut", 4, acts.corrupted)
    for step in ("preflight", "upload", "measure", "fetch"):
        yield link("a bit flipped on the way", step, LOST, 4, acts.corrupted, quick=step == "measure")


def key_rows() -> Iterator[Row]:
    row = partial(Row, group="keys", step="connect", code=4)
    yield row("host key changed", error="HostKeyChanged", play=acts.host_key_changed, quick=True)
    yield row("unknown host key", error="UnknownHostKey", play=acts.unknown_host_key)
    yield row("wrong user key", error="AuthenticationFailed", play=acts.wrong_user_key)


def far_end_rows() -> Iterator[Row]:
    row = partial(Row, group="far end")
    for step in ("preflight", "measure", "fetch"):
        yield row("device frozen (SIGSTOP)", step, "TimedOut", 4, acts.frozen)
    yield row("device frozen (SIGSTOP)", "upload", LOST, 4, acts.frozen)
    yield row("runner frozen (SIGSTOP)", "measure", "TimedOut", 4, acts.frozen_runner)
    yield row("runner killed (SIGKILL)", "measure", "RunnerKilled", 1, acts.killed_runner, "SIGKILL", quick=True)
    yield row("session killed", "measure", "Disconnected", 4, acts.killed_session)
    for step in ("preflight", "upload", "measure"):
        yield row("device killed", step, "Disconnected", 4, acts.killed_device)
    yield row("device killed", "fetch", LOST, 4, acts.killed_device)
    for step in ("upload", "measure"):
        yield row("device rebooted", step, "Disconnected", 4, acts.rebooted, quick=step == "measure")
    yield row("one device of two killed", "measure", "Disconnected", 4, acts.one_of_two, group="fleet")


def disk_rows() -> Iterator[Row]:
    row = partial(Row, group="disks")
    yield row("disk full there", "preflight", "DiskFull", 1, acts.disk_full_there)
    yield row("disk fills there", "upload", "DiskFull", 1, acts.disk_fills_there)
    yield row("disk read-only there", "lease", "NotWritable", 1, acts.read_only_there)
    yield row("no permission there", "lease", "NotWritable", 1, acts.no_permission_there)
    yield row("disk full here", "measure", "OutputError", 1, acts.disk_full_here, quick=True)
    yield row("folder read-only here", "write", "OutputError", 1, acts.read_only_here)
    yield row("history cannot be written", "write", "", 0, acts.no_history, "not in the history")


def runtime_rows() -> Iterator[Row]:
    row = partial(Row, group="runtime")
    yield row("no runtime", "preflight", "RuntimeMissing", 1, acts.no_runtime)
    yield row(
        "runtime crashes (SIGILL)",
        "preflight",
        "IllegalInstruction",
        1,
        partial(acts.crashing_runtime, number=signal.SIGILL),
    )
    yield row(
        "runtime crashes (SIGSEGV)",
        "preflight",
        "RuntimeMissing",
        1,
        partial(acts.crashing_runtime, number=signal.SIGSEGV),
        "SIGSEGV",
    )
    yield row(
        "runtime crashes (SIGILL)", "measure", "IllegalInstruction", 1, partial(acts.crash_in_the_runs, name="ILL")
    )
    yield row(
        "runtime crashes (SIGSEGV)",
        "measure",
        "RunnerKilled",
        1,
        partial(acts.crash_in_the_runs, name="SEGV"),
        "SIGSEGV",
    )
    yield row("out of memory (ulimit -v)", "measure", "OutOfMemory", 1, acts.out_of_memory)
    yield row("clock a year off", "preflight", "", 0, acts.clock_far_off, "its clock is")


def lie_rows() -> Iterator[Row]:
    row = partial(Row, group="lies")
    runner = {
        "answer is no JSON": "echo nonsense; exit 0",
        "answer has no measurement": """echo '{"event": "result"}'; exit 0""",
        "answer nested without end": """head -c 900000 /dev/zero | tr '\\0' '['; echo; exit 0""",
        "answer of 9 MB": "head -c 9000000 /dev/zero | tr '\\0' x; exit 0",
        "output without end": "exec yes",
    }
    for fault, lie in runner.items():
        yield row(
            fault,
            "measure",
            "CommandFailed",
            1,
            partial(acts.lying_runner, lie=lie),
            quick=fault == "output without end",
        )
    yield row("paths in names", "measure", "", 0, acts.paths_in_names)
    yield row("never answers", "measure", "TimedOut", 4, acts.never_answers)
    yield row("never starts", "connect", "TimedOut", 4, partial(acts.lying_agent, lie="exec cat > /dev/null"))
    agent = {
        "login shell prints without end": "exec yes",
        "frame of 4 GB": acts.frames("frame(b'R', b'{}'[:0]); sys.stdout.buffer.write(b'O' + b'\\\\xff' * 4)"),
        "agent's answer is no JSON": acts.frames("frame(b'R', b'nonsense')"),
        "agent's answer is of another kind": acts.frames("frame(b'R', b'[1]')"),
    }
    for fault, lie in agent.items():
        yield row(fault, "connect", "CommandFailed", 1, partial(acts.lying_agent, lie=lie))


def file_rows() -> Iterator[Row]:
    row = partial(Row, group="files")
    yield row("file altered there", "upload", "", 0, acts.altered_before)
    yield row("file altered there", "measure", "Altered", 1, acts.altered_there, "model.tflite")
    yield row("bundle altered here", "upload", "BuildError", 1, acts.altered_here, "model.tflite")
    yield row("bundle changes while it is sent", "upload", "BuildError|Altered", 1, acts.altered_while_sent)


def host_rows() -> Iterator[Row]:
    row = partial(Row, group="host", error="")
    signals = (("edgeq killed (SIGKILL)", signal.SIGKILL, -9), ("Ctrl-C", signal.SIGINT, 130))
    for fault, number, code in signals:
        for step in ("calibrate", "scoring static", "building"):
            yield row(fault, step, code=code, play=partial(acts.stopped_while_converting, number=number))
        for step in STEPS:
            quick = (step, code) in (("measure", -9), ("upload", 130))
            yield row(fault, step, code=code, play=partial(acts.stopped, number=number), quick=quick)
        yield row(fault, "write", code=code, play=partial(acts.stopped_after_the_result, number=number))
    fleet = partial(acts.stopped_in_a_fleet, number=signal.SIGKILL)
    yield row("edgeq killed, one of two devices finished", "measure", code=-9, play=fleet, group="fleet")


def lease_rows() -> Iterator[Row]:
    row = partial(Row, group="lease", step="lease")
    yield row(
        "another edgeq measures there", error="DeviceBusy", code=4, play=acts.held, says="process [0-9]+", quick=True
    )
    yield row("the holder was killed", error="", code=0, play=acts.holder_dies)
    yield row("the holder's link was cut", error="", code=0, play=acts.holder_vanishes)


def rows() -> list[Row]:
    """The whole table."""
    tables = (link_rows, key_rows, far_end_rows, disk_rows, runtime_rows, lie_rows, file_rows, host_rows, lease_rows)
    return [row for table in tables for row in table()]
