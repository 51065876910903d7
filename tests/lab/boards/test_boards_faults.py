"""A real firmware on a pseudo-terminal, and all that can go wrong with a cable, a board and what it says."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq import devices
from edgeq.errors import (
    Altered,
    CommandFailed,
    DeviceBusy,
    Disconnected,
    EdgeqError,
    RuntimeMissing,
    TimedOut,
    Unreachable,
    UsageError,
)
from edgeq.lab import boards
from edgeq.lab.boards import firmware, measuring, vectors
from edgeq.lab.boards.conversation import Conversation
from edgeq.testing import firmware as made
from edgeq.testing.boards import PtyBoard
from edgeq.types import Bundle, Measurement, RunSettings

BRIEF = RunSettings(runs=5, seconds=0.05, warmup_seconds=0.0, timeout_seconds=2.5)
QUICK = RunSettings(runs=5, seconds=0.05, warmup_seconds=0.0, timeout_seconds=60.0)
Start = Callable[..., PtyBoard]


def measure(board: PtyBoard, bundle: Bundle, settings: RunSettings = QUICK) -> Measurement:
    return measuring.measure(boards.connect(devices.load(board.url)), bundle, settings)


def refused(board: PtyBoard, bundle: Bundle, kind: type[EdgeqError], settings: RunSettings = QUICK) -> EdgeqError:
    with pytest.raises(kind) as caught:
        measure(board, bundle, settings)
    assert type(caught.value) is kind
    assert "\n" not in caught.value.message
    return caught.value


class Rewrite:
    """Changes answers of one name and gives them the right sum: a firmware that lies."""

    def __init__(self, name: str, change: Callable[[list[bytes]], list[bytes]]) -> None:
        self._pattern = re.compile(rb"m-eq-" + name.encode() + rb"-\[([^\]]*)\]#[0-9a-f]{8}")
        self._name = name.encode()
        self._change = change

    def __call__(self, data: bytes) -> bytes:
        """The answers in these lines."""
        return self._pattern.sub(self._line, data)

    def _line(self, match: re.Match[bytes]) -> bytes:
        tag, *fields = match[1].split(b",")
        text = b"m-eq-" + self._name + b"-[" + b",".join([tag, *self._change(fields)]) + b"]"
        return text + b"#%08x" % zlib.crc32(text)


def at(place: int, value: bytes) -> Callable[[list[bytes]], list[bytes]]:
    """One field of an answer becomes something else."""
    return lambda fields: [*fields[:place], value, *fields[place + 1 :]]


class Once:
    """Does something when these bytes pass for the first time, and lets them pass; `last` to the end of their line."""

    def __init__(self, sign: bytes, act: Callable[[], None], *, last: bool = False) -> None:
        self._sign, self._act, self._last = sign, act, last
        self.happened = False

    def __call__(self, data: bytes) -> bytes:
        place = data.find(self._sign)
        if place < 0 or self.happened:
            return data
        self.happened = True
        self._act()
        return data[: data.find(b"\n", place) + 1] if self._last else data


# --- what a line does to bytes ---------------------------------------------------------------


def test_a_clean_line(board: Start, built: Bundle) -> None:
    found = measure(board(), built)
    assert found.parity is not None
    assert (found.parity.exact, found.parity.vectors) == (True, built.manifest.golden_vectors)


def test_noise_between_lines(board: Start, built: Bundle) -> None:
    """Lines of rubbish after every line, among them half answers, wrong sums and answers to somebody else."""
    noise = b"\x00\xff\xfe\r\nm-eq-infer-[1,0,\n[uart] hello 100% m-\nm-eq-run-[5,5]#00000000\ne-\nm-eq-ran-[7,1]#"
    found = measure(board(down=lambda data: data.replace(b"\r\n", b"\r\n" + noise + b"\r\n")), built)
    assert found.parity is not None
    assert found.parity.exact


def test_noise_in_front_of_answers(board: Start, built: Bundle) -> None:
    """Without a line's end between noise and answer."""
    found = measure(board(down=lambda data: data.replace(b"m-eq-", b"\x80\x00~m-eq-")), built)
    assert found.parity is not None
    assert found.parity.exact


