"""Golden vectors on a board: every byte that it computes beside the byte that the host computed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.errors import BuildError, CommandFailed
from edgeq.lab.boards.conversation import Conversation
from edgeq.lab.boards.firmware import Expected
from edgeq.lab.boards.lines import numbers
from edgeq.types import Bundle, Parity, Port, Progress

if TYPE_CHECKING:
    from numpy.typing import NDArray

LARGEST_BYTES = 256 << 10
"""Of golden vectors that go over the line, as many as the firmware of the self-test holds: 45 s at 115200 baud."""
FIRST_SECONDS = 60.0
"""How long an inference may take before anything is known of its pace."""
_OUTPUT_BYTES = 256
_STEP = "golden vectors"
_ENDLESS = 1e300
"""Steps between a number and none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inferred:
    """One inference from a reset model; ticks are the board's."""

    output: bytes
    reset_ticks: int
    ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """All vectors; `first` is the first inference."""

    parity: Parity
    differing_bytes: int
    first: Inferred
    left_out: int


def infer(conversation: Conversation, content: bytes, output_bytes: int, *, seconds: float = FIRST_SECONDS) -> Inferred:
    """One inference with this input; raises what a conversation raises, CommandFailed for an answer that cannot be."""
    conversation.load(content)
    answers = conversation.ask("infer", wants={"began": 1, "infer": 1}, gap_seconds=seconds)
    told = numbers(answers[-1].fields, 3)
    if told is None:
        raise CommandFailed(f"the firmware at {conversation.name} told of an inference what cannot be")
    status, reset_ticks, ticks = told
    if status:
        raise CommandFailed(f"the firmware at {conversation.name} refused its own arena")
    return Inferred(output=_output(conversation, output_bytes), reset_ticks=reset_ticks, ticks=ticks)


def _output(conversation: Conversation, size_bytes: int) -> bytes:
    """All output bytes, a piece at a time."""
    found = b""
    while len(found) < size_bytes:
        count = min(_OUTPUT_BYTES, size_bytes - len(found))
        fields = conversation.ask("output", len(found), count, wants={"output": 1}, answer_bytes=2 * count)[0].fields
        piece = _piece(fields, len(found), count)
        if piece is None:
            raise CommandFailed(f"the firmware at {conversation.name} gave outputs that cannot be")
        found += piece
    return found


def _piece(fields: Sequence[str], offset: int, count: int) -> bytes | None:
    if len(fields) != 2 or fields[0] != str(offset) or len(fields[1]) != 2 * count:
        return None
    try:
        return bytes.fromhex(fields[1])
    except ValueError:
        return None


def compare(
    conversation: Conversation,
    bundle: Bundle,
    wanted: Expected,
    progress: Progress,
    *,
    largest_bytes: int = LARGEST_BYTES,
) -> Compared:
    """Run the bundle's golden vectors, as many as so many bytes hold, one at least."""
    inputs, outputs, count = _golden(bundle, wanted)
    size_bytes = sum(wanted.inputs_bytes) + sum(wanted.outputs_bytes)
    used = max(1, min(count, largest_bytes // max(size_bytes, 1)))
    differing, most, first = 0, 0.0, None
    for place in range(used):
        progress(_STEP, place, used)
        expected = outputs[place]
        ran = infer(conversation, inputs[place], len(expected))
        first = first or ran
        differing += sum(a != b for a, b in zip(ran.output, expected, strict=True))
        most = max(most, steps(wanted.outputs, wanted.outputs_bytes, ran.output, expected))
    progress(_STEP, used, used)
    if first is None:
        raise BuildError("the bundle has no golden vectors", where=bundle.path)
    parity = Parity(exact=not differing, max_steps=most, vectors=used, ok=not differing)
    return Compared(parity=parity, differing_bytes=differing, first=first, left_out=count - used)


def _golden(bundle: Bundle, wanted: Expected) -> tuple[list[bytes], list[bytes], int]:
    """Inputs and outputs of each vector as the board's bytes, and how many there are."""
    path = Path(bundle.path) / bundle.manifest.golden
    try:
        with np.load(path) as kept:
            arrays = {name: np.ascontiguousarray(kept[name]) for name in kept.files}
        columns = [
            list(_cut(arrays[f"{side}_{number}"], size))
            for side, sizes in (("input", wanted.inputs_bytes), ("output", wanted.outputs_bytes))
            for number, size in enumerate(sizes)
        ]
    except (OSError, ValueError, KeyError) as error:
        raise BuildError("the golden vectors cannot be read", where=str(path)) from error
    if len({len(column) for column in columns}) != 1:
        raise BuildError("the golden vectors do not fit the model", where=str(path))
    rows = list(zip(*columns, strict=True))
    split = len(wanted.inputs_bytes)
    return [b"".join(row[:split]) for row in rows], [b"".join(row[split:]) for row in rows], len(rows)


def _cut(array: NDArray[Any], size_bytes: int) -> Iterator[bytes]:
    """An array of all vectors as each one's bytes, little-endian."""
    content = array.astype(array.dtype.newbyteorder("<")).tobytes()
    if size_bytes < 1 or len(content) % size_bytes:
        raise ValueError("vectors are not of that size")
    for at in range(0, len(content), size_bytes):
        yield content[at : at + size_bytes]


def steps(ports: Sequence[Port], sizes: Sequence[int], given: bytes, expected: bytes) -> float:
    """The largest difference of an integer in quantization steps; of a float in 1/255ths of the expected range."""
    found, at = 0.0, 0
    for port, size in zip(ports, sizes, strict=True):
        kind = np.dtype(port.dtype).newbyteorder("<")
        a, b = (np.frombuffer(content[at : at + size], kind).astype(np.float64) for content in (given, expected))
        found = max(found, _largest(a, b, np.issubdtype(kind, np.floating)))
        at += size
    return found


def _largest(given: NDArray[np.float64], expected: NDArray[np.float64], is_float: bool) -> float:
    if not np.isfinite(given).all():
        return _ENDLESS
    most = float(np.max(np.abs(given - expected), initial=0.0))
    spread = float(np.ptp(expected)) if is_float and expected.size else 0.0
    return min(most * 255 / spread, _ENDLESS) if spread else most


def arrays(wanted: Expected, outputs: Sequence[bytes]) -> list[NDArray[Any]]:
    """Outputs of many inferences as one array for each port, vectors on the first axis."""
    found, at = [], 0
    for port, size in zip(wanted.outputs, wanted.outputs_bytes, strict=True):
        kind = np.dtype(port.dtype)
        joined = np.frombuffer(b"".join(row[at : at + size] for row in outputs), kind.newbyteorder("<"))
        found.append(joined.astype(kind).reshape(-1, *port.shape[1:]))
        at += size
    return found
