"""The report of a search: every candidate in the table, a plot of numbers, nothing that a name could break out of."""

from __future__ import annotations

import base64
import dataclasses
import re
from html.parser import HTMLParser
from typing import Any

import pytest

from edgeq.report import html, json, plots, terminal
from edgeq.types import QuantizedModel, Trial

FIRST = Trial(scheme="static_wi8_ai8 (int8/int8, percentile)", ok=False, why="top1 is worse", score=0.5, drop=0.4,
              sqnr_db=1.25, size_bytes=2048, latency_ms=0.5, seconds=1.0, on_front=True)  # fmt: skip
SECOND = Trial(scheme="weight_only_wf16", ok=True, score=0.9, drop=0.0, sqnr_db=60.0, size_bytes=4096, on_front=True)
FAILED = Trial(scheme="dynamic_wi8_af32", ok=False, why="cannot be converted")


def searched(quantized: QuantizedModel, *trials: Trial, **changes: Any) -> QuantizedModel:
    plan = dataclasses.replace(quantized.plan, trials=trials)
    return dataclasses.replace(quantized, plan=plan, **changes)


class _Reader(HTMLParser):
    """Tags, the attributes that load something, and the text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.loads: list[str] = []
        self.words: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def test_the_page_has_every_candidate_and_needs_nothing_else(quantized: QuantizedModel) -> None:
    page = _Reader(html.search(searched(quantized, FIRST, FAILED, SECOND)))
    text = " ".join(page.words)
    for trial in (FIRST, FAILED, SECOND):
        assert trial.scheme in text
        assert trial.why in text
    assert page.tags.count("tr") == 4
    assert "script" not in page.tags
    assert [load[:26] for load in page.loads] == ["data:image/svg+xml;base64,"]
    assert "2.0 KiB" in text


def test_the_verdict_is_the_accuracys(quantized: QuantizedModel) -> None:
    assert quantized.accuracy is not None
    good = html.search(searched(quantized, FIRST, SECOND, accuracy=dataclasses.replace(quantized.accuracy, ok=True)))
    assert "Taken: weight_only_wf16." in good
    bad = dataclasses.replace(quantized.accuracy, ok=False, why="it lost 40 points")
    page = html.search(searched(quantized, FIRST, FAILED, accuracy=bad))
    assert "None holds" in page
    assert "it lost 40 points" in page
    assert 'class="verdict bad"' in page


@pytest.mark.parametrize(
    "name", ["<script>alert(1)</script>", '"><img src=x>', "a\x1b[31m\x00b", "{{ 7*7 }}", "\u202e"]
)
def test_hostile_words_are_only_text(quantized: QuantizedModel, name: str) -> None:
    trial = dataclasses.replace(FIRST, why=name)
    plain = _Reader(html.search(searched(quantized, FIRST, SECOND)))
    page = html.search(searched(quantized, trial, SECOND, float_path=name))
    found = _Reader(page)
    assert found.tags == plain.tags
    assert found.loads == plain.loads
    assert "49" not in re.sub(r"data:[^\"]*", "", page).split("<h1>")[1].replace("4096", "")
    assert "\x1b" not in page
    assert "\x00" not in page


def picture(*trials: Trial, tolerance: float | None = 0.1) -> str:
    with plots.quiet():
        url = plots.front(trials, tolerance)
    return base64.b64decode(url.partition(",")[2]).decode()


def test_the_plot_numbers_what_was_scored_and_holds_no_names() -> None:
    drawn = picture(FIRST, FAILED, SECOND)
    assert drawn.startswith("<?xml")
    assert "static" not in drawn
    labels = re.findall(r">(\d+)</text>", drawn)
    assert labels.count("1") == 2, "over size and over latency"
    assert "2" not in labels, "it was not scored"
    assert "3" in labels


def test_a_plot_of_nothing_is_drawn() -> None:
    assert "<svg" in picture(FAILED, tolerance=None)
    assert "<svg" in picture()


def test_terminal_and_json_have_the_same_rows(quantized: QuantizedModel) -> None:
    found = searched(quantized, FIRST, FAILED, SECOND)
    rows = terminal.trial_rows(found)
    assert [row[1] for row in rows] == [FIRST.scheme, FAILED.scheme, SECOND.scheme]
    assert [row[0] for row in rows] == ["*", "", "*"]
    assert all(len(row) == len(terminal.TRIAL_COLUMNS) for row in rows)
    told = json.quantize(found)["plan"]
    assert [trial["scheme"] for trial in told["trials"]] == [row[1] for row in rows]
    assert told["islands"] == []
    assert told["corrected"] is False
