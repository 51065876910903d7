"""What a board is asked for a measurement, and the measurement that comes of it."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgeq import store
from edgeq.errors import CommandFailed, UsageError
from edgeq.lab import bench, findings
from edgeq.lab.boards import Board, firmware, running, vectors
from edgeq.lab.boards.conversation import Conversation
from edgeq.lab.boards.firmware import Expected, Told
from edgeq.lab.boards.lines import numbers
from edgeq.lab.boards.running import Ran
from edgeq.lab.boards.vectors import Compared
from edgeq.lab.deploy import Deployment
from edgeq.types import (
    Bundle,
    Check,
    Conditions,
    ConditionsPair,
    Firmware,
    MeasuredMemory,
    Measurement,
    Progress,
    RunSettings,
    silent,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

RUNTIME = "aot"
_SECONDS = 60.0
_SILENT = "the firmware does not tell it"
_UNAVAILABLE = {
    "peak_rss": "a microcontroller has no processes; its memory is the arena and the stack",
    "pss": "a microcontroller has no processes",
    "cgroup_peak": "a microcontroller has no processes",
    "floor_rss": "a microcontroller has no processes",
    "model_rss": "a microcontroller has no processes",
    "model_file": "the model is compiled into the firmware",
    "energy_mj": "edgeq has no power meter for a board that it only hears",
    "speedup": "the firmware holds no float model",
    "instructions": "a board's ticks count time, not instructions",
    **dict.fromkeys(("text_bytes", "data_bytes", "bss_bytes"), "a board does not know its image: make size tells"),
    **dict.fromkeys(("governor", "frequency", "temperature", "load_1min", "memory_available_bytes"), _SILENT),
    "throttled": _SILENT,
}
_NO_STACK = "the port does not know where its stack lies"


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """Watermarks in bytes; the stack's are 0 where the port does not know it."""

    arena: int
    arena_used: int
    stack_used: int
    stack: int


@contextmanager
def met(
    board: Board, bundle: Bundle, *, seconds: float, wait_seconds: float = 0.0, progress: Progress = silent
) -> Iterator[tuple[Conversation, Expected, Told]]:
    """A conversation with a board that runs this bundle's firmware, for the seconds that all of it may take.

    Raises what opening raises, what `firmware.greet` raises, Altered for another firmware.
    """
    wanted = firmware.expected(bundle)
    hint = firmware.flashing(bundle)
    with board.opened(wait_seconds=wait_seconds, progress=progress) as stream:
        conversation = Conversation(stream, seconds=seconds)
        progress("asking the firmware", 0, 1)
        told = firmware.greet(conversation, hint)
        firmware.check(told, wanted, conversation.name, hint)
        progress("asking the firmware", 1, 1)
        yield conversation, wanted, told


def probe(board: Board) -> dict[str, Any]:
    """What the firmware on a board says of itself, whichever it is."""
    with board.opened() as stream:
        conversation = Conversation(stream, seconds=_SECONDS)
        told = firmware.greet(conversation, "flash the protocol firmware of a bundle: edgeq build MODEL -t TARGET")
        facts = {"name": board.device.name, "machine": told.core, **board.facts()}
        return {
            "device": facts,
            "runtimes": {RUNTIME: {"version": told.firmware[:12], "ok": True, "why": None}},
            "firmware": {name: getattr(told, name) for name in Told.__slots__},
            "sensors": {},
            "conditions": {},
        }


def deploy(board: Board, bundle: Bundle, *, progress: Progress = silent) -> Deployment:
    """Nothing is sent to a board: is the firmware on it this bundle's? Raises what `met` raises."""
    with met(board, bundle, seconds=_SECONDS, progress=progress) as (conversation, _wanted, told):
        folder = f"firmware {told.firmware[:12]} at {conversation.name}"
        return Deployment(folder=folder, sent=(), kept=(bundle.manifest.model,), sent_bytes=0)


def measure(
    board: Board,
    bundle: Bundle,
    settings: RunSettings,
    *,
    wait_seconds: float = 0.0,
    progress: Progress = silent,
) -> Measurement:
    """Golden vectors, inferences one after the other, watermarks; raises what `met` and a conversation raise."""
    _check_settings(settings)
    seconds = bench.timeout_seconds(settings)
    with met(board, bundle, seconds=seconds, wait_seconds=wait_seconds, progress=progress) as (talk, wanted, told):
        compared = vectors.compare(talk, bundle, wanted, progress)
        first_seconds, first = _timed(talk, told)
        found = running.pace(first_seconds, first, told.ticks_per_second)
        ran = running.run(talk, settings, found, told.ticks_per_second, progress)
        marks = _marks(talk, told)
    reason = running.untrue(ran, first_seconds, told.ticks_per_second)
    return _measurement(board, bundle, settings, told, compared, ran, marks, reason)


def _check_settings(settings: RunSettings) -> None:
    if settings.threads is not None or settings.cpus:
        raise UsageError("a microcontroller has no threads or cores to choose: leave out --threads and --cpus")


def _timed(talk: Conversation, told: Told) -> tuple[float, int]:
    """One inference as this host sees it, in seconds, and in the board's ticks."""
    begun = time.monotonic()
    ticks = running.command(talk, 1, 1, running.Pace(seconds=vectors.FIRST_SECONDS / 10, ticks=1))
    seconds = time.monotonic() - begun
    return (seconds, ticks[0]) if told.ticks_per_second else (seconds, 0)


