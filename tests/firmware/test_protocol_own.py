"""The firmware's own commands, built with the sanitizers: exact answers, and whatever comes over the line."""

from __future__ import annotations

import subprocess
import zlib
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeq.errors import ToolError
from edgeq.lab.boards.lines import Kind, Line, Lines, parse
from edgeq.testing import firmware
from edgeq.types import Bundle

SANITIZERS = "-g -fsanitize=address,undefined -fno-sanitize-recover=all"
LINE_BYTES = 160


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    found = firmware.bundle(tmp_path_factory.mktemp("protocol"))
    try:
        firmware.program(found, flags=SANITIZERS)
    except ToolError as error:
        pytest.skip(error.message)
    return found


def talk(built: Bundle, said: bytes) -> list[Line]:
    """All lines of the answer; a sanitizer's complaint ends the program with another status."""
    program = Path(built.path) / "build" / "protocol"
    ran = subprocess.run([program], input=said, capture_output=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stderr.decode("utf-8", "replace")[-2000:]
    return [parse(line) for line in Lines(1 << 20).feed(ran.stdout)]


def answers(lines: Iterable[Line]) -> list[tuple[str, ...]]:
    found = list(lines)
    assert not [line for line in found if line.kind is Kind.DAMAGED]
    return [(line.name, *line.fields) for line in found if line.kind is Kind.OWN]


def load(content: bytes) -> bytes:
    return b"db load %d%%db %s%%" % (len(content), content[:70].hex().encode()) + (
        b"db %s%%" % content[70:].hex().encode()
    )


def test_what_it_is(built: Bundle) -> None:
    about, own, model, core, compiler = answers(talk(built, b"eq-about 7%"))
    arena_bytes = int(built.manifest.estimates["arena_bytes"])
    sizes = (str(firmware.INPUTS), str(firmware.OUTPUTS), str(arena_bytes))
    assert about == ("about", "7", "1", *sizes, "1000000")
    assert len(own[2]) == 64
    assert model == (
        "model",
        "7",
        built.manifest.files[[f.path for f in built.manifest.files].index("model.tflite")].sha256,
    )
    assert core[0] == "core"
    assert compiler[0] == "compiler"


def test_other_sources_are_another_firmware(built: Bundle, tmp_path: Path) -> None:
    """And the same sources are the same, wherever they lie."""
    again, other = firmware.bundle(tmp_path / "again"), firmware.bundle(tmp_path / "other", seed=1)
    told = [(Path(one.path) / "golden.c").read_text().split('eq_golden_firmware[] = "')[1][:64]
            for one in (built, again, other)]  # fmt: skip
    assert told[0] == told[1] != told[2]


def test_every_byte_of_the_golden_vectors(built: Bundle) -> None:
    with np.load(Path(built.path) / "golden.npz") as golden:
        inputs, outputs = golden["input_0"], golden["output_0"]
    said = b"".join(
        load(row.tobytes()) + b"eq-input 1%%eq-infer 2%%eq-output 3 0 %d%%" % firmware.OUTPUTS for row in inputs
    )
    told = answers(talk(built, said))
    assert [one[2:] for one in told if one[0] == "input"] == [
        (str(firmware.INPUTS), str(zlib.crc32(row.tobytes()))) for row in inputs
    ]
    assert [one[3] for one in told if one[0] == "output"] == [row.tobytes().hex() for row in outputs]
    assert all(one[2] == "0" for one in told if one[0] == "infer")


@pytest.mark.parametrize(
    ("offset", "count", "digits"),
    [(0, 7, 14), (0, 1, 2), (6, 1, 2), (6, 100, 2), (7, 1, 0), (0, 0, 0), (3, 100000, 8)],
)
def test_pieces_of_the_output(built: Bundle, offset: int, count: int, digits: int) -> None:
    said = load(bytes(range(firmware.INPUTS))) + b"eq-infer 1%%eq-output 2 0 7%%eq-output 3 %d %d%%" % (offset, count)
    whole, piece = [one for one in answers(talk(built, said)) if one[0] == "output"]
    assert piece[2] == str(offset)
    assert piece[3] == whole[3][2 * offset : 2 * offset + digits]
    assert len(piece[3]) == digits


def test_runs_are_timed(built: Bundle) -> None:
    told = answers(talk(built, load(bytes(firmware.INPUTS)) + b"eq-run 5 4 10 3%"))
    assert told[0] == ("run", "5", "4", "10", "3")
    assert [one[:3] for one in told[1:-1]] == [("ticks", "5", str(n)) for n in range(4)]
    assert told[-1] == ("ran", "5", "4")


def test_the_laps_of_a_counter_that_wraps_go_on(tmp_path: Path) -> None:
    """30 s of 100 MHz between two looks: the 32-bit counter starts again every 43 s."""
    found = firmware.bundle(tmp_path)
    port = Path(found.path) / "ports" / "host" / "eq_port_host.c"
    text = port.read_text().replace("return 1000000u;", "return 100000000u;")
    head, _, rest = text.partition("    struct timespec now;")
    _, _, rest = rest.partition("/ 1000u);\n")
    port.write_text(f"{head}    static uint32_t ticks;\n    return ticks += 3000000000u;\n{rest}")
    try:
        firmware.program(found)
    except ToolError as error:
        pytest.skip(error.message)
    said = b"timestamp%" * 3 + b"db load 1%db 00%" + b"infer 4 1%"
    program = Path(found.path) / "build" / "protocol"
    told = subprocess.run([program], input=said, capture_output=True, timeout=60, check=True).stdout.decode()
    laps = [int(line.removeprefix("m-lap-us-")) for line in told.split() if line.startswith("m-lap-us-")]
    steps = [after - before for before, after in pairwise(laps)]
    assert steps[:2] == [30_000_000, 30_000_000]
    assert steps[3] == 5 * 30_000_000, "four inferences and the look behind them"


def test_memory_before_and_after(built: Bundle) -> None:
    before, after = (one for one in answers(talk(built, b"eq-memory 1%eq-infer 2%eq-memory 3%")) if one[0] == "memory")
    assert int(before[3]) <= int(after[3]) <= int(after[2])
    assert after[3] != "0"
    assert (before[6], after[6]) == ("1", "1")


@pytest.mark.parametrize(
    "said",
    [
        b"eq-%", b"eq-about%", b"eq-about %", b"eq-about x%", b"eq-about 1 2%", b"eq-about 16777216%", b"eq-aboutx 1%",
        b"eq-nothing 1%", b"eq-run 1 2 3%", b"eq-run 1 2 3 4 5%", b"eq-run 1 100001 1 1%", b"eq-run 1 1 1 -1%",
        b"eq-output 1 8 1%", b"eq-output 1 0 100001%", b"eq-output 1 4294967295 4294967295%", b"EQ-about 1%",
    ],
)  # fmt: skip
def test_commands_that_are_wrong(built: Bundle, said: bytes) -> None:
    """Each is refused, and the next is understood."""
    lines = talk(built, said + b"eq-input 9%")
    assert [line.text for line in lines if line.kind is Kind.ERROR] == ["unknown command"]
    assert answers(lines) == [("input", "9", "0", "0")]


def test_an_input_that_is_not_whole_is_not_called_whole(built: Bundle) -> None:
    told = answers(talk(built, b"db load %d%%db 0102%%eq-input 1%%" % firmware.INPUTS))
    assert told == [("input", "1", "2", str(zlib.crc32(b"\x01\x02")))]


COMMANDS = st.sampled_from(
    [b"eq-about", b"eq-input", b"eq-infer", b"eq-run", b"eq-output", b"eq-memory", b"db", b"db load", b"infer",
     b"results", b"timestamp", b"name", b"profile", b"", b"eq-", b"100"]
)  # fmt: skip
WORDS = st.lists(st.integers(0, 20).map(str) | st.sampled_from(["", "x", "100", "ff" * 40, "4294967296"]), max_size=5)
SAID = st.lists(
    st.tuples(COMMANDS, WORDS).map(lambda pair: pair[0] + b" " + " ".join(pair[1]).encode() + b"%")
    | st.binary(max_size=LINE_BYTES + 40),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(SAID)
def test_whatever_comes_it_goes_on(built: Bundle, said: list[bytes]) -> None:
    """No byte outside its memory, no undefined arithmetic, and the next question is answered."""
    lines = talk(built, b"".join(said) + b"%eq-about 4242%")
    assert ("about", "4242") in [one[:2] for one in answers(lines)]
    assert lines[-1].kind is Kind.READY
