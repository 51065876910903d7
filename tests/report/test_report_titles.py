"""Titles hold paths and names of users and devices: they are text, and harmless on a terminal."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from edgeq.report import terminal


def shown(title: str | None) -> str:
    stream = io.StringIO()
    Console(file=stream, width=120, color_system=None).print(terminal.table(title, ("column",), [("value" * 12,)]))
    return stream.getvalue()


@pytest.mark.parametrize("title", ["a[/m].tflite", "m[int8].tflite", "[bold]x[/bold]", "[red", "[/]"])
def test_a_title_is_no_markup(title: str) -> None:
    assert title in shown(title)


@pytest.mark.parametrize("title", ["\x1b[2Jgone", "two\nlines", "bell\x07", "\u202eright to left"])
def test_control_characters_of_a_title_do_not_reach_the_terminal(title: str) -> None:
    out = shown(title)
    assert not set(out) & {"\x1b", "\x07", "\u202e"}
    assert "?" in out
    assert len(out.splitlines()) == 3


def test_line_breaks_before_a_title_set_it_apart() -> None:
    assert shown("\nmeasured").splitlines()[0].strip() == ""
    assert "measured" in shown("\nmeasured").splitlines()[1]


def test_a_table_may_have_no_title() -> None:
    assert shown(None).splitlines()[0].split() == ["column"]
