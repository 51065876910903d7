"""Sizes and durations."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeq.units import format_ms, format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("512", 512), (512, 512), ("64 KiB", 65536), ("1.5 MiB", 1572864), ("8GiB", 8 << 30), (" 1 B ", 1), ("0", 0)],
)
def test_sizes_are_read(text: int | str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("64 KB", "64 KiB"),
        ("1 MB", "1 MiB"),
        ("2 G", "2 GiB"),
        ("12 apples", "not a unit"),
        ("", "not a size"),
        ("-5", "not a size"),
        (-5, "negative"),
        (True, "not a size"),
        ("1e9", "not a size"),
        ("0.3 B", "whole number"),
        ("9" * 40, "not a size"),
    ],
)
def test_wrong_sizes_say_what_would_be_right(text: int | str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_size(text)


@given(st.integers(0, 10**15 - 1))
def test_numbers_mean_bytes_however_they_are_written(size_bytes: int) -> None:
    assert parse_size(size_bytes) == parse_size(str(size_bytes)) == parse_size(f"{size_bytes} B") == size_bytes


@given(st.integers(0, 1 << 12), st.sampled_from(["KiB", "MiB", "GiB"]))
def test_units_are_powers_of_1024(number: int, unit: str) -> None:
    power = ["KiB", "MiB", "GiB"].index(unit) + 1
    assert parse_size(f"{number} {unit}") == number * 1024**power


@given(st.text(max_size=20))
def test_any_text_is_a_size_or_a_value_error(text: str) -> None:
    try:
        assert parse_size(text) >= 0
    except ValueError as error:
        assert str(error)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(None, "-"), (0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 << 20, "5.0 MiB"), (3 << 30, "3.00 GiB")],
)
def test_sizes_are_shown(size_bytes: int | None, text: str) -> None:
    assert format_size(size_bytes) == text


@pytest.mark.parametrize(
    ("duration_ms", "text"), [(None, "-"), (0.012, "12 µs"), (1.234, "1.23 ms"), (99.5, "99.5 ms"), (2500, "2.5 s")]
)
def test_durations_are_shown(duration_ms: float | None, text: str) -> None:
    assert format_ms(duration_ms) == text
