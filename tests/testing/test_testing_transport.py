"""The device that answers what a test tells it to."""

from __future__ import annotations

import hashlib
import inspect
import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.errors import CommandFailed, Disconnected, TimedOut
from edgeq.lab import transports
from edgeq.lab.leases import leased
from edgeq.testing.transport import FakeTransport, said
from edgeq.types import Device


def run(fake: FakeTransport, *argv: str, **words: object) -> transports.Completed:
    return fake.run(argv, timeout_seconds=1, **words)  # type: ignore[arg-type]


def test_it_has_all_that_a_transport_has_under_the_same_names() -> None:
    """A plug-in's test that passes with it must not fail on a real one for a missing or renamed word."""
    wanted = {
        name: member
        for name, member in vars(transports.Transport).items()
        if inspect.isfunction(member) and not name.startswith("_") and name != "Transport"
    }
    assert {"run", "put", "get", "hash", "remove"} <= set(wanted)
    for name, member in wanted.items():
        ours = inspect.signature(getattr(FakeTransport, name)).parameters
        assert list(ours) == list(inspect.signature(member).parameters), name
        for word, parameter in inspect.signature(member).parameters.items():
            assert ours[word].kind == parameter.kind, f"{name}({word})"
            assert ours[word].default == parameter.default, f"{name}({word})"


def test_answers_come_one_after_the_other_and_every_argv_is_kept() -> None:
    fake = FakeTransport([said({"n": 1}), said({"n": 2}, status=3, signal="KILL", stderr=b"oh")])
    assert run(fake, "a", "b").stdout == b'{"n": 1}\n'
    second = run(fake, "c")
    assert (second.exit_status, second.signal, second.stderr) == (3, "KILL", b"oh")
    assert fake.ran == [("a", "b"), ("c",)]


def test_an_exception_is_raised_and_the_next_answer_follows() -> None:
    fake = FakeTransport([TimedOut("too slow"), Disconnected("gone"), said("back")])
    with pytest.raises(TimedOut, match="too slow"):
        run(fake, "a")
    with pytest.raises(Disconnected):
        run(fake, "a")
    assert json.loads(run(fake, "a").stdout) == "back"


def test_the_end_of_the_script_is_a_failed_command() -> None:
    fake = FakeTransport()
    with pytest.raises(CommandFailed, match="has ended"):
        run(fake, "a")
    assert fake.ran == [("a",)], "what was asked for is kept all the same"


def test_more_output_than_the_caller_allows_is_refused_as_over_a_wire() -> None:
    fake = FakeTransport([said(b"x" * 100), said(b"x" * 99)])
    with pytest.raises(CommandFailed, match="too much"):
        run(fake, "a", output_limit_bytes=100)
    assert len(run(fake, "a", output_limit_bytes=100).stdout) == 100


def test_lines_are_handed_over_as_they_come() -> None:
    lines: list[str] = []
    run(FakeTransport([said({"a": 1}, b"raw", [2])]), "a", on_line=lines.append)
    assert lines == ['{"a": 1}', "raw", "[2]"]


def test_broken_text_does_not_break_the_reader_of_lines() -> None:
    lines: list[str] = []
    run(FakeTransport([said(b"\xff\xfe", b"fine")]), "a", on_line=lines.append)
    assert lines == ["\ufffd\ufffd", "fine"]


@given(events=st.lists(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5), max_size=5))
def test_what_was_said_is_one_json_line_each(events: list[object]) -> None:
    assert [json.loads(line) for line in said(*events).stdout.split(b"\n")[:-1]] == events


def test_files_go_there_and_come_back(tmp_path: Path) -> None:
    source, back = tmp_path / "source", tmp_path / "back"
    source.write_bytes(b"content")
    sent: list[tuple[int, int]] = []
    fake = FakeTransport()
    fake.make_folder("/there")
    fake.put(source, "/there/file", progress=lambda *words: sent.append(words))
    assert sent == [(7, 7)]
    assert fake.files == {"/there/file": b"content"}
    fake.get("/there/file", back, limit_bytes=7)
    assert back.read_bytes() == b"content"


def test_what_is_absent_or_too_big_is_not_fetched(tmp_path: Path) -> None:
    fake = FakeTransport()
    fake.files["/there/file"] = b"content"
    for name, limit_bytes in (("/there/other", 100), ("/there/file", 6)):
        with pytest.raises(CommandFailed, match="absent or too big"):
            fake.get(name, tmp_path / "back", limit_bytes=limit_bytes)
    assert not (tmp_path / "back").exists()


def test_hashes_are_those_of_the_files_that_are_there(tmp_path: Path) -> None:
    fake = FakeTransport()
    fake.files = {"/a": b"1", "/b": b"2"}
    assert fake.hash(["/b", "/gone"]) == {"/b": hashlib.sha256(b"2").hexdigest()}


def test_several_files_are_sent_and_a_folder_is_removed_whole(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_text(name)
    fake = FakeTransport()
    fake.put_all([(tmp_path / "one", "/d/one"), (tmp_path / "two", "/d/sub/two")])
    fake.put(tmp_path / "one", "/d2/one")
    fake.remove(["/d"])
    assert set(fake.files) == {"/d2/one"}, "a name that only begins alike stays"
    assert fake.removed == ["/d"]


def test_each_fake_is_a_device_of_its_own(tmp_path: Path) -> None:
    device = Device(name="mine", transport="fake")
    with FakeTransport(device=device) as one, FakeTransport() as other:
        one.files["/a"] = b""
        assert other.files == {}
        assert one.device is device
        assert (other.device.name, other.home()) == ("fake", "/home/fake")


def test_a_lease_is_always_free_and_holders_are_listed() -> None:
    fake = FakeTransport()
    with leased(fake) as check:
        check()
    assert [holder["pid"] for holder in fake.holders] == [os.getpid()]
    fake.interrupt()
    assert isinstance(fake, transports.Transport)
