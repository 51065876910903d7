"""Bytes become lines, lines become answers: whatever the bytes are."""

from __future__ import annotations

import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.lab.boards.lines import MOST, Kind, Lines, number, numbers, parse

PRINTABLE = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E))
FIELDS = st.lists(st.text("0123456789abcdef. -", max_size=12), min_size=1, max_size=6)
NAMES = st.from_regex("[a-z]{1,20}", fullmatch=True)


def own(name: str, *fields: object) -> bytes:
    text = f"m-eq-{name}-[{','.join(map(str, fields))}]".encode()
    return text + f"#{zlib.crc32(text):08x}".encode()


# --- lines ------------------------------------------------------------------------------------


def test_every_kind_of_end() -> None:
    assert Lines().feed(b"a\nb\r\nc\rd\n\n\r\r\nrest") == [b"a", b"b", b"c", b"d"]


def test_half_a_line_waits_for_the_other_half() -> None:
    lines = Lines()
    assert lines.feed(b"m-re") == []
    assert lines.feed(b"ady\r") == [b"m-ready"]
    assert lines.feed(b"\n") == []


def test_a_line_that_is_too_long_is_dropped_and_the_next_is_not() -> None:
    lines = Lines(limit_bytes=10)
    assert lines.feed(b"x" * 9 + b"xx") == []
    assert lines.feed(b"y" * 1000) == []
    assert lines.feed(b"\nnext\n") == [b"next"]


def test_a_line_of_just_the_limit_is_kept() -> None:
    assert Lines(limit_bytes=10).feed(b"x" * 10 + b"\n" + b"x" * 11 + b"\n") == [b"x" * 10]


def test_what_was_begun_can_be_forgotten() -> None:
    lines = Lines()
    lines.feed(b"half of an ans")
    lines.clear()
    assert lines.feed(b"m-ready\n") == [b"m-ready"]


@given(st.lists(st.binary(max_size=60)), st.integers(1, 40))
def test_it_does_not_matter_how_bytes_are_cut(pieces: list[bytes], limit: int) -> None:
    cut, whole = Lines(limit), Lines(limit)
    assert [line for piece in pieces for line in cut.feed(piece)] == whole.feed(b"".join(pieces))


@given(st.lists(st.binary(max_size=200)), st.integers(1, 40))
def test_no_line_and_no_memory_is_larger_than_the_limit(pieces: list[bytes], limit: int) -> None:
    lines = Lines(limit)
    for piece in pieces:
        assert all(0 < len(line) <= limit for line in lines.feed(piece))
        assert len(lines._part) <= limit


# --- what they say ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "kind", "text"),
    [
        (b"m-ready", Kind.READY, ""),
        (b"\x00\xffm-ready", Kind.READY, ""),
        (b"m-init-done", Kind.BOOT, ""),
        (b"\xf0\x9fm-init-done", Kind.BOOT, ""),
        (b"m-name-dut-[edgeq]", Kind.NAME, "edgeq"),
        (b"e-[unknown command]", Kind.ERROR, "unknown command"),
        (b"eq-fault pc 0x08000124 lr 0xfffffff9", Kind.FAULT, "pc 0x08000124 lr 0xfffffff9"),
        (b"m-read", Kind.OTHER, "m-read"),
        (b"m-ready?", Kind.OTHER, "m-ready?"),
        (b"e-[", Kind.OTHER, "e-["),
        (b"m-eq-", Kind.DAMAGED, "m-eq-"),
        (b"m-eq-about-[1,2]", Kind.DAMAGED, "m-eq-about-[1,2]"),
        (b"", Kind.OTHER, ""),
    ],
)
def test_kinds(line: bytes, kind: Kind, text: str) -> None:
    found = parse(line)
    assert (found.kind, found.text) == (kind, text)


@given(NAMES, FIELDS, st.binary(max_size=20))
def test_an_answer_is_found_behind_noise(name: str, fields: list[str], noise: bytes) -> None:
    line = noise.replace(b"m-eq-", b"") + own(name, *fields)
    found = parse(line)
    assert (found.kind, found.name, found.fields) == (Kind.OWN, name, tuple(",".join(fields).split(",")))


@given(NAMES, FIELDS, st.data())
def test_an_answer_that_noise_has_changed_is_not_taken(name: str, fields: list[str], data: st.DataObject) -> None:
    """CRC-32 finds every error of a single byte."""
    line = own(name, *fields)
    place = data.draw(st.integers(0, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda value: value != line[place]))
    assert parse(line[:place] + bytes([byte]) + line[place + 1 :]).kind is not Kind.OWN


@given(NAMES, FIELDS, st.data())
def test_half_an_answer_is_none(name: str, fields: list[str], data: st.DataObject) -> None:
    line = own(name, *fields)
    assert parse(line[: data.draw(st.integers(0, len(line) - 1))]).kind is not Kind.OWN
    assert parse(line[data.draw(st.integers(1, len(line))) :]).kind is not Kind.OWN


@given(NAMES, FIELDS)
def test_two_answers_that_lost_the_end_between_them(name: str, fields: list[str]) -> None:
    """The second is whole, the first is lost."""
    found = parse(own("first", 1)[:-3] + own(name, *fields))
    assert (found.kind, found.name) == (Kind.OWN, name)


@given(st.binary(max_size=300))
def test_anything_is_some_line(line: bytes) -> None:
    assert isinstance(parse(line).kind, Kind)


@given(st.lists(st.one_of(st.binary(max_size=30), st.just(own("run", 1, 2)), st.just(b"m-ready")), max_size=20))
def test_answers_survive_whatever_stands_between_them(parts: list[bytes]) -> None:
    """Noise may cost the answer that it touches, never invent one."""
    found = [parse(line) for line in Lines().feed(b"\n".join(parts) + b"\n")]
    told = [line for line in found if line.kind is Kind.OWN]
    assert all(line.fields == ("1", "2") for line in told)
    assert len(told) >= sum(part == own("run", 1, 2) for part in parts)


# --- numbers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "field", ["", "-1", "+1", " 1", "1 ", "1.0", "nan", "inf", "0x1", "1e3", "4294967296", "9" * 30, "\u0661", "1_0"]
)
def test_what_is_no_number(field: str) -> None:
    assert number(field) is None


def test_limits_of_numbers() -> None:
    assert number("0") == 0
    assert number("4294967295") == MOST
    assert number("7", most=7) == 7
    assert number("8", most=7) is None


@given(st.lists(st.integers(0, MOST), max_size=5), st.integers(0, 5))
def test_so_many_numbers_or_none(values: list[int], count: int) -> None:
    found = numbers(tuple(map(str, values)), count)
    assert found == (tuple(values) if len(values) == count else None)
    assert numbers((*map(str, values), "nan"), len(values) + 1) is None


@given(PRINTABLE)
def test_texts_are_numbers_only_if_they_are_digits(text: str) -> None:
    assert number(text) is None or text.isdecimal()