def _marks(talk: Conversation, told: Told) -> Marks:
    """Watermarks; raises CommandFailed where memory beyond was written: nothing that was told can be believed then."""
    found = numbers(talk.ask("memory", wants={"memory": 1})[0].fields, 5)
    if found is None or found[0] != told.arena_bytes or found[2] > found[3]:
        raise CommandFailed(f"the firmware at {talk.name} told of its memory what cannot be")
    arena, arena_used, stack_used, stack, is_inside = found
    if is_inside and arena_used > arena:
        raise CommandFailed(f"the firmware at {talk.name} told of its memory what cannot be")
    if not is_inside and arena_used > arena:
        raise CommandFailed(f"the firmware at {talk.name} wrote behind its arena: its kernels do not fit this model")
    if not is_inside:
        raise CommandFailed(
            f"the stack of the firmware at {talk.name} reached its limit of {stack} bytes",
            hint="give it more in the linker script, and flash it again",
        )
    return Marks(arena=arena, arena_used=arena_used, stack_used=stack_used, stack=stack)


def _measurement(
    board: Board,
    bundle: Bundle,
    settings: RunSettings,
    told: Told,
    compared: Compared,
    ran: Ran,
    marks: Marks,
    reason: str | None,
) -> Measurement:
    manifest = bundle.manifest
    plain = Measurement(
        device={"name": board.device.name, "machine": told.core, **_board(board)},
        runtime={"name": RUNTIME, "version": manifest.tools.get("edgeq", ""), "compiler": told.compiler},
        settings=settings,
        latency_ms=None,
        latency_samples_ns=(),
        batch=ran.batch,
        memory_bytes=MeasuredMemory(arena=marks.arena),
        energy=None,
        parity=compared.parity,
        conditions=ConditionsPair(before=Conditions(), after=Conditions()),
        manifest_sha256=hashlib.sha256(store.to_json(manifest).encode()).hexdigest(),
        unavailable=_unavailable(settings, compared, marks),
        firmware=_firmware(told, compared, ran, marks),
        preflight=tuple(_foreign(bundle, told)),
    )
    return _timeless(plain, reason) if reason else _with_latency(plain, told, compared, ran)


def _board(board: Board) -> dict[str, object]:
    """What this host knows of the board; what its USB device is called stands for the board."""
    facts = board.facts()
    usb = facts.get("usb")
    return {"board": usb.get("product") if isinstance(usb, dict) else None, **facts}


def _firmware(told: Told, compared: Compared, ran: Ran, marks: Marks) -> Firmware:
    return Firmware(
        sha256=told.firmware,
        ticks=min(ran.ticks, default=0) // ran.batch,
        ticks_per_second=told.ticks_per_second,
        arena_bytes=marks.arena,
        arena_used_bytes=marks.arena_used,
        stack_bytes=marks.stack_used or None,
        differing_bytes=compared.differing_bytes,
    )


def _unavailable(settings: RunSettings, compared: Compared, marks: Marks) -> dict[str, str]:
    reasons = dict(_UNAVAILABLE)
    if not marks.stack_used:
        reasons["stack_bytes"] = _NO_STACK
    if settings.operators:
        reasons["operators"] = "this firmware does not time single operators: make profile in the bundle does"
    if compared.left_out:
        reasons["golden_vectors"] = f"{compared.left_out} more stay on the host: the line is too slow for them"
    return reasons


def _foreign(bundle: Bundle, told: Told) -> Iterator[Check]:
    """A warning where the firmware was compiled for another processor than the target's."""
    arch = _arch(bundle.manifest.target)
    if arch and arch != told.core:
        yield Check(
            rule="preflight",
            subject="processor",
            ok=False,
            why=f"the firmware was compiled for {told.core}, {bundle.manifest.target} is {arch}:"
            " its times say nothing of the target",
        )


def _arch(target: str) -> str | None:
    from edgeq import targets

    return targets.load(target).cpu.arch if target in targets.names() else None


def _timeless(plain: Measurement, reason: str) -> Measurement:
    return replace(plain, unavailable={**plain.unavailable, "latency_ms": reason})


def _with_latency(plain: Measurement, told: Told, compared: Compared, ran: Ran) -> Measurement:
    """The measurement with the board's samples, by the statistics that every device gets."""
    times = running.times(ran, compared.first.reset_ticks, compared.first.ticks, told.ticks_per_second)
    latency, reasons = findings.latency(times)
    shape = findings.steadiness(times)
    minutes = plain.settings.sustained_minutes
    if shape.why:
        reasons["steadiness"] = shape.why
    return replace(
        plain,
        latency_ms=latency,
        latency_samples_ns=times.samples_ns,
        steadiness=shape,
        sustained=findings.sustained(times, minutes, shape) if minutes else None,
        unavailable={**plain.unavailable, **reasons},
    )


def evaluate(
    board: Board,
    bundle: Bundle,
    inputs: Sequence[NDArray[Any]],
    *,
    wait_seconds: float = 0.0,
    progress: Progress = silent,
    settings: RunSettings | None = None,
) -> list[NDArray[Any]]:
    """Stored outputs of the board for stored inputs, vectors on the first axis; raises what `measure` raises."""
    import numpy as np

    seconds = (settings or RunSettings()).timeout_seconds
    with met(board, bundle, seconds=seconds, wait_seconds=wait_seconds, progress=progress) as (talk, wanted, _told):
        count = len(inputs[0])
        outputs = []
        for place in range(count):
            progress("evaluate on the device", place, count)
            content = b"".join(np.ascontiguousarray(array[place]).tobytes() for array in inputs)
            outputs.append(vectors.infer(talk, content, sum(wanted.outputs_bytes)).output)
        progress("evaluate on the device", count, count)
    return vectors.arrays(wanted, outputs)
