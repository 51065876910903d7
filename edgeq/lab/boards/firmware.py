"""The firmware that a board runs, beside the one that a bundle would give it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.documents import decode, load_json
from edgeq.errors import Altered, BuildError, CommandFailed, EdgeqError, RuntimeMissing, TimedOut, Unreachable
from edgeq.lab import deploy
from edgeq.lab.boards.conversation import Answer, Conversation
from edgeq.lab.boards.lines import numbers
from edgeq.lab.faults import clean
from edgeq.lab.vectors import Contract
from edgeq.types import Bundle, Port

NAME = "edgeq"
VERSION = 1
ENTRY_POINT = "model.c"
BOARD_SCRIPT = "board.ld"
"""The linker script that a bundle has where its target is a board that edgeq has start-up code for."""
HELLO_SECONDS = 6.0
"""How long a board may take to start: a boot loader takes up to two seconds of it."""
SELF_TEST = "eq-"
_LEAST_BYTES = 8
_LEAST_PRINTABLE = 0.85
_SHA256 = re.compile("[0-9a-f]{64}")
_WANTS = {"about": 1, "firmware": 1, "model": 1, "core": 1, "compiler": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """What a board has to say before it is measured with a bundle; sizes are each port's of one inference."""

    firmware: str
    model: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    inputs_bytes: tuple[int, ...]
    outputs_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a firmware says of itself; a tick rate of 0 means that its ticks are no time."""

    firmware: str
    model: str
    core: str
    compiler: str
    input_bytes: int
    output_bytes: int
    arena_bytes: int
    ticks_per_second: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sizes:
    """Of sizes.json, what is needed here."""

    firmware: str
    inputs_bytes: tuple[int, ...]
    outputs_bytes: tuple[int, ...]


def is_for_boards(bundle: Bundle) -> bool:
    """Whether a bundle is a firmware's sources."""
    return bundle.manifest.entry_point == ENTRY_POINT


def expected(bundle: Bundle) -> Expected:
    """What the bundle's own firmware says of itself; raises BuildError for a bundle of another kind or damaged."""
    if not is_for_boards(bundle):
        raise BuildError(
            f"this bundle is for {clean(bundle.manifest.target, 60)}, a board takes one for a microcontroller",
            where=bundle.path,
            hint="edgeq build MODEL -t stm32l4r5 --data DATASET",
        )
    deploy.verify_local(bundle)
    folder = Path(bundle.path)
    sizes = load_json(folder / "sizes.json", dict[str, object], error=BuildError)
    kept = _sizes(sizes, str(folder / "sizes.json"))
    contract = load_json(folder / "io.json", Contract, error=BuildError)
    hashes = {entry.path: entry.sha256 for entry in bundle.manifest.files}
    return Expected(
        firmware=kept.firmware,
        model=hashes[bundle.manifest.model],
        inputs=contract.inputs,
        outputs=contract.outputs,
        inputs_bytes=kept.inputs_bytes,
        outputs_bytes=kept.outputs_bytes,
    )


def _sizes(found: dict[str, object], where: str) -> _Sizes:
    if "firmware" not in found:
        raise BuildError(
            "the bundle's firmware does not say what it is: it was built by an older edgeq", where=where,
            hint="build it again: edgeq build",
        )  # fmt: skip
    return decode(_Sizes, {key: found.get(key) for key in _Sizes.__slots__}, where=where, error=BuildError)


def flashing(bundle: Bundle) -> str:
    """How the bundle's firmware comes to the board, which edgeq does not do."""
    place = shlex.quote(bundle.path)
    if any(entry.path == BOARD_SCRIPT for entry in bundle.manifest.files):
        return f"make -C {place} board, then flash build/board/protocol.elf with the board's own tool"
    return f"build {place}/model.c, golden.c, kernels/, runtime/ and protocol/ in the vendor's project, and flash that"


def greet(conversation: Conversation, hint: str) -> Told:
    """What the firmware is; raises TimedOut for a silent board, Unreachable for garbage, RuntimeMissing for others."""
    name = conversation.hello(HELLO_SECONDS)
    if name is None:
        raise _unnamed(conversation, hint)
    if name != NAME:
        raise RuntimeMissing(
            f"the board at {conversation.name} runs a firmware called {clean(name, 40)!r}, not edgeq's", hint=hint
        )
    return about(conversation, hint)


def _unnamed(conversation: Conversation, hint: str) -> EdgeqError:
    heard, name = conversation.heard(), conversation.name
    if not heard.size_bytes:
        return TimedOut(f"nothing answers at {name}: the board is silent", hint=hint)
    if heard.size_bytes >= _LEAST_BYTES and heard.printable_share < _LEAST_PRINTABLE:
        return Unreachable(
            f"what comes from {name} is no text: another baud rate?", hint=f"-d serial://{name}?baud=9600"
        )
    if heard.last.startswith(SELF_TEST):
        return RuntimeMissing(f"the board at {name} runs the self-test, which answers no questions", hint=hint)
    return RuntimeMissing(f"the board at {name} does not give its name; it says {heard.last!r}", hint=hint)


def about(conversation: Conversation, hint: str) -> Told:
    """What the firmware says of itself; raises Altered for one of an older edgeq, CommandFailed for nonsense."""
    try:
        answers = conversation.ask("about", wants=_WANTS, answer_bytes=400)
    except CommandFailed as error:
        if "unknown command" not in error.message:
            raise
        raise Altered(f"the board at {conversation.name} runs a firmware of an older edgeq", hint=hint) from error
    told = {answer.name: answer for answer in answers}
    sizes = numbers(told["about"].fields, 5)
    hashes = [_text(told[name]) for name in ("firmware", "model")]
    if sizes is None or not all(map(_SHA256.fullmatch, hashes)):
        raise CommandFailed(f"the firmware at {conversation.name} says of itself what cannot be")
    version, input_bytes, output_bytes, arena_bytes, ticks_per_second = sizes
    if version != VERSION:
        raise Altered(f"the firmware at {conversation.name} speaks version {version}, edgeq {VERSION}", hint=hint)
    return Told(
        firmware=hashes[0],
        model=hashes[1],
        core=clean(_text(told["core"]), 30),
        compiler=clean(_text(told["compiler"]), 60),
        input_bytes=input_bytes,
        output_bytes=output_bytes,
        arena_bytes=arena_bytes,
        ticks_per_second=ticks_per_second,
    )


def _text(answer: Answer) -> str:
    return ",".join(answer.fields)


def check(told: Told, wanted: Expected, name: str, hint: str) -> None:
    """Raise Altered unless the board runs this bundle's firmware."""
    pairs: Sequence[tuple[str, str, str]] = (
        ("another model", told.model, wanted.model),
        ("this model, but built from other sources", told.firmware, wanted.firmware),
    )
    for what, theirs, ours in pairs:
        if theirs != ours:
            raise Altered(f"the board at {name} runs {what}: {theirs[:12]}, the bundle has {ours[:12]}", hint=hint)
    sizes = (told.input_bytes, told.output_bytes)
    if sizes != (sum(wanted.inputs_bytes), sum(wanted.outputs_bytes)):
        raise CommandFailed(f"the firmware at {name} has inputs and outputs of {sizes} bytes, which cannot be")