class Flip:
    """Flips a bit of every so many bytes."""

    def __init__(self, period: int) -> None:
        self._period, self._seen = period, 0
        self.flipped = 0

    def __call__(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for place in range(-self._seen % self._period, len(data), self._period):
            changed[place] ^= 1 << self.flipped % 8
            self.flipped += 1
        self._seen += len(data)
        return bytes(changed)


@pytest.mark.parametrize(("way", "period"), [("up", 997), ("down", 4001)])
def test_bytes_that_flip_are_not_taken_for_wrong_answers(board: Start, built: Bundle, way: str, period: int) -> None:
    """Every vector arrives whole all the same, and no difference is made up. No try is so long that all are hit."""
    flip = Flip(period)
    found = measure(board(**{way: flip}), built)
    assert flip.flipped > 1
    assert found.parity is not None
    assert found.parity.exact


def test_a_line_that_is_lost_is_asked_for_again(board: Start, built: Bundle) -> None:
    lost = []

    def drop(data: bytes) -> bytes:
        if b"m-eq-output" in data and not lost:
            lost.append(data)
            return data[: data.index(b"m-eq-output") + 9]
        return data

    found = measure(board(down=drop), built)
    assert len(lost) == 1
    assert found.parity is not None
    assert found.parity.exact


def test_a_line_that_damages_everything(board: Start, built: Bundle) -> None:
    error = refused(board(down=lambda data: data.replace(b"#", b"!")), built, CommandFailed)
    assert "arrive damaged" in error.message
    assert "baud" in str(error.hint)


def test_inputs_that_never_arrive_whole(board: Start, built: Bundle) -> None:
    error = refused(board(up=lambda data: data.replace(b"db ", b"db 0")), built, CommandFailed)
    assert "undamaged" in error.message


def test_another_baud_rate(board: Start, built: Bundle) -> None:
    error = refused(board(down=lambda data: bytes(byte * 29 % 128 | 0x80 for byte in data)), built, Unreachable, BRIEF)
    assert "another baud rate" in error.message
    assert "?baud=" in str(error.hint)


# --- what a board does -----------------------------------------------------------------------


def test_a_silent_board(board: Start, built: Bundle) -> None:
    begun = time.monotonic()
    error = refused(board([]), built, TimedOut, RunSettings(timeout_seconds=1.0))
    assert time.monotonic() - begun < 10 * firmware.HELLO_SECONDS
    assert "silent" in error.message
    assert "flash" in str(error.hint)
    assert built.path in str(error.hint)


def test_a_board_that_starts_slowly(board: Start, built: Bundle) -> None:
    """A boot loader's words, then the firmware's own: both before the first answer."""
    slow = board([])

    def start() -> None:
        time.sleep(1.5)
        slow.say(b"bootloader v1\r\n")
        slow._argv = [str(Path(built.path) / "build" / "protocol")]
        slow.restart()

    thread = threading.Thread(target=start)
    thread.start()
    found = measure(slow, built)
    thread.join()
    assert found.parity is not None
    assert found.parity.exact


@pytest.mark.parametrize("moment", [b"db ", b"eq-infer", b"eq-output", b"eq-run"])
def test_a_board_that_starts_again_in_the_middle(board: Start, built: Bundle, moment: bytes) -> None:
    one = board()
    one.up = Once(moment, one.restart)
    error = refused(one, built, Disconnected)
    assert one.up.happened
    assert "started again" in error.message


@pytest.mark.parametrize("moment", [b"eq-infer", b"eq-run"])
def test_a_firmware_that_hangs(board: Start, built: Bundle, moment: bytes) -> None:
    """It says that it has begun, and nothing more."""
    one = board()
    sign = b"m-eq-began" if moment == b"eq-infer" else b"m-eq-run-"
    one.down = Once(sign, lambda: stop(one), last=True)
    begun = time.monotonic()
    error = refused(one, built, TimedOut, RunSettings(runs=5, seconds=0.1, warmup_seconds=0.0, timeout_seconds=3.0))
    assert time.monotonic() - begun < 60
    assert "3 s" in error.message
    assert "--timeout-seconds" in str(error.hint)


def stop(one: PtyBoard) -> None:
    assert one._child is not None
    one._child.send_signal(signal.SIGSTOP)
    one.down = lambda data: b""  # what it had written already is lost too


def test_an_inference_that_takes_too_long(board: Start, built: Bundle) -> None:
    one = board()
    one.down = Once(b"m-eq-began", lambda: stop(one), last=True)
    with boards.connect(devices.load(one.url)).opened() as stream:
        talk = Conversation(stream, seconds=60)
        firmware.greet(talk, "")
        with pytest.raises(TimedOut, match="it hangs"):
            vectors.infer(talk, bytes(made.INPUTS), made.OUTPUTS, seconds=0.5)


def test_a_cut_in_the_middle(board: Start, built: Bundle) -> None:
    one = board()

    def cut() -> None:
        one.down = lambda data: b""

    one.up = Once(b"eq-output", cut)
    assert "does not answer 'output'" in refused(one, built, TimedOut).message


def test_a_cable_that_is_drawn(board: Start, built: Bundle) -> None:
    one = board()
    drawn = threading.Thread(target=one.unplug)
    one.up = Once(b"eq-output", drawn.start)
    assert "was lost" in refused(one, built, Disconnected).message
    drawn.join()


def test_a_fault_says_where(board: Start, built: Bundle) -> None:
    one = board()
    one.up = Once(b"eq-infer", lambda: one.say(b"\r\neq-fault pc 0x08000124 lr 0xfffffff9\r\n"))
    assert "pc 0x08000124" in refused(one, built, CommandFailed).message


@pytest.mark.parametrize(
    "argv",
    [
        ["cat", "/dev/zero"],
        ["yes", "m-name-dut-[edgeq]"],
        ["yes", "m-eq-about-[1,1,1,1,1,1]#00000000"],
        ["sh", "-c", "tr -dc 'm-%e[]' </dev/urandom"],
    ],
)
def test_a_board_that_does_not_stop_talking(board: Start, built: Bundle, argv: list[str]) -> None:
    """It ends soon, with little memory, whatever the words are."""
    import tracemalloc

    reached = boards.connect(devices.load(board(argv).url))
    tracemalloc.start()
    begun = time.monotonic()
    try:
        with pytest.raises(EdgeqError) as caught, reached.opened() as stream:
            firmware.greet(Conversation(stream, seconds=2.0), "")
        most_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert "\n" not in caught.value.message
    assert time.monotonic() - begun < 60
    assert most_bytes < 4 << 20


def test_a_flood_in_the_middle(board: Start, built: Bundle) -> None:
    flood = b"x" * 70_000 + b"\n"
    one = board()

    def pour() -> None:
        one.down = lambda data: flood + data

    one.up = Once(b"eq-run", pour)
    try:
        assert measure(one, built).parity is not None
    except CommandFailed as error:
        assert "stop talking" in error.message


def test_a_board_that_does_not_read(board: Start, built: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pseudo-terminal's buffer is full after some KiB."""
    one = board([sys.executable, "-c", "import time; time.sleep(60)"])
    with boards.connect(devices.load(one.url)).opened() as stream:
        one.close()  # nobody takes bytes any more
        with pytest.raises((TimedOut, Disconnected)):
            stream.write(bytes(1 << 20))


# --- what a firmware says --------------------------------------------------------------------


def test_another_model(board: Start, built: Bundle, tmp_path: Path) -> None:
    other = made.bundle(tmp_path, seed=1)
    error = refused(board(), other, Altered)
    assert "another model" in error.message
    assert other.path in str(error.hint)


def test_the_same_model_from_other_sources(board: Start, built: Bundle) -> None:
    error = refused(board(down=Rewrite("firmware", at(0, b"ab" * 32))), built, Altered)
    assert "other sources: abababababab" in error.message


def test_a_firmware_of_an_older_edgeq(board: Start, built: Bundle) -> None:
    """It knows MLPerf Tiny's commands only."""
    error = refused(board(up=lambda data: data.replace(b"eq-about", b"qq-about")), built, Altered)
    assert "older edgeq" in error.message


def test_a_firmware_of_somebody_else(board: Start, built: Bundle) -> None:
    error = refused(board(down=lambda data: data.replace(b"[edgeq]", b"[unspecified]")), built, RuntimeMissing)
    assert "'unspecified'" in error.message


def test_the_self_test_is_known_by_its_words(board: Start, built: Bundle) -> None:
    talking = ["sh", "-c", "while sleep 0.1; do echo 'eq-vectors 20'; done"]
    assert "self-test" in refused(board(talking), built, RuntimeMissing, BRIEF).message


def test_a_shell_is_no_firmware(board: Start, built: Bundle) -> None:
    talking = ["sh", "-c", "while sleep 0.1; do printf 'login: \\n'; done"]
    assert "'login:'" in refused(board(talking), built, RuntimeMissing, BRIEF).message


@pytest.mark.parametrize(
    ("name", "change", "kind", "words"),
    [
        ("about", at(0, b"2"), Altered, "speaks version 2"),
        ("about", at(0, b"nan"), CommandFailed, "cannot be"),
        ("about", at(1, b"4294967295"), CommandFailed, "cannot be"),
        ("about", at(2, b"0"), CommandFailed, "cannot be"),
        ("about", at(4, b"99999999999"), CommandFailed, "cannot be"),
        ("about", lambda fields: fields[:-1], CommandFailed, "cannot be"),
        ("model", at(0, b"../../etc/passwd"), CommandFailed, "cannot be"),
        ("firmware", at(0, b""), CommandFailed, "cannot be"),
        ("infer", at(0, b"1"), CommandFailed, "refused its own arena"),
        ("infer", at(2, b"-1"), CommandFailed, "cannot be"),
        ("infer", at(2, b"nan"), CommandFailed, "cannot be"),
        ("output", at(1, b"00"), CommandFailed, "cannot be"),
        ("output", at(1, b"zz" * made.OUTPUTS), CommandFailed, "cannot be"),
        ("output", at(1, b"00" * 900), CommandFailed, "cannot be"),
        ("output", at(0, b"1"), CommandFailed, "cannot be"),
        ("run", at(0, b"99999"), CommandFailed, "cannot be"),
        ("ticks", at(0, b"0"), CommandFailed, "cannot be"),
        ("ticks", at(1, b"4294967296"), CommandFailed, "cannot be"),
        ("ticks", at(1, b"inf"), CommandFailed, "cannot be"),
        ("ran", at(0, b"0"), CommandFailed, "cannot be"),
        ("memory", at(0, b"7"), CommandFailed, "cannot be"),
        ("memory", at(2, b"8"), CommandFailed, "cannot be"),
        ("memory", at(1, b"4294967295"), CommandFailed, "cannot be"),
    ],
)  # fmt: skip
def test_answers_that_cannot_be(
    board: Start, built: Bundle, name: str, change: Any, kind: type[EdgeqError], words: str
) -> None:
    assert words in refused(board(down=Rewrite(name, change)), built, kind).message


def test_answers_that_nobody_asked_for(board: Start, built: Bundle) -> None:
    def twice(data: bytes) -> bytes:
        return re.sub(rb"(m-eq-infer-[^\r]*)", rb"\1\r\n\1", data)

    assert "was not asked" in refused(board(down=twice), built, CommandFailed).message


def test_memory_behind_the_arena(board: Start, built: Bundle) -> None:
    def beyond(fields: list[bytes]) -> list[bytes]:
        return [fields[0], b"%d" % (int(fields[0]) + 3), b"0", b"0", b"0"]

    error = refused(board(down=Rewrite("memory", beyond)), built, CommandFailed)
    assert "behind its arena" in error.message


def test_a_stack_that_reached_its_limit(board: Start, built: Bundle) -> None:
    full = Rewrite("memory", lambda fields: [fields[0], fields[0], b"2048", b"2048", b"0"])
    error = refused(board(down=full), built, CommandFailed)
    assert "stack" in error.message
    assert "2048" in error.message


def test_a_wrong_byte_is_told(board: Start, built: Bundle) -> None:
    """A board that computes otherwise is measured all the same: the verdict says no."""

    def other(fields: list[bytes]) -> list[bytes]:
        value = int(fields[1][:2], 16)
        return [fields[0], b"%02x" % (value ^ 2) + fields[1][2:]]

    found = measure(board(down=Rewrite("output", other)), built)
    assert found.parity is not None
    assert found.firmware is not None
    assert (found.parity.exact, found.parity.ok, found.parity.max_steps) == (False, False, 2.0)
    assert found.firmware.differing_bytes == built.manifest.golden_vectors


# --- clocks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rate", "words"),
    [(b"0", "no time"), (b"1000", "more time than passed")],
)
def test_a_clock_that_cannot_be_right(board: Start, built: Bundle, rate: bytes, words: str) -> None:
    """Everything else is measured; the latency is None, with the reason."""
    rewrites = [Rewrite("about", at(4, rate)), Rewrite("ticks", at(1, b"1000000"))]
    one = board(down=lambda data: rewrites[1](rewrites[0](data)))
    found = measure(one, built, RunSettings(runs=2000, seconds=0.2, warmup_seconds=0.0))
    assert found.latency_ms is None
    assert found.latency_samples_ns == ()
    assert words in found.unavailable["latency_ms"]
    assert found.parity is not None
    assert found.parity.exact


def test_ticks_that_stand_still(board: Start, built: Bundle) -> None:
    still = [Rewrite("ticks", at(1, b"0")), Rewrite("infer", at(2, b"0"))]
    found = measure(board(down=lambda data: still[1](still[0](data))), built)
    assert found.latency_ms is None
    assert "too coarse" in found.unavailable["latency_ms"]


# --- ports -----------------------------------------------------------------------------------


def connect(path: str) -> boards.Board:
    return boards.connect(devices.load(f"serial://{path}"))


def test_a_port_that_is_not_there() -> None:
    with pytest.raises(Unreachable, match="there is no /dev/ttyACM99") as caught:
        connect("/dev/ttyACM99")
    assert "ls /dev" in str(caught.value.hint)


def test_what_is_no_port(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "file", tmp_path / "pipe", tmp_path, tmp_path / "file" / "below"):
        with pytest.raises(Unreachable):
            connect(str(path))
    null = connect("/dev/null")
    with pytest.raises(Unreachable, match="no serial port"), null.opened():
        pass


def test_a_port_in_use(board: Start) -> None:
    one = board()
    first, second = (boards.connect(devices.load(one.url)) for _ in range(2))
    with first.opened():
        with pytest.raises(DeviceBusy, match="in use") as caught, second.opened():
            pass
        assert "fuser" in str(caught.value.hint)
    with second.opened():
        pass


def test_a_port_in_use_is_waited_for(board: Start) -> None:
    one = board()
    first, second = (boards.connect(devices.load(one.url)) for _ in range(2))
    released, steps = threading.Event(), []
    held = first.opened()
    held.__enter__()

    def let_go() -> None:
        released.wait(20)
        held.__exit__(None, None, None)

    def heard(step: str, done: int, total: int) -> None:
        steps.append(step)
        released.set()

    thread = threading.Thread(target=let_go)
    thread.start()
    with second.opened(wait_seconds=30, progress=heard):
        assert released.is_set()
    thread.join()
    assert set(steps) == {"waiting for the port"}


def test_a_port_that_may_not_be_opened(board: Start) -> None:
    """As another user, in a process of its own."""
    if os.geteuid() != 0:
        pytest.skip("only root can become a user who may not open a port")
    one = board()
    Path(one.port).chmod(0o600)
    code = (
        "import os, sys\n"
        "from edgeq import devices, errors; from edgeq.lab import boards; from edgeq.lab.boards import serial\n"
        "unit = devices.load(sys.argv[1]); boards.speaks(unit); os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "try: boards.connect(unit)\n"
        "except errors.Unreachable as error: print(error.message, '/', error.hint)"
    )
    ran = subprocess.run([sys.executable, "-c", code, one.url], capture_output=True, text=True, timeout=60, check=True)
    told = ran.stdout
    assert told.startswith(f"no permission to open {one.port}")
    assert "usermod -aG dialout" in told


def test_a_baud_rate_that_a_port_does_not_have(board: Start) -> None:
    """A pseudo-terminal takes any; what it is told is what the port is set to."""
    import termios

    one = board()
    with boards.connect(devices.load(f"{one.url}?baud=57600")).opened() as stream:
        assert stream.byte_seconds == 10 / 57600
        assert termios.tcgetattr(one._slave)[4] == termios.B57600


def test_threads_and_cores_cannot_be_chosen(board: Start, built: Bundle) -> None:
    for settings in (RunSettings(threads=2), RunSettings(cpus=(0,))):
        refused(board(), built, UsageError, settings)


def test_an_interrupt_ends_a_measurement(board: Start, built: Bundle) -> None:
    one = board([])
    reached = boards.connect(devices.load(one.url))
    threading.Timer(0.5, reached.interrupt).start()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        measuring.measure(reached, built, QUICK)
    assert time.monotonic() - begun < firmware.HELLO_SECONDS
