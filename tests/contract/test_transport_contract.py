"""What every transport must do, run over each of them against real processes and files."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgeq import backends
from edgeq.errors import Altered, CommandFailed, NotWritable, TimedOut, UsageError
from edgeq.lab.transports import Transport, local, ssh
from edgeq.testing.sshd import Server, running_with
from edgeq.types import Device

TRANSPORTS = ("local", "ssh")
ECHO = "import sys; sys.stdout.buffer.write('\\0'.join(sys.argv[1:]).encode('utf-8', 'surrogateescape'))"
HEALTH = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
WORDS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
NASTY = [
    "$(touch x)",
    "`id`",
    "a b",
    "'",
    '"',
    "\\",
    "\n",
    "-rf",
    "--",
    "",
    "*",
    "~",
    "!x",
    "ü€😀",
    ";",
    "&",
    "%s",
    "\r",
    "\t#",
]


@pytest.fixture(params=TRANSPORTS)
def transport(request: pytest.FixtureRequest) -> Iterator[Transport]:
    """An open connection of each kind."""
    if request.param == "local":
        folder = str(request.getfixturevalue("tmp_path"))
        with local.connect(Device(name="here", transport="local", folder=folder)) as opened:
            yield opened
    else:
        server: Server = request.getfixturevalue("sshd")
        with ssh.connect(server.device(folder=str(request.getfixturevalue("tmp_path")))) as opened:
            yield opened


def python(transport: Transport, code: str, *words: str) -> list[str]:
    return [transport.device.python, "-X", "utf8", "-c", code, *words]


def names(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def gone(marker: str, seconds: float = 5) -> bool:
    give_up = time.monotonic() + seconds
    while running_with(marker) and time.monotonic() < give_up:
        time.sleep(0.05)
    return not running_with(marker)


def test_both_are_found_by_name_and_keep_the_protocol(transport: Transport) -> None:
    assert set(TRANSPORTS) <= set(backends.names("lab.transports"))
    assert not [name for name in backends.names("lab.transports") if name.startswith("_")]
    assert isinstance(transport, Transport)


def test_output_errors_and_status_come_back(transport: Transport) -> None:
    code = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(3)"
    done = transport.run(python(transport, code), timeout_seconds=20)
    assert (done.exit_status, done.signal, done.stdout, done.stderr) == (3, None, b"out\n", b"err\n")
    assert done.argv == tuple(python(transport, code))


@pytest.mark.parametrize(("name", "number"), [("SIGKILL", 9), ("SIGILL", 4), ("SIGTERM", 15), ("SIGSEGV", 11)])
def test_a_signal_is_told_by_name(transport: Transport, name: str, number: int) -> None:
    done = transport.run(["sh", "-c", f"kill -{number} $$"], timeout_seconds=20)
    assert (done.signal, done.exit_status) == (name, 128 + number)


def test_a_program_that_is_not_there_is_status_127(transport: Transport, tmp_path: Path) -> None:
    done = transport.run(["edgeq-no-such-program", "x"], timeout_seconds=20)
    assert done.exit_status == 127
    assert b"edgeq-no-such-program" in done.stderr
    (tmp_path / "text").write_text("no program")
    assert transport.run([str(tmp_path / "text")], timeout_seconds=20).exit_status == 126


def test_standard_input_arrives_whole(transport: Transport) -> None:
    data = os.urandom(3_000_000)
    code = "import sys,hashlib; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    done = transport.run(python(transport, code), timeout_seconds=30, stdin=data)
    assert done.stdout.decode().strip() == hashlib.sha256(data).hexdigest()


def test_input_that_is_not_read_does_no_harm(transport: Transport) -> None:
    assert transport.run(["true"], timeout_seconds=20, stdin=bytes(2_000_000)).exit_status == 0


def test_standard_input_ends_without_data(transport: Transport) -> None:
    assert transport.run(["cat"], timeout_seconds=10).stdout == b""


def test_binary_output_is_unharmed(transport: Transport) -> None:
    code = "import sys; sys.stdout.buffer.write(bytes(range(256)) * 4000)"
    assert transport.run(python(transport, code), timeout_seconds=20).stdout == bytes(range(256)) * 4000


def test_lines_come_as_they_are_written(transport: Transport) -> None:
    seen: list[tuple[str, float]] = []
    code = "import time\nfor word in 'a', 'b', 'last':\n"
    code += "  print(word, end='\\n' * (word != 'last'), flush=True); time.sleep(0.5)"
    transport.run(
        python(transport, code), timeout_seconds=20, on_line=lambda line: seen.append((line, time.monotonic()))
    )
    assert [line for line, _ in seen] == ["a", "b", "last"]
    assert seen[1][1] - seen[0][1] > 0.3


def test_too_much_output_ends_the_command(transport: Transport) -> None:
    marker = f"edgeq-flood-{os.getpid()}"
    code = "import sys\nwhile True: sys.stdout.write('x' * 9999)"
    with pytest.raises(CommandFailed, match="more than 100000 bytes"):
        transport.run(python(transport, code, marker), timeout_seconds=20, output_limit_bytes=100_000)
    assert gone(marker)


def test_time_is_up_and_the_whole_group_is_gone(transport: Transport) -> None:
    marker = f"edgeq-group-{os.getpid()}"
    script = f"sh -c 'trap \"\" TERM; while :; do sleep 0.2; done' {marker} & sh -c 'sleep 60; :' {marker}"
    before = time.monotonic()
    with pytest.raises(TimedOut, match="the command sh"):
        transport.run(["sh", "-c", script], timeout_seconds=1)
    assert time.monotonic() - before < 8
    assert gone(marker)
    assert transport.run(["echo", "on"], timeout_seconds=20).stdout == b"on\n"


def test_what_a_command_leaves_in_the_background_is_ended(transport: Transport) -> None:
    marker = f"edgeq-left-{os.getpid()}"
    done = transport.run(["sh", "-c", f"sh -c 'sleep 60; :' {marker} & echo done"], timeout_seconds=20)
    assert (done.exit_status, done.stdout) == (0, b"done\n")
    assert gone(marker)


def test_an_error_in_the_callback_ends_the_command(transport: Transport) -> None:
    marker = f"edgeq-callback-{os.getpid()}"

    def fail(line: str) -> None:
        raise ZeroDivisionError(line)

    code = "import time; print('x', flush=True); time.sleep(60)"
    with pytest.raises(ZeroDivisionError):
        transport.run(python(transport, code, marker), timeout_seconds=20, on_line=fail)
    assert gone(marker)


@pytest.mark.parametrize("argv", [[], ["a\0b"], ["true", "\0"]])
def test_words_that_cannot_be_passed_are_refused(transport: Transport, argv: list[str]) -> None:
    with pytest.raises(UsageError, match="NUL"):
        transport.run(argv, timeout_seconds=5)


def test_nasty_words_are_unharmed(transport: Transport) -> None:
    done = transport.run(python(transport, ECHO, *NASTY), timeout_seconds=20)
    assert done.stdout.decode().split("\0") == NASTY
    assert not Path("x").exists()


@settings(max_examples=15, deadline=None, suppress_health_check=HEALTH)
@given(words=st.lists(WORDS, min_size=1, max_size=6))
def test_any_words_are_unharmed(transport: Transport, words: list[str]) -> None:
    done = transport.run(python(transport, ECHO, *words), timeout_seconds=20)
    assert done.stdout.decode().split("\0") == words


@pytest.mark.parametrize("size", [0, 1, 32768, 1_000_003])
def test_a_file_goes_and_comes_back(transport: Transport, tmp_path: Path, size: int) -> None:
    source, there, back = tmp_path / "source", tmp_path / "deep" / "folder" / "there", tmp_path / "back"
    source.write_bytes(os.urandom(size))
    steps: list[tuple[int, int]] = []
    transport.put(source, str(there), progress=lambda done, total: steps.append((done, total)))
    assert there.read_bytes() == source.read_bytes()
    assert steps[-1:] == ([(size, size)] if size else [])
    assert transport.hash([str(there), str(tmp_path / "none")]) == {
        str(there): hashlib.sha256(source.read_bytes()).hexdigest()
    }
    transport.get(str(there), back, limit_bytes=size)
    assert back.read_bytes() == source.read_bytes()
    assert not list(tmp_path.rglob("*.part"))


@settings(max_examples=10, deadline=None, suppress_health_check=HEALTH)
@given(name=WORDS.filter(lambda word: word not in ("", ".", "..") and "/" not in word))
def test_any_file_name_is_unharmed(transport: Transport, tmp_path: Path, name: str) -> None:
    (tmp_path / "source").write_bytes(name.encode())
    there = str(tmp_path / "there" / name)
    transport.put(tmp_path / "source", there)
    assert names(tmp_path / "there") == [name]
    assert set(transport.hash([there])) == {there}
    transport.remove([there])
    assert names(tmp_path / "there") == []


def test_many_files_in_one_go(transport: Transport, tmp_path: Path) -> None:
    pairs = []
    for number in range(5):
        source = tmp_path / f"source{number}"
        source.write_bytes(bytes([number]) * 50_000 * number)
        pairs.append((source, str(tmp_path / "there" / str(number) / "file")))
    source.chmod(0o755)
    steps: list[int] = []
    transport.put_all(pairs, progress=lambda done, _: steps.append(done))
    assert steps == sorted(steps)
    assert steps[-1] == 500_000
    assert all(Path(there).read_bytes() == source.read_bytes() for source, there in pairs)
    assert [Path(there).stat().st_mode & 0o777 for _, there in pairs] == [0o644] * 4 + [0o755]


def test_a_file_replaces_another_and_keeps_it_when_it_cannot(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "new").write_text("new")
    (tmp_path / "there").write_text("old")
    transport.put(tmp_path / "new", str(tmp_path / "there"))
    assert (tmp_path / "there").read_text() == "new"
    (tmp_path / "folder").mkdir()
    with pytest.raises(NotWritable, match="folder"):
        transport.put(tmp_path / "new", str(tmp_path / "folder"))
    with pytest.raises(NotWritable):
        transport.put(tmp_path / "new", str(tmp_path / "there" / "below-a-file"))
    with pytest.raises(NotWritable):
        transport.put(tmp_path / "new", str(tmp_path / ("x" * 300)))
    assert sorted(names(tmp_path)) == ["folder", "new", "there"]


def test_fetching_is_bounded_and_whole(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(bytes(200_000))
    with pytest.raises(CommandFailed, match="bigger than 199999 bytes"):
        transport.get(str(tmp_path / "big"), tmp_path / "back", limit_bytes=199_999)
    with pytest.raises(CommandFailed, match="none"):
        transport.get(str(tmp_path / "none"), tmp_path / "back", limit_bytes=1000)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CommandFailed, match="not a regular file"):
        transport.get(str(tmp_path / "pipe"), tmp_path / "back", limit_bytes=1000)
    assert not (tmp_path / "back").exists()
    assert not list(tmp_path.glob(".*"))


def test_hashing_passes_over_what_is_no_file(transport: Transport, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_bytes(b"x")
    paths = [str(tmp_path / name) for name in ("pipe", "file", "none", "")]
    assert set(transport.hash(paths)) == {str(tmp_path / "file")}
    assert transport.hash([]) == {}


def test_removing(transport: Transport, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")
    transport.make_folder(str(tmp_path / "a" / "b"))
    transport.make_folder(str(tmp_path / "a" / "b"))
    (tmp_path / "a" / "link").symlink_to(outside)
    (tmp_path / "file").write_text("")
    transport.remove([str(tmp_path / name) for name in ("a", "file", "none")])
    assert names(tmp_path) == ["outside"]
    assert names(outside) == ["kept"]


def test_a_folder_that_cannot_be_made(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotWritable, match="file"):
        transport.make_folder(str(tmp_path / "file" / "below"))


def test_relative_paths_start_at_home(transport: Transport) -> None:
    home = transport.home()
    assert Path(home).is_absolute()
    done = transport.run(python(transport, "import os; print(os.getcwd())"), timeout_seconds=20)
    assert done.stdout.decode().strip() == home


def test_a_file_that_grows_while_it_is_sent_arrives_as_it_was_read(transport: Transport, tmp_path: Path) -> None:
    source, there = tmp_path / "source", tmp_path / "there"
    source.write_bytes(bytes(100_000))

    def grow(done: int, total: int) -> None:
        if total == 100_000:
            with source.open("ab") as stream:
                stream.write(b"more")

    transport.put(source, str(there), progress=grow)
    assert there.read_bytes() == source.read_bytes()


def test_closing_twice_is_fine(transport: Transport) -> None:
    transport.close()
    transport.close()


def test_a_changed_file_is_noticed_by_the_agent(transport: Transport, tmp_path: Path) -> None:
    """A host that says another hash than it sent stands in for a disk that stores something else."""
    from edgeq.lab.transports._jobs import AgentTransport

    assert isinstance(transport, AgentTransport)
    job: dict[str, object] = {"job": "put", "files": [[str(tmp_path / "there"), 0o644]]}
    with pytest.raises(Altered, match="not what was sent"), transport._dialogue(job) as dialogue:
        dialogue.send(b"D", b"some bytes")
        dialogue.send(b"E", b"0" * 64)
        transport._result(dialogue, time.monotonic() + 20)
    assert names(tmp_path) == []


def test_python3_on_this_host_is_the_one_that_runs_edgeq(run_local: Callable[[str], str]) -> None:
    assert run_local("import sys; print(sys.executable)") == sys.executable


@pytest.fixture
def run_local() -> Iterator[Callable[[str], str]]:
    with local.connect(Device(name="here", transport="local", python="python3")) as opened:
        argv = [opened.device.python, "-c"]
        yield lambda code: opened.run([*argv, code], timeout_seconds=20).stdout.decode().strip()
